//! The life of a token, and the life of a process: what comes before an end and what is known after it.

use std::sync::Arc;
use std::time::Duration;

use convpipe::config::IngestConfig;
use convpipe::daemons::ingest::Marks;
use convpipe::runtime::clock::Clock;
use convpipe::schema::artifact::Artifact;
use convpipe::ws::Reason;

use super::faults::NOON;
use crate::ingest::{Running, World, say, start_in};
use crate::support::scripted::Step::{Reset, Sync, Text, Upgrade};
use crate::support::scripted::{CONNECTED, Scripted, Step};
use crate::ws::artifact;

const URL: &str = "ws://127.0.0.1:9/";

fn scripts(connections: &[&[&str]]) -> Vec<Vec<Step>> {
    let script = |frames: &&[&str]| {
        let frames = frames.iter().map(|frame| Text((*frame).to_owned()));
        [Upgrade, Text(CONNECTED.to_owned())].into_iter().chain(frames).chain([Sync]).collect()
    };
    connections.iter().map(script).collect()
}

/// Prepared at noon, for so many seconds.
fn living(generation: u64, life_s: i64) -> Artifact {
    Artifact { prepared_at: Some(NOON), expires_at: Some(NOON.plus(life_s * 1_000)), ..artifact("1", generation, URL) }
}

fn said(running: &Running) -> Vec<String> {
    running.events.messages.borrow().iter().map(say).collect()
}

async fn until(clock: Clock, s: u64) {
    // A moment later, so that what happens at that time has happened.
    tokio::time::sleep_until(clock.instant(s * 1_000 + 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_of_eighty_minutes() {
    let mut scripts = scripts(&[&["1"], &["2"]]);
    scripts.insert(1, vec![Step::Status(503)]);
    let platform = Scripted::new(scripts, None);
    let clock = Clock::simulated(NOON);
    // The folder is looked at once in four hours: what is found sooner was looked for.
    let world = World { dial: platform.in_memory(), clock, scan_every: Duration::from_secs(14_400), ..World::real() };
    let running = start_in(world, IngestConfig::default(), vec![living(1, 4_800)]);
    until(clock, 3_599).await;
    running.artifacts.lock().unwrap()[0] = living(2, 9_600);
    assert_eq!((running.counters.read().artifacts_due, said(&running).len()), (0, 3));

    // At three quarters the new one is found. Its first attempt fails, the next brings it about: no gap, and both are never gone.
    until(clock, 3_605).await;
    assert_eq!(said(&running)[2..], ["message.received 1", "connection.closed new_artifact", "connection.opened", "message.received 2"]);
    let counts = running.counters.read();
    assert_eq!((counts.artifacts_due, counts.rotations, counts.gaps, counts.live), (1, 1, 1, 1));

    // Nobody supplies a third: that is told once, and what is live lives on beyond the end.
    until(clock, 7_201).await;
    assert_eq!((running.counters.read().artifacts_due, running.counters.read().artifacts_late), (2, 0));
    until(clock, 9_599).await;
    assert_eq!((running.counters.read().artifacts_late, running.counters.read().artifacts_ended), (1, 0));
    until(clock, 20_000).await;
    assert_eq!(said(&running)[6..], ["account.auth_changed expired"]);
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.artifacts_due, counts.artifacts_late, counts.artifacts_ended, counts.connects), (2, 1, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_is_not_connected_with_again() {
    let mut connections = scripts(&[&["1"], &["2"]]);
    // It breaks off once the heartbeat of 20 s was answered: the token of 10 s has ended by then.
    connections[0].extend([Step::Sync, Step::Mute]);
    let platform = Scripted::new(connections, None);
    let clock = Clock::simulated(NOON);
    let world = World { dial: platform.in_memory(), clock, scan_every: Duration::from_secs(100), ..World::real() };
    let running = start_in(world, IngestConfig::default(), vec![living(1, 10)]);
    until(clock, 99).await;
    let ended = ["message.received 1", "account.auth_changed expired", "connection.closed heartbeat"];
    assert_eq!(said(&running)[2..], ended);
    assert_eq!(running.counters.read().connects, 1);
    running.artifacts.lock().unwrap()[0] = living(2, 1_000);
    until(clock, 110).await;
    assert_eq!(said(&running)[5..], ["connection.opened", "connection.gap heartbeat", "message.received 2"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gap_after_a_restart_begins_where_the_last_process_heard_something() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::simulated(NOON);
    let start = |scripts: Vec<Vec<Step>>| {
        let platform = Scripted::new(scripts, None);
        let marks = Some(Arc::new(Marks::open(dir.path(), None, clock.moment().wall)));
        let world = World { dial: platform.in_memory(), clock, marks, scan_every: Duration::from_secs(14_400), ..World::real() };
        start_in(world, IngestConfig::default(), vec![artifact("1", 1, URL)])
    };
    let gap = |running: &Running| {
        let events = running.events.messages.borrow();
        let gap = events.iter().filter_map(|event| event.event().unwrap().link).find(|link| link.to.is_some()).unwrap();
        (gap.from, gap.to.unwrap(), gap.reason.unwrap().into_owned())
    };

    let first = start(scripts(&[&["1"]]));
    until(clock, 100).await;
    assert_eq!(gap(&first), (None, NOON, Reason::Start.name().to_owned()), "nothing was ever heard before");
    // Heartbeats are answered every 20 s: the last was at 100 s.
    first.stop().await.unwrap();

    until(clock, 500).await;
    let second = start(scripts(&[&["2"]]));
    until(clock, 501).await;
    let (from, to, reason) = gap(&second);
    assert_eq!((from, &*reason), (Some(NOON.plus(100_000)), "start"));
    assert!(to >= NOON.plus(500_000));
    until(clock, 600).await;
    // As if it were killed: nothing is written at the end, and what was written before is early, never late.
    drop(second);

    let third = start(vec![vec![Upgrade, Text(CONNECTED.to_owned()), Sync, Reset]]);
    until(clock, 601).await;
    let from = gap(&third).0.unwrap().since(NOON);
    assert!((550_000..=600_000).contains(&from), "{from} ms");
    third.stop().await.unwrap();
}
