//! Logs, what an execution has used, shields, waiting, WASI.

use artifact::manifest::AppConfig;

use super::script::{
    Arg::{At, L, N, T, To},
    Script,
};
use crate::{guest::fastly::abi::Status, testing};

pub fn a_log_has_a_name_and_takes_whole_entries() {
    let mut guest = Script::new();
    let log = guest.gives("fastly_log.endpoint_get", vec![T("my log")]);
    let written = guest.gives("fastly_log.write", vec![At(log), T("one entry")]);
    guest.answers(Status::Invalid, "fastly_log.endpoint_get", &[T(""), To(written)]);
    guest.answers(Status::LimitExceeded, "fastly_log.endpoint_get", &[T(&"x".repeat(257)), To(log)]);
    guest.answers(Status::BadHandle, "fastly_log.write", &[N(u32::MAX), T("x"), N(0)]);
    let memory = guest.run();
    assert_eq!(memory.u32(written), 9);
}

pub fn an_execution_knows_what_it_has_used() {
    let mut guest = Script::new();
    let ms = guest.gives("fastly_compute_runtime.get_vcpu_ms", vec![]);
    let mib = guest.gives("fastly_compute_runtime.get_heap_mib", vec![]);
    let products = ["has_domain_inspector", "has_image_optimizer", "has_origin_inspector"]
        .map(|product| guest.gives(&format!("fastly_compute_runtime.{product}"), vec![]));
    let memory = guest.run();
    assert!(memory.u64(ms) < 5_000);
    assert_eq!(memory.u32(mib), 1, "256 KiB, rounded up");
    assert_eq!(products.map(|product| memory.u32(product)), [0; 3]);
}

pub fn no_name_is_a_shield() {
    let mut guest = Script::new();
    let out = guest.out(64);
    guest.answers(Status::None, "fastly_shielding.shield_info", &[T("fra-de"), To(out), N(32), To(out)]);
    let backend = |guest: &mut Script, status, mask| {
        let arguments = [T("fra-de"), N(mask), To(out), To(out), N(32), To(out)];
        guest.answers(status, "fastly_shielding.backend_for_shield", &arguments);
    };
    backend(&mut guest, Status::None, 0b1110);
    backend(&mut guest, Status::Invalid, 1 << 4);
    guest.run();
}

pub fn a_body_can_be_waited_for() {
    let mut guest = Script::new();
    let body = guest.gives("fastly_http_body.new", vec![]);
    let ready = guest.gives("fastly_async_io.is_ready", vec![At(body)]);
    let index = guest.gives("fastly_async_io.select", vec![To(body), N(1), N(0)]);
    guest.answers(Status::Invalid, "fastly_async_io.select", &[To(body), N(0), N(0), To(index)]);
    guest.answers(Status::BadHandle, "fastly_async_io.is_ready", &[N(u32::MAX), To(index)]);
    // Of nothing: a program that sleeps.
    let slept = guest.gives("fastly_async_io.select", vec![N(0), N(0), N(1)]);
    let handles = guest.fields(&[u32::MAX]);
    guest.answers(Status::BadHandle, "fastly_async_io.select", &[To(handles), N(1), N(0), To(index)]);
    let again = guest.gives("fastly_async_io.select", vec![To(body), N(1), N(0)]);
    let memory = guest.run();
    assert_eq!((memory.u32(ready), memory.u32(again)), (1, 0));
    assert_eq!(memory.u32(slept), u32::MAX);
}

pub fn a_write_takes_a_part_at_a_time() {
    let mut guest = Script::new();
    let pieces = guest.fields(&[0, 40 << 10, 0, 40 << 10, 0, 1]);
    let (written, rest) = (guest.out(4), guest.out(4));
    let write = "wasi_snapshot_preview1.fd_write";
    guest.answers_number(0, write, &[N(1), To(pieces), N(3), To(written)]);
    guest.answers_number(0, write, &[N(2), To(pieces), N(1), To(rest)]);
    let memory = guest.run();
    assert_eq!((memory.u32(written), memory.u32(rest)), (64 << 10, 40 << 10));
}

