//! What `perf script` prints, read line by line: a head with the thread, then a line for each frame, innermost first.
//!
//! ```text
//! serve-0 4459
//!         ffffffff821ed4e6 do_syscall_64 ([kernel.kallsyms])
//!                   658251 hyper::proto::h1::dispatch::Dispatcher<D,Bs,I,T>::poll_write (/usr/bin/edge-node)
//!
//! serve-1 4460 PERF_RECORD_LOST lost 17
//! ```

use std::io::{self, BufRead, Read as _};

use anyhow::Context as _;

/// Of one line: names of generic functions are long, but not as long as this.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Of one stack; `perf` itself ends at 127.
const FRAMES_MAX: usize = 256;
/// What `perf` prints where it has no name.
const UNKNOWN: &str = "[unknown]";
/// What the unwinder leaves at the end of a stack.
const END: u64 = u64::MAX;
/// Addresses from here on are the kernel's, on x86-64 and on aarch64 alike.
const KERNEL_FROM: u64 = 1 << 63;
/// What the node calls the memory that it maps a guest's code from (`edge_node::load`).
const GUEST_CODE: &str = "/memfd:skerry-code";

/// The thread that was sampled, and where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name, as the kernel keeps it: 15 bytes.
    pub thread: String,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// A function on a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Demangled, without the hash of older symbol names; `None`: there is no name for it.
    pub symbol: Option<String>,
    pub place: Place,
}

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Kernel,
    /// A guest's native code.
    Guest,
    /// A program's or a library's file, or the kernel's own page in every process.
    File,
    /// Anything else: code that `perf` knows no file of, or no code at all, where a stack could not be unwound.
    Nowhere,
}

/// One thing that was said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Sample(Sample),
    /// So many samples were lost before they could be written.
    Lost(u64),
}

/// Reads all there is, and hands on one thing after the other.
pub fn read(mut from: impl BufRead, mut each: impl FnMut(Said)) -> anyhow::Result<()> {
    let mut line = Vec::new();
    let mut sample: Option<Sample> = None;
    while next_line(&mut from, &mut line).context("reading what perf script says")? {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match (text.starts_with(['\t', ' ']), &mut sample) {
            (true, Some(sample)) => {
                sample.frames.extend(frame(text)?.filter(|_| sample.frames.len() < FRAMES_MAX))
            }
            (true, None) => anyhow::bail!("perf script names a frame of no thread: {text:?}"),
            // A head, or the line that ends a stack.
            (false, _) => {
                sample.take().map(Said::Sample).into_iter().for_each(&mut each);
                match lost(text) {
                    Some(count) => each(Said::Lost(count)),
                    None => sample = head(text),
                }
            }
        }
    }
    sample.map(Said::Sample).into_iter().for_each(each);
    Ok(())
}

/// False at the end. A line that is longer than it may be is an error.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if length as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        return Err(io::Error::other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
    }
    Ok(length > 0)
}

/// `NAME NUMBER`; the name may hold spaces.
fn head(text: &str) -> Option<Sample> {
    let (thread, _number) = text.rsplit_once(' ')?;
    Some(Sample { thread: thread.trim().to_owned(), frames: Vec::new() })
}

/// `NAME NUMBER PERF_RECORD_LOST lost 17`, or `… PERF_RECORD_LOST_SAMPLES lost 17`.
fn lost(text: &str) -> Option<u64> {
    let (_, after) = text.split_once("PERF_RECORD_LOST")?;
    after.rsplit_once("lost ")?.1.trim().parse().ok()
}

/// `ADDRESS SYMBOL (FILE)`, or `ADDRESS SYMBOL (inlined)`, which is of the file of the next. `None`: the end of a stack.
fn frame(text: &str) -> anyhow::Result<Option<Frame>> {
    let (address, rest) = text.trim_start().split_once(' ').unwrap_or((text.trim_start(), UNKNOWN));
    let address = u64::from_str_radix(address, 16);
    let address =
        address.with_context(|| format!("perf script names a frame without an address: {text:?}"))?;
    if address == END {
        return Ok(None);
    }
    let (symbol, file) = match rest.strip_suffix(" (inlined)") {
        Some(symbol) => (symbol, "/"),
        None => symbol_and_file(rest),
    };
    let symbol = symbol.trim();
    let symbol = (symbol != UNKNOWN && !symbol.is_empty()).then(|| without_hash(symbol).to_owned());
    Ok(Some(Frame { symbol, place: Place::of(address, file) }))
}

