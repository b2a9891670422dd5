//! The embedded engine: the contract, and what only it promises: other processes, SIGKILL, files that are damaged, retention.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::Duration;

use convpipe::bus::embedded::EmbeddedBus;
use convpipe::bus::{Bus, BusError};
use convpipe::config::EmbeddedBusConfig;
use convpipe::schema::envelope::Envelope;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Engine, Fresh, Limits, Names, ack, drain, message, messages, number, numbers, take, text, wait_for_backlog, within};

super::contract::contract!(open);

const CLOSE: Duration = Duration::from_secs(5);

/// Topics and subscriptions come to be by themselves.
fn open(limits: Limits, _names: Names) -> Pin<Box<dyn Future<Output = Option<Fresh>>>> {
    let dir = tempfile::tempdir().unwrap();
    let config =
        EmbeddedBusConfig { in_flight_max: limits.in_flight_max, in_flight_bytes_max: limits.in_flight_bytes_max, ..config(dir.path()) };
    let bus = Bus::Embedded(EmbeddedBus::open(&config).unwrap());
    Box::pin(std::future::ready(Some(Fresh { bus, engine: Engine::Embedded, _keep: Box::new(dir) })))
}

fn config(dir: &Path) -> EmbeddedBusConfig {
    EmbeddedBusConfig { dir: dir.join("bus"), ..EmbeddedBusConfig::default() }
}

fn bus(config: &EmbeddedBusConfig) -> Bus {
    Bus::Embedded(EmbeddedBus::open(config).unwrap())
}

fn fresh() -> (TempDir, EmbeddedBusConfig, Bus) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let bus = bus(&config);
    (dir, config, bus)
}

#[tokio::test]
async fn what_was_published_since_a_time_comes_again() {
    let (_dir, _, bus) = fresh();
    let publisher = bus.publisher("t").unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let mut other = bus.subscriber("t", "other").await.unwrap();
    publisher.publish(messages(0..10)).await.unwrap();
    let before = take(&mut subscriber, 10).await;
    // Publishing times are whole milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    publisher.publish(messages(10..20)).await.unwrap();
    let after = take(&mut subscriber, 10).await;
    let since = after[0].published_at;
    assert!(before[9].published_at < since);
    ack(&subscriber, &before[..5]);
    ack(&subscriber, &after[..5]);
    bus.rewind("t", "s", since).await.unwrap();
    let again = take(&mut subscriber, 10).await;
    assert_eq!(numbers(&again), (10..20).collect::<Vec<_>>(), "acked or not");
    ack(&subscriber, &before);
    ack(&subscriber, &after);
    ack(&subscriber, &again);
    wait_for_backlog(&bus, "t", "s", 0).await;
    let of_other = take(&mut other, 20).await;
    ack(&other, &of_other);
    wait_for_backlog(&bus, "t", "other", 0).await;

    bus.rewind("t", "s", since.plus(3_600_000)).await.unwrap();
    assert_eq!(bus.backlog("t", "s").await.unwrap().messages, Some(0), "nothing was published since");
    bus.rewind("t", "s", before[0].published_at).await.unwrap();
    assert_eq!(numbers(&take(&mut subscriber, 20).await), (0..20).collect::<Vec<_>>());
    let absent = bus.rewind("t", "nobody", since).await.unwrap_err();
    assert!(matches!(absent, BusError::NoSubscription { .. }), "{absent}");
}

#[tokio::test]
async fn any_name_is_a_name() {
    let (_dir, _, bus) = fresh();
    for (topic, subscription) in [("../escape", "a/b"), ("a.b", "c"), ("a", "b.c"), ("", ""), (&"long".repeat(50), "ü\n")] {
        let mut subscriber = bus.subscriber(topic, subscription).await.unwrap();
        bus.publisher(topic).unwrap().publish(vec![message(topic)]).await.unwrap();
        let taken = take(&mut subscriber, 1).await;
        assert_eq!(text(&taken[0]), topic);
    }
}

