//! Who asks. One thread and one kept connection each, HTTP/1.1 in the clear.
//!
//! The good tenant is asked at fixed times, whether or not the answers before were in time: an answer's time counts from
//! when its question was due, unless the asking thread itself woke late. Hostile tenants are asked again as soon as
//! their guest was killed.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::deploy::client::parse;

/// Connections the good tenant is asked over.
const CONNECTIONS: u32 = 24;
/// An answer that takes longer is none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A hostile guest's answer may take as long as its wall time.
const HOSTILE_ANSWER_TIME_MAX: Duration = Duration::from_secs(130);
/// Bytes of an answer: these are small.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Pause after an answer that was not even the guest's end, so that a full node is not asked in a loop.
const PAUSE: Duration = Duration::from_millis(20);

/// What came of asking.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Times of the answers that were a 200, in µs.
    pub us: Vec<f64>,
    /// Questions asked.
    pub asked: u64,
}

/// What came of a crowd of hostile questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attacked {
    /// Guests that were ended.
    pub ended: u64,
    /// Other answers: the node had no room, or the connection broke.
    pub refused: u64,
}

/// Asks `host` as fast as it answers, over all connections, and returns answers a second.
pub fn saturate(address: SocketAddr, host: &str, time: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let asked = saturated(address, host, time)?;
    Ok(asked.us.len() as f64 / start.elapsed().as_secs_f64())
}

/// The same; what came of it. A question without an answer voids it.
pub fn saturated(address: SocketAddr, host: &str, time: Duration) -> anyhow::Result<Asked> {
    let start = Instant::now();
    let asked = each_connection(|_| {
        let mut asked = Asked::default();
        let mut client = Client::new(address, host, ANSWER_TIME_MAX);
        while start.elapsed() < time {
            asked.ask(&mut client, Instant::now());
        }
        asked
    });
    anyhow::ensure!(
        asked.us.len() as u64 == asked.asked,
        "{} of {} questions were not answered",
        asked.asked - asked.us.len() as u64,
        asked.asked
    );
    Ok(asked)
}

/// Asks `host` this many times a second.
pub fn pace(address: SocketAddr, host: &str, per_second: f64, time: Duration) -> Asked {
    let between = Duration::from_secs_f64(f64::from(CONNECTIONS) / per_second);
    let start = Instant::now();
    each_connection(|number| {
        let mut asked = Asked::default();
        let mut client = Client::new(address, host, ANSWER_TIME_MAX);
        let mut due = start + between.mul_f64(f64::from(number) / f64::from(CONNECTIONS));
        while due < start + time {
            let now = Instant::now();
            let from = if now < due {
                thread::sleep(due - now);
                Instant::now()
            } else {
                due
            };
            asked.ask(&mut client, from);
            due += between;
        }
        asked
    })
}

fn each_connection(ask: impl Fn(u32) -> Asked + Sync) -> Asked {
    let mut all = Asked::default();
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                scope.spawn(move || {
                    away_from_the_first_core();
                    ask(number)
                })
            })
            .collect();
        for thread in threads {
            let one = thread.join().unwrap_or_default();
            all.asked += one.asked;
            all.us.extend(one.us);
        }
    });
    all
}

/// Keeps `hosts.len()` hostile questions in flight until told to stop.
pub fn attack(address: SocketAddr, hosts: &[String], stop: &AtomicBool) -> Attacked {
    let mut all = Attacked::default();
    thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|host| {
                scope.spawn(move || {
                    away_from_the_first_core();
                    one_attacker(address, host, stop)
                })
            })
            .collect();
        for thread in threads {
            let one = thread.join().unwrap_or_default();
            all.ended += one.ended;
            all.refused += one.refused;
        }
    });
    all
}

fn one_attacker(address: SocketAddr, host: &str, stop: &AtomicBool) -> Attacked {
    let mut attacked = Attacked::default();
    let mut client = Client::new(address, host, HOSTILE_ANSWER_TIME_MAX);
    while !stop.load(Relaxed) {
        match client.get() {
            Ok(504) => attacked.ended += 1,
            // One that fills once, to learn what that costs now.
            Ok(200) => {}
            // Told to stop while it waited: the node goes down.
            _ if stop.load(Relaxed) => {}
            _ => {
                attacked.refused += 1;
                thread::sleep(PAUSE);
            }
        }
    }
    attacked
}

impl Asked {
    fn ask(&mut self, client: &mut Client, from: Instant) {
        self.asked += 1;
        if client.get().is_ok_and(|status| status == 200) {
            self.us.push(from.elapsed().as_nanos() as f64 / 1e3);
        }
    }
}

/// The first worker has the first core to itself, where there is another.
fn away_from_the_first_core() {
    let Ok(mut allowed) = sched_getaffinity(None) else { return };
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core));
    if let (Some(first), true) = (first, allowed.count() > 1) {
        allowed.unset(first);
        let _ = sched_setaffinity(None, &allowed);
    }
}

/// Asks `GET /` of one host, over a kept connection.
struct Client {
    address: SocketAddr,
    question: String,
    answer_time_max: Duration,
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr, host: &str, answer_time_max: Duration) -> Client {
        let question = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        Client { address, question, answer_time_max, stream: None, bytes: Vec::new() }
    }

    /// The answer's status, when all of it is here.
    fn get(&mut self) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(self.question.as_bytes())?;
        self.bytes.clear();
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if self.bytes.len() > ANSWER_BYTES_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
                read => self.bytes.extend_from_slice(&chunk[..read]),
            }
            if let Some(answer) = parse(&self.bytes)? {
                self.stream = Some(stream);
                return Ok(answer.status);
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_TIME_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.answer_time_max))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(stream)
    }
}
