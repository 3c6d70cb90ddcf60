//! Each attack is made here, byte by byte where a library would refuse to make it.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};

use super::*;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    // Written by hand: the library refuses what an attacker would write.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, contents: &[u8]) {
    tar.append(&header(path, EntryType::Regular, contents.len() as u64), contents).unwrap();
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, contents) in entries {
        append(&mut tar, path, contents);
    }
    tar.into_inner().unwrap()
}

fn refusal(package: &[u8]) -> String {
    unpack(package).unwrap_err().to_string()
}

/// An entry of some kind after an honest one.
fn refusal_of_entry(header: Header) -> String {
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, "app/bin/main.wasm", WASM);
    tar.append(&header, &[][..]).unwrap();
    refusal(&gzip(&tar.into_inner().unwrap()))
}

#[test]
fn a_package_as_fastlys_tools_make_it() {
    let mut tar = Builder::new(Vec::new());
    tar.append(&header("app/", EntryType::Directory, 0), &[][..]).unwrap();
    append(&mut tar, "app/fastly.toml", b"name = 'app'");
    append(&mut tar, "./app/bin/main.wasm", WASM);
    let long = format!("app/{}/data.json", "long".repeat(60));
    let mut header = Header::new_gnu();
    header.set_size(2);
    header.set_cksum();
    tar.append_data(&mut header, &long, &b"{}"[..]).unwrap();
    let unpacked = unpack(&gzip(&tar.into_inner().unwrap())).unwrap();
    assert_eq!(unpacked.folder, "app");
    let names: Vec<&str> = unpacked.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["bin/main.wasm", "fastly.toml", long.strip_prefix("app/").unwrap()]);
    assert_eq!(unpacked.files["bin/main.wasm"], WASM);
}

#[test]
fn bomb() {
    let zeros = vec![0; 20 * 1024 * 1024];
    let package = gzip(&tar_of(&[("app/bin/main.wasm", &zeros)]));
    assert!(package.len() < 100_000, "{}", package.len());
    let error = unpack(&package).unwrap_err();
    // The ratio's bound, long before the 20 MiB.
    assert!(matches!(error, BadPackage::TooLarge(max) if max == package.len() as u64 * RATIO_MAX), "{error}");
}

#[test]
fn bomb_that_is_never_read_as_a_file() {
    // In a skipped kind of entry, in the padding after the end, and in a name: all of it passes the same bound.
    let zeros = vec![0; 20 * 1024 * 1024];
    let mut tar = Builder::new(Vec::new());
    tar.append(&header("g", EntryType::XGlobalHeader, zeros.len() as u64), &zeros[..]).unwrap();
    append(&mut tar, "app/bin/main.wasm", WASM);
    assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("unpacks to more"), "skipped");

    let mut padded = tar_of(&[("app/bin/main.wasm", WASM)]);
    padded.extend_from_slice(&zeros);
    assert!(refusal(&gzip(&padded)).contains("unpacks to more"), "padding");

    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let mut tar = Builder::new(Vec::new());
        tar.append(&header("././@LongLink", kind, zeros.len() as u64), &zeros[..]).unwrap();
        append(&mut tar, "app/bin/main.wasm", WASM);
        assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("unpacks to more"), "{kind:?}");
    }
}

#[test]
fn nested_bomb_stays_packed() {
    let bomb = gzip(&vec![0; 20 * 1024 * 1024]);
    let unpacked = unpack(&gzip(&tar_of(&[("app/bin/main.wasm", &bomb)]))).unwrap();
    assert_eq!(unpacked.files["bin/main.wasm"], bomb);
}

#[test]
fn oversize_whatever_the_ratio() {
    // Bytes that do not shrink, so that only the absolute bound is left.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(4 * 1024 * 1024)
    .collect();
    let mut tar = Builder::new(Vec::new());
    for n in 0..26 {
        append(&mut tar, &format!("app/{n}"), &noise);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(&tar.into_inner().unwrap()).unwrap();
    let error = unpack(&encoder.finish().unwrap()).unwrap_err();
    assert!(matches!(error, BadPackage::TooLarge(UNPACKED_BYTES_MAX)), "{error}");
}

#[test]
fn too_many_entries() {
    let mut tar = Builder::new(Vec::new());
    for n in 0..ENTRIES_MAX {
        append(&mut tar, &format!("app/{n}"), b"");
    }
    assert!(unpack(&gzip(&tar.get_ref().clone())).is_ok());
    tar.append(&header("app/d/", EntryType::Directory, 0), &[][..]).unwrap();
    assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("more than 1000 entries"));
}

#[test]
fn path_escape() {
    for (path, why) in [
        ("/etc/passwd", "absolute"),
        ("../app/x", "leads out"),
        ("app/../../x", "leads out"),
        ("app/bin/..", "leads out"),
        ("app//x", "empty name"),
        ("app\\..\\x", "backslash"),
        ("app/a\nb", "control character"),
        ("", "empty name"),
        ("x", "not in a folder"),
        ("other/x", "another folder"),
    ] {
        let error = refusal_of_entry(header(path, EntryType::Regular, 0));
        assert!(error.contains(why), "{path:?}: {error}");
    }
    let error = refusal_of_entry(header("app/../..", EntryType::Directory, 0));
    assert!(error.contains("leads out"), "{error}");
}

