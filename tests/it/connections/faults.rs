//! Each fault of a socket: what is published, what the client does, what is counted. Once in memory under paused time, where the times are exact, and once
//! over sockets with short limits.

use std::time::Duration;

use convpipe::config::IngestConfig;
use convpipe::daemons::ingest::Counts;
use convpipe::runtime::clock::Clock;
use convpipe::schema::time::Millis;
use convpipe::ws::Reason;
use tokio::time::timeout;

use crate::ingest::{Running, World, say, start_in};
use crate::support::scripted::Step::{Close, Garbage, Mute, NoPort, NoTcp, Nothing, Raw, Reset, Status, Sync, Text, Tls, Upgrade};
use crate::support::scripted::{self, CONNECTED, Scripted, Step};
use crate::ws::artifact;

/// The time of day at which a simulation begins.
pub(super) const NOON: Millis = Millis(1_784_808_000_000);

/// A fault, and what has to come of it.
struct Case {
    fault: &'static str,
    scheme: &'static str,
    /// What the platform plays on the first connections; on all later ones it is sound.
    scripts: Vec<Vec<Step>>,
    /// What is published, from the beginning.
    events: Vec<&'static str>,
    /// The last gap: from and to, in milliseconds of the simulation.
    gap: (Option<i64>, i64),
    /// What the client said, by connection.
    heard: Vec<&'static str>,
    /// Numbers that have to be these.
    counts: fn(&Counts) -> Vec<(&'static str, u64, u64)>,
    /// What reaches the quarantine.
    quarantined: usize,
}

impl Case {
    /// A connection fails before the account is live, and the next one is sound: one gap, whose end the fault delays.
    fn before_live(fault: &'static str, first: Vec<Step>, live_at: i64, counts: fn(&Counts) -> Vec<(&'static str, u64, u64)>) -> Self {
        Self {
            fault,
            scheme: "ws",
            scripts: vec![first],
            events: vec!["connection.opened", "connection.gap start", "message.received 2"],
            gap: (None, live_at),
            heard: vec!["2 token"],
            counts,
            quarantined: 0,
        }
    }

