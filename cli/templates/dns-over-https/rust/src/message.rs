//! Messages of DNS (RFC 1035, section 4): as much as a proxy has to know.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

const HEADER_BYTES: usize = 12;
/// Of a name, with its dots (RFC 1035, section 3.1).
const NAME_BYTES_MAX: usize = 253;
/// Pointers in a name: more than any honest one has.
const POINTERS_MAX: usize = 16;

const TYPES: [(&str, u16); 9] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("HTTPS", 65),
];
const SOA: u16 = 6;

/// What is asked.
#[derive(Debug, PartialEq)]
pub struct Question {
    name: String,
    kind: u16,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    pub question: Question,
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    pub records: Vec<Record>,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
}

#[derive(Debug)]
pub struct Record {
    pub name: String,
    pub kind: String,
    pub ttl: u32,
    pub data: String,
}

impl Question {
    /// The question of a query: one, of the kind that is asked and not answered.
    pub fn of(message: &[u8]) -> Result<Question, &'static str> {
        let mut reader = Reader { message, at: 2 };
        let (flags, questions, answers) = reader
            .head()
            .ok_or("the message is shorter than its header")?;
        match (flags & 0x8000, flags & 0x7800, questions, answers) {
            (0, 0, 1, 0) => reader.question().ok_or("the question is not well formed"),
            (0, 0, ..) => Err("the message has not one question"),
            _ => Err("the message is no query"),
        }
    }
}

impl Answer {
    /// `None` if the message is none, or not well formed.
    pub fn of(message: &[u8]) -> Option<Answer> {
        let mut reader = Reader { message, at: 2 };
        let (flags, 1, answers) = reader.head()? else {
            return None;
        };
        let authorities = u16::from_be_bytes([message[8], message[9]]);
        let question = reader.question()?;
        let records = (0..answers)
            .map(|_| reader.record())
            .collect::<Option<Vec<_>>>()?;
        let ttl = match records.iter().map(|(record, _)| record.ttl).min() {
            Some(least) => least,
            // That there is nothing may be kept as long as the zone says (RFC 2308, section 5).
            None => (0..authorities)
                .map_while(|_| reader.record())
                .find_map(|(_, negative)| negative)
                .unwrap_or(0),
        };
        let status = match flags & 15 {
            0 => "NOERROR".into(),
            2 => "SERVFAIL".into(),
            3 => "NXDOMAIN".into(),
            5 => "REFUSED".into(),
            other => format!("RCODE{other}"),
        };
        let is_answer = flags & 0x8000 != 0;
        let records = records.into_iter().map(|(record, _)| record).collect();
        is_answer.then_some(Answer {
            question,
            status,
            records,
            ttl,
        })
    }
}

/// The query for a name and a type (`AAAA`, `65`); `None` if it is no name, or no type.
pub fn query(name: &str, kind: &str) -> Option<Vec<u8>> {
    let known = TYPES
        .iter()
        .find(|(text, _)| text.eq_ignore_ascii_case(kind));
    let kind = known.map_or_else(|| kind.parse().ok(), |(_, number)| Some(*number))?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES_MAX || !name.is_ascii() {
        return None;
    }
    // Recursion wanted, one question. The number is 0, so that equal queries are equal (RFC 8484, section 4.1).
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|_| !name.is_empty()) {
        message.push(
            u8::try_from(label.len())
                .ok()
                .filter(|length| (1..=63).contains(length))?,
        );
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(u16::to_be_bytes(kind));
    message.extend([0, 1]);
    Some(message)
}

