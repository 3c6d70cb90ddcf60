//! Holds the table against what tests call: nothing in it says "done" that no test has seen succeed, and nothing says
//! "constant" that none has asked.

use super::{backends, bodies, fetch, heads, misc, stores, trace};
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
    misc::a_write_takes_a_part_at_a_time,
    misc::a_poll_waits_for_a_clock_and_streams_are_ready,
    misc::the_handshake_knows_one_version,
    misc::what_the_manifest_says_of_addresses_and_devices_is_told,
    heads::a_request_is_built_and_read_back,
    heads::a_response_is_built_and_read_back,
    heads::headers_are_told_in_batches,
    heads::what_is_no_http_is_refused,
    heads::what_is_said_about_caching_is_checked,
    heads::the_client_is_known_and_what_is_not_known_has_a_fixed_answer,
    heads::the_older_names_answer_the_same,
    heads::a_client_that_speaks_tls_is_known_by_it,
    bodies::a_body_is_written_joined_and_read,
    bodies::trailers_are_there_when_the_body_was_read,
    bodies::a_wrong_use_of_a_body_is_refused,
    bodies::what_the_host_holds_is_bounded,
    bodies::every_piece_and_field_costs_what_it_takes,
    heads::what_is_over_a_limit_is_refused_and_counted,
    backends::a_declared_backend_can_be_asked_about,
    backends::a_backend_that_the_program_made_can_be_asked_about,
    backends::settings_that_cannot_be_kept_are_refused,
    backends::the_health_of_a_backend_is_what_its_requests_found,
    fetch::a_request_is_sent_and_its_response_read,
    fetch::requests_under_way_are_waited_for,
    fetch::requests_under_way_are_polled,
    fetch::the_first_of_several_is_selected,
    fetch::a_body_is_written_while_it_is_sent,
    fetch::a_body_that_is_given_up_ends_its_request,
    fetch::a_response_passes_through_unread,
    fetch::a_response_is_joined_to_a_stream_unread,
    fetch::a_request_that_fails_tells_why,
    fetch::nothing_is_used_up_by_a_call_that_is_refused,
    fetch::one_execution_sends_so_many_requests,
    fetch::changes_wait_for_their_response,
    fetch::a_failed_request_that_is_passed_on_is_a_5xx,
    fetch::a_length_that_the_program_gives_counts_if_it_wants_it_to,
    fetch::a_responses_length_counts_if_the_program_wants_it_to,
    fetch::a_response_that_is_handed_over_holds_up_nobody,
    fetch::a_backend_that_the_program_made_is_reached,
    fetch::a_response_is_decompressed_when_asked_to_be,
    stores::configuration_is_read_from_its_store,
    stores::secrets_are_read_from_their_store_or_made,
    stores::entries_are_written_found_listed_and_deleted,
    stores::a_page_without_keys_is_the_last,
    stores::an_insert_keeps_its_conditions,
    stores::options_that_are_unknown_are_refused,
    stores::metadata_that_does_not_fit_leaves_the_answer,
    stores::the_older_interface_tells_by_status,
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
