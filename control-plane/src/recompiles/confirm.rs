//! Do nodes run the code that was published for a version that serves? Asked after each, so that code that cannot be loaded
//! reaches one app and not the fleet.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use artifact::{
    AppId, NodeName,
    nack::NackCode,
    record::{Rev, VersionNumber},
};
use fleet_sync_origin::NodeAnswer;
use fleet_sync_proto::FleetView;

use crate::fleet::Fleet;

/// How long nodes have to take a version.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Between two looks at what nodes said: a thousand of them answer one after the other.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A version that is about to be published: who could not run it before, and the release it stands in.
#[derive(Debug, Clone)]
pub struct Published {
    /// The app.
    pub id: AppId,
    /// Its version.
    pub version: VersionNumber,
    /// Nodes that are not asked.
    pub excused: BTreeSet<NodeName>,
}

/// Nodes do not run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The code is not what they can run: nothing more is to be published. For people.
    Refused(String),
    /// There is nobody who could say so.
    NobodyThere,
    /// None has taken it, for reasons of their own.
    NotTaken(String),
}

/// Asks nodes, and knows who was slow to answer: these are not waited for again until they are as far.
#[derive(Debug, Default)]
pub struct Confirming {
    slow: BTreeSet<NodeName>,
}

/// The nodes that cannot run an app's active version now, whatever the reason.
pub fn failing(fleet: &Fleet, view: &FleetView, id: &AppId) -> BTreeSet<NodeName> {
    let Some(release) = release_of(view, id) else { return BTreeSet::new() };
    let answers = fleet.answers(release).into_iter();
    answers.filter(|answer| answer.failed.is_some()).map(|answer| answer.node).collect()
}

impl Confirming {
    /// Waits for what nodes say of a version at this rev. One that does not serve needs no word of theirs.
    pub async fn confirm(&mut self, fleet: &Fleet, of: &Published, rev: Rev) -> Result<(), Unconfirmed> {
        let view = fleet.view();
        let serves = |view: &FleetView| view.app(&of.id).is_some_and(|app| app.active == Some(of.version));
        let Some(release) = release_of(&view, &of.id).filter(|_| serves(&view)) else { return Ok(()) };
        let mut changes = fleet.answer_changes();
        let until = Instant::now() + WAIT_MAX;
        loop {
            changes.borrow_and_update();
            let answers = fleet.answers(release);
            let verdict = verdict(&answers, rev, &of.excused);
            self.slow
                .retain(|node| answers.iter().any(|answer| answer.node == *node && answer.applied_rev < rev));
            let awaited = self.awaited(&answers, rev, &of.excused);
            let is_over = Instant::now() >= until;
            if awaited.is_empty() || is_over || matches!(verdict, Err(Unconfirmed::Refused(_))) {
                self.slow.extend(awaited.into_iter().map(|answer| answer.node.clone()));
                // Rolled back or released meanwhile: what nodes say is of that, which has people of its own to look after it.
                let is_another = release_of(&fleet.view(), &of.id) != Some(release);
                return if is_another { Ok(()) } else { verdict };
            }
            let _ = tokio::time::timeout_at(until.into(), changes.changed()).await;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

impl Confirming {
    /// Who has not answered yet and is worth waiting for: those that are not known to be slow, or all where no other is there.
    fn awaited<'a>(
        &self,
        answers: &'a [NodeAnswer],
        rev: Rev,
        excused: &BTreeSet<NodeName>,
    ) -> Vec<&'a NodeAnswer> {
        let asked: Vec<&NodeAnswer> = answers.iter().filter(|answer| is_asked(answer, excused)).collect();
        let is_slow = |answer: &NodeAnswer| self.slow.contains(&answer.node);
        let others = asked.iter().any(|answer| !is_slow(answer));
        let waits = |answer: &&NodeAnswer| answer.applied_rev < rev && !(others && is_slow(answer));
        asked.into_iter().filter(waits).collect()
    }
}

fn release_of(view: &FleetView, id: &AppId) -> Option<Rev> {
    view.app(id).map(|app| app.release_rev)
}

fn is_asked(answer: &NodeAnswer, excused: &BTreeSet<NodeName>) -> bool {
    answer.connected && !excused.contains(&answer.node)
}

fn verdict(answers: &[NodeAnswer], rev: Rev, excused: &BTreeSet<NodeName>) -> Result<(), Unconfirmed> {
    let (mut asked, mut took, mut why) = (0, 0, None);
    for answer in answers.iter().filter(|answer| is_asked(answer, excused)) {
        asked += 1;
        match &answer.failed {
            _ if answer.applied_rev < rev => {}
            Some(nack) if is_of_the_code(nack.code) => {
                let said =
                    format!("node {} cannot run the new code and goes on with the old: {nack}", answer.node);
                return Err(Unconfirmed::Refused(said));
            }
            Some(nack) => why = Some(format!("node {}: {nack}", answer.node)),
            None if answer.names_not_all => {}
            None => took += 1,
        }
    }
    let is_known = |answer: &NodeAnswer| answer.applied_rev > 0;
    match (took, asked) {
        (0, 0) if !answers.iter().any(is_known) => Ok(()),
        (0, 0) if answers.iter().any(|answer| answer.connected) => Ok(()),
        (0, 0) => Err(Unconfirmed::NobodyThere),
        (0, _) => {
            let why = why.unwrap_or_else(|| format!("no answer in {} s", WAIT_MAX.as_secs()));
            Err(Unconfirmed::NotTaken(format!(
                "none of {asked} connected nodes has taken the new code; {why}"
            )))
        }
        _ => Ok(()),
    }
}

/// Would another node, or this one tomorrow, say the same of it?
fn is_of_the_code(code: NackCode) -> bool {
    match code {
        NackCode::BadSig
        | NackCode::UnknownKey
        | NackCode::DigestMismatch
        | NackCode::Compat
        | NackCode::TooLarge
        | NackCode::LoadFail
        | NackCode::CrashLoop => true,
        NackCode::FetchTimeout
        | NackCode::NoSpace
        | NackCode::Internal
        | NackCode::EpochStale
        | NackCode::ChainBreak
        | NackCode::UnknownKind => false,
    }
}

#[cfg(test)]
mod tests {
    use artifact::nack::Nack;