pub fn a_poll_waits_for_a_clock_and_streams_are_ready() {
    const WASI: &str = "wasi_snapshot_preview1";
    let mut guest = Script::new();
    let time = guest.out(8);
    let (events, happened) = (guest.out(64), guest.out(4));
    // User data, tag, padding, clock 1, padding, 1 ms, precision 0, no flags.
    let in_a_millisecond = guest.fields(&[7, 0, 0, 0, 1, 0, 1_000_000, 0, 0, 0, 0, 0]);
    let in_an_hour = [8, 0, 0, 0, 1, 0, 0, 838, 0, 0, 0, 0];
    let output = [9, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let both = guest.fields(&[in_an_hour, output].concat());
    guest.answers_number(0, &format!("{WASI}.clock_time_get"), &[N(1), L(0), To(time)]);
    let poll = format!("{WASI}.poll_oneoff");
    guest.answers_number(0, &poll, &[To(in_a_millisecond), To(events), N(1), To(happened)]);
    let after = guest.out(8);
    guest.answers_number(0, &format!("{WASI}.clock_time_get"), &[N(1), L(0), To(after)]);
    let (both_events, both_happened) = (guest.out(64), guest.out(4));
    guest.answers_number(0, &poll, &[To(both), To(both_events), N(2), To(both_happened)]);
    guest.answers_number(28, &poll, &[To(both), To(both_events), N(0), To(both_happened)]);
    let memory = guest.run();
    assert!(memory.u64(after) - memory.u64(time) >= 1_000_000);
    assert_eq!((memory.u32(happened), memory.u64(events)), (1, 7));
    assert_eq!((memory.u32(both_happened), memory.u64(both_events)), (1, 9), "only the stream");
    assert_eq!(memory.bytes(both_events, 32)[10], 2, "the tag");
}

pub fn the_handshake_knows_one_version() {
    let mut guest = Script::new();
    guest.call("fastly_abi.init", &[L(1)]);
    guest.answers(Status::Unsupported, "fastly_abi.init", &[L(2)]);
    guest.run();
}

pub fn what_the_manifest_says_of_addresses_and_devices_is_told() {
    let mut guest = Script::new();
    let (address, place, length) = (guest.bytes(&[192, 0, 2, 1]), guest.out(2_048), guest.out(4));
    let geo = |address, bytes, out| [To(address), N(bytes), To(place), N(2_048), To(out)];
    guest.call("fastly_geo.lookup", &geo(address, 4, length));
    let none = guest.out(4);
    let unknown = guest.bytes(&[127, 0, 0, 1]);
    guest.answers(Status::None, "fastly_geo.lookup", &geo(unknown, 4, none));
    guest.answers(Status::Invalid, "fastly_geo.lookup", &geo(address, 5, none));
    let (device, device_length) = (guest.out(64), guest.out(4));
    let lookup = "fastly_device_detection.lookup";
    guest.call(lookup, &[T("Phone/1.0"), To(device), N(64), To(device_length)]);
    guest.answers(Status::BufferTooShort, lookup, &[T("Phone/1.0"), To(device), N(1), To(none)]);
    guest.answers(Status::None, lookup, &[T("Phone/2.0"), To(device), N(64), To(none)]);
    let config = AppConfig {
        geo: [("192.0.2.1".parse().unwrap(), r#"{"city":"somewhere"}"#.to_owned())].into(),
        devices: [("Phone/1.0".to_owned(), r#"{"device":{}}"#.to_owned())].into(),
        ..super::config()
    };
    let memory = guest.run_in(testing::exchange(config), super::get("/"));
    assert!(memory.text(place, length).contains(r#""city":"somewhere""#));
    assert_eq!(memory.text(device, device_length), r#"{"device":{}}"#);
}
