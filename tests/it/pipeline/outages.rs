//! Harder faults than `faults` has: stores that stand still, Redis emptied at the worst moment, kills without any progress, drains that cannot end.

use std::time::Duration;

use convpipe::schema::envelope::Envelope;
use rustix::process::Signal;

use super::place::{LIMIT, Place, busy_evening, differences_of, wait_until};
use crate::oracle::compare::Actual;
use crate::support::process::Process;
use crate::support::redis::RedisServer;

/// The events of the first frames of the busy evening that change a conversation; deletes are among them.
fn events(frames: usize) -> Vec<Envelope> {
    let all = busy_evening(frames).into_iter();
    all.filter(|envelope| envelope.attribute("ce-subject").is_some() || is_delete(envelope)).collect()
}

fn is_delete(envelope: &Envelope) -> bool {
    envelope.attribute("ce-type") == Some("convpipe.message.deleted.v1")
}

fn place(redis: &RedisServer, prefix: &str) -> Place {
    let mut place = Place::new(&redis.url(), prefix);
    place.judge_by_id_alone();
    place.config.snapshot.due_ms = 20;
    place.config.redis.timeout_ms = 100;
    place
}

/// What a service leaves that nothing happens to.
async fn undisturbed(redis: &RedisServer, envelopes: &[Envelope]) -> Actual {
    let place = place(redis, "calm");
    place.publish(envelopes.to_vec()).await;
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    place.read().await
}

#[track_caller]
fn ended(process: Process, code: i32) -> Vec<String> {
    let output = process.terminate(LIMIT);
    assert_eq!(output.status.code(), Some(code), "{}", output.stderr.join("\n"));
    output.stderr
}

/// Conversations, histories and indexes; the streams too, unless Redis was emptied in between and with it they were.
#[track_caller]
fn assert_same(expected: &Actual, actual: &Actual, streams: bool) {
    let told = |actual: &Actual| {
        let mut actual = actual.clone();
        // A delete stands in a stream or not, as it comes after or before its message: here two lanes decide that.
        let keep = |ids: &mut Vec<String>| ids.retain(|id| streams && !id.ends_with(":deleted"));
        actual.conversations.values_mut().filter_map(|read| read.fan_events.as_mut()).for_each(keep);
        actual.accounts.values_mut().filter_map(|read| read.priority.as_mut()).for_each(keep);
        actual
    };
    assert!(expected.conversations.len() > 50, "{}", expected.conversations.len());
    let found = differences_of(&told(expected), &told(actual));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(12)].join("\n"));
}

async fn wait_views(place: &Place, most: u64) {
    wait_subscription(place, &place.config.bus.views_subscription, most).await;
}

async fn wait_subscription(place: &Place, subscription: &str, most: u64) {
    let bus = place.bus();
    wait_until(&format!("a backlog of {most} of {subscription}"), async || {
        bus.backlog(&place.config.bus.topic, subscription).await.is_ok_and(|backlog| backlog.messages.unwrap() <= most)
    })
    .await;
}