    use super::*;

    const REV: Rev = 9;

    fn node(name: &str, applied_rev: Rev, failed: Option<NackCode>) -> NodeAnswer {
        let failed = failed.map(|code| Nack { code, detail: "torn".into() });
        NodeAnswer { node: name.parse().unwrap(), connected: true, applied_rev, failed, names_not_all: false }
    }

    fn say(answers: &[NodeAnswer], excused: &[&str]) -> Result<(), Unconfirmed> {
        verdict(answers, REV, &excused.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn a_node_that_cannot_run_the_new_code_stops_it_by_name() {
        let said = say(&[node("fra1-1", 9, None), node("fra1-2", 10, Some(NackCode::LoadFail))], &[]);
        let Err(Unconfirmed::Refused(said)) = said else { panic!("{said:?}") };
        assert!(said.contains("fra1-2") && said.contains("torn"), "{said}");
    }

    #[test]
    fn nodes_that_could_not_before_are_away_slow_or_full_stop_nothing_as_long_as_one_has_it() {
        let (good, bad) = (node("fra1-1", 9, None), node("fra1-2", 9, Some(NackCode::LoadFail)));
        let (late, full) =
            (node("fra1-3", 8, Some(NackCode::LoadFail)), node("fra1-4", 9, Some(NackCode::NoSpace)));
        assert_eq!(say(&[good.clone(), bad.clone(), late.clone(), full.clone()], &["fra1-2"]), Ok(()));
        let away = NodeAnswer { connected: false, ..bad.clone() };
        assert_eq!(say(&[good, away], &[]), Ok(()));
        assert_eq!(say(std::slice::from_ref(&bad), &["fra1-2"]), Ok(()), "it got no worse");
        let said = say(&[late, bad, full], &["fra1-2"]);
        assert!(
            matches!(&said, Err(Unconfirmed::NotTaken(why)) if why.contains("none of 2") && why.contains("NO_SPACE")),
            "{said:?}"
        );
        let names_not_all = NodeAnswer { names_not_all: true, ..node("fra1-5", 9, None) };
        assert!(matches!(say(&[names_not_all], &[]), Err(Unconfirmed::NotTaken(_))), "it may be among those");
    }

    #[test]
    fn slow_nodes_are_not_waited_for_unless_there_are_no_others() {
        let confirming = Confirming { slow: BTreeSet::from(["fra1-1".parse().unwrap()]) };
        let (slow, quick) = (node("fra1-1", 8, None), node("fra1-2", 8, None));
        let awaited = |answers: &[NodeAnswer]| -> Vec<String> {
            let awaited = confirming.awaited(answers, REV, &BTreeSet::new());
            awaited.into_iter().map(|answer| answer.node.to_string()).collect()
        };
        assert_eq!(awaited(&[slow.clone(), quick]), ["fra1-2"]);
        assert_eq!(awaited(&[slow.clone(), node("fra1-2", 9, None)]), [""; 0]);
        assert_eq!(awaited(&[slow]), ["fra1-1"], "its word is the only one there is");
    }

    #[test]
    fn a_fleet_whose_nodes_are_all_away_is_waited_for_and_one_without_nodes_is_not() {
        let away = |applied_rev| NodeAnswer { connected: false, ..node("fra1-1", applied_rev, None) };
        assert_eq!(say(&[away(8)], &[]), Err(Unconfirmed::NobodyThere));
        assert_eq!(say(&[away(0)], &[]), Ok(()), "it never was there");
        assert_eq!(say(&[], &[]), Ok(()));
    }
}
