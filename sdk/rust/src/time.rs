//! Clocks, and waiting.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{executor, sys};

/// The time of day. In tests it stands still but for what is slept, and is what [`World::set_time_ms`] says.
///
/// [`World::set_time_ms`]: crate::testing::World::set_time_ms
///
/// ```
/// let later = skerry::time::now() + std::time::Duration::from_secs(60);
/// assert!(later > skerry::time::now());
/// ```
pub fn now() -> SystemTime {
    UNIX_EPOCH + sys::since_1970()
}

/// The same in milliseconds since 1970 (UTC, without leap seconds).
///
/// ```
/// assert!(skerry::time::now_ms() > 1_500_000_000_000);
/// ```
pub fn now_ms() -> u64 {
    u64::try_from(sys::since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// Waits so long; other futures go on meanwhile. In tests the clock jumps ahead instead.
///
/// ```
/// # let world = skerry::testing::World::new();
/// use std::time::Duration;
///
/// let before = skerry::time::now_ms();
/// skerry::block_on(skerry::time::sleep(Duration::from_millis(5)));
/// assert_eq!(skerry::time::now_ms(), before + 5);
/// ```
pub async fn sleep(time: Duration) {
    executor::wait(sys::after(time)).await;
}

/// It took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Runs a future, but not longer than this; what runs longer is dropped.
///
/// # Errors
///
/// [`Elapsed`] then.
///
/// ```
/// # let world = skerry::testing::World::new();
/// use skerry::{block_on, time::{Elapsed, sleep, timeout}};
/// use std::time::Duration;
///
/// let (short, long) = (Duration::from_millis(1), Duration::from_millis(9));
/// assert_eq!(block_on(timeout(long, async { sleep(short).await; 1 })), Ok(1));
/// assert_eq!(block_on(timeout(short, async { sleep(long).await; 1 })), Err(Elapsed));
/// ```
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut alarm) = (pin!(future), pin!(sleep(time)));
    poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => alarm.as_mut().poll(task).map(|()| Err(Elapsed)),
    })
    .await
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}
