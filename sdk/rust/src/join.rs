//! Several futures at once.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

/// A future, then what came of it.
enum Part<F: Future> {
    Running(Pin<Box<F>>),
    Done(F::Output),
    Taken,
}

impl<F: Future> Part<F> {
    /// Goes on, if there is something to go on with. Answers whether it is done.
    fn step(&mut self, task: &mut Context<'_>) -> bool {
        if let Part::Running(future) = self {
            match future.as_mut().poll(task) {
                Poll::Ready(output) => *self = Part::Done(output),
                Poll::Pending => return false,
            }
        }
        true
    }

    fn take(&mut self) -> Option<F::Output> {
        match std::mem::replace(self, Part::Taken) {
            Part::Done(output) => Some(output),
            Part::Running(_) | Part::Taken => None,
        }
    }
}

/// Runs them all at once; what came of them, in their order.
///
/// Each wake polls all that still run: a wait that is not over is a look into memory and no call to the host, so this is
/// fast for the dozens a request can have under way.
///
/// ```
/// # use skerry::testing::World;
/// # let world = World::new();
/// # world.backend("http://a.example", |_| "a");
/// # world.backend("http://b.example", |_| "b");
/// use skerry::{Request, fetch, join_all};
///
/// async fn both() -> skerry::Result<String> {
///     let urls = ["http://a.example/", "http://b.example/"];
///     let texts = urls.map(async |url| fetch(Request::get(url)?).await?.into_text().await);
///     Ok(join_all(texts).await.into_iter().collect::<skerry::Result<Vec<_>>>()?.concat())
/// }
/// # assert_eq!(skerry::block_on(both())?, "ab");
/// # Ok::<(), skerry::Error>(())
/// ```
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut parts: Vec<Part<F>> = futures.into_iter().map(|future| Part::Running(Box::pin(future))).collect();
    poll_fn(|task| {
        let running = parts.iter_mut().filter_map(|part| (!part.step(task)).then_some(())).count();
        if running == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    parts.iter_mut().filter_map(Part::take).collect()
}

/// Runs two futures at once, which may be of different types.
///
/// ```
/// let both = skerry::join(async { 1 }, async { "two" });
/// assert_eq!(skerry::block_on(both), (1, "two"));
/// ```
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    poll_fn(|task| {
        step(&mut a, &mut a_done, task);
        step(&mut b, &mut b_done, task);
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_done, b_done) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

fn step<F: Future>(future: &mut Pin<&mut F>, done: &mut Option<F::Output>, task: &mut Context<'_>) {
    if done.is_none()
        && let Poll::Ready(output) = future.as_mut().poll(task)
    {
        *done = Some(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn none_is_done_at_once_and_done_ones_are_not_polled_again() {
        assert!(block_on(join_all(Vec::<std::future::Ready<u8>>::new())).is_empty());
        let mut polls = 0;
        let once = std::future::ready(1); // panics when polled again
        let late = poll_fn(|task| {
            polls += 1;
            task.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(2) } else { Poll::Pending }
        });
        assert_eq!(block_on(join(once, late)), (1, 2));
        let both: [Pin<Box<dyn Future<Output = u8>>>; 2] = [
            Box::pin(std::future::ready(1)),
            Box::pin(async {
                let mut first = true;
                poll_fn(|task| {
                    task.waker().wake_by_ref();
                    if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                2
            }),
        ];
        assert_eq!(block_on(join_all(both)), [1, 2]);
    }
}
