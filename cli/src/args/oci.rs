//! Registries of OCI images.

use std::path::PathBuf;

use clap::Args;

/// How a registry is asked. Logins of `docker login` are found by themselves.
#[derive(Debug, Clone, Default, Args)]
pub struct Registry {
    /// Name at the registry, instead of docker's login
    #[arg(long, value_name = "NAME", requires = "password_stdin", help_heading = "Registry")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username", help_heading = "Registry")]
    pub password_stdin: bool,
    /// Ask a registry elsewhere without TLS; one on this machine always is
    #[arg(long, help_heading = "Registry")]
    pub plain_http: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry push oci://ghcr.io/acme/shop:1.2\n  skerry push oci://localhost:5000/shop dist/shop.wasm\n  \
                  echo $TOKEN | skerry push oci://ghcr.io/acme/shop:1.2 --username me --password-stdin\n\n\
                  The image has the CNCF's layout for Wasm: one layer, the program as it is. Settings are not in it.\n\
                  SOURCE_DATE_EPOCH, where it is set, is when it was made: the same program then makes the same image."
)]
pub struct Push {
    /// Where it goes; without a tag to `latest`
    #[arg(value_name = "oci://HOST/REPOSITORY:TAG")]
    pub image: String,
    /// A folder with skerry.toml, whose last build is pushed, or a .wasm file
    #[arg(value_name = "FOLDER|FILE.wasm", default_value = ".")]
    pub source: PathBuf,
    #[command(flatten)]
    pub registry: Registry,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