#[test]
fn path_escape_by_long_name_and_by_pax() {
    let mut tar = Builder::new(Vec::new());
    let name = format!("app/{}../../../../x\0", "a/".repeat(100));
    tar.append(&header("././@LongLink", EntryType::GNULongName, name.len() as u64), name.as_bytes()).unwrap();
    append(&mut tar, "app/harmless", b"");
    assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("leads out"));

    for (key, value, why) in [("path", "/etc/passwd", "absolute"), ("path", "app/../../x", "leads out")] {
        let mut tar = Builder::new(Vec::new());
        tar.append_pax_extensions([(key, value.as_bytes())]).unwrap();
        append(&mut tar, "app/harmless", b"");
        let error = refusal(&gzip(&tar.into_inner().unwrap()));
        assert!(error.contains(why), "{key}={value}: {error}");
    }
    let long = format!("app/{}", "x".repeat(PATH_BYTES_MAX));
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("path", long.as_bytes())]).unwrap();
    append(&mut tar, "app/harmless", b"");
    assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("too long a name"));
}

#[test]
fn size_that_two_readers_would_read_differently() {
    // The header says 0 bytes, the pax record says 512: for another reader the next block would be a header.
    let inner = header("app/bin/main.wasm", EntryType::Regular, 0);
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("size", &b"512"[..])]).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend_from_slice(header("app/data", EntryType::Regular, 0).as_bytes());
    bytes.extend_from_slice(inner.as_bytes());
    bytes.extend_from_slice(&[0; 1024]);
    let unpacked = unpack(&gzip(&bytes)).unwrap();
    assert_eq!(unpacked.files.keys().collect::<Vec<_>>(), ["data"], "no file is smuggled in");

    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("size", &b"18446744073709551615"[..])]).unwrap();
    append(&mut tar, "app/data", b"x");
    assert!(unpack(&gzip(&tar.into_inner().unwrap())).is_err());
}

#[test]
fn links_devices_and_holes() {
    for (kind, why) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::new(b'Z'), "unknown kind"),
    ] {
        let mut header = header("app/x", kind, 0);
        header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        header.set_cksum();
        let error = refusal_of_entry(header);
        assert!(error.contains(why), "{error}");
    }
    // A file of 8 GiB in 512 bytes, the old way and the new.
    let mut sparse = header("app/x", EntryType::GNUSparse, 0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.realsize.copy_from_slice(b"77777777777\0");
    gnu.sparse[0].offset.copy_from_slice(b"77777777777\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    sparse.set_cksum();
    let error = refusal_of_entry(sparse);
    assert!(error.contains("holes"), "{error}");
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.realsize", b"8589934592")])
        .unwrap();
    append(&mut tar, "app/x", b"0\n");
    assert!(refusal(&gzip(&tar.into_inner().unwrap())).contains("holes"));
}

#[test]
fn the_same_file_twice() {
    let package = gzip(&tar_of(&[("app/bin/main.wasm", WASM), ("app/./bin/main.wasm", b"other")]));
    assert!(refusal(&package).contains("twice"));
}

#[test]
fn truncated_anywhere() {
    let package = gzip(&tar_of(&[("app/fastly.toml", b"name = 'a'"), ("app/bin/main.wasm", WASM)]));
    assert!(unpack(&package).is_ok());
    for length in 0..package.len() {
        assert!(unpack(&package[..length]).is_err(), "{length} of {} bytes", package.len());
    }
    assert!(refusal(&package[..package.len() - 4]).contains("cut off"));
    // A tar that is cut off in a whole gzip.
    let tar = tar_of(&[("app/bin/main.wasm", &[7; 2_000])]);
    for length in [100, 512, 513, 2_000] {
        assert!(unpack(&gzip(&tar[..length])).is_err(), "{length}");
    }
}

#[test]
fn damaged_anywhere() {
    let package = gzip(&tar_of(&[("app/bin/main.wasm", b"\0asm\x01\0\0\0 and some more")]));
    let whole = unpack(&package).unwrap();
    for at in 0..package.len() {
        let mut damaged = package.clone();
        damaged[at] ^= 0x10;
        // What is not noticed (a time, an operating system in gzip's head) changes nothing.
        if let Ok(unpacked) = unpack(&damaged) {
            assert_eq!(unpacked.files, whole.files, "byte {at}");
        }
    }
}

#[test]
fn trailing_garbage() {
    let tar = tar_of(&[("app/bin/main.wasm", WASM)]);
    let package = gzip(&tar);
    for garbage in [&b"x"[..], &[0], &package] {
        assert!(refusal(&[&package, garbage].concat()).contains("goes on"), "after gzip's end");
    }
    let longer = [&tar[..], b"x"].concat();
    assert!(refusal(&gzip(&longer)).contains("goes on"), "after tar's end");
    let padded = [&tar[..], &[0; 10_240]].concat();
    assert!(unpack(&gzip(&padded)).is_ok(), "padding is no garbage");
}

#[test]
fn other_things_than_packages() {
    for bytes in
        [&b""[..], b"PK\x03\x04", WASM, &gzip(b""), &gzip(b"hello"), &gzip(&[0; 1024]), &gzip(&[1; 4096])]
    {
        assert!(unpack(bytes).is_err());
    }
}
