//! The one table of what the lanes offer to a program. A new interface of the node is one line here.
//!
//! What functions an interface has, and of which types, stands in `wit/` (see [`super::functions`]); the node links all
//! of it (`edge-node/src/guest/wasi/link.rs`).

/// A WASI package whose interfaces are linked.
pub struct Package {
    /// `namespace:name`.
    pub name: &'static str,
    /// Its interfaces.
    pub interfaces: &'static [&'static str],
    /// Its versions.
    pub releases: Releases,
}

/// Versions of a package.
#[derive(Debug, Clone, Copy)]
pub enum Releases {
    /// Any 0.2 release: minor releases only add.
    Stable,
    /// These drafts, which are in use; `""` is no version at all.
    Drafts(&'static [&'static str]),
}

/// What a component of the wasi lane may import.
pub const PACKAGES: &[Package] = &[
    Package { name: "wasi:io", interfaces: &["error", "poll", "streams"], releases: Releases::Stable },
    Package {
        name: "wasi:clocks",
        interfaces: &["monotonic-clock", "wall-clock"],
        releases: Releases::Stable,
    },
    Package {
        name: "wasi:random",
        interfaces: &["insecure", "insecure-seed", "random"],
        releases: Releases::Stable,
    },
    Package {
        name: "wasi:cli",
        interfaces: &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
        releases: Releases::Stable,
    },
    Package { name: "wasi:http", interfaces: &["outgoing-handler", "types"], releases: Releases::Stable },
    // No preopened directory, every socket refused: JS and Python engines import them without needing them.
    Package { name: "wasi:filesystem", interfaces: &["preopens", "types"], releases: Releases::Stable },
    Package {
        name: "wasi:sockets",
        interfaces: &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
        releases: Releases::Stable,
    },
    // Drafts, as Spin, wasmtime and wasmCloud have them.
    Package {
        name: "wasi:config",
        interfaces: &["runtime", "store"],
        releases: Releases::Drafts(&["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"]),
    },
    Package {
        name: "wasi:keyvalue",
        interfaces: &["atomics", "batch", "store"],
        releases: Releases::Drafts(&["0.2.0-draft", "0.2.0-draft2"]),
    },
    Package {
        name: "wasi:logging",
        interfaces: &["logging"],
        releases: Releases::Drafts(&["", "0.1.0-draft"]),
    },
    // Our own: what WASI 0.2 has no interface for.
    Package {
        name: "skerry:edge",
        interfaces: &["client", "device", "geo", "secrets"],
        releases: Releases::Drafts(&["0.1.0"]),
    },
];

/// The interface a component of the wasi lane must export, and the function in it.
pub const HANDLER: (&str, &str, &str) = ("wasi:http", "incoming-handler", "handle");

/// Functions of WASI preview 1 (`wasi_snapshot_preview1`) with their types: `i` is i32, `I` is i64, results after `:`.
pub const PREVIEW1: &[(&str, &str)] = &[
    ("args_get", "ii:i"),
    ("args_sizes_get", "ii:i"),
    ("clock_res_get", "ii:i"),
    ("clock_time_get", "iIi:i"),
    ("environ_get", "ii:i"),
    ("environ_sizes_get", "ii:i"),
    ("fd_advise", "iIIi:i"),
    ("fd_allocate", "iII:i"),
    ("fd_close", "i:i"),
    ("fd_datasync", "i:i"),
    ("fd_fdstat_get", "ii:i"),
    ("fd_fdstat_set_flags", "ii:i"),
    ("fd_fdstat_set_rights", "iII:i"),
    ("fd_filestat_get", "ii:i"),
    ("fd_filestat_set_size", "iI:i"),
    ("fd_filestat_set_times", "iIIi:i"),
    ("fd_pread", "iiiIi:i"),
    ("fd_prestat_dir_name", "iii:i"),
    ("fd_prestat_get", "ii:i"),
    ("fd_pwrite", "iiiIi:i"),
    ("fd_read", "iiii:i"),
    ("fd_readdir", "iiiIi:i"),
    ("fd_renumber", "ii:i"),
    ("fd_seek", "iIii:i"),
    ("fd_sync", "i:i"),
    ("fd_tell", "ii:i"),
    ("fd_write", "iiii:i"),
    ("path_create_directory", "iii:i"),
    ("path_filestat_get", "iiiii:i"),
    ("path_filestat_set_times", "iiiiIIi:i"),
    ("path_link", "iiiiiii:i"),
    ("path_open", "iiiiiIIii:i"),
    ("path_readlink", "iiiiii:i"),
    ("path_remove_directory", "iii:i"),
    ("path_rename", "iiiiii:i"),
    ("path_symlink", "iiiii:i"),
    ("path_unlink_file", "iii:i"),
    ("poll_oneoff", "iiii:i"),
    ("proc_exit", "i:"),
    ("proc_raise", "i:i"),
    ("random_get", "ii:i"),
    ("sched_yield", ":i"),
    ("sock_accept", "iii:i"),
    ("sock_recv", "iiiiii:i"),
    ("sock_send", "iiiii:i"),
    ("sock_shutdown", "ii:i"),
];

/// Is this import of a core module of the Fastly interface? Unknown names of it are linked too: they answer
/// UNSUPPORTED, as its SDKs expect.
pub fn is_fastly(module: &str, name: &str) -> bool {
    module.starts_with("fastly_") || (module == "env" && name.starts_with("xqd_"))
}