#[tokio::test]
async fn what_was_not_acked_before_a_close_comes_after_it_and_nothing_else() {
    let (_dir, _, bus) = fresh();
    let publisher = bus.publisher("t").unwrap();
    publisher.publish(messages(0..600)).await.unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 600).await;
    let (done, left): (Vec<_>, Vec<_>) = taken.into_iter().partition(|delivery| !number(delivery).is_multiple_of(3));
    ack(&subscriber, &done);
    subscriber.close(CLOSE).await;
    let backlog = bus.backlog("t", "s").await.unwrap();
    assert_eq!(backlog.messages, Some(left.len() as u64));
    assert!(backlog.oldest_age.is_some());
    publisher.publish(messages([600])).await.unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, left.len() + 1).await;
    let mut expected = numbers(&left);
    expected.push(600);
    assert_eq!(numbers(&taken), expected);
    assert!(taken.iter().all(|delivery| delivery.attempt == 1), "what a clean close gave back is no attempt");
}

#[tokio::test]
async fn closing_gives_back_what_is_unanswered_at_once() {
    let (_dir, _, bus) = fresh();
    bus.publisher("t").unwrap().publish(messages(0..300)).await.unwrap();
    let mut holder = bus.subscriber("t", "s").await.unwrap();
    let held = take(&mut holder, 300).await;
    let mut heir = bus.subscriber("t", "s").await.unwrap();
    let late = holder.acker();
    holder.close(CLOSE).await;
    late.ack(&[held[0].ack]);
    assert_eq!(numbers(&take(&mut heir, 300).await), numbers(&held), "an answer after the close is too late");
    // A subscriber that is dropped gives back as well.
    drop(heir);
    let mut heir = bus.subscriber("t", "s").await.unwrap();
    take(&mut heir, 300).await;
}

#[tokio::test]
async fn abandoning_gives_back_at_once_and_counts_the_attempt() {
    let (_dir, _, bus) = fresh();
    bus.publisher("t").unwrap().publish(messages(0..300)).await.unwrap();
    let mut heir = bus.subscriber("t", "s").await.unwrap();
    for attempt in 1..4 {
        let taken = take(&mut heir, 300 - (attempt - 1)).await;
        assert!(taken.iter().all(|delivery| delivery.attempt as usize == attempt), "attempt {attempt}");
        ack(&heir, &taken[..1]);
        heir.abandon(CLOSE).await;
        heir = bus.subscriber("t", "s").await.unwrap();
    }
}

#[tokio::test]
async fn a_new_subscription_begins_with_the_oldest_message_that_is_kept() {
    let (_dir, _, bus) = fresh();
    bus.publisher("t").unwrap().publish(messages(0..100)).await.unwrap();
    let mut early = bus.subscriber("t", "early").await.unwrap();
    let first = take(&mut early, 100).await;
    ack(&early, &first);
    wait_for_backlog(&bus, "t", "early", 0).await;
    let mut late = bus.subscriber("t", "late").await.unwrap();
    assert_eq!(numbers(&take(&mut late, 100).await), numbers(&first));
}

#[tokio::test]
async fn an_envelope_may_be_altogether_empty() {
    let (_dir, _, bus) = fresh();
    let batch = vec![Envelope::new(0, &[], b""), Envelope::new(1, &[("", "")], b"")];
    bus.publisher("t").unwrap().publish(batch.clone()).await.unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 2).await;
    assert_eq!(taken.into_iter().map(|delivery| delivery.envelope).collect::<Vec<_>>(), batch);
}

/// The variable that makes [`helper`] one of the processes below.
const ROLE: &str = "CONVPIPE_TEST_BUS_ROLE";
const DIR: &str = "CONVPIPE_TEST_BUS_DIR";

/// A process on the same bus; killed at the latest when this is dropped.
struct Process(Child);

