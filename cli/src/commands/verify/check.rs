//! The comparisons of `skerry verify`, on what was read and with nothing else.

use artifact::{
    Digest, Lane,
    dsse::Envelope,
    keys::{Compiler, Trusted},
    statement::{Statement, TrustedStatement, VerifyError},
};
use serde::Serialize;

use crate::{
    api::{NodeFailed, Running, RunningArtifact, RunningNode},
    error::chain,
};

/// What was found, also the JSON form.
#[derive(Debug, Serialize)]
pub struct Report {
    pub app: String,
    /// The version that should answer.
    pub version: u64,
    /// Position of its release.
    pub rev: u64,
    pub lane: String,
    /// The uploaded program. Null: the app is static files alone.
    pub program: Option<Program>,
    pub artifacts: Vec<Artifact>,
    pub nodes: Vec<Node>,
    /// Were signatures checked, or only read?
    pub signatures_checked: bool,
    /// What does not match, a sentence each.
    pub problems: Vec<String>,
    /// What could not be seen, a sentence each.
    pub unseen: Vec<String>,
}

/// The program.
#[derive(Debug, Serialize)]
pub struct Program {
    pub wasm: Digest,
    pub bytes: u64,
    /// What it was compared with, if anything.
    pub local: Option<Local>,
}

/// A program as it lies here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Local {
    pub file: String,
    pub digest: Digest,
    pub prepared: Prepared,
}

/// Does the manifest have the compiler prepare the program? Then what was uploaded is not what became the version's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepared {
    Yes,
    No,
    /// The app's manifest is not at hand.
    Unknown,
}

/// Native code for one target.
#[derive(Debug, Serialize)]
pub struct Artifact {
    pub target: String,
    pub profile: String,
    pub fingerprint: String,
    /// Digest of the blob it travels in.
    pub blob: String,
    /// sha-256 of the native code, as stated.
    pub code: Option<Digest>,
    /// Its size, as stated.
    pub bytes: Option<u64>,
    /// The compiler's version, as stated.
    pub compiler: Option<String>,
    /// Ids of the keys that its signatures name.
    pub signers: Vec<String>,
    pub standing: Standing,
    /// Later code for the same machines is there: how this stands counts only where a node still has it mapped.
    pub replaced: bool,
}

impl Artifact {
    /// Is its statement good, as far as that was to be checked?
    fn is_vouched(&self) -> bool {
        matches!(self.standing, Standing::Verified | Standing::Unchecked)
    }
}

/// What can be said of an artifact's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Signed by a key that is trusted, and about this.
    Verified,
    /// About this, whoever signed it.
    Unchecked,
    /// Not signed by a key that is trusted, or about something else.
    Wrong,
    /// The control plane has none.
    Missing,
}

/// A node.
#[derive(Debug, Serialize)]
pub struct Node {
    pub node: String,
    pub pop: String,
    pub state: State,
    /// The version that answers there.
    pub version: Option<u64>,
    /// sha-256 of the native code mapped there.
    pub code: Option<Digest>,
    /// The target of that code, if it is the version's.
    pub target: Option<String>,
}

/// What a node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The version, by code that was stated.
    Ok,
    /// The version by its name, and no code of it is in memory: whether it loads is seen when it is asked for.
    NotLoaded,
    /// The version, by code that later code replaced.
    OldCode,
    /// The version by its name, by code that no good statement is about.
    OtherCode,
    /// Another version, since it refused this one.
    Failed,
    /// Another version, or none, and it did not say why.
    Old,
    /// It is connected and did not answer.
    Silent,
    /// It is not connected.
    NotConnected,
}

impl State {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::NotLoaded => "not loaded yet",
            State::OldCode => "old code",
            State::OtherCode => "OTHER CODE",
            State::Failed => "FAILED",
            State::Old => "old",
            State::Silent => "does not say",
            State::NotConnected => "not connected",
        }
    }
}

