//! Runs futures on the one thread there is: polls, and when nothing can go on lets the host wait for all that is waited
//! for at once.
//!
//! [`Wait`] enters a pollable with its waker into the thread's list. [`block_on`] polls its future when it was woken, and
//! else asks the host which pollables are ready and wakes those who wait for them. Nothing is polled but the one future:
//! many at once are [`join_all`](crate::join_all)'s matter, and no task is spawned, since an instance ends with its answer.

use std::{
    cell::RefCell,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::sys::{self, Pollable};

thread_local! {
    /// What is waited for; a free place is `None`.
    static WAITING: RefCell<Vec<Option<Waiting>>> = const { RefCell::new(Vec::new()) };
}

struct Waiting {
    pollable: Pollable,
    waker: Waker,
    is_ready: bool,
}

/// Runs a future to its end. For handlers that are not `async`, and for tests; a handler that is may await instead.
///
/// Calls may be nested: while the inner future waits, what the outer ones wait for is waited for, too, but they do not go
/// on before it has ended.
///
/// # Panics
///
/// If the future waits for something that nothing in this program can bring about.
///
/// ```
/// fn handle(mut req: skerry::Request) -> skerry::Result<String> {
///     skerry::block_on(req.text())
/// }
/// # assert_eq!(handle(skerry::Request::post("/")?.with_body("x"))?, "x");
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let mut task = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return output;
        }
        while !woken.0.swap(false, Ordering::Relaxed) {
            park();
        }
    }
}

/// Was the future woken since it was polled?
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the host wait for the first of all that is waited for, and wakes who waits for what is ready.
fn park() {
    // Woken when the list is free again: a waker may be anybody's code.
    let wakers: Vec<Waker> = WAITING.with_borrow_mut(|waiting| {
        let mut open: Vec<&mut Waiting> =
            waiting.iter_mut().flatten().filter(|waiting| !waiting.is_ready).collect();
        assert!(!open.is_empty(), "a future waits for something that nothing here will bring about");
        let pollables: Vec<&Pollable> = open.iter().map(|waiting| &waiting.pollable).collect();
        let ready = sys::poll(&pollables);
        let mut wake = |index: u32| {
            let waiting = open.get_mut(index as usize)?;
            waiting.is_ready = true;
            Some(waiting.waker.clone())
        };
        ready.into_iter().filter_map(&mut wake).collect()
    });
    wakers.into_iter().for_each(Waker::wake);
}

/// Ready when a pollable is.
pub(crate) struct Wait {
    state: State,
}

enum State {
    New(Pollable),
    /// At this place of the list.
    Listed(usize),
    Over,
}

/// Waits for a pollable. It is dropped when this is, or is ready.
pub(crate) fn wait(pollable: Pollable) -> Wait {
    Wait { state: State::New(pollable) }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let place = match std::mem::replace(&mut self.state, State::Over) {
            State::New(pollable) => enter(Waiting { pollable, waker: task.waker().clone(), is_ready: false }),
            State::Listed(place) if is_ready(place, task.waker()) => {
                leave(place);
                return Poll::Ready(());
            }
            State::Listed(place) => place,
            State::Over => return Poll::Ready(()),
        };
        self.state = State::Listed(place);
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let State::Listed(place) = self.state {
            leave(place);
        }
    }
}

fn enter(entry: Waiting) -> usize {
    WAITING.with_borrow_mut(|waiting| match waiting.iter().position(Option::is_none) {
        Some(free) => {
            waiting[free] = Some(entry);
            free
        }
        None => {
            waiting.push(Some(entry));
            waiting.len() - 1
        }
    })
}

/// If it is not, this waker is the one to be woken.
fn is_ready(place: usize, waker: &Waker) -> bool {
    WAITING.with_borrow_mut(|waiting| match waiting.get_mut(place) {
        Some(Some(entry)) => {
            entry.waker.clone_from(waker);
            entry.is_ready
        }
        _ => true,
    })
}

fn leave(place: usize) {
    // Dropped when the list is free again.
    let _entry = WAITING.with_borrow_mut(|waiting| waiting.get_mut(place).and_then(Option::take));
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc, time::Duration};

    use super::*;
    use crate::{
        join, join_all,
        testing::World,
        time::{self, sleep},
    };

    fn open_places() -> usize {
        WAITING.with_borrow(|waiting| waiting.iter().flatten().count())
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on() {
        let mut left = 3;
        let output = block_on(poll_fn(|task| {
            left -= 1;
            task.waker().wake_by_ref();
            if left == 0 { Poll::Ready("done") } else { Poll::Pending }
        }));
        assert_eq!(output, "done");
    }

    #[test]
    fn waits_run_beside_each_other_and_end_in_their_own_order() {
        let _world = World::new();
        let order = Rc::new(Cell::new(Vec::new()));
        let nap = async |ms: u64| {
            sleep(Duration::from_millis(ms)).await;
            let mut seen = order.take();
            seen.push(ms);
            order.set(seen);
            ms
        };
        let begun = time::now();
        assert_eq!(block_on(join_all([nap(30), nap(10), nap(20), nap(10)])), [30, 10, 20, 10]);
        assert_eq!(order.take(), [10, 10, 20, 30]);
        assert_eq!(time::now().duration_since(begun).unwrap(), Duration::from_millis(30));
        assert_eq!(open_places(), 0);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_waited_for() {
        let _world = World::new();
        let begun = time::now();
        block_on(async {
            let mut long = Box::pin(sleep(Duration::from_secs(60)));
            poll_fn(|task| {
                assert!(long.as_mut().poll(task).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(open_places(), 1);
            drop(long);
            assert_eq!(open_places(), 0);
            sleep(Duration::from_millis(1)).await;
        });
        assert_eq!(time::now().duration_since(begun).unwrap(), Duration::from_millis(1));
    }

    #[test]
    fn a_run_inside_of_another_ends_first_and_both_end() {
        let _world = World::new();
        let inner = async {
            sleep(Duration::from_millis(5)).await;
            block_on(async {
                sleep(Duration::from_millis(20)).await;
                "inner"
            })
        };
        let outer = async {
            sleep(Duration::from_millis(10)).await;
            "outer"
        };
        assert_eq!(block_on(join(inner, outer)), ("inner", "outer"));
    }

    #[test]
    fn a_future_that_moves_to_another_waker_is_woken_there() {
        let _world = World::new();
        let mut nap = Box::pin(sleep(Duration::from_millis(1)));
        let first = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(first.clone());
        assert!(nap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        block_on(nap);
        assert!(!first.0.load(Ordering::Relaxed));
    }

    #[test]
    #[should_panic(expected = "nothing here will bring about")]
    fn a_wait_without_end_is_said_to_be_one() {
        block_on(std::future::pending::<()>());
    }
}
