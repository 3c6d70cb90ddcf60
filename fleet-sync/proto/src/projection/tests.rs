use std::collections::BTreeSet;

use artifact::{Lane, manifest::AppConfig, seal::SecretsKey};

use super::*;

fn id(text: &str) -> AppId {
    let (tenant, app) = text.split_once('/').unwrap();
    AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() }
}

fn config(hosts: &[&str], path_prefix: &str) -> AppConfig {
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    AppConfig { hosts, path_prefix: path_prefix.into(), ..AppConfig::default() }
}

fn version(app: &str, number: VersionNumber, config: AppConfig) -> Body {
    let (wasm, lane) = (Digest::of(b"wasm"), Lane::Wasi);
    Body::Version(Version {
        id: id(app),
        version: number,
        wasm,
        wasm_bytes: 1,
        lane,
        config,
        secrets: vec![],
        assets: None,
    })
}

fn release(app: &str, number: VersionNumber) -> Body {
    Body::Release { id: id(app), version: number }
}

fn artifact(target: Target, engine: &[u8], blob: &[u8]) -> ArtifactRef {
    let fingerprint = Fingerprint(Digest::of(engine));
    ArtifactRef { target, profile: Profile::Serve, fingerprint, blob: Digest::of(blob), blob_bytes: 1 }
}

fn artifacts(app: &str, number: VersionNumber, artifacts: Vec<ArtifactRef>) -> Body {
    Body::ArtifactSet(ArtifactSet { id: id(app), version: number, artifacts })
}

fn raw(rev: Rev, epoch: Epoch, request: Option<&str>, body: Body) -> RawRecord {
    let request = request.map(str::to_owned);
    let record = Record { rev, epoch, time_ms: 7, actor: "t".into(), request, critical: true, body };
    RawRecord::encode(&record).unwrap()
}

/// Applies the next record.
pub(super) fn put(view: &mut FleetView, body: Body) -> Result<Applied, ApplyError> {
    let next = raw(view.rev + 1, 1, None, body);
    view.apply(&next)
}

fn deployed(view: &mut FleetView, app: &str, number: VersionNumber, config: AppConfig) {
    put(view, version(app, number, config)).unwrap();
    put(view, release(app, number)).unwrap();
}

#[test]
fn a_release_makes_a_version_active_and_a_rollback_names_an_old_one() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    assert_eq!(view.next_version(&id("t/a")), 2);
    deployed(&mut view, "t/a", 2, config(&["a.example"], "/"));
    assert_eq!(view.app(&id("t/a")).unwrap().release_rev, 4);
    let applied = put(&mut view, release("t/a", 1)).unwrap();
    assert_eq!(applied.changed, [id("t/a")]);
    assert_eq!(view.active(&id("t/a")).unwrap().version.version, 1);
    assert_eq!(view.next_version(&id("t/a")), 3);
}

#[test]
fn an_app_made_again_after_its_deletion_goes_on_counting() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    deployed(&mut view, "t/a", 2, config(&["a.example"], "/"));
    put(&mut view, Body::AppDeleted { id: id("t/a") }).unwrap();
    assert_eq!(view.next_version(&id("t/a")), 3);
    // A log of an earlier release counts from 1: it still reads.
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    assert_eq!(view.next_version(&id("t/a")), 3);
    put(&mut view, Body::AppDeleted { id: id("t/a") }).unwrap();
    assert_eq!((view.next_version(&id("t/a")), view.next_version(&id("t/b"))), (3, 1));
}

#[test]
fn gap_repeat_and_older_epoch_leave_the_view_as_it_was() {
    let mut view = FleetView::new();
    view.apply(&raw(1, 2, None, Body::EpochStart { base_rev: 0, compiler_keys: vec![] })).unwrap();
    let before = view.position();
    for (rev, epoch) in [(1, 2), (3, 2), (0, 2)] {
        let error = view
            .apply(&raw(rev, epoch, None, Body::EpochStart { base_rev: 0, compiler_keys: vec![] }))
            .unwrap_err();
        assert_eq!((error.nack().code, error.moved_on()), (NackCode::ChainBreak, false));
    }
    let error =
        view.apply(&raw(2, 1, None, Body::EpochStart { base_rev: 0, compiler_keys: vec![] })).unwrap_err();
    assert_eq!(error.nack().code, NackCode::EpochStale);
    assert!(!view.apply(&RawRecord::from_text("no json".into()).unwrap()).unwrap_err().moved_on());
    assert_eq!(view.position(), before);
}