impl Process {
    fn start(role: &str, dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["bus::embedded::helper", "--exact", "--ignored"]).env(ROLE, role).env(DIR, dir);
        Self(command.stdout(std::process::Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "not a test: a process that the tests below start and kill"]
#[expect(clippy::disallowed_methods, reason = "its arguments; the test harness takes the command line")]
async fn helper() {
    let (role, dir) = (std::env::var(ROLE).unwrap(), std::env::var(DIR).unwrap());
    let bus = bus(&helper_config(Path::new(&dir)));
    match role.as_str() {
        "publish" => publish_for_ever(&bus).await,
        "consume" => consume_for_ever(&bus).await,
        "hold" => hold_for_ever(&bus).await,
        other => panic!("no role {other}"),
    }
}

fn helper_config(dir: &Path) -> EmbeddedBusConfig {
    EmbeddedBusConfig { lease_ms: 800, in_flight_max: 600, ..config(dir) }
}

/// Publishes 0, 1, 2 … to `events` and says in `confirmed` what was confirmed.
async fn publish_for_ever(bus: &Bus) {
    let (events, confirmed) = (bus.publisher("events").unwrap(), bus.publisher("confirmed").unwrap());
    for batch in 0.. {
        events.publish(messages(batch * 10..batch * 10 + 10)).await.unwrap();
        confirmed.publish(messages([batch * 10 + 9])).await.unwrap();
    }
}

/// Copies what `events` delivers to `copied`, and acks it only then.
async fn consume_for_ever(bus: &Bus) {
    let copied = bus.publisher("copied").unwrap();
    let mut subscriber = bus.subscriber("events", "s").await.unwrap();
    loop {
        let deliveries = subscriber.next().await.unwrap();
        for part in deliveries.chunks(100) {
            copied.publish(part.iter().map(|delivery| delivery.envelope.clone()).collect()).await.unwrap();
            ack(&subscriber, part);
        }
    }
}

/// Takes what there is and never answers.
async fn hold_for_ever(bus: &Bus) {
    let copied = bus.publisher("copied").unwrap();
    let mut subscriber = bus.subscriber("events", "s").await.unwrap();
    loop {
        let deliveries = subscriber.next().await.unwrap();
        copied.publish(deliveries.into_iter().map(|delivery| delivery.envelope).collect()).await.unwrap();
    }
}

#[tokio::test]
async fn consumers_killed_at_any_moment_lose_nothing() {
    const ALL: usize = 10_000;
    let (dir, ..) = fresh();
    let bus = bus(&helper_config(dir.path()));
    let publisher = bus.publisher("events").unwrap();
    for start in (0..ALL).step_by(100) {
        publisher.publish(messages(start..start + 100)).await.unwrap();
    }
    let mut copied = bus.subscriber("copied", "watch").await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for progress in [1, 1_500, 3_000] {
        let process = Process::start("consume", dir.path());
        while seen.len() < progress {
            let deliveries = within(copied.next()).await.unwrap();
            seen.extend(deliveries.iter().map(number));
            ack(&copied, &deliveries);
        }
        process.kill();
    }
    let mut last = bus.subscriber("events", "s").await.unwrap();
    while seen.len() < ALL {
        let (subscriber, deliveries) = tokio::select! {
            deliveries = within(copied.next()) => (&copied, deliveries.unwrap()),
            deliveries = within(last.next()) => (&last, deliveries.unwrap()),
        };
        seen.extend(numbers(&deliveries));
        ack(subscriber, &deliveries);
    }
    // What a killed one had copied and not acked comes again.
    let ack_for_ever = async {
        loop {
            let deliveries = last.next().await.unwrap();
            ack(&last, &deliveries);
        }
    };
    tokio::select! {
        () = ack_for_ever => {}
        () = wait_for_backlog(&bus, "events", "s", 0) => {}
    }
}

#[tokio::test]
async fn what_a_killed_publisher_had_confirmed_is_there() {
    let (dir, _, bus) = fresh();
    let mut confirmed = bus.subscriber("confirmed", "watch").await.unwrap();
    let process = Process::start("publish", dir.path());
    let mut last = 0;
    while last < 500 {
        last = within(confirmed.next()).await.unwrap().iter().map(number).max().unwrap();
    }
    process.kill();
    let mut subscriber = bus.subscriber("events", "s").await.unwrap();
    let seen = drain(&mut subscriber, last + 1).await;
    assert!(seen.keys().copied().eq(0..seen.len()) && seen.len() % 10 == 0, "whole batches, in order");
}

#[tokio::test]
async fn leases_of_a_dead_process_are_taken_over_without_waiting_for_their_end() {
    let (dir, _, bus) = fresh();
    bus.publisher("events").unwrap().publish(messages(0..300)).await.unwrap();
    let process = Process::start("hold", dir.path());
    let mut copied = bus.subscriber("copied", "watch").await.unwrap();
    take(&mut copied, 300).await;
    process.kill();
    // The default lease of 30 s would be far too long for this.
    let mut heir = bus.subscriber("events", "s").await.unwrap();
    let taken = take(&mut heir, 300).await;
    assert!(taken.iter().all(|delivery| delivery.attempt == 2));
    assert_eq!(heir.counters().redelivered(), 300);
}

#[tokio::test]
async fn leases_of_a_process_that_stands_still_end() {
    let (dir, ..) = fresh();
    let bus = bus(&helper_config(dir.path()));
    bus.publisher("events").unwrap().publish(messages(0..300)).await.unwrap();
    let process = Process::start("hold", dir.path());
    let mut copied = bus.subscriber("copied", "watch").await.unwrap();
    take(&mut copied, 300).await;
    let mut heir = bus.subscriber("events", "s").await.unwrap();
    // While it runs it keeps its leases beyond their 800 ms.
    assert!(tokio::time::timeout(Duration::from_secs(1), heir.next()).await.is_err());
    process.signal(Signal::STOP);
    let taken = take(&mut heir, 300).await;
    assert!(taken.iter().all(|delivery| delivery.attempt == 2));
    ack(&heir, &taken);
    wait_for_backlog(&bus, "events", "s", 0).await;
}

#[tokio::test]
async fn a_publish_wakes_subscribers_of_other_instances_without_their_looking() {
    for depth in [0, 150] {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than a socket address can say.
        let config = config(&dir.path().join("d".repeat(depth)));
        let never = Duration::from_secs(3_600);
        let lease_ms = 7_200_000;
        let listening = EmbeddedBus::open(&EmbeddedBusConfig { lease_ms, ..config.clone() }).unwrap().look_every(never);
        let listening = Bus::Embedded(listening);
        let publisher = bus(&config).publisher("t").unwrap();
        let mut one = listening.subscriber("t", "one").await.unwrap();
        let mut two = listening.subscriber("t", "two").await.unwrap();
        for number in 0..20 {
            publisher.publish(messages([number])).await.unwrap();
            for subscriber in [&mut one, &mut two] {
                let taken = take(subscriber, 1).await;
                ack(subscriber, &taken);
            }
        }
        // So does a close, for those who share the subscription.
        publisher.publish(messages([20])).await.unwrap();
        let held = take(&mut one, 1).await;
        let mut heir = listening.subscriber("t", "one").await.unwrap();
        one.close(Duration::from_secs(5)).await;
        assert_eq!(numbers(&take(&mut heir, 1).await), numbers(&held));
    }
}

#[tokio::test]
async fn a_subscription_that_retention_overtook_skips_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedBusConfig { size_max_bytes: 1 << 20, in_flight_max: 1, ..config(dir.path()) };
    let bus = bus(&config);
    let publisher = bus.publisher("t").unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let mut sent = 0;
    let mut next_batch = || {
        let batch: Vec<Envelope> = (sent..sent + 50)
            .map(|number: usize| {
                let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(2_000).collect();
                Envelope::new(0, &[("number", &number.to_string())], &noise)
            })
            .collect();
        sent += 50;
        batch
    };
    let number = |delivery: &convpipe::bus::Delivery| delivery.envelope.attribute("number").unwrap().parse::<usize>().unwrap();
    publisher.publish(next_batch()).await.unwrap();
    let first = take(&mut subscriber, 1).await;
    // Retention works beside the publisher; publish until the first segments are gone.
    let log = Connection::open(config.dir.join("t.log.db")).unwrap();
    let floor = || log.query_row("SELECT first FROM floor", [], |row| row.get::<_, i64>(0)).unwrap();
    within(async {
        while floor() < 500 {
            publisher.publish(next_batch()).await.unwrap();
        }
    })
    .await;
    drop(publisher);
    assert!(std::fs::metadata(config.dir.join("t.log.db")).unwrap().len() < 8 << 20);
    ack(&subscriber, &first);
    let second = take(&mut subscriber, 1).await;
    let lost = number(&second[0]) - number(&first[0]) - 1;
    assert!(lost >= 499, "{lost}");
    assert_eq!(subscriber.counters().lost_to_retention(), lost as u64);
    // What was leased and then deleted is lost too, and does not come again.
    subscriber.acker().nack(second[0].ack, Duration::from_millis(50));
    log.execute("DELETE FROM segment", []).unwrap();
    log.execute("UPDATE floor SET first = ?1", [sent as i64]).unwrap();
    drop(subscriber);
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    bus.publisher("t").unwrap().publish(messages([1])).await.unwrap();
    assert_eq!(numbers(&take(&mut subscriber, 1).await), [1], "offsets went on after everything was deleted");
    // That one is unanswered; nothing that was deleted is in the backlog.
    wait_for_backlog(&bus, "t", "s", 1).await;
}

#[tokio::test]
async fn the_wal_starts_over_while_small_publishes_go_on_without_a_pause() {
    let (_dir, config, bus) = fresh();
    let publisher = bus.publisher("t").unwrap();
    publisher.publish(messages([0])).await.unwrap();
    // The header of a WAL counts how often it was begun: https://sqlite.org/fileformat2.html#walformat
    let wal = config.dir.join("t.log.db-wal");
    let begun = || std::fs::read(&wal).unwrap()[12..16].to_vec();
    let first = begun();
    within(async {
        while begun() == first {
            for number in 0..1_000 {
                publisher.publish(messages([number])).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_damaged_segment_is_skipped_and_counted() {
    let (_dir, config, bus) = fresh();
    let publisher = bus.publisher("t").unwrap();
    for start in [0, 10, 20] {
        publisher.publish(messages(start..start + 10)).await.unwrap();
    }
    let log = Connection::open(config.dir.join("t.log.db")).unwrap();
    log.execute("UPDATE segment SET data = x'0102030405' WHERE first = 10", []).unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 20).await;
    assert_eq!(numbers(&taken), (0..10).chain(20..30).collect::<Vec<_>>());
    ack(&subscriber, &taken);
    wait_for_backlog(&bus, "t", "s", 0).await;
    assert_eq!((subscriber.counters().corrupt(), subscriber.counters().lost_to_retention()), (10, 0));
}

#[tokio::test]
async fn a_fault_is_reported_and_the_subscriber_goes_on_once_it_is_over() {
    let (_dir, config, bus) = fresh();
    bus.publisher("t").unwrap().publish(messages(0..10)).await.unwrap();
    let mut subscriber = bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 10).await;
    let files = Connection::open(config.dir.join("t.s.sub.db")).unwrap();
    files.execute_batch("ALTER TABLE lease RENAME TO hidden").unwrap();
    ack(&subscriber, &taken);
    let error = within(subscriber.next()).await.unwrap_err().to_string();
    assert!(error.contains("t.s.sub.db") && error.contains("lease"), "{error}");
    files.execute_batch("ALTER TABLE hidden RENAME TO lease").unwrap();
    // There is nothing to deliver any more; that it is over is told all the same.
    while !within(subscriber.next()).await.is_ok_and(|deliveries| deliveries.is_empty()) {}
    wait_for_backlog(&bus, "t", "s", 0).await;
}

#[tokio::test]
async fn folders_and_sockets_are_private_and_go_away() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, config, bus) = fresh();
    let subscriber = bus.subscriber("t", "s").await.unwrap();
    let wake = config.dir.join("wake/t");
    for path in [&config.dir, &wake] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    assert_eq!(std::fs::read_dir(&wake).unwrap().count(), 1);
    subscriber.close(Duration::from_secs(5)).await;
    assert_eq!(std::fs::read_dir(&wake).unwrap().count(), 0);
    let occupied = config.dir.join("file");
    std::fs::write(&occupied, "").unwrap();
    let error = EmbeddedBus::open(&EmbeddedBusConfig { dir: occupied, ..config }).unwrap_err().to_string();
    assert!(error.contains("bus.embedded.dir"), "{error}");
}
