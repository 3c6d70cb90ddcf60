//! Stacks as `perf` printed them of a node built by the profile `dist`, shortened.

use super::*;
use crate::stages::script::{Said, read};

/// Lines as in `perf script`: symbol and file; in the kernel, `k`; of a guest, `g`; of no file, `n`; else the node's.
fn of(stack: &str) -> &'static str {
    let mut text = "serve-0 1\n".to_owned();
    for line in stack.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (address, file) = match line.rsplit_once(" | ").map(|(_, place)| place) {
            Some("k") => ("ffffffff821ed4e6", "[kernel.kallsyms]"),
            Some("g") => ("abf0d", "/memfd:skerry-code (deleted)"),
            Some("n") => ("200060503c8", "//anon"),
            _ => ("43f942", "/usr/bin/edge-node"),
        };
        let symbol = line.split(" | ").next().unwrap_or_default();
        text += &format!("\t{address} {symbol} ({file})\n");
    }
    let mut found = None;
    read(text.as_bytes(), |said| {
        if let Said::Sample(sample) = said {
            found = Some(stage(&sample.frames));
        }
    })
    .unwrap();
    found.unwrap()
}

/// What every stack of a request over HTTP/1.1 ends with, where it could be unwound.
const OUTER: &str = "
    edge_node::front::answer::answer::{{closure}}
    edge_node::front::tcp::requests::{{closure}}::{{closure}}
    <hyper::proto::h1::dispatch::Server<S,hyper::body::incoming::Incoming> as hyper::proto::h1::dispatch::Dispatch>::poll_msg
    hyper::proto::h1::dispatch::Dispatcher<D,Bs,I,T>::poll_write
    <core::pin::Pin<P> as core::future::future::Future>::poll
    edge_node::front::tcp::connection::{{closure}}::h0123456789abcdef";

fn within(inner: &str) -> &'static str {
    of(&format!("{inner}{OUTER}"))
}

#[test]
fn a_system_call_is_told_by_what_it_is_for() {
    let send = "tcp_sendmsg_locked | k\n sock_write_iter | k\n do_writev | k\n __GI___writev\n
        <tokio::net::tcp::stream::TcpStream as tokio::io::async_write::AsyncWrite>::poll_write_vectored\n
        hyper::proto::h1::io::Buffered<T,B>::poll_flush";
    assert_eq!(of(send), "kernel: send");
    assert_eq!(of(&format!("sock_def_readable | k\n{send}")), "kernel: waking the client");
    assert_eq!(of("udp_sendmsg | k\n ___sys_sendmsg | k\n __sendmsg\n quinn_udp::imp::send"), "kernel: send");
    let receive = "skb_attempt_defer_free | k\n tcp_recvmsg | k\n __sys_recvfrom | k\n __libc_recv";
    assert_eq!(of(receive), "kernel: receive");
    let scan = "do_pagemap_scan | k\n __x64_sys_ioctl | k\n __GI___ioctl\n
        wasmtime::runtime::vm::instance::allocator::pooling::PoolingInstanceAllocator::deallocate_memory";
    assert_eq!(within(scan), "kernel: PAGEMAP_SCAN");
    assert_eq!(of("ep_send_events | k\n do_epoll_wait | k\n epoll_wait"), "look at the sockets, wait");
    assert_eq!(of("futex_wake | k\n do_syscall_64 | k\n syscall"), "kernel: other");
}

#[test]
fn interrupts_are_nobodys_and_page_faults_their_own() {
    let interrupted = "finish_task_switch.isra.0 | k\n schedule | k\n asm_sysvec_apic_timer_interrupt | k";
    assert_eq!(within(interrupted), "kernel: interrupts");
    assert_eq!(of(&format!("{interrupted}\n[unknown] | g")), "kernel: interrupts");
    assert_eq!(
        of("clear_page_erms | k\n asm_exc_page_fault | k\n[unknown] | g"),
        "kernel: page faults, mappings"
    );
}

#[test]
fn what_an_execution_does_is_told_apart_though_the_front_is_around_it() {
    let run = "edge_node::guest::fastly::Program::run::{{closure}}\n
        edge_node::serve::Server::execute::{{closure}}::{{closure}}\n edge_node::guest::drive::Driven::poll_run";
    assert_eq!(within(&format!("wasmtime::runtime::instance::Instance::new_raw\n{run}")), MAKE);
    assert_eq!(within(run), MAKE);
    let drop = "core::ptr::drop_in_place<wasmtime::runtime::store::Store<edge_node::guest::fastly::Cx>>";
    assert_eq!(within(&format!("mi_free\n{drop}\n{run}")), TEAR_DOWN);
    assert_eq!(of("wasmtime_internal_fiber::stackswitch::x86_64::wasmtime_fiber_switch"), MAKE);
    assert_eq!(within("__memmove_avx512_unaligned_erms"), FRONT);
    assert_eq!(within("mi_malloc\nedge_node::guest::drive::Driven::poll_run"), FRONT);
}

