//! `skerry verify`.

use std::path::PathBuf;

use artifact::AppName;
use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry verify shop --key compiler.pub\n  skerry verify shop --wasm dist/shop.wasm --json\n\n\
                  Signatures are checked against --key, or the key of a fleet that `skerry up` runs here; without either they\n\
                  are not checked. Exit code 3: something does not match. 5: not all of it could be seen, as of a node that is\n\
                  not connected."
)]
pub struct Verify {
    /// The app; default: that of skerry.toml here or above
    pub app: Option<AppName>,
    /// The program that should run; default: the last build, in the app's folder
    #[arg(long, value_name = "FILE.wasm")]
    pub wasm: Option<PathBuf>,
    /// Public keys of the compiler, a line each (compiler.pub)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}
