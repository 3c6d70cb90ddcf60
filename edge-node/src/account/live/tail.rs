//! The last lines of one app, as bytes in two rings: no allocation a line once a ring has its size, and a bound that is
//! exact whatever the lines are. What the program said has a ring that the lines of requests do not enter: however many
//! requests come, they push out none of it. Requests have what the other ring does not take, an eighth at least.
//!
//! Lines are numbered without a hole; those that leave the ring leave their numbers behind. Deliberately absent: who is
//! told of them, and how much all apps may have together.

use std::collections::VecDeque;

use artifact::record::VersionNumber;
use fleet_sync_replica::logs::{LogLine, RequestLine, Said, UnixUs};

use crate::{exchange::RequestId, failure::Failure};

/// Bytes a ring begins with: a quiet app's first lines.
const BYTES_MIN: usize = 1024;
/// Of an entry before its numbers and texts: its length, the line's number, its kind, time, version, request, and the length of its first
/// text.
const HEAD_BYTES: usize = 4 + 8 + 1 + 8 + 8 + 16 + 2;
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
    /// Number of the next one.
    next: u64,
    /// What the program said.
    said: Ring,
    /// What became of its requests.
    requests: Ring,
    /// Most bytes of both rings.
    room: usize,
}

/// Entries, oldest first.
#[derive(Default)]
struct Ring(VecDeque<u8>);

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
    /// Number of the first line.
    pub first: u64,
    /// Where reading goes on.
    pub next: u64,
    pub lines: Vec<LogLine>,
    /// Before the line at this place so many numbers are missing.
    pub gaps: Vec<(usize, u64)>,
    /// When the line after them was said; `None`: there is none.
    pub after_us: Option<UnixUs>,
}

impl Tail {
    pub fn new(run: u64, room: usize) -> Tail {
        Tail { run, next: 0, said: Ring::default(), requests: Ring::default(), room }
    }

    /// Bytes it has, used or not.
    pub fn capacity(&self) -> usize {
        self.said.0.capacity() + self.requests.0.capacity()
    }

    /// Lets it have so many bytes, or takes the oldest lines that are too many.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        self.shrink(room);
    }

    /// Takes the oldest lines until it has so few bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if self.capacity() <= bytes && self.said.0.capacity() <= part_of_said(bytes) {
            return;
        }
        self.said.fit(part_of_said(bytes));
        self.said.0.shrink_to_fit();
        self.requests.fit(bytes.saturating_sub(self.said.0.capacity()));
        self.requests.0.shrink_to_fit();
    }

    /// Remembers a line, in place of the oldest ones of its ring where there is no room.
    pub fn push(&mut self, line: &Line<'_>) {
        let number = self.next;
        self.next += 1;
        if matches!(line.what, What::Request(_)) {
            let room = self.room.saturating_sub(self.said.0.capacity());
            return self.requests.push(number, line, room);
        }
        self.said.push(number, line, part_of_said(self.room));
        let left = self.room.saturating_sub(self.said.0.capacity());
        if self.requests.0.capacity() > left {
            self.requests.fit(left);
            self.requests.0.shrink_to(left);
        }
    }

    /// The lines from `from` on, a number of the numbering `run`, or from the oldest one: as many as `most` lets, and none
    /// from the first on that is as young as `young` says.
    pub fn read(&self, (run, from): (u64, u64), most: Most, young: impl Fn(UnixUs) -> bool) -> Read {
        let from = if run == self.run { from.clamp(self.first(), self.next) } else { self.first() };
        let mut read = Read { run: self.run, first: from, next: from, ..Read::default() };
        let (mut said, mut requests) = (self.said.entries().peekable(), self.requests.entries().peekable());
        let mut bytes = 0;
        loop {
            let is_said = match (said.peek(), requests.peek()) {
                (None, None) => break,
                (Some((one, _)), Some((other, _))) => one < other,
                (one, _) => one.is_some(),
            };
            let (entry, ring) = match is_said {
                true => (said.next(), &self.said),
                false => (requests.next(), &self.requests),
            };
            let Some((number, place)) = entry else { break };
            if number < from {
                continue;
            }
            let line = line_of(&ring.0.range(place).copied().collect::<Vec<u8>>());
            bytes += line.bytes();
            let bytes_max = if read.lines.is_empty() { most.all } else { most.part };
            if young(line.time_us) || bytes > bytes_max {
                read.after_us = Some(line.time_us);
                break;
            }
            match read.lines.len() {
                0 => read.first = number,
                before if number > read.next => read.gaps.push((before, number - read.next)),
                _ => {}
            }
            read.next = number + 1;
            read.lines.push(line);
        }
        read
    }

    /// Number of the oldest line.
    fn first(&self) -> u64 {
        let firsts = [&self.said, &self.requests].map(|ring| ring.entries().next().map(|(number, _)| number));
        firsts.into_iter().flatten().min().unwrap_or(self.next)
    }
}

/// What a ring of what was said may have of the bytes of both: requests keep the last dozens also beside a loud program.
fn part_of_said(bytes: usize) -> usize {
    bytes / 8 * 7
}

