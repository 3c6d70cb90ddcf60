//! What the host holds for one execution beside its memories: lists of fields, bodies it writes, drafts, values. One sum
//! with a limit ([`EXECUTION`]`.held_bytes`), out of the node's memory for guests.
//!
//! A lane adds what the host newly holds: a plain addition, as long as the sum is within what was granted, and that is
//! [`FREE_BYTES`] at first. Beyond it the account grows by [`GRANT_BYTES`], out of the node's budget; what was granted
//! goes back when the instance is gone. So the sum may be kept as an upper bound: a lane that knows what is there puts it
//! right with [`recounted`] when it would have to grow, and nothing is to be done where something is dropped.
//!
//! Answers of key-value stores come when they come, on another thread, whether their guest takes them or not:
//! [`Arrivals`] counts them into the same sum. What is refused for their sake, or the node's, passes the door.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http::{HeaderName, HeaderValue};

use super::door::{Event, Fact, Source};
use crate::{
    exchange::{Bill, Exchange},
    limits::{EXECUTION, Limit, LimitReached},
    memory::Budget,
};

/// Bytes of every execution that nobody is asked for: an ordinary one never has more. A thousand executions hold 64 MiB
/// of it, beside the 3.6 GiB that are set aside for their slots.
pub const FREE_BYTES: usize = 64 << 10;
/// Bytes taken from the node's budget at once, so that a list that grows by a byte does not ask for each.
pub const GRANT_BYTES: usize = 256 << 10;
/// What may be added after a recount before the next one, where the node has it: handles are not counted for each byte.
const HEADROOM_BYTES: usize = FREE_BYTES / 2;
/// Recounts in a row that found little room though little was added: each is a walk over up to 10,000 handles, and without
/// a bound there could be one for every handle that is made.
const CRAMPED_RECOUNTS_MAX: u32 = 8;

/// What a name of a header field costs beside its text, and [`VALUE_BYTES`]: a place of a map has 104 bytes and 4 of an
/// index, of all places half may be free, and the text is an allocation.
pub const NAME_BYTES: usize = 96;
/// What a value costs beside its bytes, so that empty ones are not free: one more of a name has 72 bytes, of which there
/// may be as many again free.
pub const VALUE_BYTES: usize = 144;

/// What the name of a field costs in a map.
pub fn name_bytes(name: &HeaderName) -> usize {
    name.as_str().len() + NAME_BYTES
}

/// What a value of a field costs in a map.
pub fn value_bytes(value: &HeaderValue) -> usize {
    value.len() + VALUE_BYTES
}

/// An execution's account.
#[derive(Debug)]
pub struct Held {
    /// What is held, or more.
    bytes: usize,
    /// What may be held before anybody is asked.
    granted: usize,
    /// There from the first question to a store on.
    arrivals: Option<Arrivals>,
    cramped: Cramped,
}

/// What became of the last recounts.
#[derive(Debug, Default)]
struct Cramped {
    /// See [`CRAMPED_RECOUNTS_MAX`].
    recounts: u32,
    /// What the last one found, in bytes.
    counted: usize,
    /// Why it got no more room.
    by: Option<Limit>,
}

impl Default for Held {
    fn default() -> Held {
        Held { bytes: 0, granted: FREE_BYTES, arrivals: None, cramped: Cramped::default() }
    }
}

impl Held {
    /// What is held, in bytes, or more.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds bytes that are held by now. `false`: they are more than was granted; [`recounted`] settles it.
    #[inline]
    #[must_use]
    pub fn add(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes <= self.granted
    }
}

/// Adds bytes that the host is about to hold, or none of them.
pub fn hold(exchange: &mut Exchange, bytes: usize) -> Result<(), LimitReached> {
    let before = exchange.held.bytes;
    if exchange.held.add(bytes) {
        return Ok(());
    }
    grant(exchange, 0).map_err(|limit| {
        exchange.held.bytes = before;
        exchange.over(limit)
    })
}

/// Asked before counting: not again and again where there is no room for more.
pub fn may_recount(exchange: &mut Exchange) -> Result<(), LimitReached> {
    let Held { bytes, cramped: Cramped { recounts, counted, by }, .. } = &exchange.held;
    match by {
        Some(limit) if *recounts >= CRAMPED_RECOUNTS_MAX && *bytes < counted + HEADROOM_BYTES => {
            let limit = *limit;
            Err(exchange.over(limit))
        }
        Some(_) | None => Ok(()),
    }
}

