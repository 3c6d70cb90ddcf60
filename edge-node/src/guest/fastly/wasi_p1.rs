//! The part of WASI preview 1 that programs of this interface use: arguments, environment, clocks, randomness,
//! output, exit. What is not here answers ENOSYS (see [`super::link`]): there are no files and no sockets.

use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, enter, memory::GuestMemory};
use crate::{
    account::guest_log::Stream,
    exchange::Exchange,
    guest::GuestExit,
    host::{
        clock::{self, Timer},
        log, random, wait,
    },
    limits::Limit,
};

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// WASI's error numbers, as far as they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Errno {
    BadDescriptor = 8,
    Fault = 21,
    Invalid = 28,
    /// The number of a function that is not offered.
    NoSystem = 52,
    Pipe = 70,
}

impl From<Status> for Errno {
    fn from(_: Status) -> Errno {
        // Only memory can fail here.
        Errno::Fault
    }
}

type Answer = Result<(), Errno>;
type Guest<'a> = Caller<'a, FastlyState>;

/// What [`add`] offers, in the form of [`super::table`].
pub(super) const FUNCTIONS: [(&str, &str); 17] = [
    ("args_sizes_get", "ii:i"),
    ("args_get", "ii:i"),
    ("environ_sizes_get", "ii:i"),
    ("environ_get", "ii:i"),
    ("clock_time_get", "iIi:i"),
    ("clock_res_get", "ii:i"),
    ("fd_write", "iiii:i"),
    ("fd_read", "iiii:i"),
    ("fd_seek", "iIii:i"),
    ("fd_close", "i:i"),
    ("fd_fdstat_get", "ii:i"),
    ("fd_prestat_get", "ii:i"),
    ("fd_prestat_dir_name", "iii:i"),
    ("random_get", "ii:i"),
    ("poll_oneoff", "iiii:i"),
    ("sched_yield", ":i"),
    ("proc_exit", "i:"),
];

/// The one argument that programs of this interface get, ended by NUL.
const ARGUMENTS: &str = "compute-app\0";
/// Buffers of one gathered write or scattered read.
const IOVS_MAX: u32 = 1024;
/// Bytes of one gathered write; the rest is for the next call, as WASI allows. As much as a log keeps at all.
const WRITE_BYTES_MAX: u32 = 64 * 1024;
/// Subscriptions of one poll: a clock and the three streams need four.
const SUBSCRIPTIONS_MAX: u32 = 64;
/// `subscription` is 48 bytes: user data, tag, then by tag; a clock's are id, time, precision, flags.
const SUBSCRIPTION_BYTES: u32 = 48;
/// `event` is 32 bytes: user data, error, tag, then bytes at hand and flags.
const EVENT_BYTES: u32 = 32;
const TAG_CLOCK: u32 = 0;
const TAG_READ: u32 = 1;
const TAG_WRITE: u32 = 2;
/// The flag of a clock's subscription that its time is not from now on.
const ABSOLUTE: u32 = 1;
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
const CHARACTER_DEVICE: u8 = 2;
/// `fdstat` is 24 bytes: type, flags, rights, inherited rights.
const FDSTAT_BYTES: u32 = 24;

/// Runs one function; its answer as a number.
fn call(mut guest: Guest<'_>, answer: impl FnOnce(&mut GuestMemory<'_>, &mut FastlyState) -> Answer) -> i32 {
    let answer = match enter(&mut guest) {
        Ok((mut memory, state)) => answer(&mut memory, state),
        Err(status) => Err(status.into()),
    };
    answer.map_or_else(|errno| errno as i32, |()| 0)
}

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    add_strings(linker)?;
    add_clocks(linker)?;
    add_descriptors(linker)?;
    linker.func_wrap(MODULE, "random_get", |guest: Guest<'_>, buffer: u32, length: u32| {
        call(guest, |memory, state| {
            let target = memory.bytes_mut(buffer, length)?;
            let bytes = random::bytes(&state.exchange, target.len()).map_err(|why| match why {
                random::NoRandom::TooMany(_) => {
                    state.exchange.bill.meet(Limit::Random);
                    Errno::Invalid
                }
                random::NoRandom::Unavailable => Errno::NoSystem,
            })?;
            target.copy_from_slice(&bytes);
            Ok(())
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |guest: Guest<'_>, (subscriptions, events, count, happened): (u32, u32, u32, u32)| {
            Box::new(async move {
                match poll_oneoff(guest, subscriptions, events, count, happened).await {
                    Ok(()) => 0,
                    Err(errno) => errno as i32,
                }
            })
        },
    )?;
    linker.func_wrap(MODULE, "sched_yield", || 0i32)?;
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(GuestExit(code)))
    })?;
    Ok(())
}