    /// A connection that is live ends, and the next one is sound: a gap from the last frame, for this reason.
    fn after_live(
        fault: &'static str,
        more: Vec<Step>,
        [closed, gap]: [&'static str; 2],
        (from, to): (i64, i64),
        counts: fn(&Counts) -> Vec<(&'static str, u64, u64)>,
    ) -> Self {
        Self {
            fault,
            scheme: "ws",
            scripts: vec![live(more)],
            events: vec![
                "connection.opened",
                "connection.gap start",
                "message.received 1",
                closed,
                "connection.opened",
                gap,
                "message.received 2",
            ],
            gap: (Some(from), to),
            heard: vec!["1 token", "2 token"],
            counts,
            quarantined: 0,
        }
    }

    /// The platform refuses the artifact: nothing more is tried.
    fn refused(fault: &'static str, first: Vec<Step>, is_live: bool) -> Self {
        let mut events = vec!["account.auth_changed rejected"];
        if is_live {
            events.splice(..0, ["connection.opened", "connection.gap start", "message.received 1", "connection.closed auth_refused"]);
        }
        Self {
            fault,
            scheme: "ws",
            scripts: vec![first],
            events,
            gap: (None, 0),
            heard: vec![],
            counts: |counts| {
                vec![("connects", counts.connects, 1), ("refusals", counts.refusals, 1), failed(counts, Reason::AuthRefused, 1)]
            },
            quarantined: 0,
        }
    }

    /// A frame that cannot be read goes to the quarantine, and the connection goes on.
    fn unreadable(fault: &'static str, frame: Step) -> Self {
        Self {
            fault,
            scheme: "ws",
            scripts: vec![live(vec![frame, text("2")])],
            events: vec!["connection.opened", "connection.gap start", "message.received 1", "message.received 2"],
            gap: (None, 0),
            heard: vec!["1 token"],
            counts: |counts| {
                vec![
                    ("connects", counts.connects, 1),
                    ("failures", counts.failures, 0),
                    ("rejected", counts.rejected, 1),
                    ("gaps", counts.gaps, 1),
                ]
            },
            quarantined: 1,
        }
    }
}

fn text(text: impl Into<String>) -> Step {
    Text(text.into())
}

/// A connection that goes live and brings a message.
fn live(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![Upgrade, text(CONNECTED), text("1"), Sync];
    steps.extend(more);
    steps
}

fn failed(counts: &Counts, reason: Reason, expected: u64) -> (&'static str, u64, u64) {
    (reason.name(), counts.failures_by.of(reason), expected)
}

fn timed_out(counts: &Counts, reason: Reason) -> Vec<(&'static str, u64, u64)> {
    vec![failed(counts, reason, 1), ("of these for its time", counts.timeouts_by.of(reason), 1), ("all", counts.failures, 1)]
}

fn failed_once(counts: &Counts, reason: Reason) -> Vec<(&'static str, u64, u64)> {
    vec![failed(counts, reason, 1), ("of these for its time", counts.timeouts_by.of(reason), 0), ("all", counts.failures, 1)]
}

/// The connection ended for this reason, once, and the account was live again.
fn lost(counts: &Counts, reason: Reason) -> Vec<(&'static str, u64, u64)> {
    vec![
        failed(counts, reason, 1),
        ("its gaps", counts.gaps_by.of(reason), 1),
        ("all gaps", counts.gaps, 2),
        ("all failures", counts.failures, 1),
        ("refusals", counts.refusals, 0),
    ]
}

/// Waits are exactly one second, and five minutes in the slow lane is at least two and a half.
fn cases() -> Vec<Case> {
    let error = || vec![Upgrade, text(r#"{"error":1}"#)];
    let reset = ["connection.closed reset", "connection.gap reset"];
    let closed = ["connection.closed server_closed", "connection.gap server_closed"];
    let mut cases = vec![
        Case::before_live("TCP is never answered", vec![NoTcp], 11_000, |counts| timed_out(counts, Reason::Connect)),
        Case::before_live("TCP is refused", vec![NoPort], 1_000, |counts| failed_once(counts, Reason::Connect)),
        Case {
            scheme: "wss",
            ..Case::before_live("TLS is never answered", vec![Nothing], 11_000, |counts| timed_out(counts, Reason::Tls))
        },
        Case {
            scheme: "wss",
            ..Case::before_live("TLS too slow", vec![Tls(10_001), Upgrade], 11_000, |counts| timed_out(counts, Reason::Tls))
        },
        Case {
            scheme: "wss",
            ..Case::before_live("no TLS", vec![Garbage(b"220 ESMTP\r\n\r\n")], 1_000, |counts| failed_once(counts, Reason::Tls))
        },
        Case::before_live("the handshake is never answered", vec![Nothing], 11_000, |counts| timed_out(counts, Reason::Handshake)),
        Case::before_live("no HTTP", vec![Garbage(b"220 ESMTP\r\n\r\n")], 1_000, |counts| failed_once(counts, Reason::Handshake)),
        Case::before_live("500", vec![Status(500)], 1_000, |counts| failed_once(counts, Reason::Handshake)),
        Case::before_live("503", vec![Status(503)], 1_000, |counts| failed_once(counts, Reason::Handshake)),
        Case::before_live("silent after the token", vec![Upgrade, Mute], 11_000, |counts| failed_once(counts, Reason::NotConnected)),
        Case::before_live("another frame first", vec![Upgrade, text(r#"{"online":[]}"#)], 1_000, |counts| {
            failed_once(counts, Reason::NotConnected)
        }),
        Case::before_live("`error` once", error(), 1_000, |counts| failed_once(counts, Reason::ErrorFrame)),
        Case {
            scripts: vec![error(), error()],
            heard: vec!["1 token", "2 token", "3 token"],
            ..Case::before_live("`error` twice", vec![], 2_000, |counts| vec![failed(counts, Reason::ErrorFrame, 2)])
        },
        Case {
            scripts: vec![error(), error(), error()],
            heard: vec!["3 token"],
            counts: |counts| vec![("connects", counts.connects, 3), ("refusals", counts.refusals, 1)],
            ..Case::refused("`error` three times", vec![], false)
        },
        Case::after_live("a reset", vec![Reset], reset, (0, 1_000), |counts| lost(counts, Reason::Reset)),
        // Unanswered at 25 s and at 45 s, then a second's wait.
        Case::after_live("half-open", vec![Mute], ["connection.closed heartbeat", "connection.gap heartbeat"], (0, 46_000), |counts| {
            let mut expected = lost(counts, Reason::Heartbeat);
            expected.push(("heartbeats missed", counts.heartbeats_missed, 2));
            expected
        }),
        Case::after_live(
            "a broken protocol",
            vec![Raw(b"\x83\x00".to_vec())],
            ["connection.closed protocol", "connection.gap protocol"],
            (0, 1_000),
            |counts| lost(counts, Reason::Protocol),
        ),
        Case::after_live(
            "`error` while live",
            vec![text(r#"{"error":1}"#)],
            ["connection.closed error_frame", "connection.gap error_frame"],
            (0, 1_000),
            |counts| lost(counts, Reason::ErrorFrame),
        ),
        Case::refused("401", vec![Status(401)], false),
        Case::refused("403", vec![Status(403)], false),
        Case::refused("wrong user, in a frame", vec![Upgrade, text(r#"{"error":"Wrong user"}"#)], false),
        Case::refused("wrong user, while live", live(vec![text(r#"{"error":"Wrong user"}"#)]), true),
        Case::refused("a stale page, in a close", live(vec![Close(4000, "Please refresh the page")]), true),
        Case::refused("close 3000", live(vec![Close(3000, "")]), true),
        Case::refused("close 3003", live(vec![Close(3003, "")]), true),
        Case::unreadable("not JSON", text("{broken")),
        Case::unreadable("not UTF-8", Raw(b"\x81\x03a\xff\xfe".to_vec())),
        Case::unreadable("deep JSON", text("[".repeat(10_000))),
        Case::unreadable("a giant frame", text("9".repeat(5 << 20))),
        Case {
            scheme: "wss",
            scripts: vec![[vec![Tls(50)], live(vec![text("2")])].concat()],
            quarantined: 0,
            counts: |counts| vec![("connects", counts.connects, 1), ("failures", counts.failures, 0)],
            gap: (None, 50),
            ..Case::unreadable("TLS, in time", text(""))
        },
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1009, 1010, 1011, 1012, 4000, 4999] {
        cases.push(Case::after_live("a close", vec![Close(code, "")], closed, (0, 1_000), |counts| lost(counts, Reason::ServerClosed)));
    }
    cases
}

/// Whatever comes after a fault.
fn sound(scheme: &str) -> Vec<Step> {
    let mut steps = vec![Upgrade, text(CONNECTED), text("2")];
    if scheme == "wss" {
        steps.insert(0, Tls(0));
    }
    steps
}

/// Waits until so much was published.
async fn published(running: &Running, fault: &str, events: usize, quarantined: usize) -> Vec<String> {
    let (mut said, mut aside) = (running.events.messages.subscribe(), running.quarantine.messages.subscribe());
    // A simulated hour; of real time nothing takes nearly so long.
    let waited = timeout(Duration::from_secs(3_600), async {
        let _ = said.wait_for(|messages| messages.len() >= events).await;
        let _ = aside.wait_for(|messages| messages.len() >= quarantined).await;
    });
    let waited = waited.await;
    let said = running.events.messages.borrow().iter().map(say).collect();
    assert!(waited.is_ok(), "{fault}: only {said:?}");
    said
}

/// The gap events' from and to.
fn last_gap(running: &Running) -> Option<(Option<Millis>, Millis)> {
    let messages = running.events.messages.borrow();
    let links = messages.iter().filter_map(|message| message.event().unwrap().link.filter(|link| link.to.is_some()));
    links.last().map(|link| (link.from, link.to.unwrap()))
}

fn check_counts(case: &Case, counts: &Counts) {
    for (what, number, expected) in (case.counts)(counts) {
        assert_eq!(number, expected, "{}: {what}: {counts:?}", case.fault);
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_in_its_own_time() {
    let tls = scripted::Tls::new();
    for mut case in cases() {
        case.scripts.push(sound(case.scheme));
        let platform = Scripted::new(case.scripts.clone(), Some(&tls));
        let host = if case.scheme == "wss" { "localhost" } else { "127.0.0.1" };
        let world = World {
            dial: platform.in_memory(),
            clock: Clock::simulated(NOON),
            trust: tls.trust.clone(),
            scan_every: Duration::from_secs(7_200),
            ..World::real()
        };
        let config = IngestConfig { backoff_min_ms: 1_000, backoff_max_ms: 1_000, ..IngestConfig::default() };
        let running = start_in(world, config, vec![artifact("1", 1, &format!("{}://{host}:9/?key=canary", case.scheme))]);
        let said = published(&running, case.fault, case.events.len(), case.quarantined).await;
        assert_eq!(said, case.events, "{}", case.fault);
        if let Some((from, to)) = last_gap(&running) {
            let expected = (case.gap.0.map(|ms| NOON.plus(ms)), NOON.plus(case.gap.1));
            assert_eq!((from, to), expected, "{}", case.fault);
        }
        let heard = platform.heard();
        assert!(case.heard.iter().all(|said| heard.contains(&(*said).to_owned())), "{}: {heard:?}", case.fault);
        // Nothing more comes of it: a refusal is not tried again, what is sound stays.
        tokio::time::sleep(Duration::from_secs(1_800)).await;
        assert_eq!(running.events.messages.borrow().len(), case.events.len(), "{}", case.fault);
        check_counts(&case, &running.counters.read());
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn every_fault_over_sockets() {
    let tls = scripted::Tls::new();
    for mut case in cases() {
        if matches!(case.scripts[0].first(), Some(NoTcp | NoPort)) {
            continue;
        }
        case.scripts.push(sound(case.scheme));
        let platform = Scripted::new(case.scripts.clone(), Some(&tls));
        let host = if case.scheme == "wss" { "localhost" } else { "127.0.0.1" };
        let url = format!("{}://{host}:{}/?key=canary", case.scheme, platform.listen().await);
        let world = World { trust: tls.trust.clone(), ..World::real() };
        let mut config = IngestConfig { backoff_min_ms: 1, backoff_max_ms: 5, ..IngestConfig::default() };
        // Short where the fault is that nothing comes; else a busy machine has its time.
        match case.fault {
            "half-open" => (config.heartbeat_ms, config.heartbeat_timeout_ms) = (60, 50),
            "silent after the token" => config.connected_timeout_ms = 100,
            fault if fault.contains("never") || fault.contains("slow") => config.connect_timeout_ms = 100,
            _ => {}
        }
        let running = start_in(world, config, vec![artifact("1", 1, &url)]);
        let mut said = published(&running, case.fault, case.events.len(), case.quarantined).await;
        said.truncate(case.events.len());
        assert_eq!(said, case.events, "{}", case.fault);
        if let (Some((from, to)), Some(_)) = (last_gap(&running), case.gap.0) {
            assert!(from.is_some_and(|from| from <= to), "{}: {from:?} to {to}", case.fault);
        }
        // The fault before it took this long; the sound connection that came after it is what counts nothing.
        let counts = running.counters.read();
        if case.fault != "half-open" {
            check_counts(&case, &counts);
        }
        running.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn where_less_is_wanted_the_wait_is_long() {
    for (fault, script, live_before) in [
        ("429", vec![Status(429)], false),
        ("451", vec![Status(451)], false),
        ("1008", live(vec![Close(1008, "")]), true),
        ("1013", live(vec![Close(1013, "")]), true),
    ] {
        let platform = Scripted::new(vec![script, sound("ws")], None);
        let world =
            World { dial: platform.in_memory(), clock: Clock::simulated(NOON), scan_every: Duration::from_secs(7_200), ..World::real() };
        let running = start_in(world, IngestConfig::default(), vec![artifact("1", 1, "ws://127.0.0.1:9/")]);
        let said = published(&running, fault, if live_before { 7 } else { 3 }, 0).await;
        assert_eq!(said.last().unwrap(), "message.received 2", "{fault}");
        let (from, to) = last_gap(&running).unwrap();
        assert_eq!(from, live_before.then_some(NOON), "{fault}");
        assert!((150_000..=300_001).contains(&to.since(NOON)), "{fault}: {} ms", to.since(NOON));
        let counts = running.stop().await.unwrap();
        assert_eq!((counts.connects, counts.refusals), (2, 0), "{fault}");
    }
}

/// A flood while the bus is slow: class C goes first, the reader stands still, and the time it stood is counted.
#[tokio::test(start_paused = true)]
async fn a_flood_that_the_bus_does_not_take() {
    let flood = (1..=2_000).flat_map(|n: i64| [text(n.to_string()), text((-n).to_string())]);
    let platform = Scripted::new(vec![[vec![Upgrade, text(CONNECTED)], flood.collect()].concat()], None);
    let world =
        World { dial: platform.in_memory(), clock: Clock::simulated(NOON), scan_every: Duration::from_secs(7_200), ..World::real() };
    let config = IngestConfig { buffer_max_bytes: 40_000, ..IngestConfig::default() };
    let running = start_in(world, config, vec![artifact("1", 1, "ws://127.0.0.1:9/")]);
    running.events.down.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let counts = running.counters.read();
    assert!(counts.waits_a == 1 && counts.waits_ms == 0 && counts.dropped_c > 0 && counts.buffer_bytes <= 40_000, "{counts:?}");
    running.events.down.store(false, std::sync::atomic::Ordering::SeqCst);
    let all =
        |messages: &Vec<convpipe::schema::envelope::Envelope>| messages.iter().filter(|m| say(m).starts_with("message")).count() == 2_000;
    tokio::time::timeout(Duration::from_secs(600), running.events.messages.subscribe().wait_for(all)).await.unwrap().unwrap();
    let counts = running.stop().await.unwrap();
    assert!(counts.waits_ms >= 29_000, "{counts:?}");
    assert_eq!((counts.failures, counts.gaps), (0, 1), "nothing was lost for it");
}
