//! What an app says reaches whoever may read it, while it is said and after.

use serde_json::Value;
use whole_flow::{Fleet, Process, Proto, Said, wait_for};

/// The lines of `skerry logs APP --json`.
fn remembered(fleet: &Fleet, app: &str) -> Vec<Value> {
    let said = fleet.skerry(&["logs", app, "--json"]).ok();
    said.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn texts(lines: &[Value], kind: &str) -> Vec<String> {
    let of_kind = lines.iter().filter(|line| line["kind"] == kind);
    of_kind.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_come_while_they_are_said_and_a_restart_of_the_control_plane_loses_none() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("log", "talker");
    let listening = fleet.start_skerry("live.txt", &["logs", "talker", "-f"]);
    fleet.get(Proto::Plain, "talker", "/one?secret=1").expect(200);
    listening.line_with(&[" fra1 v1 ", " stdout | log: second line, in two pieces"]);
    listening.line_with(&[" fra1 v1 ", " stderr | log: last line, without an end"]);
    let line = listening.line_with(&[" fra1 v1 ", " request | GET /one → 200 in ", "; cpu ", "; memory "]);
    // The request is named as in the node's own log.
    let short = line.split(' ').nth(3).unwrap();
    let log = fleet.log(Process::Node);
    let access = log.lines().find(|line| line.contains("/one")).unwrap();
    assert!(short.len() == 12 && access.contains(short), "{short}: {access}");

    fleet.kill9(Process::ControlPlane);
    listening.line_with(&["the connection to the control plane was lost; listening again"]);
    fleet.get(Proto::Plain, "talker", "/meanwhile").expect(200);
    fleet.restart(Process::ControlPlane);
    listening.line_with(&["request | GET /meanwhile"]);
    fleet.wait_connected();
    fleet.get(Proto::Plain, "talker", "/two").expect(200);
    listening.line_with(&["request | GET /two"]);
    let said = listening.said();
    for path in ["/one", "/meanwhile", "/two"] {
        assert_eq!(said.matches(&format!("GET {path} ")).count(), 1, "{said}");
    }
    assert_eq!(said.matches("stdout | log: first line on stdout").count(), 3, "{said}");
    assert!(!said.contains("secret") && !said.contains("missing"), "{said}");
    assert_eq!(listening.interrupt(), Some(0));
}

#[test]
fn the_last_lines_are_there_after_they_were_said() {
    let fleet = Fleet::shared();
    fleet.deploy_as("log", "said-before");
    fleet.deploy_as("trap", "crashed-before");
    fleet.get(Proto::Plain, "said-before", "/").expect(200);
    fleet.get(Proto::Plain, "crashed-before", "/why").expect(500);
    let lines = remembered(&fleet, "said-before");
    let first = ["log: first line on stdout", "log: second line, in two pieces"];
    assert_eq!(texts(&lines, "stdout"), first);
    assert_eq!(texts(&lines, "stderr"), ["log: first line on stderr", "log: last line, without an end"]);
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"], &last["method"]),
        (&"request".into(), &200.into(), &"GET".into())
    );
    for line in &lines {
        assert_eq!(
            (&line["pop"], &line["node"], &line["version"]),
            (&"local".into(), &"local-1".into(), &1.into())
        );
        assert_eq!(line["request"], last["request"]);
    }
    let crash = remembered(&fleet, "crashed-before");
    let end = crash.last().unwrap();
    assert_eq!((&end["error"], &end["path"]), (&"guest_trap".into(), &"/why".into()), "{crash:?}");
    assert!(texts(&crash, "stderr")[0].contains("panicked at"), "and its last words: {crash:?}");
    // Text, in order; younger than now there is nothing.
    let said = fleet.skerry(&["logs", "said-before"]).ok();
    assert!(
        said.out.ends_with("MiB\n") && said.out.lines().count() == 5 && !said.out.contains('\x1b'),
        "{said}"
    );
    fleet.skerry(&["logs", "said-before", "--since", "0s"]).ok().failed_with(0, "no node remembers a line");
}

