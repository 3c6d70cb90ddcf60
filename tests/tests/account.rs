//! Every request is counted and logged.

use whole_flow::{Fleet, Process, Proto, wait_for};

#[test]
fn requests_are_counted_by_app_version_and_status() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "counted");
    fleet.deploy_as("trap", "counted-trap");
    let protocols = Proto::secure();
    for proto in &protocols {
        fleet.get(*proto, "counted", "/").expect(200);
        fleet.get(*proto, "counted-trap", "/").expect(500);
    }
    let asked = protocols.len() as f64;
    let of = |app: &str| format!("app=\"{app}\"");
    let value = |name: &str, app: &str, label: &str| fleet.metric(name, &[&of(app), "version=\"1\"", label]);
    assert_eq!(value("skerry_requests_total", "counted", "status=\"2xx\""), asked);
    assert_eq!(value("skerry_requests_total", "counted-trap", "status=\"5xx\""), asked);
    assert_eq!(value("skerry_failures_total", "counted-trap", "code=\"guest_trap\""), asked);
    assert_eq!(value("skerry_instances_total", "counted", ""), asked);
    assert!(value("skerry_cpu_microseconds_total", "counted", "") > 0.0);
    assert!(value("skerry_instantiate_microseconds_total", "counted", "") > 0.0);
    assert!(value("skerry_memory_peak_bytes", "counted", "") >= 65_536.0, "at least one page of memory");

    let before = fleet.metric("skerry_unrouted_total", &["code=\"no_route\""]);
    fleet.request_host(Proto::Plain, "nobody.localhost").send().expect(404);
    assert_eq!(fleet.metric("skerry_unrouted_total", &["code=\"no_route\""]), before + 1.0);

    // A host that does not exist makes no series: scanners must not fill a node's memory.
    assert!(!fleet.metrics().contains("nobody.localhost"));
}

#[test]
fn every_request_leaves_one_line_in_the_access_log() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "logged");
    let protocols = Proto::secure();
    for proto in &protocols {
        fleet.get(*proto, "logged", &format!("/mark-{proto:?}?q=1")).expect(200);
    }
    for proto in &protocols {
        let mark = format!("/mark-{proto:?}");
        let lines = wait_for("the access line", 5, || {
            let log = fleet.log(Process::Node);
            let lines: Vec<String> =
                log.lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect();
            (!lines.is_empty()).then_some(lines)
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value =
            serde_json::from_str(&lines[0]).unwrap_or_else(|_| panic!("{}", lines[0]));
        assert_eq!((&line["status"], &line["app"]), (&200.into(), &"default/logged".into()), "{line}");
        assert!(line["duration_us"].as_u64().is_some_and(|us| us > 0), "{line}");
        assert!(line["request"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        assert!(line["cpu_us"].is_u64() && line["instantiate_us"].is_u64(), "{line}");
    }
}

#[test]
fn what_a_guest_prints_is_in_the_log() {
    let fleet = Fleet::shared();
    fleet.deploy_as("log", "talker");
    fleet.get(Proto::H2, "talker", "/").expect(200);
    for text in [
        "first line on stdout",
        "first line on stderr",
        "second line, in two pieces",
        "last line, without an end",
    ] {
        wait_for(text, 5, || fleet.log(Process::Node).contains(text).then_some(()));
    }
}
