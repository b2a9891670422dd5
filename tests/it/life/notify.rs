//! What a service manager is told by each daemon, and what it does to one that is wedged.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::manager::Manager;
use crate::auth_refresh::place as refresh;
use crate::pipeline::place::{LIMIT, Place, busy_evening, differences_of};
use crate::support::process::Process;
use crate::support::redis::RedisServer;

/// Long enough that a busy machine is not taken for a wedged process.
const WATCHDOG: Duration = Duration::from_secs(2);

fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// A whole life: start, signs of life, a reload, a stop.
fn lives(name: &str, start: impl FnOnce(&[(&str, &str)]) -> Process, summary: &str) {
    let manager = Manager::start();
    let variables = manager.variables(WATCHDOG);
    let process = start(&variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    let (ready, message) = manager.wait("READY=1", 0);
    assert_eq!(message, "READY=1", "{name}");
    manager.wait(&format!("STATUS={summary}"), 0);
    let (alive, _) = manager.wait("WATCHDOG=1", ready);
    manager.wait("WATCHDOG=1", alive + 1);

    let before = monotonic_usec();
    process.signal(Signal::HUP);
    let (reloading, message) = manager.wait("RELOADING=1", ready);
    let usec: i64 = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{name}: {message}")).parse().unwrap();
    assert!((before..=monotonic_usec()).contains(&usec), "{name}: {before} {usec}");
    let (again, _) = manager.wait("READY=1", reloading);
    process.wait_stderr("the config was read again", LIMIT);

    process.signal(Signal::TERM);
    let (stopping, _) = manager.wait("STOPPING=1", again);
    let output = process.wait(LIMIT);
    assert_eq!(output.status.code(), Some(0), "{name}: {}", output.stderr.join("\n"));
    assert!(stopping < manager.count());
}

#[test]
fn every_daemon_tells_its_manager_how_it_is() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "told");
    place.write_artifacts([]);
    let of_place = |name: &'static str| {
        let place = &place;
        move |variables: &[(&str, &str)]| place.start_with(&[name], variables)
    };
    lives("ingest", of_place("ingest"), "0 of 0 accounts live; 0 messages wait for the topic");
    lives("snapshot", of_place("snapshot"), "views: ");
    let dashboard = |variables: &[(&str, &str)]| place.start_with(&["dashboard", "--listen", "127.0.0.1:0"], variables);
    lives("dashboard", dashboard, "at http://127.0.0.1:");
    let provided = refresh::Place::new();
    provided.answers(&refresh::answer(refresh::ACCOUNT, "token", 86_400));
    lives("auth-refresh", |variables| provided.start_with(&[], variables), "accounts: 1 ready");
}

/// A Redis that takes requests and never answers, behind a timeout that is longer than any step may be: the lane is wedged, the rest is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wedged_part_ends_the_signs_of_life_and_a_restart_goes_on() {
    let redis = RedisServer::start();
    let (mut calm, mut wild) = (Place::new(&redis.url(), "calm"), Place::new(&redis.url(), "wild"));
    calm.judge_by_id_alone();
    wild.judge_by_id_alone();
    let envelopes: Vec<_> = busy_evening(300).into_iter().filter(|envelope| envelope.attribute("ce-subject").is_some()).collect();
    calm.publish(envelopes.clone()).await;
    let process = calm.start(&["snapshot"]);
    calm.wait_backlog(&calm.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());

    (wild.config.redis.timeout_ms, wild.config.health.stall_s) = (60_000, 1);
    let manager = Manager::start();
    let variables = manager.variables(WATCHDOG);
    let process = wild.start_with(&["snapshot"], &variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    manager.wait("READY=1", 0);
    let server = Pid::from_raw(i32::try_from(redis.pid().unwrap()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    wild.publish(envelopes).await;
    let stalled = tokio::task::spawn_blocking(move || {
        let told = manager.wait("STATUS=stalled: ", 0).1;
        manager.wait_lifeless(WATCHDOG);
        told
    });
    let told = stalled.await.unwrap();
    // What a manager does now; systemd's signal for it is SIGABRT.
    process.signal(Signal::ABORT);
    let output = process.wait(LIMIT);
    kill_process(server, Signal::CONT).unwrap();
    assert!(!output.status.success(), "{told}");
    assert!(["views", "watcher", "sampler"].iter().any(|part| told.contains(part)), "{told}");

    let process = wild.start(&["snapshot"]);
    wild.wait_backlog(&wild.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());
    let found = differences_of(&calm.read().await, &wild.read().await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_process_that_stands_still_gives_no_sign_of_life() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "still");
    let manager = Manager::start();
    let variables = manager.variables(WATCHDOG);
    let process = place.start_with(&["snapshot"], &variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    let (ready, _) = manager.wait("READY=1", 0);
    manager.wait("WATCHDOG=1", ready);
    process.signal(Signal::STOP);
    manager.wait_lifeless(WATCHDOG);
    assert!(!process.kill().status.success());
}

#[test]
fn an_outage_does_not_keep_a_start_from_being_over() {
    let mut redis = RedisServer::start();
    let place = Place::new(&redis.url(), "outage");
    redis.stop();
    let manager = Manager::start();
    let variables = manager.variables(WATCHDOG);
    let process =
        place.start_with(&["dashboard", "--listen", "127.0.0.1:0"], &variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    let (waiting, _) = manager.wait("STATUS=waiting: redis: ", 0);
    let (ready, _) = manager.wait("READY=1", waiting);
    redis.restart();
    manager.wait("STATUS=at http://", ready);
    assert!(process.terminate(LIMIT).status.success());
}