/// Goes through a message. Everything is `None` beyond its end.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Flags, number of questions, number of answers.
    fn head(&mut self) -> Option<(u16, u16, u16)> {
        let head = (self.u16()?, self.u16()?, self.u16()?);
        self.at = HEADER_BYTES;
        (self.message.len() >= HEADER_BYTES).then_some(head)
    }

    fn question(&mut self) -> Option<Question> {
        let (name, kind) = (self.name()?, self.u16()?);
        self.u16()?; // the class: the Internet
        Some(Question {
            name: name.to_ascii_lowercase(),
            kind,
        })
    }

    /// A record, and of an SOA how long it may be kept that there is nothing.
    fn record(&mut self) -> Option<(Record, Option<u32>)> {
        let (name, kind, _class, ttl) = (self.name()?, self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        let data = self.message.get(self.at..end)?;
        let mut inside = Reader {
            message: self.message,
            at: self.at,
        };
        let minimum = data
            .last_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes).min(ttl));
        let shown = inside.data(kind, data).unwrap_or_else(|| unknown(data));
        self.at = end;
        let text = TYPES.iter().find(|(_, number)| *number == kind);
        let text = text.map_or_else(|| format!("TYPE{kind}"), |(text, _)| (*text).to_owned());
        Some((
            Record {
                name,
                kind: text,
                ttl,
                data: shown,
            },
            minimum.filter(|_| kind == SOA),
        ))
    }

    /// As it is written in zone files; `None`: not known here.
    fn data(&mut self, kind: u16, data: &[u8]) -> Option<String> {
        match kind {
            1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
            28 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
            2 | 5 | 12 => self.name(),
            15 => Some(format!("{} {}", self.u16()?, self.name()?)),
            16 => {
                let (length, text) = data.split_first()?;
                Some(String::from_utf8_lossy(text.get(..usize::from(*length))?).into_owned())
            }
            _ => None,
        }
    }

    /// A name, which may go on at another place that stands before it.
    fn name(&mut self) -> Option<String> {
        let (mut name, mut at, mut pointers) = (String::new(), self.at, 0);
        loop {
            let length = usize::from(*self.message.get(at)?);
            at += 1;
            if length >= 0xc0 {
                let low = usize::from(*self.message.get(at)?);
                if pointers == 0 {
                    self.at = at + 1;
                }
                pointers += 1;
                at = (length & 0x3f) << 8 | low;
            } else {
                for byte in self.message.get(at..at + length)? {
                    name.push(char::from(*byte));
                }
                at += length;
                if length > 0 {
                    name.push('.');
                }
            }
            if length > 63 && length < 0xc0
                || name.len() > NAME_BYTES_MAX + 1
                || pointers > POINTERS_MAX
            {
                return None;
            }
            if length == 0 {
                if pointers == 0 {
                    self.at = at;
                }
                return Some(if name.is_empty() { ".".into() } else { name });
            }
        }
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..)?.first_chunk()?;
        self.at += 2;
        Some(u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.message.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(u32::from_be_bytes(*bytes))
    }
}

/// Data of types that are not known, as RFC 3597 writes it.
fn unknown(data: &[u8]) -> String {
    data.iter()
        .fold(format!("\\# {} ", data.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // into memory
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(records: &[&[u8]], authorities: &[&[u8]]) -> Vec<u8> {
        let mut message = query("Example.com", "A").unwrap();
        (message[2], message[3]) = (0x81, 0x80);
        (message[7], message[9]) = (records.len() as u8, authorities.len() as u8);
        message.extend(records.concat());
        message.extend(authorities.concat());
        message
    }

    #[test]
    fn an_answer_is_read_and_kept_as_long_as_its_shortest_ttl() {
        let cname = &[
            0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, 6, 3, b'w', b'w', b'w', 0xc0, 12,
        ];
        let a = &[
            3, b'w', b'w', b'w', 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7,
        ];
        let answer = Answer::of(&answered(&[cname, a], &[])).unwrap();
        let shown: Vec<_> = answer
            .records
            .iter()
            .map(|r| format!("{} {} {}", r.name, r.kind, r.data))
            .collect();
        assert_eq!(
            shown,
            [
                "Example.com. CNAME www.Example.com.",
                "www.Example.com. A 192.0.2.7"
            ]
        );
        assert_eq!((answer.ttl, answer.status.as_str()), (60, "NOERROR"));
        assert_eq!(
            answer.question,
            Question::of(&query("example.COM.", "a").unwrap()).unwrap()
        );
    }

    #[test]
    fn that_there_is_nothing_is_kept_as_long_as_the_zone_says() {
        let mut soa = vec![0xc0, 12, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0];
        soa.extend([0, 0, 0, 1].repeat(4));
        soa.extend([0, 0, 0, 30]);
        assert_eq!(Answer::of(&answered(&[], &[&soa])).unwrap().ttl, 30);
        assert_eq!(Answer::of(&answered(&[], &[])).unwrap().ttl, 0);
    }

    #[test]
    fn a_message_cut_short_or_running_in_circles_is_none() {
        let a = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
        let whole = answered(&[a], &[]);
        for length in 0..whole.len() {
            assert!(Answer::of(&whole[..length]).is_none(), "{length}");
        }
        let circle = &[0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0];
        assert!(Answer::of(&answered(&[circle], &[])).is_none());
    }

    #[test]
    fn only_queries_pass() {
        let good = query("a.example", "HTTPS").unwrap();
        assert_eq!(Question::of(&good).unwrap().kind, 65);
        for (at, byte) in [(2, 0x80), (2, 0x10), (5, 2), (7, 1), (12, 64)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(Question::of(&bad).is_err(), "{at}");
        }
        assert!(
            query("a..b", "A").is_none()
                && query("a", "NONE").is_none()
                && query(".", "NS").is_some()
        );
    }
}
