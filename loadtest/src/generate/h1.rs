//! HTTP/1.1, as lean as can be: the client shares its machine with what it measures. A request is bytes made once, an
//! answer is counted and not kept.

use std::{io, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    body::{self, Reading},
    chunked::Chunked,
    link::Plan,
    scenario::Scenario,
    socket::Socket,
    tally::Answer,
};

const BUFFER_BYTES: usize = 16 << 10;
/// Of an answer's head: it must fit the buffer.
const HEAD_BYTES_MAX: usize = BUFFER_BYTES;
/// A body up to here goes with its head in one write.
const ONE_WRITE_BYTES_MAX: u64 = 16 << 10;

/// How TLS says that it did not understand: the type of a record, and the first byte of its version.
const TLS_ALERT: [u8; 2] = [21, 3];

/// What is written for one host: its head, and the body if that is small and sent at once.
pub fn question(scenario: &Scenario, authority: &str) -> Vec<u8> {
    let shape = &scenario.request;
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {authority}\r\n", shape.method, shape.path);
    for (name, value) in &shape.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if shape.body_bytes > 0 {
        text += &format!("content-length: {}\r\n", shape.body_bytes);
    }
    if scenario.new_connection_each {
        text += "connection: close\r\n";
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    if body_with_head(scenario) {
        bytes.resize(bytes.len() + shape.body_bytes as usize, body::FILL);
    }
    bytes
}

/// Is the body part of [`question`]?
pub fn body_with_head(scenario: &Scenario) -> bool {
    scenario.request.body_bytes <= ONE_WRITE_BYTES_MAX && body::pause(scenario).is_none()
}

/// What an answer's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    end: End,
    closes: bool,
}

/// Where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    After(u64),
    Chunked,
    AtClose,
}

pub struct Connection {
    socket: Socket,
    reading: Option<Reading>,
    buffer: Box<[u8]>,
    /// Of the buffer, read and not used yet.
    start: usize,
    filled: usize,
    kept: bool,
}

impl Connection {
    pub fn new(socket: Socket, reading: Option<Reading>) -> Connection {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Connection { socket, reading, buffer, start: 0, filled: 0, kept: true }
    }

    /// Can another request follow?
    pub fn kept(&self) -> bool {
        self.kept
    }

    /// One request, and its whole answer.
    pub async fn exchange(&mut self, plan: &Plan, host: usize) -> Result<Answer, String> {
        self.kept = false;
        self.send(plan, host).await.map_err(|error| told("sending", &error))?;
        if self.reading.is_some() {
            // Under way from its first bytes on; if there are none, it is told below.
            self.read().await?;
        }
        let (head, bytes_in) = plan.take(self.answer(plan.asks_head)).await?;
        if self.start != self.filled {
            return Err("answer: there is more than was asked for".to_owned());
        }
        self.kept = !head.closes && head.end != End::AtClose;
        Ok(Answer { status: head.status, bytes_in })
    }

    /// Its head, and how long all of it was.
    async fn answer(&mut self, asked_head: bool) -> Result<(Head, u64), String> {
        let mut bytes_in = 0;
        loop {
            let (head, bytes) = self.head(asked_head).await?;
            bytes_in += bytes as u64;
            // 1xx come before the answer.
            if head.status >= 200 {
                return Ok((head, bytes_in + self.body(head.end).await?));
            }
        }
    }

    async fn send(&mut self, plan: &Plan, host: usize) -> io::Result<()> {
        self.socket.write_all(&plan.questions[host]).await?;
        if !plan.body_with_head {
            let mut left = plan.body_bytes;
            let (piece, pause) = (plan.piece_bytes, plan.pause.unwrap_or(Duration::ZERO));
            while left > 0 {
                let bytes = body::piece(left.min(piece));
                self.socket.write_all(&bytes).await?;
                left -= bytes.len() as u64;
                if !pause.is_zero() && left > 0 {
                    self.socket.flush().await?;
                    tokio::time::sleep(pause).await;
                }
            }
        }
        self.socket.flush().await
    }

