//! Who pays for the work on a connection.
//!
//! Connections are tasks beside the guests that use them: TLS, framing and parsing happen there. Each poll of such a task
//! goes to the bills of the executions that use the connection at the time, in equal parts; that of a connection which
//! nobody uses goes to none. A poll for several executions is on their bills, but not held against their limits: one that
//! waits for little must not end by the much that another pulls over the same connection. What is done before there is a connection, and to it alone, goes to who asked for it.
//!
//! Not billed: the name service's own threads, and probes, which are nobody's execution and have bounds of their own.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use hyper::rt::Executor;
use parking_lot::Mutex;

use super::pool::Live;
use crate::{
    exchange::{Bill, Exchange},
    limits::Limit,
    meter,
};

/// An execution that pays.
#[derive(Clone)]
pub struct Payer {
    bill: Arc<Bill>,
    cpu_ns_max: u64,
}

impl Payer {
    /// The execution of this exchange.
    pub fn of(exchange: &Exchange) -> Payer {
        let cpu_ns_max = u64::from(exchange.limits().cpu_ms) * 1_000_000;
        Payer { bill: exchange.bill.clone(), cpu_ns_max }
    }

    /// Has it used up its CPU time? Its driver ends it then; this is for what outlives the guest.
    pub fn is_over(&self) -> bool {
        let is_over = self.bill.limited_ns() >= self.cpu_ns_max;
        if is_over {
            self.bill.meet(Limit::Cpu);
        }
        is_over
    }

    /// Pays for every poll of a future.
    pub async fn pays<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| metered(|| work.as_mut().poll(cx), |ns| self.pay(ns))).await
    }

    fn pay(&self, ns: u64) {
        self.bill.add_beside(ns);
        if self.bill.limited_ns() >= self.cpu_ns_max {
            self.bill.tell_over();
        }
    }
}

/// Those who use a connection now.
#[derive(Default)]
pub struct Payers {
    /// Of the list below, to be seen without its lock.
    count: AtomicU32,
    all: Mutex<Vec<Payer>>,
}

impl Payers {
    /// One more use of the connection. An execution that uses it twice pays two parts.
    pub fn join(&self, payer: Payer) {
        self.all.lock().push(payer);
        self.count.fetch_add(1, Relaxed);
    }

    /// One use less.
    pub fn leave(&self, payer: &Payer) {
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|other| Arc::ptr_eq(&other.bill, &payer.bill)) {
            all.swap_remove(at);
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// Uses of the connection now.
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// They pay for a poll of the connection.
    pub fn pay<T>(&self, poll: impl FnOnce() -> T) -> T {
        if self.count() == 0 {
            return poll();
        }
        metered(poll, |ns| self.divide(ns))
    }

    fn divide(&self, ns: u64) {
        let all = self.all.lock();
        let part = ns / (all.len() as u64).max(1);
        let is_of_one = all.windows(2).all(|two| Arc::ptr_eq(&two[0].bill, &two[1].bill));
        for payer in all.iter() {
            // Whose bytes they were is not known: nobody ends by those of another.
            if is_of_one { payer.pay(part) } else { payer.bill.add_shared(part) }
        }
    }
}

fn metered<T>(work: impl FnOnce() -> T, pay: impl FnOnce(u64)) -> T {
    let start = meter::begin_slice_ns();
    let done = work();
    pay(meter::slice_ns(start));
    done
}

/// Runs what an HTTP/2 connection consists of, which is several tasks, on its users' bills and until it ends.
#[derive(Clone)]
pub struct PaidExecutor(pub Arc<Live>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PaidExecutor {
    fn execute(&self, task: F) {
        let live = self.0.clone();
        tokio::spawn(async move {
            let mut task = pin!(task);
            live.while_it_lasts(std::future::poll_fn(|cx| live.payers.pay(|| task.as_mut().poll(cx)))).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use artifact::manifest::{AppConfig, Limits};

    use super::*;
    use crate::testing;

    fn payer(cpu_ms: u32) -> Payer {
        let limits = Limits { cpu_ms, ..Limits::default() };
        Payer::of(&testing::exchange(AppConfig { limits, ..AppConfig::default() }))
    }

    fn burn() {
        let until = Instant::now() + Duration::from_micros(300);
        while Instant::now() < until {}
    }

    #[test]
    fn users_pay_equal_parts_and_only_while_they_are_users() {
        let (payers, one, two) = (Payers::default(), payer(50), payer(50));
        payers.pay(burn);
        payers.join(one.clone());
        payers.divide(100);
        payers.join(two.clone());
        payers.join(two.clone());
        payers.divide(300);
        assert_eq!((one.bill.cpu_ns(), two.bill.cpu_ns()), (200, 200));
        payers.leave(&two);
        payers.divide(100);
        payers.leave(&two);
        payers.leave(&two);
        assert_eq!((one.bill.cpu_ns(), two.bill.cpu_ns(), payers.count()), (250, 250, 1));
        payers.pay(burn);
        assert!(one.bill.cpu_ns() > 100_000 && two.bill.cpu_ns() == 250);
        assert_eq!(one.bill.slices_ns(), 0, "the lanes judge a guest by what it did itself");
    }

    #[test]
    fn nobody_ends_by_what_another_pulls_over_the_same_connection() {
        let (payers, one, two) = (Payers::default(), payer(1), payer(1));
        payers.join(one.clone());
        payers.join(two.clone());
        payers.divide(50_000_000);
        assert_eq!((one.bill.cpu_ns(), two.bill.cpu_ns()), (25_000_000, 25_000_000), "it is billed");
        assert!(!one.is_over() && !two.is_over());
        payers.leave(&one);
        payers.join(two.clone());
        payers.divide(1_000_000);
        assert!(!one.is_over() && two.is_over(), "two uses of one execution are its own");
    }

    #[test]
    fn whoever_is_over_is_told() {
        let payer = payer(1);
        let (waker, woken) = counting_waker();
        payer.bill.wake_when_over(&waker);
        payer.pay(999_999);
        assert!(!payer.is_over() && woken() == 0);
        payer.pay(1);
        assert!(payer.is_over() && woken() == 1);
        assert!(payer.bill.limits_met().has(Limit::Cpu));
    }

    fn counting_waker() -> (std::task::Waker, impl Fn() -> u32) {
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Count>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicU32::new(0)));
        (count.clone().into(), move || count.0.load(Relaxed))
    }
}