/// Replaces the sum by what was counted, which is all there is now.
pub fn recounted(exchange: &mut Exchange, bytes: usize) -> Result<(), LimitReached> {
    let added = exchange.held.bytes.saturating_sub(exchange.held.cramped.counted);
    exchange.held.bytes = bytes;
    let granted = grant(exchange, HEADROOM_BYTES);
    let Held { granted: room, cramped, .. } = &mut exchange.held;
    let is_cramped = bytes + HEADROOM_BYTES > *room;
    let recounts = if added < HEADROOM_BYTES { cramped.recounts + 1 } else { 1 };
    *cramped = Cramped {
        recounts: if is_cramped { recounts } else { 0 },
        counted: bytes,
        // Where the sum's own limit is near, all was granted that ever will be.
        by: is_cramped.then(|| granted.err().unwrap_or(Limit::Held)),
    };
    match granted {
        Err(limit) if bytes > exchange.held.granted => Err(exchange.over(limit)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where answers that come for this execution are counted.
pub fn arrivals(exchange: &mut Exchange) -> Arrivals {
    let Exchange { held, host, bill, .. } = exchange;
    let new = || {
        let sum =
            Sum { bytes: AtomicUsize::new(held.granted), budget: host.memory.clone(), bill: bill.clone() };
        Arrivals(Arc::new(sum))
    };
    held.arrivals.get_or_insert_with(new).clone()
}

/// Grants what is held and so much more. The sum's own limit is the same in every run; the rest may differ and passes
/// the door.
#[cold]
fn grant(exchange: &mut Exchange, headroom: usize) -> Result<(), Limit> {
    let Held { bytes, granted, arrivals, .. } = &exchange.held;
    if *bytes > EXECUTION.held_bytes {
        return Err(Limit::Held);
    }
    let wanted = (bytes + headroom).next_multiple_of(GRANT_BYTES).min(EXECUTION.held_bytes);
    if bytes + headroom <= *granted || wanted <= *granted {
        return Ok(());
    }
    let more = wanted - granted;
    if let Some(Arrivals(sum)) = arrivals {
        let fits = exchange.door.learn(Source::Memory, || Granted(sum.add(more))).0;
        if !fits {
            return Err(Limit::Held);
        }
    }
    if !exchange.take_from_node(more as u64) {
        if let Some(Arrivals(sum)) = arrivals {
            sum.subtract(more);
        }
        return Err(Limit::NodeMemory);
    }
    exchange.held.granted = wanted;
    Ok(())
}

/// Counts what comes for an execution, on whatever thread.
#[derive(Debug, Clone)]
pub struct Arrivals(Arc<Sum>);

/// What was granted and what has come, together.
struct Sum {
    bytes: AtomicUsize,
    budget: Budget,
    bill: Arc<Bill>,
}

impl Sum {
    fn add(&self, bytes: usize) -> bool {
        let sum = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= EXECUTION.held_bytes);
        self.bytes.fetch_update(Relaxed, Relaxed, sum).is_ok()
    }

    fn subtract(&self, bytes: usize) {
        // A replay may have been granted what was never added here.
        let _ = self.bytes.fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_sub(bytes)));
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sum({})", self.bytes.load(Relaxed))
    }
}

impl Arrivals {
    /// Room for so many bytes, while there is some: of this execution, and of the node.
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let sum = &self.0;
        if !sum.add(bytes) {
            sum.bill.meet(Limit::Held);
            return None;
        }
        if !sum.budget.take(bytes as u64) {
            sum.subtract(bytes);
            sum.bill.meet(Limit::NodeMemory);
            return None;
        }
        Some(Room { arrivals: self.clone(), bytes })
    }
}

/// Bytes that came and are held. Dropped with them, or when somebody else holds them.
#[derive(Debug)]
pub struct Room {
    arrivals: Arrivals,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let Arrivals(sum) = &self.arrivals;
        sum.subtract(self.bytes);
        sum.budget.give(self.bytes as u64);
    }
}

/// Whether there was memory, as it passes the door.
pub(crate) struct Granted(pub(crate) bool);

impl Fact for Granted {
    fn event(&self) -> Event {
        Event::Number(u64::from(self.0))
    }

