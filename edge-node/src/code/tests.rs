//! Whole loads, on a node without sockets.

use std::{collections::BTreeSet, time::Duration};

use artifact::nack::NackCode;
use futures_util::future::join_all;

use super::Bounds;
use crate::testing::{Shop, local};

fn loads(shop: &Shop) -> usize {
    let metrics = shop.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix("skerry_code_load_seconds_count "));
    line.unwrap().parse().unwrap()
}

/// Does it come to be so? What nobody waits for takes its time.
async fn until(holds: impl Fn() -> bool) -> bool {
    for _ in 0..500 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[test]
fn code_in_use_stays_and_when_all_of_the_budget_is_in_use_another_is_refused() {
    let Some(mut shop) = Shop::open(1) else { return };
    local(async {
        shop.publish("running", 1, "wasi-hello");
        shop.activate(&["running"]).await;
        let execution = shop.hold("running").await;
        shop.publish("other", 1, "fastly-hello");
        let refused = shop.activate(&["other"]).await;
        assert_eq!(refused[0].1.code, NackCode::NoSpace, "{}", refused[0].1);
        assert!(shop.is_loaded("running"));
        drop(execution);
        shop.publish_more_artifacts("other");
        assert_eq!(shop.activate(&["other"]).await, []);
        assert!(!shop.is_loaded("running") && shop.is_loaded("other"));
    });
}

#[test]
fn nobody_loses_a_program_to_one_that_is_refused() {
    let Some(mut shop) = Shop::open(1 << 20) else { return };
    local(async {
        for (app, guest) in [("running", "wasi-hello"), ("idle", "wasi-hello")] {
            shop.publish(app, 1, guest);
            shop.activate(&[app]).await;
        }
        let held = shop.code_bytes();
        let _execution = shop.hold("running").await;
        shop.publish("large", 1, "fastly-hello"); // would not fit beside what runs
        assert_eq!(shop.activate(&["large"]).await[0].1.code, NackCode::NoSpace);
        assert!(shop.is_loaded("running") && shop.is_loaded("idle"));
        assert_eq!(shop.code_bytes(), held);
        shop.load("idle").await;
    });
}

#[test]
fn code_of_a_version_that_is_gone_counts_until_its_last_execution_has_ended() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.activate(&["hello"]).await;
        let (execution, one) = (shop.hold("hello").await, shop.code_bytes());
        shop.delete("hello");
        shop.activate(&["hello"]).await;
        assert_eq!(shop.code_bytes(), one);
        drop(execution);
        // Who loaded it may still be leaving a copy.
        assert!(until(|| shop.code_bytes() == 0).await);
    });
}

#[test]
fn a_release_of_the_same_program_with_other_settings_loads_nothing() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish_with_secret("hello", 1, "wasi-hello", "old", 1);
        shop.activate(&["hello"]).await;
        shop.publish_with_secret("hello", 2, "wasi-hello", "new", 1);
        shop.activate(&["hello"]).await;
        assert_eq!((shop.serves("hello"), loads(&shop)), (Some((2, "wasi-hello")), 1));
        assert_eq!(shop.secret("hello").as_deref(), Some("new"));
        shop.publish("hello", 3, "fastly-hello");
        shop.activate(&["hello"]).await;
        assert_eq!((shop.serves("hello"), loads(&shop)), (Some((3, "fastly-hello")), 2));
    });
}

#[test]
fn many_who_wait_for_one_program_wait_for_one_load() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    shop.publish("hello", 1, "wasi-hello");
    shop.start(&[("hello", 1)]);
    local(async {
        let shop = &shop;
        let asked = join_all((0..super::WAITERS_MAX).map(|_| shop.try_load("hello"))).await;
        assert!(asked.iter().all(Result::is_ok), "{asked:?}");
        assert_eq!(loads(shop), 1);
    });
}