#[test]
fn an_unknown_kind_is_skipped_or_refused_and_the_cursor_moves_on_either_way() {
    let mut view = FleetView::new();
    let unknown = |rev: Rev, critical: bool| {
        let text = format!(
            r#"{{"rev":{rev},"epoch":1,"time_ms":0,"actor":"x","critical":{critical},"body":{{"kind":"teleport"}}}}"#
        );
        RawRecord::from_text(text).unwrap()
    };
    assert_eq!(view.apply(&unknown(1, false)), Ok(Applied::default()));
    let refused = view.apply(&unknown(2, true)).unwrap_err();
    assert_eq!((refused.nack().code, refused.moved_on()), (NackCode::UnknownKind, true));
    assert_eq!(view.rev, 2);
    assert_eq!(view.chain.0, unknown(2, true).chain(unknown(1, false).chain(Digest::ZERO)));
}

#[test]
fn a_known_kind_with_a_missing_field_is_refused_and_the_cursor_moves_on() {
    let mut view = FleetView::new();
    let text = r#"{"rev":1,"epoch":1,"time_ms":0,"actor":"x","critical":true,"body":{"kind":"release","tenant":"t"}}"#;
    let refused = view.apply(&RawRecord::from_text(text.into()).unwrap()).unwrap_err();
    assert_eq!((refused.nack().code, refused.moved_on(), view.rev), (NackCode::Internal, true, 1));
}

#[test]
fn what_cannot_be_changes_nothing_but_the_cursor() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    for body in [
        release("t/a", 2),
        release("t/none", 1),
        version("t/a", 1, config(&[], "/")),
        artifacts("t/a", 9, vec![]),
        Body::AppDeleted { id: id("t/none") },
        version("other/b", 1, config(&["a.example"], "/b")),
    ] {
        let (apps, hosts) = (view.apps.clone(), view.hosts.clone());
        let refused = put(&mut view, body.clone()).unwrap_err();
        assert!(refused.moved_on(), "{body:?}");
        assert_eq!((view.apps.size(), view.active(&id("t/a")).unwrap().version.version), (apps.size(), 1));
        assert_eq!(view.hosts, hosts, "{body:?}");
    }
}

#[test]
fn a_host_name_belongs_to_one_tenant_from_its_first_version_to_its_last_apps_deletion() {
    let mut view = FleetView::new();
    let routes = config(&["a.example"], "/");
    put(&mut view, version("one/a", 1, routes.clone())).unwrap(); // not even released
    let taken = view.check_claim(&id("two/b"), &routes).unwrap_err();
    assert_eq!(taken, ClaimConflict::OtherTenant { host: "a.example".parse().unwrap() });
    assert!(!taken.to_string().contains("one"), "whose it is is nobody's business");

    // A later version without the name does not give it away: a rollback could bring it back.
    deployed(&mut view, "one/a", 2, config(&[], "/"));
    assert!(view.check_claim(&id("two/b"), &routes).is_err());
    // Nor does the deletion of one of two apps that name it.
    put(&mut view, version("one/c", 1, config(&["a.example"], "/c"))).unwrap();
    put(&mut view, Body::AppDeleted { id: id("one/a") }).unwrap();
    assert!(view.check_claim(&id("two/b"), &routes).is_err());
    put(&mut view, Body::AppDeleted { id: id("one/c") }).unwrap();
    assert_eq!(view.check_claim(&id("two/b"), &routes), Ok(()));
    assert!(view.hosts.is_empty());
}

#[test]
fn one_path_of_a_host_is_one_apps_and_only_active_versions_claim() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/api/"));
    let same = view.check_claim(&id("t/b"), &config(&["a.example"], "/api")).unwrap_err();
    assert!(matches!(same, ClaimConflict::OtherApp { ref app, .. } if *app == id("t/a")), "{same}");
    assert_eq!(view.check_claim(&id("t/b"), &config(&["a.example"], "/")), Ok(()));
    assert_eq!(view.check_claim(&id("t/a"), &config(&["a.example"], "/api")), Ok(()), "its own");

    // a moves away, b takes the path, and a's rollback is a conflict now.
    deployed(&mut view, "t/a", 2, config(&["a.example"], "/v2"));
    deployed(&mut view, "t/b", 1, config(&["a.example"], "/api"));
    let refused = put(&mut view, release("t/a", 1)).unwrap_err();
    assert!(refused.moved_on());
    assert_eq!(view.active(&id("t/a")).unwrap().version.version, 2);
    let claims = &view.hosts[&"a.example".parse::<HostName>().unwrap()].claims;
    let claims: Vec<_> = claims.iter().map(|(path, app)| (path.as_str(), app.clone())).collect();
    assert_eq!(claims, [("/api", id("t/b")), ("/v2", id("t/a"))]);
}

