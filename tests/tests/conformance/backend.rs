//! A backend on this machine's loopback, of the standard library alone: HTTP/1.1, one request a connection.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /echo` | 201, the body piece by piece |
//! | `/status/N` | N, `status` |
//! | `/pair/NAME` | 200, `pair NAME\n`, when two such requests are there; 503 if the other does not come |
//! | `/hangs-up` | none: the connection ends |
//! | anything else | 200, `METHOD TARGET from X`, X the field `x-from` |

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// How long one of a pair waits for the other.
const PAIR_WAIT: Duration = Duration::from_secs(5);
/// Longest piece of a body.
const PIECE_BYTES_MAX: usize = 8 << 10;

/// It lives as long as the test's process.
pub struct Backend {
    address: SocketAddr,
    dead: SocketAddr,
}

/// How many of a pair are there.
#[derive(Default)]
struct Pair {
    come: Mutex<u32>,
    changed: Condvar,
}

impl Backend {
    pub fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Free again at once; nobody is given it so soon after.
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let pair = Arc::<Pair>::default();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pair = pair.clone();
                // A client that goes away is not this backend's affair.
                thread::spawn(move || answer(stream, &pair).unwrap_or_default());
            }
        });
        Backend { address, dead }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Both, for a manifest's `outbound`.
    pub fn hosts(&self) -> [String; 2] {
        [self.address.to_string(), self.dead.to_string()]
    }

    /// Nobody listens there.
    pub fn dead_url(&self) -> String {
        format!("http://{}", self.dead)
    }
}

impl Pair {
    /// Waits until an even number has come.
    fn both(&self) -> bool {
        let mut come = self.come.lock().unwrap();
        *come += 1;
        let wanted = come.next_multiple_of(2);
        self.changed.notify_all();
        let (come, _) = self.changed.wait_timeout_while(come, PAIR_WAIT, |come| *come < wanted).unwrap();
        *come >= wanted
    }
}

fn answer(stream: TcpStream, pair: &Pair) -> io::Result<()> {
    let (mut from, mut to) = (BufReader::new(stream.try_clone()?), stream);
    let first = line(&mut from)?;
    let (method, target) = first.split_once(' ').unwrap_or_default();
    let target = target.split(' ').next().unwrap_or_default();
    let mut fields = HashMap::new();
    loop {
        let field = line(&mut from)?;
        let Some((name, value)) = field.split_once(':') else { break };
        fields.insert(name.to_lowercase(), value.trim().to_owned());
    }
    if let Some(name) = target.strip_prefix("/pair/") {
        return if pair.both() {
            whole(&mut to, "200 OK", &format!("pair {name}\n"))
        } else {
            whole(&mut to, "503 Service Unavailable", "alone\n")
        };
    }
    if let Some(status) = target.strip_prefix("/status/") {
        return whole(&mut to, &format!("{status} Status"), "status");
    }
    match target {
        "/hangs-up" => Ok(()),
        "/echo" => echo(&mut from, &mut to, &fields),
        _ => {
            let mark = fields.get("x-from").map_or("nobody", String::as_str);
            whole(&mut to, "200 OK", &format!("{method} {target} from {mark}"))
        }
    }
}

fn whole(to: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(to, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// Begins before the request is at its end.
fn echo(
    from: &mut BufReader<TcpStream>,
    to: &mut TcpStream,
    fields: &HashMap<String, String>,
) -> io::Result<()> {
    write!(to, "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")?;
    match fields.get("content-length") {
        Some(length) => pass(from, to, length.parse().map_err(io::Error::other)?)?,
        None if fields.contains_key("transfer-encoding") => loop {
            let length = usize::from_str_radix(line(from)?.trim(), 16).map_err(io::Error::other)?;
            pass(from, to, length)?;
            line(from)?; // behind the piece, or the end of the trailers
            if length == 0 {
                break;
            }
        },
        None => {}
    }
    write!(to, "0\r\n\r\n")
}

/// So many bytes, in pieces.
fn pass(from: &mut impl Read, to: &mut TcpStream, mut length: usize) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES_MAX];
    while length > 0 {
        let now = length.min(PIECE_BYTES_MAX);
        from.read_exact(&mut piece[..now])?;
        write!(to, "{now:x}\r\n")?;
        to.write_all(&piece[..now])?;
        write!(to, "\r\n")?;
        length -= now;
    }
    Ok(())
}

/// Without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