impl Report {
    /// Holds everything against everything.
    pub fn of(running: Running, local: Option<Local>, trusted: Option<&Trusted<Compiler>>) -> Report {
        // Native code is of a program, whatever is said about its size.
        let has_program = running.wasm_bytes > 0 || !running.artifacts.is_empty();
        let without_program = local.clone().filter(|_| !has_program);
        let mut report = Report {
            app: running.app,
            version: running.version,
            rev: running.rev,
            lane: running.lane.to_string(),
            program: has_program.then_some(Program { wasm: running.wasm, bytes: running.wasm_bytes, local }),
            artifacts: Vec::new(),
            nodes: Vec::new(),
            signatures_checked: trusted.is_some(),
            problems: Vec::new(),
            unseen: Vec::new(),
        };
        report.hold_local();
        if let Some(Local { file, .. }) = without_program {
            report.problems.push(format!("{file} does not run: the version has no program"));
        }
        let replaced = replaced(&running.artifacts);
        for (artifact, replaced) in running.artifacts.into_iter().zip(replaced) {
            report.add_artifact(artifact, replaced, running.wasm, running.lane, trusted);
        }
        if has_program && !report.has_good_statement() {
            report.unseen.push("no good statement says what native code the program became".into());
        }
        for node in running.nodes {
            report.add_node(node);
        }
        if report.nodes.is_empty() {
            report.unseen.push("no node has joined the fleet".into());
        }
        report
    }

    fn hold_local(&mut self) {
        let Some(Program { wasm, local: Some(local), .. }) = &self.program else { return };
        let Local { file, digest, prepared } = local;
        if digest == wasm {
            return;
        }
        let differs =
            format!("{file} is another program: its sha-256 is {digest}, that of the version's is {wasm}");
        match prepared {
            Prepared::No => self.problems.push(differs),
            Prepared::Unknown => self.problems.push(format!("{differs}; or it was prepared at its deploy")),
            Prepared::Yes => self.unseen.push(format!(
                "{file} cannot be compared: the compiler prepared the program at its deploy, as the manifest's [prepare] says"
            )),
        }
    }

    /// Of the code that is to run; what was replaced is none of it.
    fn has_good_statement(&self) -> bool {
        self.artifacts.iter().any(|artifact| !artifact.replaced && artifact.is_vouched())
    }

    fn add_artifact(
        &mut self,
        found: RunningArtifact,
        replaced: bool,
        wasm: Digest,
        lane: Lane,
        trusted: Option<&Trusted<Compiler>>,
    ) {
        let stated = found.statement.as_ref().map(|envelope| opened(envelope, trusted));
        let wrong = match &stated {
            None if replaced => None,
            None => {
                let why = "the control plane has no statement: its blob is gone or damaged".to_owned();
                self.unseen.push(format!("the code for {}: {why}", found.target));
                None
            }
            Some(Err(error)) => Some(chain(error)),
            Some(Ok(statement)) => differs(statement, &found, wasm, lane),
        };
        let standing = match (&stated, &wrong) {
            (None, _) => Standing::Missing,
            (_, Some(_)) => Standing::Wrong,
            (Some(_), None) if trusted.is_some() => Standing::Verified,
            (Some(_), None) => Standing::Unchecked,
        };
        if let Some(why) = wrong.filter(|_| !replaced) {
            self.problems.push(format!("the code for {}: {why}", found.target));
        }
        let signers = found.statement.iter().flat_map(Envelope::key_ids).map(|id| id.to_string());
        // What a node still has of it is to be known again, whoever signed it.
        let unchecked = || found.statement.as_ref().filter(|_| replaced).map(Statement::unchecked)?.ok();
        let stated = stated.and_then(Result::ok).or_else(unchecked);
        self.artifacts.push(Artifact {
            signers: signers.collect(),
            code: stated.as_ref().map(|stated| stated.artifact),
            bytes: stated.as_ref().map(|stated| stated.size),
            compiler: stated.map(|stated| stated.compiler),
            target: found.target,
            profile: found.profile,
            fingerprint: found.fingerprint,
            blob: found.blob,
            standing,
            replaced,
        });
    }

    fn add_node(&mut self, found: RunningNode) {
        // A compiler with another key makes the same code: the latest comes first.
        let of_code = |code: Digest| {
            let those = |replaced: bool| {
                self.artifacts
                    .iter()
                    .rev()
                    .filter(move |artifact| artifact.code == Some(code) && artifact.replaced == replaced)
            };
            those(false).filter(|artifact| artifact.is_vouched()).chain(those(true)).next()
        };
        let mapped = found.code.and_then(of_code);
        let target = mapped.map(|artifact| artifact.target.clone());
        let state = match &found {
            RunningNode { connected: false, .. } => State::NotConnected,
            RunningNode { failed: Some(_), .. } => State::Failed,
            RunningNode { answered: false, .. } => State::Silent,
            RunningNode { is_active: false, .. } => State::Old,
            RunningNode { code: Some(_), .. } if target.is_none() => State::OtherCode,
            RunningNode { code: Some(_), .. } if mapped.is_some_and(|artifact| artifact.replaced) => {
                State::OldCode
            }
            RunningNode { code: None, .. } if self.program.is_some() => State::NotLoaded,
            _ => State::Ok,
        };
        let is_vouched = match state {
            State::OldCode => mapped.is_some_and(Artifact::is_vouched),
            _ => self.has_good_statement(),
        };
        let RunningNode { node, pop, version, code, failed, .. } = found;
        let (problem, unseen) = sentence(state, version, code, failed, is_vouched);
        let named = |said: String| format!("{node} ({pop}) {said}");
        self.problems.extend(problem.map(named));
        self.unseen.extend(unseen.map(named));
        // The code of another version is none of this one's, whatever it equals.
        let target = target.filter(|_| matches!(state, State::Ok | State::OldCode));
        self.nodes.push(Node { node, pop, state, version, code, target });
    }
}

