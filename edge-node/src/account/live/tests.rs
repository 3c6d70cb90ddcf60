use std::time::Duration;

use fleet_sync_replica::logs::{FOLLOW_MS, FOLLOWED_MAX, Followed, LOGS_BYTES_MAX, LogLine, Said};

use super::*;
use crate::exchange::RequestId;

fn id(app: &str) -> AppId {
    AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() }
}

/// A moment so many milliseconds after the first.
fn at(ms: u64) -> Now {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Now { at: *START + Duration::from_millis(ms), us: 1_000_000_000 + ms * 1_000 }
}

/// Said at that moment.
fn note(app: &AppTail, ms: u64, text: &str) {
    let what = What::Stdout(text.as_bytes());
    app.note(&Line { time_us: at(ms).us, version: 1, request: RequestId::new(), what });
}

fn follow(live: &Live, ms: u64, apps: &[(&str, u64)]) {
    let apps = apps.iter().map(|(app, asked)| Followed { id: id(app), asked: *asked }).collect();
    live.follow(at(ms), Follow { apps });
}

/// What is told, as `app number text`, and `app !` where all that was remembered has been told with it.
fn tell(live: &Live, ms: u64) -> Vec<String> {
    let mut told = Vec::new();
    for app in live.tell(at(ms)) {
        for (seq, line) in (app.first..).zip(&app.lines) {
            let text = match &line.said {
                Said::Stdout { text } => text.clone(),
                Said::Dropped { lines } => format!("({lines} dropped)"),
                other => panic!("{other:?}"),
            };
            told.push(format!("{} {seq} {text}", app.id.app));
        }
        told.extend(app.caught_up.then(|| format!("{} !", app.id.app)));
    }
    told
}

#[test]
fn nothing_is_told_of_an_app_that_nobody_follows_and_its_lines_are_remembered() {
    let live = Live::default();
    let (shop, blog) = (live.app(&id("shop")), live.app(&id("blog")));
    note(&shop, 0, "a");
    note(&blog, 0, "secret");
    assert_eq!(tell(&live, 100), [""; 0]);
    follow(&live, 100, &[("shop", 7)]);
    assert_eq!(tell(&live, 101), ["shop 0 a"], "more may be on its way");
    assert_eq!(tell(&live, 200), ["shop 0 a", "shop !"], "again, since it was not taken");
    live.taken();
    assert_eq!(tell(&live, 300), [""; 0]);
    note(&shop, 300, "b");
    assert_eq!(tell(&live, 301), [""; 0], "too young: an earlier one may come");
    assert_eq!(tell(&live, 400), ["shop 1 b", "shop !"]);
    live.taken();

    // Another listener: all again.
    follow(&live, 500, &[("shop", 8)]);
    assert_eq!(tell(&live, 600), ["shop 0 a", "shop 1 b", "shop !"]);
    // What was on its way for the one before it is no answer for this one.
    follow(&live, 700, &[("shop", 9)]);
    live.taken();
    assert_eq!(tell(&live, 800), ["shop 0 a", "shop 1 b", "shop !"]);
    live.taken();
    follow(&live, 900, &[]);
    note(&shop, 900, "c");
    assert_eq!(tell(&live, 1_000), [""; 0]);
}

#[test]
fn who_asks_again_and_again_hears_all_and_so_do_the_others() {
    let live = Live::default();
    let shop = live.app(&id("shop"));
    follow(&live, 0, &[("shop", 1)]);
    tell(&live, 50);
    let long = "x".repeat(4_000);
    (0..60).for_each(|number| note(&shop, 0, &format!("{number} {long}")));
    let (mut asked, mut ends) = (1, Vec::new());
    for round in 1..=40 {
        asked += 1;
        follow(&live, 100 * round, &[("shop", asked)]);
        let told = live.tell(at(100 * round + 50));
        ends.extend(told.iter().filter(|app| app.caught_up).map(|app| (app.asked, app.first)));
        live.taken();
    }
    assert!(ends.len() > 5 && ends.iter().all(|(_, first)| *first > 0), "{ends:?}");
    assert!(ends.is_sorted() && ends.last().is_some_and(|(newest, _)| *newest > asked - 10), "{ends:?}");
}

