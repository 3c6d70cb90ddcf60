//! The last lines of one app, as bytes in a ring: no allocation a line once the ring has its size, and a bound that is
//! exact whatever the lines are.
//!
//! Lines are numbered without a hole; those that leave the ring leave their numbers behind. Deliberately absent: who is
//! told of them, and how much all apps may have together.

use std::collections::VecDeque;

use artifact::record::VersionNumber;
use fleet_sync_replica::logs::{LogLine, RequestLine, Said, UnixUs};

use crate::{exchange::RequestId, failure::Failure};

/// Bytes a ring begins with: a quiet app's first lines.
const BYTES_MIN: usize = 1024;
/// Of an entry before its numbers and texts: its length, its kind, time, version, request, and the length of its first
/// text.
const HEAD_BYTES: usize = 4 + 1 + 8 + 8 + 16 + 2;
/// Most numbers of an entry.
const NUMBERS_MAX: usize = 6;

/// A line to remember, still in its own types.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// When it was said, or when the request ended.
    pub time_us: UnixUs,
    /// The version that said it.
    pub version: VersionNumber,
    /// The request it was said in.
    pub request: RequestId,
    /// What.
    pub what: What<'a>,
}

/// What a line says.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// A line of standard output.
    Stdout(&'a [u8]),
    /// A line of standard error.
    Stderr(&'a [u8]),
    /// An entry of a log the guest names.
    Log(&'a str, &'a [u8]),
    /// So many bytes were over an execution's bound.
    Cut(u64),
    /// So many lines found no room on their way here.
    Dropped(u64),
    /// A request has ended.
    Request(Ended<'a>),
}

/// What became of a request.
#[derive(Clone, Copy)]
pub struct Ended<'a> {
    /// Its method.
    pub method: &'a str,
    /// The beginning of its path.
    pub path: &'a str,
    /// 0: the client was gone before it.
    pub status: u16,
    /// Why it was not the guest that answered.
    pub failure: Option<Failure>,
    /// From head to end, µs.
    pub duration_us: u64,
    /// Of its execution, µs.
    pub cpu_us: u64,
    /// To make its instance, µs.
    pub instantiate_us: u64,
    /// Its largest memory, KiB.
    pub memory_peak_kib: u64,
}

/// See the module.
pub(super) struct Tail {
    /// Names the numbering.
    run: u64,
    /// Number of the oldest line.
    first: u64,
    /// Number of the next one.
    next: u64,
    ring: VecDeque<u8>,
    /// Most bytes of the ring.
    room: usize,
}

/// How much may be read, in bytes as they are told.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// More than one line only within this.
    pub part: usize,
    /// One line within this.
    pub all: usize,
}

/// Lines as they are told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub run: u64,
    pub first: u64,
    pub lines: Vec<LogLine>,
    /// When the line after them was said; `None`: there is none.
    pub after_us: Option<UnixUs>,
}

impl Tail {
    pub fn new(run: u64, room: usize) -> Tail {
        Tail { run, first: 0, next: 0, ring: VecDeque::new(), room }
    }

    /// Bytes it has, used or not.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Lets it have so many bytes, or takes the oldest lines that are too many.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        self.shrink(room);
    }

    /// Takes the oldest lines until it has so few bytes.
    pub fn shrink(&mut self, bytes: usize) {
        while self.ring.len() > bytes {
            self.forget_first();
        }
        self.ring.shrink_to(bytes);
    }

    /// Remembers a line, in place of the oldest ones where there is no room.
    pub fn push(&mut self, line: &Line<'_>) {
        let (kind, numbers, [first, second]) = parts(&line.what);
        let numbers: &[u64] = numbers.get(..count(kind)).unwrap_or_default();
        let bytes = HEAD_BYTES + 8 * numbers.len() + first.len() + second.len();
        self.next += 1;
        if bytes > self.room {
            self.first = self.next; // longer than any line of ours
            return self.ring.clear();
        }
        while self.ring.len() + bytes > self.room {
            self.forget_first();
        }
        self.grow(bytes);
        self.ring.extend((bytes as u32).to_le_bytes());
        self.ring.push_back(kind);
        self.ring.extend(line.time_us.to_le_bytes());
        self.ring.extend(line.version.to_le_bytes());
        self.ring.extend(line.request.number().to_le_bytes());
        self.ring.extend((first.len() as u16).to_le_bytes());
        numbers.iter().for_each(|number| self.ring.extend(number.to_le_bytes()));
        self.ring.extend(first);
        self.ring.extend(second);
    }

    /// The lines from `from` on, a number of the numbering `run`, or from the oldest one: as many as `most` lets, and none
    /// from the first on that is as young as `young` says.
    pub fn read(&self, (run, from): (u64, u64), most: Most, young: impl Fn(UnixUs) -> bool) -> Read {
        let first = if run == self.run { from.clamp(self.first, self.next) } else { self.first };
        let mut read = Read { run: self.run, first, ..Read::default() };
        let (mut at, mut bytes) = (0, 0);
        for number in self.first..self.next {
            let length = self.length(at);
            if number >= first {
                let entry: Vec<u8> = self.ring.range(at..at + length).copied().collect();
                let line = line_of(&entry);
                bytes += line.bytes();
                let bytes_max = if read.lines.is_empty() { most.all } else { most.part };
                if young(line.time_us) || bytes > bytes_max {
                    read.after_us = Some(line.time_us);
                    break;
                }
                read.lines.push(line);
            }
            at += length;
        }
        read
    }

    /// Doubles, within its room: the whole room at once would be more than most apps say.
    fn grow(&mut self, bytes: usize) {
        let wanted = self.ring.len() + bytes;
        if wanted > self.ring.capacity() {
            let doubled = wanted.max(2 * self.ring.capacity()).max(BYTES_MIN).min(self.room);
            self.ring.reserve_exact(doubled - self.ring.len());
        }
    }

    fn forget_first(&mut self) {
        self.ring.drain(..self.length(0));
        self.first += 1;
    }

    /// Bytes of the entry that begins here.
    fn length(&self, at: usize) -> usize {
        let mut length = [0; 4];
        length.iter_mut().zip(self.ring.range(at..)).for_each(|(to, from)| *to = *from);
        u32::from_le_bytes(length) as usize
    }
}