/// Another epoch than before: the service has seen that Redis was emptied, and has begun to fill it again.
async fn wait_new_epoch(redis: &RedisServer, prefix: &str, before: &str) {
    let key = format!("{prefix}:epoch");
    wait_until("a new epoch", async || redis.run::<Option<String>>(&["GET", &key]).is_some_and(|epoch| epoch != before)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_gets_back_what_the_documents_do_not_have_yet() {
    let (calm, mut redis) = (RedisServer::start(), RedisServer::start());
    let envelopes = events(1_000);
    let expected = undisturbed(&calm, &envelopes).await;
    let place = place(&redis, "convpipe");
    // Half is in the documents, all of it in Redis, when Redis is emptied.
    let (first, second) = envelopes.split_at(envelopes.len() / 2);
    place.publish(first.to_vec()).await;
    let both = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    ended(both, 0);
    let views = place.start(&["snapshot", "--only", "views"]);
    place.publish(second.to_vec()).await;
    wait_views(&place, 0).await;
    let epoch: String = redis.run(&["GET", "convpipe:epoch"]);
    redis.restart();
    wait_new_epoch(&redis, "convpipe", &epoch).await;
    let documents = place.start(&["snapshot", "--only", "documents"]);
    place.wait_backlog(&place.bus(), 0).await;
    wait_until("all conversations", async || {
        redis.run::<Vec<String>>(&["KEYS", "convpipe:{*}:conversation:*"]).len() == expected.conversations.len()
    })
    .await;
    place.wait_backlog(&place.bus(), 0).await;
    ended(views, 0);
    ended(documents, 0);
    assert_same(&expected, &place.read().await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_finds_its_message_in_a_redis_that_was_emptied_in_between() {
    let (calm, mut redis) = (RedisServer::start(), RedisServer::start());
    let (deletes, messages): (Vec<Envelope>, Vec<Envelope>) = events(3_000).into_iter().partition(is_delete);
    assert!(deletes.len() > 10, "{}", deletes.len());
    let expected = undisturbed(&calm, &[messages.clone(), deletes.clone()].concat()).await;
    let place = place(&redis, "convpipe");
    let process = place.start(&["snapshot"]);
    place.publish(messages).await;
    place.wait_backlog(&place.bus(), 0).await;
    let epoch: String = redis.run(&["GET", "convpipe:epoch"]);
    redis.restart();
    wait_new_epoch(&redis, "convpipe", &epoch).await;
    wait_until("all conversations", async || {
        redis.run::<Vec<String>>(&["KEYS", "convpipe:{*}:conversation:*"]).len() == expected.conversations.len()
    })
    .await;
    place.publish(deletes).await;
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    assert_same(&expected, &place.read().await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_and_then_does_everything_at_once_is_written_once() {
    let redis = RedisServer::start();
    let envelopes = events(1_500);
    let expected = undisturbed(&redis, &envelopes).await;
    let mut place = place(&redis, "slow");
    place.config.snapshot.batch_max = 64;
    place.config.bus.embedded.in_flight_max = 256;
    let processes = [place.start(&["snapshot"]), place.start(&["snapshot", "--only", "views"])];
    for part in envelopes.chunks(envelopes.len() / 3 + 1) {
        place.publish(part.to_vec()).await;
        wait_until("some progress", async || place.backlog(&place.bus()).await.is_some_and(|left| left < 2 * part.len() as u64)).await;
        // Whatever was on its way when the calls timed out is carried out afterwards, beside what replaces it.
        let server = rustix::process::Pid::from_raw(i32::try_from(redis.pid().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(server, Signal::STOP).unwrap();
        place.publish(part[..1].to_vec()).await;
        tokio::time::sleep(Duration::from_millis(350)).await;
        rustix::process::kill_process(server, Signal::CONT).unwrap();
        place.wait_backlog(&place.bus(), 0).await;
    }
    for process in processes {
        ended(process, 0);
    }
    assert_same(&expected, &place.read().await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_locked_hold_up_themselves_alone() {
    let redis = RedisServer::start();
    let envelopes = events(600);
    let expected = undisturbed(&redis, &envelopes).await;
    let place = place(&redis, "locked");
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    let count = envelopes.len() as u64;
    let other = rusqlite::Connection::open(&place.config.documents.embedded.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    place.publish(envelopes).await;
    wait_views(&place, 0).await;
    let documents = place.bus().backlog(&place.config.bus.topic, &place.config.bus.documents_subscription).await.unwrap();
    assert_eq!(documents.messages, Some(count));
    other.execute_batch("COMMIT").unwrap();
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    assert_same(&expected, &place.read().await, true);
}

/// Starts a service and kills it before it has written anything, again and again: connecting works, writing does not.
fn kill_stuck(redis: &RedisServer, place: &Place, kills: usize) {
    for _ in 0..kills {
        redis.run::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let process = place.start(&["snapshot", "--only", "views"]);
        process.wait_stderr("not written, deliveries wait", LIMIT);
        process.kill();
        redis.run::<()>(&["CLIENT", "UNPAUSE"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_without_any_progress_do_not_make_poison_of_sound_events() {
    let redis = RedisServer::start();
    let envelopes = events(400);
    let expected = undisturbed(&redis, &envelopes).await;
    let place = place(&redis, "stuck");
    place.publish(envelopes).await;
    kill_stuck(&redis, &place, 12);
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    assert_same(&expected, &place.read().await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_where_the_process_may_have_died_an_event_is_set_aside() {
    let redis = RedisServer::start();
    let envelopes = events(400);
    let mut place = place(&redis, "blamed");
    place.config.bus.embedded.attempts_max = 2;
    place.publish(envelopes).await;
    kill_stuck(&redis, &place, 4);
    let process = place.start(&["snapshot", "--only", "views"]);
    wait_views(&place, 0).await;
    let said = ended(process, 0);
    // The first of each lane, and none of the many behind it.
    let set_aside = said.iter().filter(|line| line.contains("set aside in the quarantine")).count();
    assert!((1..=place.config.snapshot.lanes).contains(&set_aside), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "seen only where the test fails")]
async fn a_whole_evening_with_the_default_windows_survives_kills_at_any_moment() {
    const KILLS: usize = 20;
    let redis = RedisServer::start();
    let envelopes = events(22_000);
    let expected = undisturbed(&redis, &envelopes).await;
    let place = place(&redis, "killed");
    place.publish(envelopes).await;
    let (bus, seed) = (place.bus(), fastrand::u64(..));
    eprintln!("the moments come from the seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut processes = vec![place.start(&["snapshot"])];
    wait_until("a subscription", async || place.backlog(&bus).await.is_some()).await;
    let all = place.backlog(&bus).await.unwrap();
    let mut moments: Vec<u64> = (0..KILLS).map(|_| random.u64(1..all)).collect();
    moments.sort_unstable_by(|a, b| b.cmp(a));
    for left in moments {
        place.wait_backlog(&bus, left).await;
        processes.swap_remove(random.usize(..processes.len())).kill();
        // One is alive, or two are.
        while processes.len() < random.usize(1..=2) {
            processes.push(place.start(&["snapshot"]));
        }
    }
    place.wait_backlog(&bus, 0).await;
    for process in processes {
        // Before that it does not listen to signals yet.
        process.wait_stderr("\"consuming\"", LIMIT);
        ended(process, 0);
    }
    // What a dead process held comes after thousands that came later: that is more than the rings remember, so neither streams nor counts are told
    // from repeats. The state is.
    let told = |actual: &Actual| {
        let mut actual = actual.clone();
        let counts = |summary: &mut serde_json::Value| (summary["messages_in"], summary["messages_out"]) = (0.into(), 0.into());
        actual.conversations.values_mut().filter_map(|read| read.summary.as_mut()).for_each(counts);
        actual
    };
    assert_same(&told(&expected), &told(&place.read().await), false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_cannot_end_says_what_is_left_and_exits_75() {
    let mut redis = RedisServer::start();
    let envelopes = events(200);
    let expected = undisturbed(&redis, &envelopes).await;
    let place = place(&redis, "undrained");
    let process = place.start(&["snapshot", "--drain-timeout", "0"]);
    place.wait_backlog(&place.bus(), 0).await;
    redis.stop();
    place.publish(envelopes).await;
    process.wait_stderr("not written, deliveries wait", LIMIT);
    let said = ended(process, 75);
    assert!(said.last().is_some_and(|line| line.contains("the drain is incomplete: ")), "{said:?}");
    redis.restart();
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    assert_same(&expected, &place.read().await, true);
}

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_is_waited_for() {
    let mut redis = RedisServer::start();
    let place = place(&redis, "late");
    place.publish(events(300)).await;
    redis.stop();

    let process = place.start(&["snapshot"]);
    process.wait_stderr("waiting for Redis", LIMIT);
    ended(process, 0);

    let process = place.start(&["snapshot"]);
    process.wait_stderr("waiting for Redis", LIMIT);
    redis.restart();
    process.wait_stderr("Redis has answered", LIMIT);
    place.wait_backlog(&place.bus(), 0).await;
    ended(process, 0);
    assert!(place.read().await.conversations.len() > 10);
}
