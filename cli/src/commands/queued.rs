//! What is shown while a program waits to be compiled: which in the compiler's queue it is.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::error::Result;

/// Between two looks, and before the first: most programs do not wait so long.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Does `work`, and meanwhile tells every second what `ask` says. The first error ends the telling, and nothing else: a control plane of
/// an earlier release does not know.
pub fn told<T>(
    ask: impl Fn() -> Result<Option<u32>> + Send,
    tell: impl Fn(Option<u32>) + Send,
    work: impl FnOnce() -> T,
) -> T {
    told_each(LOOK_PAUSE, ask, tell, work)
}

fn told_each<T>(
    pause: Duration,
    ask: impl Fn() -> Result<Option<u32>> + Send,
    tell: impl Fn(Option<u32>) + Send,
    work: impl FnOnce() -> T,
) -> T {
    thread::scope(|scope| {
        // Dropped when the work is done, or has panicked.
        let (working, worked) = mpsc::channel::<()>();
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = worked.recv_timeout(pause) {
                let Ok(position) = ask() else { return };
                tell(position);
            }
        });
        let done = work();
        drop(working);
        done
    })
}

/// For a person.
pub fn text(position: Option<u32>) -> String {
    match position {
        Some(position) => format!("compiling: {} in the queue", ordinal(position)),
        None => "compiling".into(),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;
    use crate::error::Error;

    const SOON: Duration = Duration::from_millis(2);

    #[test]
    fn the_place_in_the_queue_is_told_while_the_program_waits() {
        let (ahead, said) = (AtomicU32::new(3), Mutex::new(Vec::new()));
        let ask = || Ok(Some(ahead.fetch_sub(1, Relaxed)).filter(|ahead| (1..4).contains(ahead)));
        let until_all_is_said = || {
            while said.lock().unwrap().len() < 4 {
                thread::sleep(SOON);
            }
            "compiled"
        };
        let done =
            told_each(SOON, ask, |position| said.lock().unwrap().push(text(position)), until_all_is_said);
        assert_eq!(done, "compiled");
        let said = said.into_inner().unwrap();
        let expected = [
            "compiling: 3rd in the queue",
            "compiling: 2nd in the queue",
            "compiling: 1st in the queue",
            "compiling",
        ];
        assert_eq!(said[..4], expected);
        assert_eq!([4, 11, 21, 112].map(ordinal), ["4th", "11th", "21st", "112th"]);
    }

    #[test]
    fn who_does_not_know_is_not_asked_again() {
        let asked = AtomicU32::new(0);
        let ask = || {
            asked.fetch_add(1, Relaxed);
            let doing = "asking".into();
            Err(Error::Rejected {
                doing,
                code: "no_such_route".into(),
                message: String::new(),
                mistakes: vec![],
            })
        };
        told_each(SOON, ask, |_| panic!("nothing is known"), || thread::sleep(SOON * 20));
        assert_eq!(asked.into_inner(), 1);
    }
}