    fn recall(event: Event) -> Option<Granted> {
        match event {
            Event::Number(number) => Some(Granted(number != 0)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;

    use super::*;
    use crate::{host::Host, testing};

    fn on(budget: &Budget) -> Exchange {
        let mut exchange = testing::exchange(AppConfig::default());
        exchange.host = Arc::new(Host { memory: budget.clone(), ..testing::bare_host() });
        exchange
    }

    fn node(bytes: usize) -> Budget {
        Budget::new(bytes as u64, 0).unwrap()
    }

    #[test]
    fn an_ordinary_execution_asks_nobody_and_a_large_one_the_node() {
        let budget = node(2 * GRANT_BYTES - FREE_BYTES);
        let mut exchange = on(&budget);
        hold(&mut exchange, FREE_BYTES).unwrap();
        assert_eq!(budget.bytes(), 0);
        hold(&mut exchange, 1).unwrap();
        assert_eq!(budget.bytes() as usize, GRANT_BYTES - FREE_BYTES);
        assert_eq!(hold(&mut exchange, 2 * GRANT_BYTES), Err(LimitReached(Limit::NodeMemory)));
        assert!(exchange.bill.limits_met().has(Limit::NodeMemory));
        // What was refused is not held.
        hold(&mut exchange, 2 * GRANT_BYTES - FREE_BYTES - 1).unwrap();
        assert_eq!(budget.bytes(), budget.bytes_max());
        drop(exchange);
        assert_eq!(budget.bytes(), 0, "it comes back");
    }

    #[test]
    fn the_sum_has_an_end_and_what_is_gone_makes_room() {
        let budget = node(1 << 30);
        let mut exchange = on(&budget);
        hold(&mut exchange, EXECUTION.held_bytes).unwrap();
        assert_eq!(hold(&mut exchange, 1), Err(LimitReached(Limit::Held)));
        assert!(exchange.bill.limits_met().has(Limit::Held));
        recounted(&mut exchange, 1_000).unwrap();
        hold(&mut exchange, EXECUTION.held_bytes - 1_000).unwrap();
        assert_eq!(budget.bytes() as usize, EXECUTION.held_bytes - FREE_BYTES);
        assert_eq!(recounted(&mut exchange, EXECUTION.held_bytes + 1), Err(LimitReached(Limit::Held)));
    }

    #[test]
    fn who_has_no_room_is_not_counted_for_every_byte() {
        // Adds and drops so many bytes where all but 10 are in use; how often they are counted before it is refused.
        let recounts = |exchange: &mut Exchange, in_use: usize, added: usize| {
            exchange.held = Held { granted: exchange.held.granted, ..Held::default() };
            for count in 0..100 {
                while exchange.held.add(added) {}
                if let Err(LimitReached(limit)) = may_recount(exchange) {
                    return (count, Some(limit));
                }
                recounted(exchange, in_use).unwrap();
            }
            (100, None)
        };
        let max = CRAMPED_RECOUNTS_MAX;
        let mut full = on(&node(0));
        let (in_use, refused) = (FREE_BYTES - 10, Some(Limit::NodeMemory));
        assert_eq!(recounts(&mut full, in_use, 100), (max, refused));
        assert!(full.bill.limits_met().has(Limit::NodeMemory));
        // Much was added, or there is room after all: each recount was worth it.
        assert_eq!(recounts(&mut full, in_use, HEADROOM_BYTES), (100, None));
        assert_eq!(recounts(&mut full, FREE_BYTES - HEADROOM_BYTES, 100), (100, None));
        let mut roomy = on(&node(1 << 30));
        assert_eq!(recounts(&mut roomy, in_use, 100), (100, None));
        assert_eq!(recounts(&mut roomy, EXECUTION.held_bytes - 10, 100), (max, Some(Limit::Held)));
    }

    #[test]
    fn what_arrives_is_in_the_sum_and_the_nodes_until_it_is_taken() {
        const LARGE: usize = 8 << 20;
        let budget = node(1 << 30);
        let mut exchange = on(&budget);
        hold(&mut exchange, LARGE).unwrap();
        let arrivals = arrivals(&mut exchange);
        let rooms: Vec<_> = std::iter::from_fn(|| arrivals.room(LARGE)).take(100).collect();
        assert_eq!(rooms.len(), EXECUTION.held_bytes / LARGE - 1);
        assert!(exchange.bill.limits_met().has(Limit::Held));
        assert_eq!(budget.bytes() as usize, EXECUTION.held_bytes - FREE_BYTES);
        assert_eq!(hold(&mut exchange, 1), Err(LimitReached(Limit::Held)));
        drop(rooms);
        assert_eq!(budget.bytes() as usize, LARGE - FREE_BYTES);
        hold(&mut exchange, 1).unwrap();

        // One that comes when its execution is over goes back, too.
        let late = arrivals.room(LARGE).unwrap();
        drop((exchange, arrivals));
        assert_eq!(budget.bytes() as usize, LARGE + LARGE + GRANT_BYTES - FREE_BYTES);
        drop(late);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_full_node_has_no_room_for_what_arrives() {
        let budget = node(1_000);
        let mut exchange = on(&budget);
        let arrivals = arrivals(&mut exchange);
        let room = arrivals.room(1_000).unwrap();
        assert!(arrivals.room(1).is_none());
        assert!(exchange.bill.limits_met().has(Limit::NodeMemory));
        drop(room);
        assert!(arrivals.room(1).is_some());
    }
}