#[test]
fn a_log_that_a_program_names_and_a_line_break_in_it_are_one_line() {
    let fleet = Fleet::shared();
    fleet.deploy("logging");
    fleet.get(Proto::Plain, "logging", "/").expect(200);
    let said = fleet.skerry(&["logs", "logging"]).ok();
    assert!(said.out.contains(r#" log "a\nb" | info: a message\nwith a break in it"#), "{said}");
    assert!(said.out.contains(" log first | critical: at critical\n"), "{said}");
    assert!(said.out.contains(" cut | 6150 bytes more than a request may say are gone\n"), "{said}");
}

#[test]
fn a_tenant_hears_its_own_apps_only() {
    let fleet = Fleet::shared();
    fleet.deploy_as("log", "private");
    fleet.get(Proto::Plain, "private", "/").expect(200);
    let token = |arguments: &[&str]| {
        let made = fleet.skerry(&[&["token", "create", "--json"], arguments].concat()).ok().json();
        made["token"].as_str().unwrap().to_owned()
    };
    fleet.skerry(&["tenant", "create", "nosy"]).ok();
    let nosy = token(&["--tenant", "nosy", "--action", "read"]);
    let with = |token: &str, arguments: &[&str]| -> Said { fleet.skerry_with(token, arguments) };
    with(&nosy, &["logs", "private"]).failed_with(3, "this tenant has no app private");
    with(&nosy, &["logs", "private", "-f"]).failed_with(3, "this tenant has no app private");
    with(&nosy, &["logs", "private", "--tenant", "default"]).failed_with(3, "does not allow that");
    with(&token(&["--action", "deploy"]), &["logs", "private"]).failed_with(3, "does not allow that");
    with(&token(&["--action", "read", "--app", "other"]), &["logs", "private"])
        .failed_with(3, "does not allow that");
    assert!(
        with(&token(&["--action", "read"]), &["logs", "private"]).ok().out.contains("first line on stdout")
    );

    // Of an app with the same name it hears its own, which nobody asked yet.
    let deploy = token(&["--tenant", "nosy", "--action", "deploy"]);
    let file = whole_flow::guest("wstd-hello").display().to_string();
    with(&deploy, &["deploy", &file, "--app", "private", "--host", "nosy.localhost", "--timeout", "120s"])
        .ok();
    let said = with(&nosy, &["logs", "private"]).ok();
    assert!(said.out.is_empty() && said.err.contains("no node remembers a line of private"), "{said}");
}

#[test]
fn listeners_of_a_tenant_are_few_and_give_their_places_back() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "listened");
    let names: Vec<String> = (0..8).map(|number| format!("listener-{number}.txt")).collect();
    fleet.skerry(&["tenant", "create", "crowd"]).ok();
    let crowd = ["--tenant", "crowd"];
    let file = whole_flow::guest("wstd-hello").display().to_string();
    let deploy = ["deploy", &file, "--app", "listened", "--host", "crowd.localhost", "--timeout", "120s"];
    fleet.skerry(&[&deploy[..], &crowd].concat()).ok();
    let follow = [&["logs", "listened", "-f", "--json"][..], &crowd].concat();
    let mut listening: Vec<_> = names.iter().map(|name| fleet.start_skerry(name, &follow)).collect();
    listening.iter().for_each(|one| drop(one.line_with(&[r#""kind":"listening""#])));
    fleet.skerry(&follow).failed_with(3, "8 listeners of this tenant are at work");
    // Another tenant's places are its own.
    fleet.skerry(&["logs", "listened"]).ok();
    assert_eq!(listening.pop().unwrap().interrupt(), Some(0));
    wait_for("its place", 10, || {
        (fleet.skerry(&[&["logs", "listened"][..], &crowd].concat()).code == 0).then_some(())
    });
}
