//! Asking every connected node what it serves of an app, and waiting for the answers.
//!
//! Relied on: each stream's session, which sends what is asked and hands in what its node said under the name of its
//! certificate. Deliberately absent: who may ask about what, which is the API's work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use artifact::{AppId, NodeName, TenantName};
use fleet_sync_proto::inspect::{Inspect, Inspected, Serving};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::origin::Origin;

/// Questions under way. Each is a small message to every node; a session that is this far behind misses the oldest.
pub const INSPECTIONS_MAX: usize = 32;
/// Questions of one tenant: one cannot take the places of all.
pub const INSPECTIONS_OF_TENANT_MAX: usize = 4;

/// What each node that answered serves; `None`: nothing.
pub type Answers = BTreeMap<NodeName, Option<Serving>>;

/// Too many ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many questions to the nodes are under way, {INSPECTIONS_OF_TENANT_MAX} of this tenant or {INSPECTIONS_MAX} of all: \
     try again in a moment"
)]
pub struct TooManyInspections;

/// All questions.
pub(crate) struct Inspections {
    asked: broadcast::Sender<Inspect>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    asking: BTreeMap<u64, Asking>,
}

struct Asking {
    tenant: TenantName,
    answers: Answers,
    answered: Arc<Notify>,
}

/// A question under way; taken away when dropped, answered or not.
struct Asked<'a> {
    inspections: &'a Inspections,
    number: u64,
    answered: Arc<Notify>,
}

impl Inspections {
    pub(crate) fn new() -> Inspections {
        Inspections { asked: broadcast::Sender::new(INSPECTIONS_MAX), waiting: Mutex::default() }
    }

    /// What sessions are to ask their nodes.
    pub(crate) fn asked(&self) -> broadcast::Receiver<Inspect> {
        self.asked.subscribe()
    }

    /// A node answered. What nobody waits for is let go.
    pub(crate) fn answered(&self, node: &NodeName, said: Inspected) {
        let mut waiting = self.waiting.lock();
        if let Some(asking) = waiting.asking.get_mut(&said.number) {
            asking.answers.insert(node.clone(), said.serving);
            asking.answered.notify_one();
        }
    }

    fn ask(&self, id: &AppId) -> Result<Asked<'_>, TooManyInspections> {
        let mut waiting = self.waiting.lock();
        let of_tenant = waiting.asking.values().filter(|asking| asking.tenant == id.tenant).count();
        if of_tenant >= INSPECTIONS_OF_TENANT_MAX || waiting.asking.len() >= INSPECTIONS_MAX {
            return Err(TooManyInspections);
        }
        waiting.last += 1;
        let (number, answered) = (waiting.last, Arc::<Notify>::default());
        let asking =
            Asking { tenant: id.tenant.clone(), answers: Answers::new(), answered: answered.clone() };
        waiting.asking.insert(number, asking);
        drop(waiting);
        let _ = self.asked.send(Inspect { number, id: id.clone() }); // an error: no node is connected
        Ok(Asked { inspections: self, number, answered })
    }
}

impl Asked<'_> {
    fn answers<T>(&self, look: impl FnOnce(&mut Answers) -> T) -> Option<T> {
        let mut waiting = self.inspections.waiting.lock();
        waiting.asking.get_mut(&self.number).map(|asking| look(&mut asking.answers))
    }

    async fn all_of(&self, nodes: &BTreeSet<NodeName>) {
        let have_answered = |answers: &mut Answers| nodes.iter().all(|node| answers.contains_key(node));
        while self.answers(have_answered) == Some(false) {
            self.answered.notified().await;
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.inspections.waiting.lock().asking.remove(&self.number);
    }
}

impl Origin {
    /// What each connected node serves of an app, as soon as all have answered, or after `wait`. A node that is missing did
    /// not answer: it is not connected, slow, or of a release that does not know the question.
    pub async fn inspect(&self, id: &AppId, wait: Duration) -> Result<Answers, TooManyInspections> {
        let nodes = self.nodes.connected_now().into_iter().map(|(node, _)| node).collect();
        let asked = self.inspections.ask(id)?;
        let _ = tokio::time::timeout(wait, asked.all_of(&nodes)).await;
        Ok(asked.answers(std::mem::take).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tenant: &str) -> AppId {
        AppId { tenant: tenant.parse().unwrap(), app: "shop".parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_count_under_the_number_they_were_asked_by_until_all_are_there() {
        let inspections = Inspections::new();
        let mut session = inspections.asked();
        let asked = inspections.ask(&id("a")).unwrap();
        let question = session.recv().await.unwrap();
        let (one, two): (NodeName, NodeName) = ("fra1-1".parse().unwrap(), "fra1-2".parse().unwrap());
        let nodes = BTreeSet::from([one.clone(), two.clone()]);
        let serving = Serving { version: 3, version_rev: 7, code: None };
        let number = question.number;
        inspections.answered(&one, Inspected { number: number + 1, serving: None });
        inspections.answered(&one, Inspected { number, serving: Some(serving.clone()) });
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, asked.all_of(&nodes)).await.is_err(), "one is missing");
        inspections.answered(&two, Inspected { number, serving: None });
        tokio::time::timeout(wait, asked.all_of(&nodes)).await.unwrap();
        let all = Answers::from([(one, Some(serving)), (two.clone(), None)]);
        assert_eq!(asked.answers(std::mem::take), Some(all));
        drop(asked);
        inspections.answered(&two, Inspected { number, serving: None });
        assert!(inspections.waiting.lock().asking.is_empty());
    }

    #[test]
    fn one_tenant_cannot_take_the_places_of_all_and_places_come_back() {
        let inspections = Inspections::new();
        let mut held: Vec<_> =
            (0..INSPECTIONS_OF_TENANT_MAX).map(|_| inspections.ask(&id("a")).unwrap()).collect();
        assert!(inspections.ask(&id("a")).is_err());
        for tenant in 1..INSPECTIONS_MAX / INSPECTIONS_OF_TENANT_MAX {
            let id = id(&format!("t{tenant}"));
            held.extend((0..INSPECTIONS_OF_TENANT_MAX).map(|_| inspections.ask(&id).unwrap()));
        }
        assert!(inspections.ask(&id("b")).is_err(), "all places are taken");
        held.pop();
        assert!(inspections.ask(&id("b")).is_ok());
    }
}