#[test]
fn an_unpacked_copy_is_left_used_and_replaced_when_it_is_damaged() {
    let Some(mut shop) = Shop::open(1) else { return };
    local(async {
        for (app, guest) in [("a", "wasi-hello"), ("b", "fastly-hello")] {
            shop.publish(app, 1, guest);
            shop.activate(&[app]).await;
        }
        if !until(|| shop.copies().len() == 2).await {
            eprintln!("SKIPPED: less than 4 GiB of this disk are free");
            return;
        }
        let read =
            || shop.copies().iter().filter_map(|copy| std::fs::read(copy).ok()).collect::<BTreeSet<_>>();
        let good = read();
        for copy in &shop.copies() {
            let mut bytes = std::fs::read(copy).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(copy, bytes).unwrap();
        }
        assert_ne!(read(), good);
        shop.load("a").await;
        shop.load("b").await;
        assert!(until(|| read() == good).await, "made anew of the containers");
        // Now they are all there is.
        shop.lose_containers();
        assert_eq!(shop.try_load("a").await, Ok(()));
    });
}

#[test]
fn a_second_worker_maps_the_file_that_the_first_one_has() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.activate(&["hello"]).await;
        let one = shop.code_bytes();
        // Nothing on the disk could make a second file.
        shop.lose_containers();
        shop.copies().iter().for_each(|copy| std::fs::remove_file(copy).unwrap());
        shop.load_on("hello", 1).await;
        assert_eq!((shop.workers("hello"), loads(&shop)), (vec![0, 1], 2));
        let structures = shop.code_bytes() - one;
        assert!((96 << 10..one).contains(&structures), "{structures} more than {one}");
        shop.delete("hello");
        shop.activate(&["hello"]).await;
        assert!(until(|| shop.code_bytes() == 0).await);
    });
}

#[test]
fn what_one_worker_runs_goes_on_after_its_signer_was_revoked_and_no_other_maps_it() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.activate(&["hello"]).await;
        let held = shop.hold("hello").await;
        shop.revoke_signer();
        assert_eq!(shop.try_load_on("hello", 1).await, Err(NackCode::UnknownKey));
        assert!(std::sync::Arc::ptr_eq(&held, &shop.hold("hello").await));
        assert_eq!(shop.workers("hello"), [0]);
    });
}

#[test]
fn a_release_is_brought_up_for_the_workers_that_had_the_one_before() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.activate(&["hello"]).await;
        assert_eq!(shop.workers("hello"), [0]);
        shop.load_on("hello", 1).await;
        shop.publish("hello", 2, "fastly-hello");
        shop.activate(&["hello"]).await;
        assert_eq!(shop.serves("hello"), Some((2, "fastly-hello")));
        assert!(until(|| shop.workers("hello") == [0, 1]).await);
    });
}

#[test]
fn a_program_of_one_worker_leaves_before_one_that_another_used_later() {
    let Some(mut shop) = Shop::open_with(Bounds { programs_max: 2, ..Bounds::NONE }) else { return };
    local(async {
        shop.publish("a", 1, "wasi-hello");
        shop.publish("b", 1, "fastly-hello");
        shop.start(&[("a", 1), ("b", 1)]);
        shop.load_on("a", 0).await;
        shop.load_on("a", 1).await;
        shop.load_on("a", 0).await; // used again
        shop.load_on("b", 0).await;
        assert_eq!((shop.workers("a"), shop.workers("b")), (vec![0], vec![0]));
    });
}

#[test]
fn one_program_larger_than_the_budget_is_held_for_every_worker_if_it_is_alone() {
    let Some(mut shop) = Shop::open(1) else { return };
    local(async {
        shop.publish("large", 1, "wasi-hello");
        shop.activate(&["large"]).await;
        shop.load_on("large", 1).await;
        assert_eq!(shop.workers("large"), [0, 1]);
        shop.publish("other", 1, "fastly-hello");
        assert_eq!(shop.activate(&["other"]).await, []);
        assert_eq!((shop.workers("large"), shop.workers("other")), (vec![], vec![0]));
    });
}

#[test]
fn a_version_that_goes_while_it_is_loaded_leaves_nothing_behind() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.start(&[("hello", 1)]);
        // Polled in this order: it is asked for, then it goes.
        let (loaded, ()) = tokio::join!(shop.try_load("hello"), async { shop.forget("hello") });
        assert_eq!(loaded, Ok(()));
        assert!(until(|| shop.code_bytes() == 0).await, "{} bytes", shop.code_bytes());
    });
}