/// What does not match, or could not be seen, of a node. `is_vouched`: there is a good statement about what it has, or would load.
fn sentence(
    state: State,
    version: Option<u64>,
    code: Option<Digest>,
    failed: Option<NodeFailed>,
    is_vouched: bool,
) -> (Option<String>, Option<String>) {
    let serves = version.map_or_else(|| "nothing of the app".to_owned(), |version| format!("v{version}"));
    match state {
        State::Ok => (None, None),
        State::NotLoaded if is_vouched => (None, None),
        State::NotLoaded => {
            (None, Some("has loaded nothing, and no good statement says what it would load".into()))
        }
        State::OldCode if is_vouched => {
            (None, Some("has code mapped that was replaced; it may not be able to load the latest".into()))
        }
        State::OldCode => {
            (Some("has code mapped that was replaced, and its statement is not a good one".into()), None)
        }
        State::OtherCode => {
            let code = code.map(|code| code.to_string()).unwrap_or_default();
            (Some(format!("has code mapped that no statement vouches for: {code}")), None)
        }
        State::Failed => {
            let why =
                failed.map(|failed| format!(": {}: {}", failed.code, failed.detail)).unwrap_or_default();
            (Some(format!("refused the version and serves {serves}{why}")), None)
        }
        State::Old => (None, Some(format!("is not there yet and serves {serves}"))),
        State::Silent => {
            (None, Some("did not say what it serves; its release may be too old to know the question".into()))
        }
        State::NotConnected => (None, Some("is not connected".into())),
    }
}

/// Which of them were replaced. It is believed only where that which replaced it is there too: the word alone would excuse
/// any statement.
fn replaced(artifacts: &[RunningArtifact]) -> Vec<bool> {
    let like = |one: &RunningArtifact, other: &RunningArtifact| {
        (&one.target, &one.profile, &one.fingerprint) == (&other.target, &other.profile, &other.fingerprint)
    };
    let has_later = |old: &RunningArtifact| artifacts.iter().any(|other| !other.replaced && like(other, old));
    artifacts.iter().map(|artifact| artifact.replaced && has_later(artifact)).collect()
}

fn opened(envelope: &Envelope, trusted: Option<&Trusted<Compiler>>) -> Result<Statement, VerifyError> {
    match trusted {
        Some(trusted) => TrustedStatement::open(envelope, trusted).map(|opened| opened.statement().clone()),
        None => Statement::unchecked(envelope),
    }
}

/// Is a statement about something else than it should be?
fn differs(statement: &Statement, found: &RunningArtifact, wasm: Digest, lane: Lane) -> Option<String> {
    let pairs = [
        ("program", statement.wasm.to_string(), wasm.to_string()),
        ("interface", statement.lane.to_string(), lane.to_string()),
        ("target", statement.target.to_string(), found.target.clone()),
        ("profile", statement.profile.to_string(), found.profile.clone()),
        ("fingerprint", statement.fingerprint.to_string(), found.fingerprint.clone()),
    ];
    let (what, stated, wanted) = pairs.into_iter().find(|(_, stated, wanted)| stated != wanted)?;
    Some(format!("its statement is about {what} {stated}, the version's is {wanted}"))
}

#[cfg(test)]
mod tests {
    use artifact::{Fingerprint, Profile, Target, keys::SecretKey};

    use super::*;

    fn key(seed: u8) -> SecretKey<Compiler> {
        SecretKey::from_seed([seed; 32])
    }

    fn statement() -> Statement {
        Statement {
            artifact: Digest::of(b"native"),
            size: 6,
            wasm: Digest::of(b"wasm"),
            lane: Lane::Wasi,
            target: Target::X86_64V3,
            profile: Profile::Serve,
            fingerprint: Fingerprint(Digest::of(b"engine")),
            imports: vec![],
            compiler: "skerry 0.1.0".into(),
            flags: vec![],
        }
    }