#[test]
fn a_certificate_goes_with_the_last_app_that_names_its_host() {
    let mut view = FleetView::new();
    let hosts = BTreeSet::from(["a.example".parse().unwrap()]);
    let key = SecretsKey::from_bytes([1; 32]).seal("tls", [2; 24], b"key");
    let certificate = Body::Certificate(Certificate { hosts, chain_pem: "pem".into(), key });
    assert!(put(&mut view, certificate).unwrap().certificates_changed);
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    assert_eq!(view.certificates.size(), 1);
    let applied = put(&mut view, Body::AppDeleted { id: id("t/a") }).unwrap();
    assert_eq!((applied.changed, applied.certificates_changed), (vec![id("t/a")], true));
    assert!(view.certificates.is_empty());
}

#[test]
fn artifacts_are_added_replaced_by_the_same_engine_and_picked_by_the_best_level() {
    let mut view = FleetView::new();
    put(&mut view, version("t/a", 1, config(&[], "/"))).unwrap();
    let applied =
        put(&mut view, artifacts("t/a", 1, vec![artifact(Target::X86_64V2, b"e1", b"v2")])).unwrap();
    assert_eq!(applied.changed, [], "not active yet");
    put(&mut view, release("t/a", 1)).unwrap();
    let more = vec![artifact(Target::X86_64V3, b"e1", b"v3"), artifact(Target::X86_64V2, b"e1", b"v2 again")];
    assert_eq!(put(&mut view, artifacts("t/a", 1, more)).unwrap().changed, [id("t/a")]);

    let offers = |engine: &[u8], targets: &[Target]| -> Vec<(Target, Fingerprint)> {
        targets.iter().map(|target| (*target, Fingerprint(Digest::of(engine)))).collect()
    };
    let active = view.active(&id("t/a")).unwrap();
    assert_eq!(active.artifacts.len(), 3, "and the one that was replaced");
    let pick = |offers: &[(Target, Fingerprint)]| pick_artifact(active, offers).map(|artifact| artifact.blob);
    assert_eq!(pick(&offers(b"e1", &[Target::X86_64V2, Target::X86_64V3])), Some(Digest::of(b"v3")));
    assert_eq!(pick(&offers(b"e1", &[Target::X86_64V2])), Some(Digest::of(b"v2 again")));
    assert_eq!(pick(&offers(b"e2", &[Target::X86_64V2, Target::X86_64V3])), None);
    assert_eq!(pick(&offers(b"e1", &[Target::Aarch64])), None);
}

#[test]
fn nodes_of_two_engines_pick_their_own_of_one_set_and_the_later_code_wins_for_its_engine_alone() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    let of = |engine: &[u8], name: &str| -> Vec<ArtifactRef> {
        [Target::X86_64V2, Target::X86_64V3]
            .map(|target| artifact(target, engine, format!("{name} {target}").as_bytes()))
            .into()
    };
    put(&mut view, artifacts("t/a", 1, of(b"e1", "old"))).unwrap();
    // A node of the new engine has nothing yet; one of the old goes on while the set grows.
    let picked = |view: &FleetView, engine: &[u8], best: Target| {
        let fingerprint = Fingerprint(Digest::of(engine));
        let offers: Vec<_> =
            [Target::X86_64V2, best].into_iter().map(|target| (target, fingerprint)).collect();
        pick_artifact(view.active(&id("t/a")).unwrap(), &offers).map(|artifact| artifact.blob)
    };
    let blob = |text: &str| Some(Digest::of(text.as_bytes()));
    assert_eq!(picked(&view, b"e2", Target::X86_64V3), None);
    put(&mut view, artifacts("t/a", 1, of(b"e2", "new"))).unwrap();
    let (v2, v3) = (Target::X86_64V2, Target::X86_64V3);
    assert_eq!(picked(&view, b"e1", v3), blob(&format!("old {v3}")));
    assert_eq!(picked(&view, b"e2", v3), blob(&format!("new {v3}")));
    assert_eq!(picked(&view, b"e2", Target::X86_64V4), blob(&format!("new {v2}")), "falls back a level");

    // One of them is compiled anew: the other's nodes need nothing, and the version is the one it was.
    put(&mut view, artifacts("t/a", 1, of(b"e1", "mended"))).unwrap();
    assert_eq!(picked(&view, b"e1", v3), blob(&format!("mended {v3}")));
    assert_eq!(picked(&view, b"e2", v3), blob(&format!("new {v3}")));
    let active = view.active(&id("t/a")).unwrap();
    assert_eq!((active.version.version, active.artifacts.len()), (1, 6), "two were replaced");
}

