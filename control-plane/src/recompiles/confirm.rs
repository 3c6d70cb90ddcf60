//! Do nodes run the code that was published for a version that serves? Asked after each, so that code that cannot be loaded
//! reaches one app and not the fleet.

use std::{collections::BTreeSet, time::Duration};

use artifact::{AppId, NodeName, record::Rev};
use fleet_sync_origin::NodeStatus;
use fleet_sync_proto::FleetView;

use crate::plane::Plane;

/// How long nodes have to take a version. Who is slower, or away, is not waited for.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The nodes that cannot run an app's active version now, whatever the reason.
pub fn failing(plane: &Plane, view: &FleetView, id: &AppId) -> BTreeSet<NodeName> {
    let Some(release) = view.app(id).map(|app| app.release_rev) else { return BTreeSet::new() };
    plane
        .fleet
        .node_states()
        .into_iter()
        .filter(|node| why(node, release).is_some())
        .map(|node| node.node)
        .collect()
}

/// Waits for what nodes say of an app at this rev. `Err`: why nothing more is to be published. `excused` could not run it
/// before.
pub async fn confirm(
    plane: &Plane,
    id: &AppId,
    rev: Rev,
    excused: &BTreeSet<NodeName>,
) -> Result<(), String> {
    plane.fleet.convergence(rev, WAIT_MAX).await;
    let Some(release) = plane.fleet.view().app(id).map(|app| app.release_rev) else { return Ok(()) };
    verdict(plane.fleet.node_states(), rev, release, excused)
}

fn verdict(
    nodes: Vec<NodeStatus>,
    rev: Rev,
    release: Rev,
    excused: &BTreeSet<NodeName>,
) -> Result<(), String> {
    let is_asked = |node: &&NodeStatus| node.connected && !node.revoked && !excused.contains(&node.node);
    let (mut asked, mut took) = (0, 0);
    for node in nodes.iter().filter(is_asked) {
        asked += 1;
        if node.applied_rev < rev {
            continue;
        }
        if let Some(why) = why(node, release) {
            return Err(format!(
                "node {} goes on with the code before: it cannot run the new: {why}",
                node.node
            ));
        }
        took += 1;
    }
    match (took, asked) {
        (0, 1..) => Err(format!("none of {asked} connected nodes has taken the new code in {WAIT_MAX:?}")),
        _ => Ok(()),
    }
}

/// Why a node does not run what was released at a rev.
fn why(node: &NodeStatus, release: Rev) -> Option<String> {
    node.failed.get(&release).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use artifact::nack::{Nack, NackCode};

    use super::*;

    /// The app was released at 5, its new code published at 9.
    fn node(name: &str, applied_rev: Rev, failed: &[Rev]) -> NodeStatus {
        let nack = Nack { code: NackCode::LoadFail, detail: "torn".into() };
        NodeStatus {
            node: name.parse().unwrap(),
            pop: "fra1".parse().unwrap(),
            connected: true,
            applied_rev,
            failed: failed.iter().map(|rev| (*rev, nack.clone())).collect::<BTreeMap<_, _>>(),
            targets: vec![],
            serving: None,
            software: String::new(),
            last_seen_ms: 0,
            revoked: false,
            report: None,
        }
    }

    fn say(nodes: Vec<NodeStatus>, excused: &[&str]) -> Result<(), String> {
        verdict(nodes, 9, 5, &excused.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn a_node_that_cannot_run_the_new_code_stops_it_by_name() {
        let said = say(vec![node("fra1-1", 9, &[]), node("fra1-2", 10, &[5])], &[]).unwrap_err();
        assert!(said.contains("fra1-2") && said.contains("torn"), "{said}");
        assert_eq!(say(vec![node("fra1-1", 9, &[4, 6]), node("fra1-2", 9, &[])], &[]), Ok(()), "other apps'");
    }

    #[test]
    fn nodes_that_could_not_before_are_away_or_are_slow_stop_nothing_as_long_as_one_has_it() {
        let (good, bad, late) = (node("fra1-1", 9, &[]), node("fra1-2", 9, &[5]), node("fra1-3", 8, &[5]));
        assert_eq!(say(vec![good.clone(), bad.clone(), late.clone()], &["fra1-2"]), Ok(()));
        let away = NodeStatus { connected: false, ..bad.clone() };
        let revoked = NodeStatus { revoked: true, ..bad.clone() };
        assert_eq!(say(vec![good, away.clone(), revoked.clone()], &[]), Ok(()));
        assert_eq!(say(vec![away, revoked], &[]), Ok(()), "nobody to ask");
        assert_eq!(say(vec![bad.clone()], &["fra1-2"]), Ok(()), "it got no worse");
        let said = say(vec![late, bad], &["fra1-2"]).unwrap_err();
        assert!(said.contains("none of 1"), "{said}");
    }
}
