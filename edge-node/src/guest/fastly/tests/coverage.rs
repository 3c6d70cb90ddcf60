//! Holds the table against what tests call: nothing in it says "done" that no test has seen succeed, and nothing says
//! "constant" that none has asked.

use super::{misc, trace};
use crate::guest::fastly::table::{Support, rows};

macro_rules! suite {
    ($($module:ident::$test:ident,)*) => {
        /// Tests of the lane's functions, each of them also a test by itself.
        const SUITE: &[fn()] = &[$($module::$test),*];

        mod each {
            $(#[test]
            fn $test() {
                super::$module::$test();
            })*
        }
    };
}

suite! {
    misc::a_log_has_a_name_and_takes_whole_entries,
    misc::an_execution_knows_what_it_has_used,
    misc::no_name_is_a_shield,
    misc::a_body_can_be_waited_for,
    misc::a_poll_waits_for_a_clock_and_streams_are_ready,
}

#[test]
fn nothing_is_called_done_that_no_test_has_seen_done() {
    trace::take();
    SUITE.iter().for_each(|test| test());
    let called = trace::take();
    let mut missing = Vec::new();
    for (module, row) in rows() {
        let mut statuses =
            called.iter().filter(|(m, n, _)| *m == module && *n == row.name).map(|(_, _, status)| *status);
        let exercised = match row.support {
            Support::Done => statuses.any(|status| status == 0),
            Support::Constant => statuses.next().is_some(),
            Support::Unsupported => continue,
        };
        if !exercised {
            missing.push(format!("{module}.{}", row.name));
        }
    }
    assert!(missing.is_empty(), "{} of the table: {missing:#?}", missing.len());
}
