//! Processes that are killed in the middle, over and over: what stands in the stores afterwards is what an undisturbed run leaves.

use std::collections::{BTreeMap, BTreeSet};

use convpipe::bus::Subscriber;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::EventKind;
use convpipe::ws::serve::{self, Player};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::place::{LIMIT, Place, busy_evening, differences_of, present_frames, wait_until};
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::ws::artifact;

const KILLS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_killed_twenty_times_loses_and_repeats_nothing() {
    let redis = RedisServer::start();
    let (mut calm, mut wild) = (Place::new(&redis.url(), "calm"), Place::new(&redis.url(), "wild"));
    calm.judge_by_id_alone();
    wild.judge_by_id_alone();
    let envelopes: Vec<Envelope> = busy_evening(4_000).into_iter().filter(is_in_any_order).collect();
    calm.publish(envelopes).await;
    wild.copy_bus_of(&calm);

    let process = calm.start(&["snapshot"]);
    calm.wait_backlog(&calm.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());

    // Small batches, so that there is progress to kill in; and each kill is one more delivery of what was held, which is no poison.
    wild.config.snapshot.batch_max = 8;
    wild.config.bus.embedded.in_flight_max = 16;
    wild.config.bus.embedded.attempts_max = 1_000;
    let bus = wild.bus();
    let mut random = fastrand::Rng::with_seed(7);
    let mut processes = vec![wild.start(&["snapshot"])];
    wait_until("a subscription", async || wild.backlog(&bus).await.is_some()).await;
    let mut left = wild.backlog(&bus).await.unwrap();
    let step = left / (KILLS + 4);
    for kill in 0..KILLS {
        // Every third time two are alive, and only one of them is killed.
        if kill % 3 == 0 {
            processes.push(wild.start(&["snapshot"]));
        }
        left = left.saturating_sub(random.u64(1..=step));
        wild.wait_backlog(&bus, left).await;
        processes.swap_remove(random.usize(..processes.len())).kill();
        if processes.is_empty() {
            processes.push(wild.start(&["snapshot"]));
        }
        left = wild.backlog(&bus).await.unwrap().min(left);
    }
    assert!(left > 0, "the kills are over before the work is");
    wild.wait_backlog(&bus, 0).await;
    for process in processes {
        assert!(process.terminate(LIMIT).status.success());
    }

    let (calm, wild) = (calm.read().await, wild.read().await);
    assert!(calm.conversations.len() > 300, "{} conversations", calm.conversations.len());
    assert!(calm.conversations.values().any(|conversation| conversation.fan_events.iter().flatten().count() > 3));
    let found = differences_of(&calm, &wild);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
}