#[test]
fn whose_turn_it_is_does_not_change_with_the_set() {
    let live = Live::default();
    let names = ["a", "b", "c"];
    let apps = names.map(|name| live.app(&id(name)));
    let long = "x".repeat(4_000);
    let first = |live: &Live, ms| live.tell(at(ms))[0].id.app.to_string();
    follow(&live, 0, &[("a", 1), ("b", 1), ("c", 1)]);
    tell(&live, 0);
    live.tell(at(0)); // gives them the room of those who are followed, and the first its turn again
    live.tell(at(0));
    apps.iter().for_each(|app| (0..60).for_each(|_| note(app, 0, &long)));
    let turns: Vec<String> = (1..=3)
        .map(|round| {
            follow(&live, 100 * round, &[("a", 1), ("b", 1), ("c", 1), ("d", round)]);
            let turn = first(&live, 100 * round);
            live.taken();
            turn
        })
        .collect();
    assert_eq!(turns, names);
}

#[test]
fn following_ends_by_itself_unless_it_is_renewed() {
    let live = Live::default();
    let shop = live.app(&id("shop"));
    follow(&live, 0, &[("shop", 7)]);
    assert_eq!(tell(&live, 100), ["shop !"], "nothing remembered is an answer too");
    live.taken();
    follow(&live, FOLLOW_MS - 1, &[("shop", 7)]);
    note(&shop, FOLLOW_MS, "a");
    assert_eq!(tell(&live, FOLLOW_MS + 100), ["shop 0 a", "shop !"], "renewed, and not begun anew");
    assert_eq!(tell(&live, 2 * FOLLOW_MS), [""; 0]);
    assert!(!shop.held.lock().is_followed);
}

#[test]
fn what_was_followed_remembers_as_much_for_a_while_and_no_more_apps_than_may_be_followed_do() {
    let kept_ms = telling::LEFT_KEPT.as_millis() as u64;
    let live = Live::default();
    let names: Vec<String> = (0..FOLLOWED_MAX + 1).map(|number| format!("app-{number}")).collect();
    let apps: Vec<_> = names.iter().map(|name| live.app(&id(name))).collect();
    let is_followed = |app: &AppTail| app.held.lock().is_followed;
    follow(&live, 0, &[("app-0", 1), ("app-1", 1)]);
    tell(&live, 100);
    follow(&live, 200, &[]);
    assert!(is_followed(&apps[0]), "who asks anew hears what is said meanwhile");
    follow(&live, 300, &[("app-1", 2)]);
    live.expire(at(200 + kept_ms));
    assert!(!is_followed(&apps[0]) && is_followed(&apps[1]), "without an origin that asks for lines");
    let asked: Vec<(&str, u64)> = names[1..].iter().map(|name| (name.as_str(), 1)).collect();
    follow(&live, 20_000, &asked);
    tell(&live, 20_100);
    follow(&live, 20_200, &[("app-0", 1)]);
    tell(&live, 20_300);
    assert_eq!(apps.iter().filter(|app| is_followed(app)).count(), FOLLOWED_MAX);
}

#[test]
fn what_was_lost_is_said_also_when_nothing_comes_after_it() {
    let live = Live::default();
    let shop = live.app(&id("shop"));
    (0..3).for_each(|_| shop.lost());
    follow(&live, 0, &[("shop", 7)]);
    tell(&live, 100);
    assert_eq!(tell(&live, 200), ["shop 0 (3 dropped)", "shop !"]);
}

#[test]
fn an_app_that_comes_while_it_is_followed_is_told() {
    let live = Live::default();
    follow(&live, 0, &[("shop", 7)]);
    assert_eq!(tell(&live, 100), ["shop !"]);
    live.taken();
    let shop = live.app(&id("shop"));
    note(&shop, 100, "a");
    assert_eq!(tell(&live, 200), ["shop 0 a", "shop !"]);
    assert_eq!(shop.held.lock().tail.capacity(), 1_024);
    drop(shop);
    assert!(live.0.apps.lock().is_empty(), "and forgotten when it is gone");
    assert_eq!(tell(&live, 300), [""; 0]);
}

