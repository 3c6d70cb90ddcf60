//! What `build.rs` embedded: paths and bytes, sorted by path.

include!(concat!(env!("OUT_DIR"), "/carried.rs"));