/// Whether the event means the same whenever it comes. Who is online tells nothing of a conversation that does not exist yet, and a delete
/// before its message stands in no stream.
fn is_in_any_order(envelope: &Envelope) -> bool {
    !matches!(envelope.event().unwrap().kind, EventKind::PresenceSnapshot | EventKind::MessageDeleted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_that_was_killed_catches_up_and_owns_up_to_its_gaps() {
    const INGEST_KILLS: usize = 20;
    let redis = RedisServer::start();
    let mut frames = present_frames(1_500);
    // A message that its source does not date has the time at which it was read, which differs with the run.
    frames.retain(|(_, text)| !text.contains("\"api2_chat_message\"") || text.contains("\"createdAt\":\"20"));
    let of_accounts: Vec<String> = platform_accounts(&frames).into_iter().map(str::to_owned).collect();
    let accounts = of_accounts.len();
    frames.extend(of_accounts.into_iter().map(|account| (account, format!(r#"{{"typing":{{"id":{LAST_FAN}}}}}"#))));
    let (calm, wild) = (Place::new(&redis.url(), "calm"), Place::new(&redis.url(), "wild"));

    let platform = Platform::start(&calm, &frames).await;
    let mut topic = Topic::of(&calm).await;
    let ingest = calm.start(&["ingest"]);
    platform.play(&frames).await;
    topic.wait_last(accounts).await;
    platform.stop(ingest).await;

    let platform = Platform::start(&wild, &frames).await;
    let mut topic = Topic::of(&wild).await;
    let mut ingest = wild.start(&["ingest"]);
    let mut random = fastrand::Rng::with_seed(11);
    let mut rest = &frames[..];
    for kill in 0..INGEST_KILLS {
        // Each process says that something was missed, before it is killed in the middle of what it reads.
        topic.wait_gaps(kill + 1).await;
        let (now, later) = rest.split_at(random.usize(1..frames.len() / INGEST_KILLS));
        rest = later;
        platform.play(now).await;
        ingest.kill();
        ingest = wild.start(&["ingest"]);
    }
    topic.wait_gaps(INGEST_KILLS + 1).await;
    // What was on its way is lost with the process; the platform tells it again.
    platform.play(&frames).await;
    topic.wait_last(accounts).await;
    platform.stop(ingest).await;

    for place in [&calm, &wild] {
        let snapshot = place.start(&["snapshot"]);
        place.wait_backlog(&place.bus(), 0).await;
        assert!(snapshot.terminate(LIMIT).status.success());
    }
    let (calm, wild) = (calm.read().await, wild.read().await);
    let told = |actual: &crate::oracle::compare::Actual| -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for ((account, conversation), written) in &actual.conversations {
            // What the source dates itself. The rest (typing, notifications) has the time at which it was read, and differs with that.
            let snapshot = written.snapshot.as_ref().unwrap();
            let fields = ["fan", "last_message", "last_inbound_at", "last_outbound_at", "unread", "awaiting_reply_since", "last_ppv"];
            for field in fields {
                all.insert(format!("{account}/{conversation} {field}"), snapshot[field].clone());
            }
            for (id, message) in written.history.iter().flatten() {
                let mut message = message.clone();
                message.as_object_mut().unwrap().remove("expire_at");
                // A delete is not dated.
                message["deleted_at"] = json!(message["deleted_at"].is_string());
                all.insert(format!("{account}/{conversation}/{id}"), message);
            }
        }
        all
    };
    let (calm, wild) = (told(&calm), told(&wild));
    assert!(calm.len() > 1_000, "{}", calm.len());
    let mut found = Vec::new();
    for at in calm.keys().chain(wild.keys()).collect::<BTreeSet<_>>() {
        if calm.get(at) != wild.get(at) {
            found.push(format!("{at}: {:?}, but {:?}", calm.get(at).map(Value::to_string), wild.get(at).map(Value::to_string)));
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
}

/// What ingest publishes, as it comes.
struct Topic {
    subscriber: Subscriber,
    gaps: BTreeSet<String>,
    /// Those of one account, so that each process counts once.
    gaps_of_one: usize,
    accounts_done: BTreeSet<String>,
}

impl Topic {
    async fn of(place: &Place) -> Self {
        let subscriber = place.bus().subscriber(&place.config.bus.topic, "test").await.unwrap();
        Self { subscriber, gaps: BTreeSet::new(), gaps_of_one: 0, accounts_done: BTreeSet::new() }
    }

    /// Waits until one of the accounts has had so many gaps.
    async fn wait_gaps(&mut self, count: usize) {
        self.wait("a gap", |topic| topic.gaps_of_one >= count).await;
    }

    /// Waits until each account's last frame has come.
    async fn wait_last(&mut self, accounts: usize) {
        self.wait("the last frames", |topic| topic.accounts_done.len() == accounts).await;
    }

    async fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let deliveries = tokio::time::timeout(LIMIT, self.subscriber.next()).await.expect(what).unwrap();
            for delivery in deliveries {
                let event = delivery.envelope.event().unwrap();
                let account = event.account_id.raw();
                if event.kind == EventKind::ConnectionGap && self.gaps.insert(event.id.raw().to_owned()) {
                    self.gaps_of_one += usize::from(account == "200000001");
                }
                if event.conversation_id.as_ref().is_some_and(|id| id.raw() == LAST_FAN) {
                    self.accounts_done.insert(account.to_owned());
                }
                self.subscriber.acker().ack(&[delivery.ack]);
            }
        }
    }
}

/// Who types last, to every account.
const LAST_FAN: &str = "199999999";

fn platform_accounts(frames: &[(String, String)]) -> BTreeSet<&str> {
    frames.iter().map(|(account, _)| account.as_str()).collect()
}

/// The source, with an artifact for each account.
struct Platform {
    player: Player,
    shutdown: Shutdown,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Platform {
    async fn start(place: &Place, frames: &[(String, String)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let accounts = platform_accounts(frames);
        place.write_artifacts(accounts.iter().map(|account| artifact(account, 1, &url)));
        let (player, source) = serve::stage(accounts, &[]);
        let shutdown = Shutdown::new();
        Self { player, serving: tokio::spawn(serve::serve(listener, source, shutdown.clone())), shutdown }
    }

    async fn play(&self, frames: &[(String, String)]) {
        for (account, frame) in frames {
            tokio::time::timeout(LIMIT, self.player.play(account, frame.clone())).await.unwrap().unwrap();
        }
    }

    /// Ends ingest in order, and then the server.
    async fn stop(self, ingest: Process) {
        assert!(ingest.terminate(LIMIT).status.success());
        self.shutdown.request();
        self.serving.await.unwrap().unwrap();
    }
}