    fn node() -> RunningNode {
        RunningNode {
            node: "fra1-1".into(),
            pop: "fra1".into(),
            connected: true,
            answered: true,
            version: Some(3),
            is_active: true,
            code: Some(Digest::of(b"native")),
            failed: None,
        }
    }

    /// A node that has the version and was not asked for it yet.
    fn idle() -> RunningNode {
        RunningNode { code: None, ..node() }
    }

    fn running(statement: &Statement, seed: u8, node: RunningNode) -> Running {
        let artifact = RunningArtifact {
            target: "x86_64-v3".into(),
            profile: "serve".into(),
            fingerprint: Digest::of(b"engine").to_string(),
            blob: Digest::of(b"blob").to_string(),
            replaced: false,
            statement: Some(statement.sign(&key(seed))),
        };
        Running {
            app: "shop".into(),
            version: 3,
            rev: 9,
            wasm: Digest::of(b"wasm"),
            wasm_bytes: 4,
            lane: Lane::Wasi,
            artifacts: vec![artifact],
            nodes: vec![node],
        }
    }

    fn checked(running: Running) -> Report {
        Report::of(running, None, Some(&Trusted::new([key(1).public()])))
    }

    fn local(bytes: &[u8]) -> Local {
        Local { file: "shop.wasm".into(), digest: Digest::of(bytes), prepared: Prepared::No }
    }

    #[test]
    fn what_matches_all_the_way_has_nothing_to_say() {
        let report = checked(running(&statement(), 1, node()));
        assert_eq!((report.problems.len(), report.unseen.len()), (0, 0), "{report:?}");
        assert_eq!((report.artifacts[0].standing, report.nodes[0].state), (Standing::Verified, State::Ok));
        assert_eq!(report.nodes[0].target.as_deref(), Some("x86_64-v3"));
        assert_eq!(report.artifacts[0].signers, [key(1).public().id().to_string()]);
        let unchecked = Report::of(running(&statement(), 7, node()), Some(local(b"wasm")), None);
        assert_eq!(unchecked.artifacts[0].standing, Standing::Unchecked);
        assert!(unchecked.problems.is_empty() && !unchecked.signatures_checked);
    }

    #[test]
    fn another_file_signer_program_or_target_is_said() {
        let said = |report: Report| {
            assert_eq!(report.problems.len(), 1, "{report:?}");
            report.problems.into_iter().next().unwrap()
        };
        let other_file = Report::of(running(&statement(), 1, node()), Some(local(b"other")), None);
        assert!(said(other_file).starts_with("shop.wasm is another program: its sha-256 is "));

        // Code whose statement is not to be trusted is no code that a node may be said to run rightly.
        let stranger = checked(running(&statement(), 2, node()));
        assert_eq!(
            (stranger.artifacts[0].standing, stranger.nodes[0].state),
            (Standing::Wrong, State::OtherCode)
        );
        assert!(stranger.problems[0].contains("no trusted key signed this"), "{stranger:?}");

        for (statement, what) in [
            (Statement { wasm: Digest::of(b"evil"), ..statement() }, "program"),
            (Statement { target: Target::X86_64V4, ..statement() }, "target x86_64-v4"),
            (Statement { lane: Lane::Fastly, ..statement() }, "interface fastly"),
            (Statement { fingerprint: Fingerprint(Digest::ZERO), ..statement() }, "fingerprint"),
        ] {
            let elsewhere = RunningNode { code: None, ..node() };
            let text = said(checked(running(&statement, 1, elsewhere)));
            assert!(
                text.starts_with(&format!("the code for x86_64-v3: its statement is about {what}")),
                "{text}"
            );
        }
    }

    #[test]
    fn each_way_a_node_can_be_has_its_word() {
        let failed = NodeFailed { code: "LOAD_FAIL".into(), detail: "broken".into() };
        for (node, state, problems, unseen) in [
            (RunningNode { code: None, ..node() }, State::NotLoaded, 0, 0),
            (RunningNode { code: Some(Digest::of(b"other")), ..node() }, State::OtherCode, 1, 0),
            (RunningNode { failed: Some(failed), is_active: false, ..node() }, State::Failed, 1, 0),
            (RunningNode { is_active: false, version: Some(2), ..node() }, State::Old, 0, 1),
            (RunningNode { answered: false, version: None, code: None, ..node() }, State::Silent, 0, 1),
            (RunningNode { connected: false, answered: false, ..node() }, State::NotConnected, 0, 1),
        ] {
            let report = checked(running(&statement(), 1, node));
            assert_eq!(
                (report.nodes[0].state, report.problems.len(), report.unseen.len()),
                (state, problems, unseen),
                "{report:?}"
            );
        }
        let nobody = checked(Running { nodes: vec![], ..running(&statement(), 1, node()) });
        assert_eq!(nobody.unseen, ["no node has joined the fleet"]);
    }