#[test]
fn a_load_that_nobody_waits_for_any_more_is_not_made() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.start(&[("hello", 1)]);
        let before = loads(&shop);
        let busy = shop.keep_loading_threads_busy();
        {
            let mut load = std::pin::pin!(shop.try_load("hello"));
            assert!(futures_util::poll!(&mut load).is_pending());
        }
        drop(busy);
        assert!(until(|| shop.loads_waiting() == 0).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((shop.is_loaded("hello"), loads(&shop)), (false, before));
        shop.load("hello").await; // and nothing is kept of it
    });
}

#[test]
fn what_waiting_executions_hold_is_bounded_by_tenant_and_what_answers_at_once_is_not() {
    let both = || {
        let mut shop = Shop::open(u64::MAX)?;
        shop.publish("a", 1, "wasi-hello");
        shop.publish("b", 1, "fastly-hello");
        shop.start(&[("a", 1), ("b", 1)]);
        Some(shop)
    };
    let Some(shop) = both() else { return };
    let bytes = local(async {
        shop.load("a").await;
        shop.load("b").await;
        shop.code_bytes()
    });
    // Both fit, and are more than half of what there is.
    let Some(mut shop) = Shop::open(bytes) else { return };
    local(async {
        for (app, guest) in [("a", "wasi-hello"), ("b", "fastly-hello")] {
            shop.publish(app, 1, guest);
            shop.activate(&[app]).await;
        }
        let mut waiting = shop.held("a", std::future::pending()).await.unwrap();
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let mut another = shop.held("a", std::future::pending()).await.unwrap();
        assert!(futures_util::poll!(&mut another).is_pending(), "of the same program");
        assert!(shop.held("b", std::future::pending()).await.is_err(), "before it does anything");
        drop((waiting, another));
        let mut first = shop.held("a", std::future::pending()).await.unwrap();
        let begun = shop.held("b", std::future::pending()).await.unwrap();
        assert!(futures_util::poll!(&mut first).is_pending());
        let refused = begun.await.unwrap_err();
        assert!(refused.is::<super::TooMuchHeld>(), "{refused}");
    });
}

#[test]
fn both_workers_at_once_make_one_file() {
    let Some(mut shop) = Shop::open(u64::MAX) else { return };
    local(async {
        shop.publish("hello", 1, "wasi-hello");
        shop.start(&[("hello", 1)]);
        futures_util::future::join(shop.load_on("hello", 0), shop.load_on("hello", 1)).await;
        let both = shop.code_bytes();
        shop.publish("other", 1, "wasi-hello");
        shop.activate(&["other"]).await;
        let one = shop.code_bytes() - both;
        assert_eq!(shop.workers("hello"), [0, 1]);
        assert!(both < 2 * one, "{both} bytes for two programs of one file, {one} for one of its own");
    });
}

#[test]
fn a_program_that_no_request_could_have_room_for_is_refused_when_it_is_released() {
    let Some(mut shop) = Shop::open_with(Bounds { shares_max: 0, ..Bounds::NONE }) else { return };
    local(async {
        shop.publish("heavy", 1, "wasi-hello");
        let refused = shop.activate(&["heavy"]).await;
        assert_eq!(refused[0].1.code, NackCode::NoSpace);
        assert!(refused[0].1.detail.contains("raise instances_max"), "{}", refused[0].1.detail);
    });
}

#[test]
fn what_is_said_of_an_app_is_what_is_mapped_for_it_and_nothing_once_it_left() {
    let Some(mut shop) = Shop::open(1) else { return };
    local(async {
        let code = |shop: &Shop| shop.inspect("shop").map(|serving| (serving.version, serving.code));
        shop.publish("shop", 1, "wasi-hello");
        assert_eq!(code(&shop), None, "it does not serve yet");
        shop.activate(&["shop"]).await;
        let native = shop.native("wasi-hello");
        assert_eq!(code(&shop), Some((1, Some(native))));
        shop.publish("other", 1, "fastly-hello");
        shop.activate(&["other"]).await;
        assert_eq!(code(&shop), Some((1, None)), "there was no room for both");
        shop.load("shop").await;
        assert_eq!(code(&shop), Some((1, Some(native))));
    });
}