/// A symbol may hold parentheses, and so may a file (`/memfd:skerry-code (deleted)`).
fn symbol_and_file(text: &str) -> (&str, &str) {
    let at = text.rfind(" (/").max(text.rfind(" (["));
    let split = at.and_then(|at| Some((text.get(..at)?, text.get(at + 2..)?.strip_suffix(')')?)));
    split.unwrap_or((text, ""))
}

/// Symbols that were mangled the older way end with `::h` and 16 digits.
fn without_hash(symbol: &str) -> &str {
    let Some((name, hash)) = symbol.rsplit_once("::h") else { return symbol };
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { name } else { symbol }
}

impl Place {
    fn of(address: u64, file: &str) -> Place {
        match file {
            _ if address >= KERNEL_FROM => Place::Kernel,
            file if file.starts_with(GUEST_CODE) => Place::Guest,
            // `//anon` is memory of no file.
            file if file.starts_with("//") || file.starts_with("/memfd:") => Place::Nowhere,
            file if file.starts_with('/') || file == "[vdso]" => Place::File,
            _ => Place::Nowhere,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const TEXT: &str = "\
serve-1 14633 
\t          16d8bb __memmove_avx512_unaligned_erms (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t          43f942 edge_node::front::answer::answer::{{closure}}::h0123456789abcdef (/work dir/edge-node)
\tffffffffffffffff [unknown] ([unknown])

tokio-rt worker 7 PERF_RECORD_LOST lost 17
serve-0 14632 
\tffffffff821ed4e6 do_syscall_64 ([kernel.kallsyms])
\t           abf0d [unknown] (/memfd:skerry-code (deleted))
\t     200060503c8 [unknown] (//anon)

tokio-rt worker 20 
\t          658251 foo::bar(a) (inlined)
\t    7ffd83b5a6c1 __vdso_clock_gettime ([vdso])
serve-0 14632 PERF_RECORD_LOST_SAMPLES lost 2
";

    fn all(text: &str) -> anyhow::Result<Vec<Said>> {
        let mut all = Vec::new();
        read(text.as_bytes(), |said| all.push(said))?;
        Ok(all)
    }

    pub fn named(symbol: &str, place: Place) -> Frame {
        Frame { symbol: Some(symbol.to_owned()), place }
    }

    pub fn unnamed(place: Place) -> Frame {
        Frame { symbol: None, place }
    }

    fn sample(thread: &str, frames: Vec<Frame>) -> Said {
        Said::Sample(Sample { thread: thread.to_owned(), frames })
    }

    #[test]
    fn threads_frames_and_what_was_lost_are_read() {
        let first = vec![
            named("__memmove_avx512_unaligned_erms", Place::File),
            named("edge_node::front::answer::answer::{{closure}}", Place::File),
        ];
        let second =
            vec![named("do_syscall_64", Place::Kernel), unnamed(Place::Guest), unnamed(Place::Nowhere)];
        let third = vec![named("foo::bar(a)", Place::File), named("__vdso_clock_gettime", Place::File)];
        assert_eq!(
            all(TEXT).unwrap(),
            [
                sample("serve-1", first),
                Said::Lost(17),
                sample("serve-0", second),
                sample("tokio-rt worker", third),
                Said::Lost(2),
            ]
        );
        assert_eq!(all("").unwrap(), []);
    }

    #[test]
    fn only_a_hash_is_cut_off_a_name() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        for name in ["a::header", "a::h0123", "<a::b>::c::{closure#0}", "a::h0123456789abcdeg"] {
            assert_eq!(without_hash(name), name);
        }
    }

    #[test]
    fn what_is_no_output_of_perf_is_an_error() {
        let told = |text: &str| format!("{:#}", all(text).unwrap_err());
        assert!(told("\t 1 main (/bin/true)\n").contains("of no thread"));
        assert!(told("a 1\n\t main (/bin/true)\n").contains("without an address"));
        assert!(told(&"x".repeat(LINE_BYTES_MAX as usize + 1)).contains("longer than 65536 bytes"));
    }

    #[test]
    fn a_stack_has_an_end() {
        let text = format!("a 1\n{}", "\t 1 main (/bin/true)\n".repeat(FRAMES_MAX + 1));
        let [Said::Sample(sample)] = &all(&text).unwrap()[..] else { panic!("it is one sample") };
        assert_eq!(sample.frames.len(), FRAMES_MAX);
    }
}
