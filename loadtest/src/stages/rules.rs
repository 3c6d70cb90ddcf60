//! Which stage of a request a stack belongs to: the first rule that matches it. No I/O.
//!
//! A guest's native code has no unwind tables, so a stack that passes it ends there: what a host function does is known by
//! wasmtime's trampoline beneath it, never by what started the guest. Names are looked for as both ways of mangling print
//! them (`a::B::c` and `<a::B>::c`), so no pattern spans a type and its method.

use super::script::{Frame, Place};

/// A stage, and how its stacks are told.
struct Rule {
    stage: &'static str,
    /// One of them is enough.
    any: &'static [Pattern],
}

enum Pattern {
    /// Some frame's name contains this.
    Has(&'static str),
    /// Some frame's function lies at a path that begins so (`wasmtime` is every crate of it).
    In(&'static str),
    /// The same of the innermost function of a crate, those of [`CALLED`] left out: outer ones are on every stack.
    Nearest(&'static str),
    /// The innermost frame is the kernel's.
    Kernel,
    /// Some frame is a guest's code, or no frame has a name or a file.
    Guest,
}

use Pattern::{Guest, Has, In, Kernel, Nearest};

/// What no rule knows.
pub const UNSORTED: &str = "not sorted";

/// In the order they are asked: what is deepest in a stack first, since it has all others around it.
#[rustfmt::skip]
const RULES: [Rule; 17] = [
    // Loopback: the packet is handed to the client's socket within the node's own send. A client elsewhere costs none of it.
    Rule { stage: "kernel: waking the client", any: &[Has("sock_def_readable"), Has("ep_poll_callback")] },
    // By the system call, with all that it does: protocol, loopback, being preempted at its end.
    Rule { stage: "kernel: send", any: &[Has("writev"), Has("sock_write_iter"), Has("__sys_send"), Has("sendmsg"), Has("sendmmsg")] },
    Rule { stage: "kernel: receive", any: &[Has("__sys_recv"), Has("__libc_recv"), Has("recvmsg"), Has("recvmmsg")] },
    // The only ioctl that a serving thread makes.
    Rule { stage: "kernel: PAGEMAP_SCAN", any: &[Has("pagemap_scan"), Has("__x64_sys_ioctl"), Has("__arm64_sys_ioctl"), Has("__GI___ioctl")] },
    Rule { stage: "kernel: page faults, mappings", any: &[Has("exc_page_fault"), Has("do_mem_abort"), Has("madvise"), Has("mprotect"), Has("munmap"), Has("sys_mmap")] },
    // With tokio's timers, which it turns after each look.
    Rule { stage: "look at the sockets, wait", any: &[Has("epoll_wait"), Has("epoll_pwait"), Has("park_internal"), In("tokio::runtime::io::driver"), In("mio::poll")] },
    // They come at any moment: whom they interrupted did not cause them.
    Rule { stage: "kernel: interrupts", any: &[Has("asm_sysvec_"), Has("asm_common_interrupt"), Has("el0t_64_irq")] },
    // Dropping the store drops the instance and gives its slot back. Its PAGEMAP_SCAN stands above.
    Rule { stage: "tear down store and instance", any: &[Has("drop_in_place<wasmtime::runtime::store::Store"), Has("drop_in_place::<wasmtime::runtime::store::Store"), Has("::deallocate_")] },
    // A libcall of the guest's code: wasmtime makes an entry of a table when it is first used.
    Rule { stage: "the guest's table, filled as it is used", any: &[Has("table_get_lazy_init_func_ref")] },
    // What a core module calls passes the first, what a component calls the third, and intrinsics of the code the second.
    Rule { stage: "host functions", any: &[Has("array_call_trampoline"), Has("libcalls"), In("wasmtime::runtime::component::func::host")] },
    // After host functions, whose stacks end in the guest's code. With what that calls of libc: copies and fills of memory.
    Rule { stage: "guest code", any: &[Guest] },
    // All of wasmtime that is left, and where our own code around it was inlined.
    Rule { stage: "make store and instance, fibers", any: &[In("wasmtime"), Has("wasmtime_fiber"), In("edge_node::guest::fastly::Program"), In("edge_node::guest::wasi::Program")] },
    // From the service that hyper calls to the program, and back.
    Rule { stage: "front, route, admit, bill, account", any: &[In("edge_node::front::answer"), In("edge_node::front::tcp::requests"), In("edge_node::serve"), In("edge_node::guest"), In("edge_node::account"), In("edge_node::exchange"), In("edge_node::lane")] },
    // After the guest's side, which takes randomness from the same library.
    Rule { stage: "TLS", any: &[Has("aws_lc_"), In("rustls"), In("tokio_rustls"), In("aws_lc")] },
    Rule { stage: "QUIC", any: &[In("quinn"), In("h3_quinn"), In("edge_node::front::quic")] },
    // The protocols, their tasks and the loop that polls them, which the thread's own function holds inlined.
    Rule { stage: "HTTP and tasks", any: &[Nearest("hyper"), Nearest("h2"), Nearest("h3"), Nearest("http"), Nearest("bytes"), Nearest("tokio"), Nearest("mio"), Nearest("futures"), Nearest("edge_node::front"), Nearest("edge_node::worker"), Nearest(THREAD)] },
    Rule { stage: "kernel: other", any: &[Kernel] },
];

/// The standard library's function that every thread begins with.
const THREAD: &str = "std::sys::backtrace";
/// Crates that work for whoever calls them.
const CALLED: [&str; 8] = ["core", "alloc", "std", "smallvec", "itoa", "hashbrown", "parking_lot", "slab"];

/// The stage of a stack, innermost frame first. [`UNSORTED`] if no rule knows it.
pub fn stage(frames: &[Frame]) -> &'static str {
    let rule = RULES.iter().find(|rule| rule.any.iter().any(|pattern| pattern.matches(frames)));
    rule.map_or(UNSORTED, |rule| rule.stage)
}

impl Pattern {
    fn matches(&self, frames: &[Frame]) -> bool {
        let mut names = frames.iter().filter_map(|frame| frame.symbol.as_deref());
        match self {
            Has(part) => names.any(|name| name.contains(part)),
            In(at) => names.filter_map(path).any(|path| path.starts_with(at)),
            Nearest(at) => names.filter_map(path).find(is_caller).is_some_and(|path| path.starts_with(at)),
            Kernel => frames.first().is_some_and(|frame| frame.place == Place::Kernel),
            Guest => is_guest(frames),
        }
    }
}

/// Where a function lies: of `<a::B as c::D>::e` it is `a::B…`, of `<T as c::D>::e` it is `c::D…`. `None`: it is no Rust.
fn path(symbol: &str) -> Option<&str> {
    let plain = |text: &'_ str| -> usize {
        let rest = text.trim_start_matches(['<', '&', '*', '(', ' ']);
        let rest = ["mut ", "const ", "dyn "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
        text.len() - rest.len()
    };
    let path = &symbol[plain(symbol)..];
    let name = path.split([':', '<', '(', ' ', ',', '>']).next().unwrap_or_default();
    match &path[name.len()..] {
        rest if rest.starts_with("::") => Some(path),
        rest => rest.strip_prefix(" as ").map(|of| &of[plain(of)..]),
    }
}

fn is_caller(path: &&str) -> bool {
    let name = path.split("::").next().unwrap_or_default();
    path.starts_with(THREAD) || !CALLED.contains(&name)
}

/// A stack of nothing but unknown frames is a guest's only if none of them is of a file: a file without symbols has many.
fn is_guest(frames: &[Frame]) -> bool {
    let is_nowhere = |frame: &Frame| frame.symbol.is_none() && frame.place == Place::Nowhere;
    let is_unknown = !frames.is_empty() && frames.iter().all(is_nowhere);
    is_unknown || frames.iter().any(|frame| frame.place == Place::Guest)
}

#[cfg(test)]
mod tests;