#[test]
fn what_found_no_room_on_its_way_is_said_with_the_next_line_and_what_left_the_memory_by_its_numbers() {
    let live = Live::default();
    let shop = live.app(&id("shop"));
    follow(&live, 0, &[("shop", 7)]);
    tell(&live, 100);
    live.taken();
    (0..3).for_each(|_| shop.lost());
    note(&shop, 100, "a");
    assert_eq!(tell(&live, 200), ["shop 0 (3 dropped)", "shop 1 a", "shop !"]);
    live.taken();
    let long = "x".repeat(4_000);
    (0..100).for_each(|_| note(&shop, 200, &long));
    let logs = live.tell(at(300));
    let told = &logs[0];
    assert!(told.first > 30, "a hole after 1: {}", told.first);
    assert!(told.lines.iter().map(LogLine::bytes).sum::<usize>() <= LOGS_BYTES_MAX);
    let capacity = shop.held.lock().tail.capacity();
    assert!(capacity > APP_BYTES_MAX && capacity <= FOLLOWED_APP_BYTES_MAX, "{capacity}");
}

#[test]
fn one_message_is_bounded_and_a_loud_app_leaves_the_others_their_part() {
    let live = Live::default();
    let names: Vec<String> = (0..FOLLOWED_MAX).map(|number| format!("app-{number}")).collect();
    let apps: Vec<_> = names.iter().map(|name| live.app(&id(name))).collect();
    let asked: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    follow(&live, 0, &asked);
    let noise = "\u{ff}".repeat(2_000);
    for app in &apps[1..] {
        (0..20).for_each(|_| note(app, 0, &noise));
    }
    note(&apps[0], 0, "quiet");
    let mut quiet_after = None;
    let mut heard = std::collections::HashSet::new();
    for round in 1..=10 {
        let logs = live.tell(at(100 * round));
        let bytes: usize = logs.iter().flat_map(|app| &app.lines).map(LogLine::bytes).sum();
        assert!(bytes > LOGS_BYTES_MAX / 2 && bytes <= LOGS_BYTES_MAX, "{bytes}");
        heard.extend(logs.iter().filter(|app| !app.lines.is_empty()).map(|app| app.id.clone()));
        if logs.iter().any(|app| app.id.app.as_str() == "app-0" && !app.lines.is_empty()) {
            quiet_after.get_or_insert(round);
        }
        live.taken();
    }
    assert!(quiet_after.is_some_and(|round| round <= 5), "{quiet_after:?}");
    assert_eq!(heard.len(), FOLLOWED_MAX, "everybody got a turn");
}

#[test]
fn the_memory_of_all_apps_is_bounded_and_a_loud_one_takes_nothing_from_a_quiet_one() {
    let live = Live::default();
    let quiet = live.app(&id("quiet"));
    note(&quiet, 0, "last words");
    let text = "x".repeat(1_000);
    let apps: Vec<_> = (0..2_000).map(|number| live.app(&id(&format!("loud-{number}")))).collect();
    for app in &apps {
        (0..40).for_each(|_| note(app, 0, &text));
        assert!(live.0.bytes.load(Relaxed) <= ALL_BYTES_MAX);
    }
    let sum = || apps.iter().chain([&quiet]).map(|app| app.held.lock().tail.capacity()).sum::<usize>();
    assert_eq!(live.0.bytes.load(Relaxed), sum());
    follow(&live, 0, &[("quiet", 1)]);
    assert_eq!(tell(&live, 100), ["quiet 0 last words", "quiet !"]);
    assert_eq!(live.0.bytes.load(Relaxed), sum() - quiet.held.lock().tail.capacity());
    follow(&live, 0, &[]);
    live.expire(at(telling::LEFT_KEPT.as_millis() as u64));
    assert_eq!(live.0.bytes.load(Relaxed), sum());
    drop((apps, quiet));
    assert_eq!(live.0.bytes.load(Relaxed), 0);
}
