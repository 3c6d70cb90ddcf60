//! kill -9 of any process at any moment loses no acknowledged deploy, and a node needs nobody to keep serving.

use std::{thread, time::Duration};

use whole_flow::{Fleet, Process, Proto, guest, random_bytes, wait_for};

/// Waits until the app answers with `text`.
fn serves(fleet: &Fleet, app: &str, text: &str) {
    wait_for(&format!("{app} to answer {text:?}"), 30, || {
        let response = fleet.get(Proto::H2, app, "/");
        (response.status == 200 && response.text == text).then_some(())
    });
}

#[test]
fn after_a_kill_of_each_process_in_turn_every_deploy_is_there_and_deploys_go_on() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("wstd-hello", "a");
    fleet.deploy_as("fastly-hello", "b");
    for (turn, victim) in Process::ALL.into_iter().enumerate() {
        fleet.kill9(victim);
        fleet.restart(victim);
        fleet.wait_connected();
        serves(&fleet, "a", "Hello from wstd!\n");
        serves(&fleet, "b", "Hello from the fastly crate!\n");
        let deployed = fleet.deploy_as("wasi-hello", &format!("after-{turn}"));
        assert_eq!(deployed["outcome"], "live", "after a kill of {victim:?}: {deployed}");
        serves(&fleet, &format!("after-{turn}"), "Hello from wasi:http!\n");
    }
    // The versions, too, are those that were acknowledged, and none was made twice.
    assert_eq!(fleet.status("a")["versions"].as_array().unwrap().len(), 1);
    let apps = fleet.skerry(&["apps", "--json"]).ok().json();
    assert_eq!(apps.as_array().unwrap().len(), 5, "{apps}");
}

#[test]
fn kills_in_the_middle_of_deploys_lose_nothing_that_was_acknowledged() {
    /// Each round kills one process at a moment that the seed chooses.
    const ROUNDS: usize = 6;
    const SEED: u64 = 7;
    /// Deploys take about half a second here: the moments are spread over it.
    const DELAY_MS_MAX: u64 = 500;
    /// A kill of the node never stops a deploy, and the command line retries over the restart of the others: two
    /// thirds is what a slow machine may not fall below.
    const ACKNOWLEDGED_MIN: usize = 4;
    let moments = random_bytes(SEED, ROUNDS);
    println!("seed {SEED}");

    let fleet = Fleet::separate().start();
    let file = guest("wasi-hello").display().to_string();
    let mut acknowledged = Vec::new();
    for (round, moment) in moments.iter().enumerate() {
        let victim = Process::ALL[round % 3];
        let delay = Duration::from_millis(u64::from(*moment) * DELAY_MS_MAX / 255);
        let app = format!("app-{round}");
        let said = thread::scope(|scope| {
            let deploy =
                scope.spawn(|| fleet.skerry(&["deploy", &file, "--app", &app, "--no-wait", "--json"]));
            thread::sleep(delay);
            fleet.kill9(victim);
            fleet.restart(victim);
            deploy.join().unwrap()
        });
        // Any exit but success is honest; success is a promise.
        if said.code == 0 {
            acknowledged.push((app, said.json()["rev"].as_u64().unwrap()));
        }
    }
    fleet.wait_connected();
    println!("acknowledged: {acknowledged:?}");
    assert!(
        acknowledged.len() >= ACKNOWLEDGED_MIN,
        "{} of {ROUNDS} deploys survived a kill: retries do not work",
        acknowledged.len()
    );
    for (app, rev) in &acknowledged {
        assert_eq!(fleet.status(app)["rev"].as_u64(), Some(*rev), "{app}");
        serves(&fleet, app, "Hello from wasi:http!\n");
    }
}

#[test]
fn a_node_restarted_with_everything_else_dead_serves_all_it_had_over_tls() {
    let fleet = Fleet::separate().start();
    fleet.deploy("wstd-hello");
    fleet.deploy("fastly-hello");
    fleet.kill9(Process::ControlPlane);
    fleet.kill9(Process::Compiler);
    fleet.kill9(Process::Node);
    fleet.restart(Process::Node);
    for proto in Proto::secure() {
        assert_eq!(fleet.get(proto, "wstd-hello", "/").expect(200).text, "Hello from wstd!\n", "{proto:?}");
        assert_eq!(fleet.get(proto, "fastly-hello", "/").expect(200).text, "Hello from the fastly crate!\n");
    }
    // And nobody can say a deploy was done: there is nobody to do it.
    let file = guest("wasi-hello").display().to_string();
    fleet.skerry(&["deploy", &file]).failed_with(6, "cannot reach the control plane");

    // When the others are back, it follows again.
    fleet.restart(Process::Compiler);
    fleet.restart(Process::ControlPlane);
    fleet.wait_connected();
    fleet.deploy("wasi-hello");
    serves(&fleet, "wasi-hello", "Hello from wasi:http!\n");
}

#[test]
fn a_deploy_without_its_node_times_out_and_names_the_laggard() {
    let fleet = Fleet::separate().start();
    fleet.deploy("wstd-hello");
    fleet.kill9(Process::Node);
    let file = guest("wasi-hello").display().to_string();
    let said = fleet.skerry(&["deploy", &file, "--timeout", "2s", "--json"]).failed_with(5, "lags");
    let lagging = &said.json()["convergence"]["lagging"];
    assert_eq!(lagging[0]["pop"], "fra1", "{lagging}");
    // It was durable, and the node follows when it is back.
    fleet.restart(Process::Node);
    serves(&fleet, "wasi-hello", "Hello from wasi:http!\n");
}

/// A node that hears of deletion and new app at once must not take the one for the other.
#[test]
fn an_app_made_anew_under_its_old_name_while_the_node_was_away_answers_with_its_new_program() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("wstd-hello", "phoenix");
    serves(&fleet, "phoenix", "Hello from wstd!\n");

    // Paused, not ended: it keeps what it runs. Its connection ends with the control plane, so that both changes come
    // to it in one answer when it asks again.
    fleet.pause(Process::Node);
    fleet.kill9(Process::ControlPlane);
    fleet.restart(Process::ControlPlane);
    fleet.skerry(&["app", "delete", "phoenix"]).ok();
    let file = guest("wasi-hello").display().to_string();
    let made = fleet.skerry(&["deploy", &file, "--app", "phoenix", "--no-wait", "--json"]).ok().json();
    assert_eq!(made["version"], 2, "version numbers go on after a deletion: {made}");
    fleet.resume(Process::Node);
    serves(&fleet, "phoenix", "Hello from wasi:http!\n");

    // The same for a node that was dead, and reads both from the log after its start.
    fleet.kill9(Process::Node);
    fleet.skerry(&["app", "delete", "phoenix"]).ok();
    let file = guest("wstd-hello").display().to_string();
    fleet.skerry(&["deploy", &file, "--app", "phoenix", "--no-wait"]).ok();
    fleet.restart(Process::Node);
    serves(&fleet, "phoenix", "Hello from wstd!\n");
}
