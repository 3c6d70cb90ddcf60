//! Uploads that must be refused. Each is wrong in one way, so that a refusal can be held to naming that one. They are
//! made here, not kept: bytes with their reason beside them can be reviewed.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::guests::guest;

/// Magic and version of a core module.
const CORE_HEADER: [u8; 8] = *b"\0asm\x01\0\0\0";
/// Above any upload limit.
const TOO_BIG_BYTES: u64 = 200 * 1000 * 1000;

/// Sound, but for an import nobody has.
const UNKNOWN_IMPORT: &str = r#"(module
    (import "env" "mystery" (func $mystery))
    (memory (export "memory") 1)
    (func (export "_start") call $mystery))"#;

/// A sound core module, but not a program: there is no `_start`.
const CORE_NO_START: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "run")))"#;

/// A wrong upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// No bytes at all.
    Empty,
    /// Not WebAssembly.
    Text,
    /// The first half of a real upload, as a broken connection leaves it.
    Truncated,
    /// Noise behind a good header.
    GarbageAfterMagic,
    /// An ELF header as wasmtime's precompiled files have it: native code must never be taken from a user.
    Native,
    /// Imports `env.mystery`.
    UnknownImport,
    /// Exports no `_start`.
    CoreNoStart,
    /// 200 MB without content, so that it takes no disk.
    TooBig,
}

impl Bad {
    /// Writes it into `directory` and says where.
    pub fn write(self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("{self:?}.wasm"));
        let mut file = File::create(&path).expect("a directory of the test's own");
        file.write_all(&self.bytes()).expect("a directory of the test's own");
        if self == Bad::TooBig {
            file.set_len(TOO_BIG_BYTES).expect("a sparse file takes no disk");
        }
        path
    }

    /// What it begins with; all of it but for [`Bad::TooBig`].
    fn bytes(self) -> Vec<u8> {
        let noise = (0..512u32).map(|n| (7 * n + 0x55) as u8);
        match self {
            Bad::Empty => Vec::new(),
            Bad::Text => b"This is not WebAssembly.\n".to_vec(),
            Bad::Truncated => {
                let whole = fs::read(guest("wstd-hello")).expect("a guest that was built");
                whole[..whole.len() / 2].to_vec()
            }
            Bad::GarbageAfterMagic => CORE_HEADER.into_iter().chain(noise).collect(),
            Bad::Native => native(),
            Bad::UnknownImport => wat::parse_str(UNKNOWN_IMPORT).expect("it stands above"),
            Bad::CoreNoStart => wat::parse_str(CORE_NO_START).expect("it stands above"),
            Bad::TooBig => CORE_HEADER.to_vec(),
        }
    }
}

/// A relocatable ELF64 object for x86-64 of the OS ABI that wasmtime marks its files with, without sections.
fn native() -> Vec<u8> {
    const OSABI_WASMTIME: u8 = 200;
    let mut elf = vec![0; 128];
    elf[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, OSABI_WASMTIME]);
    elf[16] = 1; // e_type: relocatable
    elf[18] = 62; // e_machine: x86-64
    elf[20] = 1; // e_version
    elf[52] = 64; // e_ehsize
    elf[58] = 64; // e_shentsize
    elf
}