#[test]
fn code_that_was_replaced_is_kept_once_and_by_the_next_replacement_no_more() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    let code = |name: &str| artifact(Target::X86_64V3, b"e1", name.as_bytes());
    let after = |view: &mut FleetView, name: &str| -> Vec<Digest> {
        put(view, artifacts("t/a", 1, vec![code(name)])).unwrap();
        let active = view.active(&id("t/a")).unwrap();
        assert_eq!(active.latest(&code("any")).unwrap().blob, code(name).blob);
        let offers = [(Target::X86_64V3, code(name).fingerprint)];
        runnable_artifacts(active, &offers).map(|artifact| artifact.blob).collect()
    };
    let blobs = |names: &[&str]| -> Vec<Digest> { names.iter().map(|name| code(name).blob).collect() };
    assert_eq!(after(&mut view, "one"), blobs(&["one"]));
    assert_eq!(after(&mut view, "one"), blobs(&["one"]), "told again");
    assert_eq!(after(&mut view, "two"), blobs(&["two", "one"]));
    assert_eq!(after(&mut view, "two"), blobs(&["two", "one"]), "told again, it replaces nothing");
    assert_eq!(after(&mut view, "one"), blobs(&["one", "two"]), "and back");
    assert_eq!(after(&mut view, "three"), blobs(&["three", "one"]));
    // A node runs the best level's, then what that replaced, then the next level's.
    put(&mut view, artifacts("t/a", 1, vec![artifact(Target::X86_64V2, b"e1", b"low")])).unwrap();
    let active = view.active(&id("t/a")).unwrap();
    let offers = [Target::X86_64V2, Target::X86_64V3].map(|target| (target, code("any").fingerprint));
    let runnable: Vec<Digest> = runnable_artifacts(active, &offers).map(|artifact| artifact.blob).collect();
    assert_eq!(runnable, blobs(&["three", "one", "low"]));
}

#[test]
fn of_too_many_artifacts_those_that_were_replaced_leave_first() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    let engine = |number: usize| format!("engine {number}");
    for round in ["old", "new"] {
        for number in 0..40 {
            let code =
                artifact(Target::X86_64V3, engine(number).as_bytes(), format!("{round} {number}").as_bytes());
            put(&mut view, artifacts("t/a", 1, vec![code])).unwrap();
        }
    }
    let active = view.active(&id("t/a")).unwrap();
    assert_eq!(active.artifacts.len(), ARTIFACTS_KEPT_MAX);
    let latest = active.artifacts.iter().filter(|artifact| active.latest(artifact) == Some(artifact));
    assert_eq!(latest.count(), 40, "none of these has left");
}

#[test]
fn requests_are_remembered_and_the_oldest_forgotten() {
    let mut view = FleetView::new();
    let keyed = |rev: Rev| {
        raw(rev, 1, Some(&format!("k{rev}")), Body::EpochStart { base_rev: 0, compiler_keys: vec![] })
    };
    for rev in 1..=REQUESTS_KEPT_MAX as u64 + 5 {
        view.apply(&keyed(rev)).unwrap();
    }
    assert_eq!((view.request("k5"), view.request("k6")), (None, Some(6)));
    assert_eq!(view.requests.size(), REQUESTS_KEPT_MAX);
}

#[test]
fn old_versions_leave_the_view_but_never_the_active_one() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["old.example"], "/"));
    for number in 2..=VERSIONS_KEPT_MAX as u64 + 20 {
        put(&mut view, version("t/a", number, config(&[], "/"))).unwrap();
    }
    let app = view.app(&id("t/a")).unwrap();
    assert_eq!((app.versions.size(), app.active), (VERSIONS_KEPT_MAX, Some(1)));
    assert!(app.versions.contains_key(&1) && !app.versions.contains_key(&2));
    assert!(view.hosts.contains_key(&"old.example".parse::<HostName>().unwrap()));
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    let before = view.clone();
    put(&mut view, Body::AppDeleted { id: id("t/a") }).unwrap();
    assert!(before.active(&id("t/a")).is_some() && view.apps.is_empty());
}

/// A node of yesterday may not serve what it does not understand, such as `methods` once: the app stays as it was.
#[test]
fn a_version_whose_config_has_a_key_from_tomorrow_is_refused_and_the_app_stays_as_it_is() {
    let mut view = FleetView::new();
    deployed(&mut view, "t/a", 1, config(&["a.example"], "/"));
    let known = raw(view.rev + 1, 1, None, version("t/a", 2, config(&["a.example"], "/")));
    let text = known.text().replace(r#""path_prefix":"/""#, r#""path_prefix":"/","tomorrow":true"#);
    assert_ne!(text, known.text());
    let refused = view.apply(&RawRecord::from_text(text).unwrap()).unwrap_err();
    assert!(
        matches!(&refused, ApplyError::Refused { rev: 3, nack } if nack.detail.contains("tomorrow")),
        "{refused:?}"
    );
    assert!(matches!(put(&mut view, release("t/a", 2)), Err(ApplyError::Refused { rev: 4, .. })));
    assert_eq!((view.active(&id("t/a")).unwrap().version.version, view.rev), (1, 4));
}