    async fn head(&mut self, asked_head: bool) -> Result<(Head, usize), String> {
        let mut looked = 0;
        loop {
            let read = &self.buffer[self.start..self.filled];
            if let Some(end) = read[looked..].windows(4).position(|four| four == b"\r\n\r\n") {
                let bytes = looked + end + 4;
                let head = head(&read[..bytes], asked_head).ok_or("answer: its head is broken")?;
                self.start += bytes;
                return Ok((head, bytes));
            }
            looked = read.len().saturating_sub(3);
            if read.len() >= HEAD_BYTES_MAX {
                return Err(format!("answer: its head is longer than {HEAD_BYTES_MAX} bytes"));
            }
            if self.read().await? == 0 {
                let read = &self.buffer[self.start..self.filled];
                return Err(match read.starts_with(&TLS_ALERT) {
                    true => "answer: the target speaks TLS, and was asked without".to_owned(),
                    false => "answer: the target closed the connection".to_owned(),
                });
            }
        }
    }

    async fn body(&mut self, end: End) -> Result<u64, String> {
        let (mut chunked, mut bytes) = (Chunked::new(), 0);
        loop {
            let read = &self.buffer[self.start..self.filled];
            let used = match end {
                End::After(length) => (read.len() as u64).min(length - bytes) as usize,
                End::Chunked => chunked.eat(read).map_err(|_| "answer: its chunks are broken")?,
                End::AtClose => read.len(),
            };
            self.start += used;
            bytes += used as u64;
            if bytes_done(end, bytes, &chunked) {
                return Ok(bytes);
            }
            match self.read().await? {
                0 if end == End::AtClose => return Ok(bytes),
                0 => return Err("answer: it was cut off".to_owned()),
                _ => {}
            }
        }
    }

    /// More bytes behind those not used yet.
    async fn read(&mut self) -> Result<usize, String> {
        if self.start == self.filled {
            (self.start, self.filled) = (0, 0);
        } else if self.filled == self.buffer.len() {
            self.buffer.copy_within(self.start..self.filled, 0);
            (self.start, self.filled) = (0, self.filled - self.start);
        }
        let room = self.buffer.len() - self.filled;
        let most = self.reading.map_or(room, |reading| reading.piece_bytes().min(room));
        let read = self.socket.read(&mut self.buffer[self.filled..self.filled + most]).await;
        let read = read.map_err(|error| told("answer", &error))?;
        self.filled += read;
        if let Some(reading) = self.reading {
            reading.took(read).await;
        }
        Ok(read)
    }
}

fn bytes_done(end: End, bytes: u64, chunked: &Chunked) -> bool {
    match end {
        End::After(length) => bytes == length,
        End::Chunked => chunked.done(),
        End::AtClose => false,
    }
}

fn told(step: &str, error: &io::Error) -> String {
    format!("{step}: {error}")
}

/// `bytes` end with the empty line.
fn head(bytes: &[u8], asked_head: bool) -> Option<Head> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next()?;
    let old = first.starts_with(b"HTTP/1.0 ");
    if !old && !first.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    let digits = first.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let (mut end, mut closes) = (None, old);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok()?.parse().ok()?;
            end = end.or(Some(End::After(length)));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            end = Some(End::Chunked);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes =
                value.eq_ignore_ascii_case(b"close") || (old && !value.eq_ignore_ascii_case(b"keep-alive"));
        }
    }
    let bodiless = asked_head || status < 200 || status == 204 || status == 304;
    let end = if bodiless { End::After(0) } else { end.unwrap_or(End::AtClose) };
    (100..=999).contains(&status).then_some(Head { status, end, closes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(u16, End, bool)> {
        head(text.as_bytes(), false).map(|head| (head.status, head.end, head.closes))
    }

    #[test]
    fn a_head_tells_where_its_answer_ends() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length:  5\r\n\r\n"), Some((200, End::After(5), false)));
        assert_eq!(
            read("HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n"),
            Some((404, End::Chunked, true))
        );
        assert_eq!(read("HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n"), Some((304, End::After(0), false)));
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\n"), Some((200, End::AtClose, true)));
    }

    #[test]
    fn what_is_no_head_is_told() {
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 000 OK\r\n\r\n",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