/// Numbers of an entry of a kind.
fn count(kind: u8) -> usize {
    match kind {
        0..=2 => 0,
        3 | 4 => 1,
        _ => NUMBERS_MAX,
    }
}

/// Kind, numbers and texts.
fn parts<'a>(what: &What<'a>) -> (u8, [u64; NUMBERS_MAX], [&'a [u8]; 2]) {
    let one = |number| [number, 0, 0, 0, 0, 0];
    match *what {
        What::Stdout(text) => (0, one(0), [b"", text]),
        What::Stderr(text) => (1, one(0), [b"", text]),
        What::Log(name, text) => (2, one(0), [name.as_bytes(), text]),
        What::Cut(bytes) => (3, one(bytes), [b"", b""]),
        What::Dropped(lines) => (4, one(lines), [b"", b""]),
        What::Request(ended) => {
            let failure = ended.failure.map_or(0, |failure| failure as u64 + 1);
            let Ended { duration_us, cpu_us, instantiate_us, memory_peak_kib, .. } = ended;
            let numbers =
                [ended.status.into(), failure, duration_us, cpu_us, instantiate_us, memory_peak_kib];
            (5, numbers, [ended.method.as_bytes(), ended.path.as_bytes()])
        }
    }
}

/// The line of an entry that [`Tail::push`] wrote.
fn line_of(entry: &[u8]) -> LogLine {
    let mut rest = &entry[4..];
    let kind = take::<1>(&mut rest)[0];
    let time_us = u64::from_le_bytes(take(&mut rest));
    let version = VersionNumber::from_le_bytes(take(&mut rest));
    let request = u128::from_le_bytes(take(&mut rest));
    let length = u16::from_le_bytes(take(&mut rest));
    let mut numbers = [0; NUMBERS_MAX];
    for number in numbers.iter_mut().take(count(kind)) {
        *number = u64::from_le_bytes(take(&mut rest));
    }
    let (first, second) = rest.split_at(length.into());
    let [first, second] = [first, second].map(|text| String::from_utf8_lossy(text).into_owned());
    LogLine { time_us, version, request: format!("{request:032x}"), said: said(kind, numbers, first, second) }
}

fn said(kind: u8, numbers: [u64; NUMBERS_MAX], first: String, second: String) -> Said {
    let [status, failure, duration_us, cpu_us, instantiate_us, memory_peak_kib] = numbers;
    match kind {
        0 => Said::Stdout { text: second },
        1 => Said::Stderr { text: second },
        2 => Said::Log { name: first, text: second },
        3 => Said::Cut { bytes: numbers[0] },
        4 => Said::Dropped { lines: numbers[0] },
        _ => {
            let failure = failure.checked_sub(1).and_then(|at| Failure::ALL.get(at as usize));
            Said::Request(RequestLine {
                method: first,
                path: second,
                status: status as u16,
                error: failure.map(|failure| failure.code().to_owned()),
                duration_us,
                cpu_us,
                instantiate_us,
                memory_peak_kib,
            })
        }
    }
}

/// The next bytes of an entry.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest.split_first_chunk().expect("an entry has the length that push gave it");
    *rest = after;
    *taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Most = Most { part: usize::MAX, all: usize::MAX };

    fn line(what: What<'_>) -> Line<'_> {
        Line { time_us: 7, version: 3, request: RequestId::new(), what }
    }

    fn texts(read: &Read) -> Vec<&str> {
        let text = |line: &LogLine| match &line.said {
            Said::Stdout { text } => text.clone(),
            other => panic!("{other:?}"),
        };
        let texts: Vec<String> = read.lines.iter().map(text).collect();
        texts.into_iter().map(|text| &*text.leak()).collect()
    }

    #[test]
    fn every_kind_is_read_as_it_was_written_and_what_is_no_text_is_made_one() {
        let mut tail = Tail::new(1, 1 << 16);
        let ended = Ended {
            method: "GET",
            path: "/é\u{1b}",
            status: 504,
            failure: Some(Failure::CpuLimit),
            duration_us: u64::MAX,
            cpu_us: 2,
            instantiate_us: 3,
            memory_peak_kib: 4,
        };
        let request = line(What::Request(ended));
        tail.push(&request);
        tail.push(&line(What::Request(Ended { failure: None, ..ended })));
        tail.push(&line(What::Stdout(b"a\xff\x00")));
        tail.push(&line(What::Stderr(b"")));
        tail.push(&line(What::Log("access", b"entry")));
        tail.push(&line(What::Cut(5)));
        tail.push(&line(What::Dropped(6)));
        let read = tail.read((1, 0), ALL, |_| false);
        assert_eq!(
            (read.lines[0].time_us, read.lines[0].version, &read.lines[0].request),
            (7, 3, &request.request.to_string())
        );
        let of = |error: Option<&str>| {
            Said::Request(RequestLine {
                method: "GET".into(),
                path: "/é\u{1b}".into(),
                status: 504,
                error: error.map(str::to_owned),
                duration_us: u64::MAX,
                cpu_us: 2,
                instantiate_us: 3,
                memory_peak_kib: 4,
            })
        };
        let wanted = [
            of(Some("cpu_limit")),
            of(None),
            Said::Stdout { text: "a\u{fffd}\0".into() },
            Said::Stderr { text: String::new() },
            Said::Log { name: "access".into(), text: "entry".into() },
            Said::Cut { bytes: 5 },
            Said::Dropped { lines: 6 },
        ];
        assert_eq!(read.lines.into_iter().map(|line| line.said).collect::<Vec<_>>(), wanted);
        assert_eq!((read.first, read.after_us), (0, None));
    }

    #[test]
    fn the_oldest_lines_make_room_and_the_bytes_are_bounded_and_allocated_once() {
        let mut tail = Tail::new(1, 4_096);
        for number in 0..1_000 {
            tail.push(&line(What::Stdout(format!("line {number}").as_bytes())));
        }
        assert_eq!(tail.capacity(), 4_096);
        let read = tail.read((1, 0), ALL, |_| false);
        assert_eq!(texts(&read).last(), Some(&"line 999"));
        assert_eq!(read.first + read.lines.len() as u64, 1_000);
        assert!(read.lines.len() > 70, "{}", read.lines.len());
        (0..1_000).for_each(|_| tail.push(&line(What::Stdout(b"x"))));
        assert_eq!(tail.capacity(), 4_096);

        tail.shrink(1_000);
        assert!(tail.capacity() <= 1_000 && tail.ring.len() <= 1_000);
        assert_eq!(tail.read((1, 0), ALL, |_| false).lines.len() as u64, 2_000 - tail.first);
        tail.push(&line(What::Stdout(&[b'x'; 5_000])));
        assert_eq!((tail.ring.len(), tail.first, tail.next), (0, 2_001, 2_001), "too long for it");
    }

    #[test]
    fn reading_goes_on_where_it_ended_and_says_what_is_missing_by_its_numbers() {
        let mut tail = Tail::new(9, 1_000);
        for text in ["a", "b", "c"] {
            tail.push(&line(What::Stdout(text.as_bytes())));
        }
        let one = tail.read((9, 1), Most { part: 1, all: 200 }, |_| false);
        assert_eq!((one.first, texts(&one), one.after_us), (1, vec!["b"], Some(7)));
        assert_eq!(tail.read((9, 0), Most { part: 1, all: 1 }, |_| false).lines, [], "no room for one");
        assert_eq!(tail.read((9, 3), ALL, |_| false), Read { run: 9, first: 3, ..Read::default() });
        assert_eq!(texts(&tail.read((8, 2), ALL, |_| false)), ["a", "b", "c"], "another numbering");
        assert_eq!(texts(&tail.read((9, 0), ALL, |_| true)), [""; 0], "all too young");
        (0..100).for_each(|_| tail.push(&line(What::Stdout(b"d"))));
        let read = tail.read((9, 1), ALL, |_| false);
        assert!(read.first > 70 && read.first + read.lines.len() as u64 == 103, "{}", read.first);
    }
}
