//! What templates fetch from, on loopback: an HTTP/1.1 server of the standard library alone, one request a connection.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /picture.png`, `/picture.bmp` | a red image of 40 × 20 pixels |
//! | `POST /dns-query` | the query as an answer: `A 192.0.2.7`, for 300 s |
//! | `POST /graphql` | as JSON: what was sent, and its `authorization` |
//! | `POST /echo` | what was sent |
//! | anything else | `METHOD TARGET for X`, X the field `x-forwarded-for` |

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// A PNG of 40 × 20 pixels, all red.
const PNG: &str = "89504e470d0a1a0a0000000d49484452000000280000001408020000007024e8ec0000002549444154789c6338c1c030\
                   2068606c1db578d4e2518b472d1eb578d4e2518b472d1e10040041b7711fb72aea610000000049454e44ae426082";

/// It lives as long as the test's process.
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    pub fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is not this backend's affair.
                thread::spawn(move || answer(stream).unwrap_or_default());
            }
        });
        Backend { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (BufReader::new(stream.try_clone()?), stream);
    let first = line(&mut from)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut fields = HashMap::new();
    loop {
        let field = line(&mut from)?;
        let Some((name, value)) = field.split_once(':') else { break };
        fields.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let body = body(&mut from, &fields)?;
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (kind, sent) = match target {
        "/picture.png" => ("image/png", png()),
        "/picture.bmp" => ("image/bmp", bmp()),
        "/dns-query" => ("application/dns-message", answered(body)),
        "/graphql" => {
            let sent = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
            let told = serde_json::json!({ "data": sent, "authorization": field("authorization") });
            ("application/json", told.to_string().into_bytes())
        }
        "/echo" => ("application/octet-stream", body),
        _ => ("text/plain", format!("{method} {target} for {}", field("x-forwarded-for")).into_bytes()),
    };
    let length = sent.len();
    write!(
        to,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    to.write_all(&sent)
}

fn body(from: &mut impl BufRead, fields: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = fields.get("content-length") {
        from.take(length.parse().map_err(io::Error::other)?).read_to_end(&mut body)?;
    } else if fields.contains_key("transfer-encoding") {
        loop {
            let length = u64::from_str_radix(line(from)?.trim(), 16).map_err(io::Error::other)?;
            from.take(length).read_to_end(&mut body)?;
            line(from)?; // behind the piece, or the end of the trailers
            if length == 0 {
                break;
            }
        }
    }
    Ok(body)
}

/// Without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

/// A BMP of 40 × 20 pixels, all red.
pub fn bmp() -> Vec<u8> {
    let mut file = b"BM".to_vec();
    for number in [54 + 40 * 20 * 3, 0, 54, 40, 40, 20, 1 | 24 << 16, 0, 0, 0, 0, 0, 0_u32] {
        file.extend(number.to_le_bytes());
    }
    file.extend([0, 0, 200].repeat(40 * 20));
    file
}

/// A PNG of 40 × 20 pixels, all red.
pub fn png() -> Vec<u8> {
    bytes_of(PNG)
}

/// The answer to a query.
fn answered(mut message: Vec<u8>) -> Vec<u8> {
    if message.len() > 12 {
        (message[2], message[3], message[7]) = (0x81, 0x80, 1);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 7]);
    }
    message
}