fn add_strings(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "args_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| {
        call(guest, |memory, _| give_sizes(memory, ARGUMENTS, count, bytes))
    })?;
    linker.func_wrap(MODULE, "args_get", |guest: Guest<'_>, pointers: u32, buffer: u32| {
        call(guest, |memory, _| give_strings(memory, ARGUMENTS, pointers, buffer))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| {
        call(guest, |memory, state| give_sizes(memory, state.environment(), count, bytes))
    })?;
    linker.func_wrap(MODULE, "environ_get", |guest: Guest<'_>, pointers: u32, buffer: u32| {
        call(guest, |memory, state| give_strings(memory, state.environment(), pointers, buffer))
    })?;
    Ok(())
}

/// `strings` are each ended by NUL.
fn give_sizes(memory: &mut GuestMemory<'_>, strings: &str, count: u32, bytes: u32) -> Answer {
    memory.write_usize(count, strings.matches('\0').count())?;
    Ok(memory.write_usize(bytes, strings.len())?)
}

fn give_strings(memory: &mut GuestMemory<'_>, strings: &str, pointers: u32, buffer: u32) -> Answer {
    let (mut pointer, mut at) = (pointers, buffer);
    for string in strings.split_inclusive('\0') {
        memory.write_u32(pointer, at)?;
        let length = string.len() as u32; // ours, far below 4 GiB
        memory.bytes_mut(at, length)?.copy_from_slice(string.as_bytes());
        pointer = pointer.checked_add(4).ok_or(Errno::Fault)?;
        at = at.checked_add(length).ok_or(Errno::Fault)?;
    }
    Ok(())
}

fn add_clocks(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |guest: Guest<'_>, clock: u32, _precision: u64, time: u32| {
            call(guest, |memory, state| Ok(memory.write_u64(time, now_ns(&state.exchange, clock)?)?))
        },
    )?;
    linker.func_wrap(MODULE, "clock_res_get", |guest: Guest<'_>, clock: u32, resolution: u32| {
        call(guest, |memory, _| match clock {
            REALTIME | MONOTONIC => Ok(memory.write_u64(resolution, clock::RESOLUTION_NS)?),
            _ => Err(Errno::Invalid),
        })
    })?;
    Ok(())
}

fn add_descriptors(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_write",
        |guest: Guest<'_>, fd: u32, iovs: u32, count: u32, written: u32| {
            call(guest, |memory, state| {
                let stream = match fd {
                    STDOUT => Stream::Stdout,
                    STDERR => Stream::Stderr,
                    _ => return Err(Errno::BadDescriptor),
                };
                let mut room = WRITE_BYTES_MAX;
                for (pointer, length) in buffers(memory, iovs, count)? {
                    let taken = length.min(room);
                    log::output(&state.exchange, stream, memory.bytes(pointer, taken)?);
                    room -= taken;
                    if room == 0 {
                        break;
                    }
                }
                Ok(memory.write_u32(written, WRITE_BYTES_MAX - room)?)
            })
        },
    )?;
    // Standard input is empty.
    linker.func_wrap(
        MODULE,
        "fd_read",
        |guest: Guest<'_>, fd: u32, _iovs: u32, _count: u32, read: u32| {
            call(guest, |memory, _| match fd {
                STDIN => Ok(memory.write_u32(read, 0)?),
                _ => Err(Errno::BadDescriptor),
            })
        },
    )?;
    linker.func_wrap(MODULE, "fd_seek", |fd: u32, _offset: i64, _whence: u32, _position: u32| match fd {
        STDIN..=STDERR => Errno::Pipe as i32,
        _ => Errno::BadDescriptor as i32,
    })?;
    linker.func_wrap(MODULE, "fd_close", |fd: u32| match fd {
        STDIN..=STDERR => 0i32,
        _ => Errno::BadDescriptor as i32,
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |guest: Guest<'_>, fd: u32, stat: u32| {
        call(guest, |memory, _| {
            if fd > STDERR {
                return Err(Errno::BadDescriptor);
            }
            let stat = memory.bytes_mut(stat, FDSTAT_BYTES)?;
            stat.fill(0);
            stat[0] = CHARACTER_DEVICE;
            stat[8..].fill(0xff); // every right there is, to what there is
            Ok(())
        })
    })?;
    // No directory is open: the first descriptor asked for ends the search.
    linker.func_wrap(MODULE, "fd_prestat_get", |_fd: u32, _stat: u32| Errno::BadDescriptor as i32)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_fd: u32, _path: u32, _length: u32| {
        Errno::BadDescriptor as i32
    })?;
    Ok(())
}