impl Ring {
    /// Adds a line in place of the oldest ones where there is no room.
    fn push(&mut self, number: u64, line: &Line<'_>, room: usize) {
        let (kind, numbers, [first, second]) = parts(&line.what);
        let numbers: &[u64] = numbers.get(..count(kind)).unwrap_or_default();
        let bytes = HEAD_BYTES + 8 * numbers.len() + first.len() + second.len();
        if bytes > room {
            return self.0.clear(); // longer than any line of ours
        }
        self.fit(room - bytes);
        self.grow(bytes, room);
        self.0.extend((bytes as u32).to_le_bytes());
        self.0.extend(number.to_le_bytes());
        self.0.push_back(kind);
        self.0.extend(line.time_us.to_le_bytes());
        self.0.extend(line.version.to_le_bytes());
        self.0.extend(line.request.number().to_le_bytes());
        self.0.extend((first.len() as u16).to_le_bytes());
        numbers.iter().for_each(|number| self.0.extend(number.to_le_bytes()));
        self.0.extend(first);
        self.0.extend(second);
    }

    /// Takes the oldest lines until it has so few bytes.
    fn fit(&mut self, bytes: usize) {
        while self.0.len() > bytes {
            self.0.drain(..self.length(0));
        }
    }

    /// Doubles, within its room: the whole room at once would be more than most apps say.
    fn grow(&mut self, bytes: usize, room: usize) {
        let wanted = self.0.len() + bytes;
        if wanted > self.0.capacity() {
            let doubled = wanted.max(2 * self.0.capacity()).max(BYTES_MIN).min(room);
            self.0.reserve_exact(doubled - self.0.len());
        }
    }

    /// Numbers and places of its lines.
    fn entries(&self) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < self.0.len()).then(|| {
                let place = at..at + self.length(at);
                at = place.end;
                (u64::from_le_bytes(self.bytes(place.start + 4)), place)
            })
        })
    }

    /// Bytes of the entry that begins here.
    fn length(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes(at)) as usize
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.iter_mut().zip(self.0.range(at..)).for_each(|(to, from)| *to = *from);
        bytes
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

/// The line of an entry that [`Ring::push`] wrote.
fn line_of(entry: &[u8]) -> LogLine {
    let mut rest = &entry[12..];
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
        assert_eq!(tail.capacity(), 3_584, "requests may have the rest");
        let read = tail.read((1, 0), ALL, |_| false);
        assert_eq!(texts(&read).last(), Some(&"line 999"));
        assert_eq!(read.first + read.lines.len() as u64, 1_000);
        assert!(read.lines.len() > 55, "{}", read.lines.len());
        (0..1_000).for_each(|_| tail.push(&line(What::Stdout(b"x"))));
        assert_eq!(tail.capacity(), 3_584);

        tail.shrink(1_000);
        assert!(tail.capacity() <= 1_000);
        assert_eq!(tail.read((1, 0), ALL, |_| false).lines.len() as u64, 2_000 - tail.first());
        tail.push(&line(What::Stdout(&[b'x'; 5_000])));
        assert_eq!((tail.said.0.len(), tail.first(), tail.next), (0, 2_001, 2_001), "too long for it");
    }

    #[test]
    fn what_was_said_is_pushed_out_by_no_request_and_requests_have_the_rest() {
        let ended = Ended {
            method: "GET",
            path: "/",
            status: 200,
            failure: None,
            duration_us: 1,
            cpu_us: 1,
            instantiate_us: 1,
            memory_peak_kib: 1,
        };
        let mut tail = Tail::new(1, 32 * 1024);
        tail.push(&line(What::Stdout(b"last words")));
        (0..10_000).for_each(|_| tail.push(&line(What::Request(ended))));
        assert!(tail.capacity() <= 32 * 1024);
        let read = tail.read((1, 0), ALL, |_| false);
        assert!(matches!(&read.lines[0].said, Said::Stdout { text } if text == "last words"));
        let requests = read.lines.len() as u64 - 1;
        assert!(requests > 250, "{requests}");
        assert_eq!((read.first, read.next, read.gaps), (0, 10_001, vec![(1, 10_000 - requests)]));

        // A loud program leaves the last requests.
        for _ in 0..10_000 {
            tail.push(&line(What::Stdout(&[b'x'; 100])));
            assert!(tail.capacity() <= 32 * 1024);
        }
        let read = tail.read((1, 0), ALL, |_| false);
        let requests = read.lines.iter().filter(|line| matches!(line.said, Said::Request(_))).count();
        assert!((30..50).contains(&requests), "{requests}");
        assert_eq!(read.gaps.len(), 1);
        let rest = tail.read((1, 10_500), Most { part: 300, all: 300 }, |_| false);
        assert!(rest.first > 10_500 && rest.next == rest.first + rest.lines.len() as u64);
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
        assert_eq!(tail.read((9, 3), ALL, |_| false), Read { run: 9, first: 3, next: 3, ..Read::default() });
        assert_eq!(texts(&tail.read((8, 2), ALL, |_| false)), ["a", "b", "c"], "another numbering");
        assert_eq!(texts(&tail.read((9, 0), ALL, |_| true)), [""; 0], "all too young");
        (0..100).for_each(|_| tail.push(&line(What::Stdout(b"d"))));
        let read = tail.read((9, 1), ALL, |_| false);
        assert!(read.first > 70 && read.next == 103, "{}", read.first);
    }
}