#[test]
fn a_stack_that_ends_in_a_guests_code_is_the_hosts_only_beneath_a_trampoline() {
    let dropped = "mi_free\n core::ptr::drop_in_place<http::header::map::HeaderMap>\n";
    let core = format!("{dropped} wasmtime::runtime::func::HostFunc::array_call_trampoline\n [unknown] | g");
    assert_eq!(of(&core), "host functions");
    let component =
        format!("{dropped} wasmtime::runtime::component::func::host::HostFunc::entrypoint\n [unknown] | g");
    assert_eq!(of(&component), "host functions");
    let table = "wasmtime::runtime::vm::libcalls::raw::table_get_lazy_init_func_ref\n [unknown] | g";
    assert_eq!(of(table), "the guest's table, filled as it is used");
    for guest in ["[unknown] | g", "[unknown] | n", "__memmove_avx512_unaligned_erms\n [unknown] | g"] {
        assert_eq!(of(guest), "guest code", "{guest}");
    }
}

#[test]
fn unknown_frames_of_a_file_without_symbols_are_no_guest() {
    assert_eq!(of("[unknown]\n[unknown] | n"), UNSORTED);
    assert_eq!(of(""), UNSORTED);
}

#[test]
fn what_nothing_explains_beneath_a_connection_is_http_only_if_http_did_it() {
    let connection =
        "hyper::proto::h1::conn::Conn<I,B,T>::read_head\n edge_node::front::tcp::connection::{{closure}}";
    for inner in [
        "__memcmp_evex_movbe",
        "<http::header::map::HeaderMap<T> as core::clone::Clone>::clone",
        "mi_malloc",
        "<u64 as itoa::Unsigned>::fmt",
    ] {
        assert_eq!(of(&format!("{inner}\n{connection}")), "HTTP and tasks", "{inner}");
    }
    assert_eq!(of(&format!("blake3::platform::Platform::compress\n{connection}")), UNSORTED);
    let thread = "std::sys::backtrace::__rust_begin_short_backtrace\n <std::sys::thread::unix::Thread>::new::thread_start";
    assert_eq!(of(thread), "HTTP and tasks");
    assert_eq!(of("<T as hyper::service::http::HttpService<B1>>::call"), "HTTP and tasks");
}

#[test]
fn tls_and_quic_are_known_by_their_crates() {
    let hyper =
        "tokio_rustls::common::Stream<IO,C>::read_io\n hyper::proto::h2::server::Server<T,S,B,E>::poll";
    assert_eq!(of(&format!("aws_lc_0_39_0_aes_gcm_decrypt\n{hyper}")), "TLS");
    let random = "aws_lc_0_39_0_CRYPTO_rand\n wasmtime::runtime::func::HostFunc::array_call_trampoline\n [unknown] | g";
    assert_eq!(of(random), "host functions");
    assert_eq!(
        of("mi_free\n quinn_proto::connection::Connection::handle_packet\n quinn::connection::State::drive"),
        "QUIC"
    );
    assert_eq!(
        of(
            "<h3_quinn::SendStream<B> as h3::quic::SendStream<B>>::poll_ready\n edge_node::front::h3::request"
        ),
        "QUIC"
    );
    assert_eq!(
        of("h3::qpack::encoder::encode_stateless\n edge_node::front::h3::request::{{closure}}"),
        "HTTP and tasks"
    );
}

#[test]
fn names_of_either_mangling_and_inlined_ones_are_known() {
    let v0 = "core::ptr::drop_in_place::<wasmtime::runtime::store::Store<edge_node::guest::wasi::Cx>>";
    assert_eq!(of(v0), TEAR_DOWN);
    assert_eq!(of("<edge_node::guest::wasi::Program>::run::{closure#0}"), MAKE);
    assert_eq!(of("<edge_node::serve::Server>::execute::{closure#0}"), FRONT);
    assert_eq!(of("<&mut tokio::net::TcpStream as tokio::io::AsyncRead>::poll_read"), "HTTP and tasks");
    assert_eq!(path("mi_free"), None);
    assert_eq!(path("foo(std::vector<int>)"), None);
    assert_eq!(path("<T as core::convert::Into<U>>::into"), Some("core::convert::Into<U>>::into"));
}

const MAKE: &str = "make store and instance, fibers";
const TEAR_DOWN: &str = "tear down store and instance";
const FRONT: &str = "front, route, admit, bill, account";