fn now_ns(exchange: &Exchange, clock: u32) -> Result<u64, Errno> {
    match clock {
        REALTIME => Ok(u64::try_from(clock::wall(exchange).as_nanos()).unwrap_or(u64::MAX)),
        // From the request's begin: tells nothing of the machine.
        MONOTONIC => Ok(clock::monotonic_ns(exchange)),
        _ => Err(Errno::Invalid),
    }
}

/// What a guest waits for.
struct Subscription {
    user_data: u64,
    tag: u32,
    /// Without one it is ready at once: standard input is at its end, output never full.
    timer: Option<Timer>,
}

fn subscription(memory: &GuestMemory<'_>, exchange: &Exchange, pointer: u32) -> Result<Subscription, Errno> {
    let user_data = memory.read_u64(pointer)?;
    let tag = memory.read_u32(pointer + 8)? & 0xff; // a byte, then padding
    let timer = match tag {
        TAG_CLOCK => {
            let (id, time) = (memory.read_u32(pointer + 16)?, memory.read_u64(pointer + 24)?);
            let absolute = memory.read_u32(pointer + 40)? & ABSOLUTE != 0;
            let after = if absolute { time.saturating_sub(now_ns(exchange, id)?) } else { time };
            let now = now_ns(exchange, MONOTONIC)?;
            Some(Timer::at(exchange, now.saturating_add(after)))
        }
        TAG_READ | TAG_WRITE if memory.read_u32(pointer + 16)? <= STDERR => None,
        TAG_READ | TAG_WRITE => return Err(Errno::BadDescriptor),
        _ => return Err(Errno::Invalid),
    };
    Ok(Subscription { user_data, tag, timer })
}

/// Waits for the first of clocks and streams.
async fn poll_oneoff(
    mut guest: Guest<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    happened: u32,
) -> Answer {
    let (memory, state) = enter(&mut guest)?;
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Invalid);
    }
    memory.bytes(subscriptions, count * SUBSCRIPTION_BYTES)?;
    memory.bytes(events, count * EVENT_BYTES)?;
    let mut subscribed = (0..count)
        .map(|index| subscription(&memory, &state.exchange, subscriptions + index * SUBSCRIPTION_BYTES))
        .collect::<Result<Vec<_>, _>>()?;
    let door = state.exchange.door.clone();
    let ready = wait::select(&door, |cx| {
        let due = |(index, subscription): (u32, &mut Subscription)| {
            let waits = subscription.timer.as_mut().is_some_and(|timer| timer.poll_due(cx).is_pending());
            (!waits).then_some(index)
        };
        (0..).zip(&mut subscribed).filter_map(due).collect()
    })
    .await;

    let (mut memory, _) = enter(&mut guest)?;
    let mut at = events;
    for subscription in ready.iter().filter_map(|index| subscribed.get(*index as usize)) {
        memory.bytes_mut(at, EVENT_BYTES)?.fill(0);
        memory.write_u64(at, subscription.user_data)?;
        memory.write_u32(at + 8, subscription.tag << 16)?; // error 0, then the tag
        at += EVENT_BYTES;
    }
    Ok(memory.write_usize(happened, ready.len())?)
}

/// The (pointer, length) pairs of a gathered write.
fn buffers(memory: &GuestMemory<'_>, iovs: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
    if count > IOVS_MAX {
        return Err(Errno::Invalid);
    }
    memory.bytes(iovs, count * 8)?;
    (0..count)
        .map(|index| {
            let pair = iovs + index * 8; // inside memory, as just seen
            Ok((memory.read_u32(pair)?, memory.read_u32(pair + 4)?))
        })
        .collect()
}
