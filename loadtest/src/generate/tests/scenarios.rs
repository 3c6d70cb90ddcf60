//! What a scenario file may say, and what it is told else.

use super::counts::scenario;
use crate::generate::{Scenario, arrivals::Schedule, hosts::Popularity, random::Random, scenario::Hosts};

fn told(more: &str) -> String {
    let text = format!("name = 'x'\nprotocol = 'h1'\nduration_seconds = 1\n{more}");
    Scenario::parse(&text).map(drop).unwrap_err().to_string()
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_a_missing_one_too() {
    let error = told("connections = 1\nconections = 2");
    assert!(error.starts_with("the scenario's line 5: unknown field `conections`"), "{error}");
    assert!(told("").contains("missing field `connections`"));
    assert!(!error.contains('\n'));
}

#[test]
fn all_numbers_out_of_bounds_are_told_at_once() {
    assert_eq!(
        told("connections = 0\nthreads = 65\nstreams = 2\n[arrivals]\nkind = 'constant'\nper_second = 0"),
        "the scenario: connections must be 1 to 10000; threads must be 1 to 64; threads must not be more than \
         connections; streams are for h2 and h3: an h1 connection has one request at a time; arrivals.per_second \
         must be 0.01 to 1000000"
    );
    assert!(told("connections = 1\nwarm_up_seconds = nan").contains("warm_up_seconds must be at most 3600"));
}

#[test]
fn a_request_cannot_smuggle_what_the_generator_sets() {
    assert!(told("connections = 1\n[request.headers]\nHost = 'b'").contains("Host is set by the generator"));
    assert!(told("connections = 1\n[request]\npath = '/ x'").contains("request.path must begin with /"));
    assert!(told("connections = 1\n[request]\nmethod = 'G T'").contains("request.method"));
    assert!(told("connections = 1\n[request.headers]\na = \"b\\r\\nc: d\"").contains("is not a header"));
}

#[test]
fn h3_in_the_clear_and_a_slow_body_without_one_are_refused() {
    let text = "name = 'x'\nprotocol = 'h3'\ntls = false\nconnections = 1\nduration_seconds = 1";
    assert!(Scenario::parse(text).unwrap_err().to_string().contains("h3 is always encrypted"));
    let slow = "connections = 1\n[pace]\nkind = 'slow_body'\nbytes_per_second = 10";
    assert!(told(slow).contains("a slow body needs request.body_bytes"));
    let still = "connections = 1\n[pace]\nkind = 'slow_reader'\nbytes_per_second = 0";
    assert!(told(still).contains("pace.bytes_per_second must be 1 to"));
}

#[test]
fn names_of_hosts_are_hosts() {
    let error = told("connections = 1\n[hosts]\nkind = 'each'\nnames = ['a.example:80', 'b c', 'd/e']");
    assert_eq!(
        error,
        "the scenario: hosts.names: \"b c\" is not a host with or without a port; hosts.names: \"d/e\" is not a host \
         with or without a port"
    );
    assert!(told("connections = 1\n[hosts]\nkind = 'each'\nnames = []").contains("hosts.names must be 1 to"));
}

#[test]
fn a_scenario_that_is_not_there_names_those_that_are() {
    let error = Scenario::named("nowhere").unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("hello-h1, hello-h2-tls"), "{error}");
}

#[test]
fn constant_arrivals_of_all_threads_are_even_and_poisson_keeps_the_rate() {
    let even = scenario("connections = 2\nthreads = 2\n[arrivals]\nkind = 'constant'\nper_second = 100");
    let mut all: Vec<_> = (0..2)
        .flat_map(|thread| Schedule::of(&even, thread).unwrap().take(50))
        .map(|at| at.as_millis())
        .collect();
    all.sort();
    assert_eq!(all, (0..100).map(|number| number * 10).collect::<Vec<_>>());
    let text = "connections = 1\nseed = 7\n[arrivals]\nkind = 'poisson'\nper_second = 1000";
    let schedule = || Schedule::of(&scenario(text), 0).unwrap();
    let count = schedule().take_while(|at| at.as_secs() < 100).count();
    // Its deviation is the root of the mean: 316.
    assert!((98_000..102_000).contains(&count), "{count}");
    assert!(schedule().take(100).eq(schedule().take(100)));
}

#[test]
fn bursts_keep_the_rate_and_leave_idle_times_alone() {
    let text = "connections = 1\n[arrivals]\nkind = 'constant'\nper_second = 100\n[pace]\nkind = 'bursty'\n\
                busy_ms = 100\nidle_ms = 900";
    let all: Vec<_> = Schedule::of(&scenario(text), 0).unwrap().take(1000).collect();
    assert!(all.iter().all(|at| at.subsec_millis() < 100));
    assert_eq!(all.iter().filter(|at| at.as_secs() == 4).count(), 100);
}

#[test]
fn hosts_are_asked_by_zipfs_law() {
    let hosts = Popularity::new(&Hosts::Zipf { count: 100, exponent: 1.0 }, "a.example:80");
    assert_eq!((hosts.names().len(), hosts.names()[99].as_str()), (100, "h99.a.example:80"));
    let (mut random, mut counts) = (Random::new(3, 0), [0_u32; 100]);
    for _ in 0..500_000 {
        counts[hosts.pick(0, &mut random)] += 1;
    }
    for rank in [2, 5, 10] {
        let ratio = f64::from(counts[0]) / f64::from(counts[rank - 1]);
        assert!((ratio / rank as f64 - 1.0).abs() < 0.1, "{rank}: {ratio}");
    }
    assert!(counts.iter().all(|count| *count > 0));
}