    #[test]
    fn an_app_of_static_files_has_no_program_and_its_nodes_need_no_code() {
        let files = Running {
            wasm_bytes: 0,
            artifacts: vec![],
            nodes: vec![RunningNode { code: None, ..node() }],
            ..running(&statement(), 1, node())
        };
        let report = checked(files);
        assert!(report.program.is_none() && report.problems.is_empty() && report.unseen.is_empty());
        assert_eq!(report.nodes[0].state, State::Ok);
    }

    #[test]
    fn a_local_program_is_not_what_runs_where_there_is_none() {
        let files = Running { wasm_bytes: 0, artifacts: vec![], ..running(&statement(), 1, idle()) };
        let report = Report::of(files, Some(local(b"wasm")), None);
        assert_eq!(report.problems, ["shop.wasm does not run: the version has no program"]);
        // A size that is not true makes no program go away.
        let sized = Running { wasm_bytes: 0, ..running(&statement(), 1, node()) };
        let report = Report::of(sized, Some(local(b"other")), None);
        assert!(report.problems[0].starts_with("shop.wasm is another program"), "{report:?}");
    }

    #[test]
    fn a_program_without_a_good_statement_was_not_seen() {
        let nothing = checked(Running { artifacts: vec![], ..running(&statement(), 1, idle()) });
        assert_eq!((nothing.problems.len(), nothing.nodes[0].state), (0, State::NotLoaded));
        let [program, node] = &nothing.unseen[..] else { panic!("{nothing:?}") };
        assert_eq!(program, "no good statement says what native code the program became");
        assert!(node.contains("fra1-1 (fra1) has loaded nothing"), "{node}");
    }

    #[test]
    fn replaced_code_is_no_problem_until_a_node_has_it() {
        // After a rotation: the same code by both keys, or other code by the old one, which is trusted no more.
        let rotated = |old: &Statement, seed: u8, node: RunningNode| {
            let mut both = running(old, seed, node.clone());
            both.artifacts[0].replaced = true;
            both.artifacts.extend(running(&statement(), 1, node).artifacts);
            checked(both)
        };
        let before = Statement { artifact: Digest::of(b"before"), ..statement() };
        let has_before = || RunningNode { code: Some(before.artifact), ..node() };
        for (old, seed, node, state, problems, unseen) in [
            (&statement(), 2, node(), State::Ok, 0, 0),
            (&before, 2, node(), State::Ok, 0, 0),
            (&before, 2, idle(), State::NotLoaded, 0, 0),
            (&before, 1, has_before(), State::OldCode, 0, 1),
            (&before, 2, has_before(), State::OldCode, 1, 0),
        ] {
            let report = rotated(old, seed, node);
            let found = (report.nodes[0].state, report.problems.len(), report.unseen.len());
            assert_eq!(found, (state, problems, unseen), "{report:?}");
            assert!(report.artifacts[0].replaced && !report.artifacts[1].replaced);
        }
        let mut alone = running(&statement(), 2, idle());
        alone.artifacts[0].replaced = true;
        assert_eq!(checked(alone).problems.len(), 1, "nothing is there that replaced it");
    }

    #[test]
    fn a_program_that_was_prepared_is_not_held_against_its_file() {
        let against = |bytes: &[u8], prepared: Prepared| {
            let local = Local { prepared, ..local(bytes) };
            let report = Report::of(running(&statement(), 1, node()), Some(local), None);
            (report.problems, report.unseen)
        };
        let (problems, unseen) = against(b"other", Prepared::Yes);
        assert!(problems.is_empty() && unseen[0].contains("the compiler prepared the program"), "{unseen:?}");
        let (problems, unseen) = against(b"other", Prepared::Unknown);
        assert!(
            unseen.is_empty() && problems[0].ends_with("or it was prepared at its deploy"),
            "{problems:?}"
        );
        for prepared in [Prepared::Yes, Prepared::Unknown] {
            assert_eq!(against(b"wasm", prepared), (vec![], vec![]));
        }
    }
}
