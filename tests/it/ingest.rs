//! Ingest over real sockets: the whole daemon but the normalizer and the bus, for which small stand-ins tell what happened.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convpipe::bus::Refusal;
use convpipe::config::IngestConfig;
use convpipe::daemons::ingest::{self, Change, Counters, Counts, Ingest, IngestError, Intake, Marks, Publish};
use convpipe::runtime::clock::Clock;
use convpipe::runtime::health::Health;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::runtime::trace::Tracer;
use convpipe::runtime::trust::Trust;
use convpipe::schema::artifact::{Artifact, ArtifactStatus};
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind};
use convpipe::transform::normalize::FrameContext;
use convpipe::ws::serve::{self, Player};
use convpipe::ws::session::Heard;
use convpipe::ws::socket::{self, Dial};
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::ws::artifact;

mod push_back;

const LIMIT: Duration = Duration::from_secs(10);

/// A bus in memory that can be told to refuse.
#[derive(Clone, Default)]
pub(crate) struct Topic {
    pub(crate) messages: Arc<watch::Sender<Vec<Envelope>>>,
    pub(crate) down: Arc<AtomicBool>,
    /// What says one of these is refused for good.
    refuses: Arc<Mutex<Vec<&'static str>>>,
}

/// What was refused for good; nothing where the bus is down.
#[derive(Debug, thiserror::Error)]
#[error("the bus refuses {}", .0.len())]
pub(crate) struct Refused(Vec<Refusal>);

impl Publish for Topic {
    type Error = Refused;

    async fn publish(&self, batch: Vec<Envelope>) -> Result<(), Refused> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Refused(Vec::new()));
        }
        let refuses = self.refuses.lock().unwrap().clone();
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for (index, envelope) in batch.into_iter().enumerate() {
            if refuses.iter().any(|refused| say(&envelope).starts_with(refused)) {
                refused.push(Refusal { index, reason: "not to its taste".into() });
            } else {
                taken.push(envelope);
            }
        }
        self.messages.send_modify(|messages| messages.extend(taken));
        if refused.is_empty() { Ok(()) } else { Err(Refused(refused)) }
    }

    fn refused(error: &Refused) -> &[Refusal] {
        &error.0
    }
}

impl Topic {
    /// Waits until the messages satisfy `enough`, and returns what each says: kind, and reason or number.
    async fn wait(&self, what: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut messages = self.messages.subscribe();
        let waited = timeout(LIMIT, async {
            loop {
                let said: Vec<String> = messages.borrow_and_update().iter().map(say).collect();
                if enough(&said) {
                    return said;
                }
                messages.changed().await.unwrap();
            }
        });
        match waited.await {
            Ok(said) => said,
            Err(_) => panic!("{what}: only {:?}", self.messages.borrow().iter().map(say).collect::<Vec<_>>()),
        }
    }

    async fn wait_for(&self, last: &str) -> Vec<String> {
        self.wait(last, |said| said.iter().any(|said| said == last)).await
    }
}

/// `message.received 7`, `connection.closed reset`, or of a quarantine message its reason and bytes.
pub(crate) fn say(envelope: &Envelope) -> String {
    if let Some(reason) = envelope.attribute("reason") {
        return format!("{reason} {}", String::from_utf8_lossy(envelope.data()));
    }
    let event = envelope.event().unwrap();
    let link = event.link.as_ref();
    let detail = link.and_then(|link| link.reason.as_deref().or(link.auth_status.as_deref()));
    match detail {
        Some(detail) => format!("{} {detail}", event.kind),
        None if event.message.is_some() => format!("{} {}", event.kind, event.message_id().unwrap()),
        None => event.kind.to_string(),
    }
}

/// A normalizer for frames that are a number: a message, or where it is negative a fan who types. `counters 3 of 7` are counters of conversation 7.
fn translate(frame: &[u8], at: &FrameContext<'_>, intake: &mut Intake) {
    let text = String::from_utf8_lossy(frame);
    for (prefix, heard) in [(r#"{"connected""#, Heard::Connected), (r#"{"online""#, Heard::Online), (r#"{"error""#, Heard::error(&text))] {
        if text.starts_with(prefix) {
            return intake.control(heard);
        }
    }
    assert_ne!(text, "a bug");
    if let Some(counters) = text.strip_prefix("counters ") {
        let (number, of) = counters.split_once(" of ").unwrap();
        let mut event = Event::of_account(EventKind::CountersUpdated, number.to_owned(), at.account_id, at.connection, at.received_at);
        event.conversation_id = Some(of.to_owned().into());
        return intake.event(&event);
    }
    match text.trim().parse::<i64>() {
        Ok(number) => {
            let kind = if number < 0 { EventKind::TypingStarted } else { EventKind::MessageReceived };
            let mut event = Event::of_account(kind, format!("m{number}"), at.account_id, at.connection, at.received_at);
            event.message = Some(convpipe::schema::event::Message { id: Some(number.to_string().into()), ..Default::default() });
            intake.event(&event);
        }
        Err(_) => intake.rejected(Envelope::new(0, &[("reason", "not_json")], frame)),
    }
}

/// A running ingest.
pub(crate) struct Running {
    pub(crate) artifacts: Arc<Mutex<Vec<Artifact>>>,
    pub(crate) events: Topic,
    pub(crate) quarantine: Topic,
    pub(crate) counters: Arc<Counters>,
    live: Arc<Mutex<Vec<String>>>,
    shutdown: Shutdown,
    task: JoinHandle<Result<Counts, IngestError>>,
}

/// Short waits, so that a session comes back within a test; heartbeats as they are, so that a busy machine misses none.
fn config() -> IngestConfig {
    IngestConfig { backoff_min_ms: 1, backoff_max_ms: 5, drain_timeout_s: 5, ..IngestConfig::default() }
}

/// What the network, the time and the disk are to an ingest.
pub(crate) struct World {
    pub(crate) dial: Dial,
    pub(crate) clock: Clock,
    pub(crate) marks: Option<Arc<Marks>>,
    pub(crate) trust: Trust,
    pub(crate) scan_every: Duration,
}

impl World {
    pub(crate) fn real() -> Self {
        let trust = Trust::new(None).unwrap();
        Self { dial: socket::tcp(), clock: Clock::start(), marks: None, trust, scan_every: Duration::from_millis(5) }
    }
}

fn start(config: IngestConfig, artifacts: Vec<Artifact>) -> Running {
    start_in(World::real(), config, artifacts)
}

pub(crate) fn start_in(world: World, config: IngestConfig, artifacts: Vec<Artifact>) -> Running {
    let World { dial, clock, marks, trust, scan_every } = world;
    let (artifacts, shutdown) = (Arc::new(Mutex::new(artifacts)), Shutdown::new());
    let (events, quarantine, counters) = (Topic::default(), Topic::default(), Arc::new(Counters::default()));
    let scanned = artifacts.clone();
    let mut known: Vec<String> = Vec::new();
    let live = Arc::new(Mutex::new(Vec::new()));
    let went_live = live.clone();
    let ingest = Ingest {
        config,
        changes: tokio::sync::watch::channel(Arc::default()).1,
        trust,
        dial,
        clock,
        marks,
        recorder: None,
        scan: move || {
            let artifacts = scanned.lock().unwrap().clone();
            let gone = known.iter().filter(|known| artifacts.iter().all(|artifact| artifact.account_id != **known));
            let mut changes: Vec<Change> = gone.cloned().map(Change::Gone).collect();
            known = artifacts.iter().map(|artifact| artifact.account_id.clone()).collect();
            changes.extend(artifacts.into_iter().map(|artifact| Change::Present(Arc::new(artifact))));
            Ok::<_, Infallible>(changes)
        },
        scan_every,
        translate,
        events: events.clone(),
        quarantine: quarantine.clone(),
        counters: counters.clone(),
        health: Health::default(),
        tracer: Tracer::default(),
        on_live: Some(Arc::new(move |account| went_live.lock().unwrap().push(account.to_owned()))),
        on_refused: None,
    };
    let task = tokio::spawn(ingest::run(ingest, shutdown.clone()));
    Running { artifacts, events, quarantine, counters, live, shutdown, task }
}

impl Running {
    /// Waits until the counters satisfy `enough`. They have no wake-up of their own, so this looks again and again.
    async fn counted(&self, what: &str, enough: impl Fn(&Counts) -> bool) {
        let waited = timeout(LIMIT, async {
            while !enough(&self.counters.read()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: only {:?}", self.counters.read());
    }

    pub(crate) async fn stop(self) -> Result<Counts, IngestError> {
        self.shutdown.request();
        timeout(LIMIT, self.task).await.unwrap().unwrap()
    }
}

/// The sound platform: `serve`.
async fn platform(accounts: &[&str]) -> (Player, String, Shutdown) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (player, source) = serve::stage(accounts.iter().copied(), &[]);
    let shutdown = Shutdown::new();
    tokio::spawn(serve::serve(listener, source, shutdown.clone()));
    (player, url, shutdown)
}

type Peer = WebSocketStream<TcpStream>;

/// A platform whose connections the test plays itself: each one comes out here behind its WebSocket handshake.
async fn scripted() -> (mpsc::Receiver<Peer>, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let peer = tokio_tungstenite::accept_async(tcp).await.unwrap();
            if sender.send(peer).await.is_err() {
                return;
            }
        }
    });
    (receiver, url)
}

/// The next connection, after it has sent its token and been told these frames.
async fn accept(peers: &mut mpsc::Receiver<Peer>, frames: &[&str]) -> Peer {
    let mut peer = timeout(LIMIT, peers.recv()).await.expect("a connection in time").unwrap();
    let hello = timeout(LIMIT, peer.next()).await.unwrap().unwrap().unwrap();
    assert!(hello.to_text().unwrap().starts_with(r#"{"act":"connect","token":"replay-"#), "{hello:?}");
    for frame in frames {
        peer.send(Message::text(*frame)).await.unwrap();
    }
    peer
}

const CONNECTED: &str = r#"{"connected":true,"v":"5.4.0"}"#;

#[tokio::test]
async fn frames_become_events_in_order_and_a_stop_loses_none() {
    let (player, url, _platform) = platform(&["1", "2"]).await;
    let running = start(config(), vec![artifact("1", 1, &url), artifact("2", 1, &url)]);
    for n in 0..5_000 {
        player.play(if n % 2 == 0 { "1" } else { "2" }, n.to_string()).await.unwrap();
    }
    player.play("1", "{broken").await.unwrap();
    running.events.wait("all messages", |said| said.iter().filter(|said| said.starts_with("message")).count() == 5_000).await;
    running.quarantine.wait_for("not_json {broken").await;
    let (events, quarantine) = (running.events.clone(), running.quarantine.clone());
    let counts = running.stop().await.unwrap();

    for account in ["1", "2"] {
        let of_account: Vec<Envelope> =
            events.messages.borrow().iter().filter(|envelope| envelope.attribute("ce-accountid") == Some(account)).cloned().collect();
        let said: Vec<String> = of_account.iter().map(say).collect();
        assert_eq!(said[..2], ["connection.opened", "connection.gap start"]);
        assert_eq!(said.last().unwrap(), "connection.closed shutdown");
        let first = usize::from(account == "2");
        let expected: Vec<String> = (first..5_000).step_by(2).map(|n| format!("message.received {n}")).collect();
        assert_eq!(said[2..said.len() - 1], expected);

        let opened = of_account[0].event().unwrap();
        let connection = opened.connection.raw();
        assert_eq!(opened.id.raw(), format!("onlyfans:{account}:conn:{connection}:opened"));
        let gap = of_account[1].event().unwrap();
        assert_eq!(gap.id.raw(), format!("onlyfans:{account}:gap:{connection}"));
        let link = gap.link.unwrap();
        assert_eq!((link.from, link.to), (None, Some(gap.received_at)), "nothing was ever heard before");
    }
    assert_eq!((counts.rejected, counts.buffer_bytes, counts.live), (1, 0, 0));
    let published = events.messages.borrow().len() + quarantine.messages.borrow().len();
    assert_eq!(counts.published, published as u64);
    assert!(counts.frames >= 5_003 && counts.connects == 2 && counts.failures == 0, "{counts:?}");
}

#[tokio::test]
async fn what_the_bus_refuses_for_good_is_set_aside_and_the_rest_goes_on() {
    let (player, url, _platform) = platform(&["1"]).await;
    let running = start(config(), vec![artifact("1", 1, &url)]);
    running.events.refuses.lock().unwrap().extend(["message.received 2", "message.received 4"]);
    running.quarantine.refuses.lock().unwrap().push("not_json");
    for frame in ["1", "2", "3", "{broken", "4", "5"] {
        player.play("1", frame.to_owned()).await.unwrap();
    }
    let said = running.events.wait_for("message.received 5").await;
    assert_eq!(said.iter().filter(|said| said.starts_with("message")).count(), 3, "{said:?}");
    running.quarantine.wait("both", |said| said.len() == 2).await;
    let quarantined = running.quarantine.messages.borrow().clone();
    for (envelope, id) in quarantined.iter().zip(["m2", "m4"]) {
        let event = envelope.event().unwrap();
        assert_eq!(event.id.raw(), id, "its JSON is whole");
        let attribute = |name| envelope.attribute(name).unwrap_or_default();
        assert_eq!([attribute("reason"), attribute("detail"), attribute("stage")], ["refused_by_bus", "not to its taste", "publish"]);
        assert_eq!(attribute("account"), "1");
    }
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.refused, counts.quarantine_refused, counts.publish_retries, counts.buffer_bytes), (2, 1, 0, 0));
}

#[tokio::test]
async fn accounts_come_go_and_change_with_their_artifacts() {
    let (player, url, _platform) = platform(&["1", "2"]).await;
    let running = start(config(), vec![]);
    running.artifacts.lock().unwrap().push(artifact("1", 1, &url));
    running.events.wait_for("connection.gap start").await;
    timeout(LIMIT, player.connected(1)).await.unwrap();

    running.artifacts.lock().unwrap()[0] = artifact("1", 2, &url);
    let said = running.events.wait_for("connection.closed new_artifact").await;
    assert!(!said.contains(&"connection.gap new_artifact".to_owned()), "{said:?}");

    running.artifacts.lock().unwrap()[0].status = ArtifactStatus::NeedsOtp;
    running.events.wait_for("account.auth_changed needs_otp").await;
    assert_eq!(running.counters.read().live, 1, "what is live lives on");

    *running.artifacts.lock().unwrap() = vec![artifact("2", 1, &url)];
    let twice = |said: &[String]| said.iter().filter(|said| *said == "connection.gap start").count() == 2;
    running.events.wait("the second account", twice).await;
    running.artifacts.lock().unwrap().clear();
    running.events.wait_for("connection.closed shutdown").await;
    assert_eq!(*running.live.lock().unwrap(), ["1", "1", "2"]);
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.connects, counts.failures, counts.live), (3, 0, 0));
}

#[tokio::test]
async fn a_new_artifact_is_live_before_the_old_connection_is_closed() {
    let (mut peers, url) = scripted().await;
    let running = start(config(), vec![artifact("1", 1, &url)]);
    let mut old = accept(&mut peers, &[CONNECTED, "1"]).await;
    running.events.wait_for("message.received 1").await;
    running.artifacts.lock().unwrap()[0] = artifact("1", 2, &url);
    // The new one says nothing yet: the old one is what is read.
    let mut new = accept(&mut peers, &[]).await;
    old.send(Message::text("2")).await.unwrap();
    running.events.wait_for("message.received 2").await;
    new.send(Message::text(CONNECTED)).await.unwrap();
    new.send(Message::text("3")).await.unwrap();
    running.events.wait_for("message.received 3").await;
    // Both are read: what comes twice has one id.
    for n in ["3", "4"] {
        old.send(Message::text(n)).await.unwrap();
    }
    let said = running.events.wait_for("message.received 4").await;
    assert_eq!(
        said,
        [
            "connection.opened",
            "connection.gap start",
            "message.received 1",
            "message.received 2",
            "connection.closed new_artifact",
            "connection.opened",
            "message.received 3",
            "message.received 3",
            "message.received 4",
        ]
    );
    let events = running.events.messages.borrow().clone();
    let [closed, opened, first, again] = [4, 5, 6, 7].map(|n| events[n].event().unwrap());
    assert_eq!((first.id.raw(), closed.received_at), (again.id.raw(), opened.received_at));
    assert!(opened.connection.raw() > closed.connection.raw(), "the register keeps that it is open");
    assert_eq!((first.connection.raw(), again.connection.raw()), (opened.connection.raw(), closed.connection.raw()));
    let counts = running.counters.read();
    assert_eq!((counts.live, counts.gaps, counts.failures), (1, 1, 0));
    // And then the old one is closed.
    let closed = timeout(LIMIT, async { old.by_ref().any(|message| async move { matches!(message, Ok(Message::Close(_))) }).await });
    assert!(closed.await.unwrap(), "a close frame comes");
    running.stop().await.unwrap();
}

/// Most connects that fall into any window of this length.
fn crowd(connects: &[std::time::Instant], window: Duration) -> usize {
    let within = |from: &std::time::Instant| connects.iter().filter(|at| **at >= *from && at.duration_since(*from) < window).count();
    connects.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_accounts_start_and_come_back_without_marching_in_step() {
    const ACCOUNTS: usize = 1_000;
    // Two descriptors for each connection, one on either side.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (connects, drop_all) = (Arc::new(Mutex::new(Vec::new())), watch::Sender::new(()));
    let (seen, dropped) = (connects.clone(), drop_all.subscribe());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            seen.lock().unwrap().push(std::time::Instant::now());
            // Nothing that was there before the accept counts.
            let mut dropped = dropped.clone();
            dropped.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut peer) = tokio_tungstenite::accept_async(tcp).await else { return };
                let _ = peer.next().await;
                let _ = peer.send(Message::text(CONNECTED)).await;
                let _ = dropped.changed().await;
            });
        }
    });
    let ids: Vec<String> = (1..=ACCOUNTS).map(|n| n.to_string()).collect();
    let config = IngestConfig { start_spread_ms: 1, backoff_min_ms: 500, backoff_max_ms: 4_000, ..IngestConfig::default() };
    let running = start(config, ids.iter().map(|id| artifact(id, 1, &url)).collect());
    running.counted("all are live", |counts| counts.live == ACCOUNTS as u64).await;
    let started = std::mem::take(&mut *connects.lock().unwrap());
    // A second's worth, drawn evenly: a tenth of it would have a hundred. In step it would have all.
    assert!(crowd(&started, Duration::from_millis(100)) < ACCOUNTS / 3, "{}", crowd(&started, Duration::from_millis(100)));

    drop_all.send_replace(());
    running
        .counted("all were lost and are live again", |counts| counts.gaps == 2 * ACCOUNTS as u64 && counts.live == ACCOUNTS as u64)
        .await;
    let back = connects.lock().unwrap().clone();
    assert_eq!(back.len(), ACCOUNTS, "each connects once");
    assert!(crowd(&back, Duration::from_millis(100)) < ACCOUNTS / 2, "{}", crowd(&back, Duration::from_millis(100)));
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.connects, counts.live), (2 * ACCOUNTS as u64, 0));
}

#[tokio::test]
async fn silence_where_messages_used_to_come_is_told_and_left() {
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { silence_min_ms: 150, silence_factor: 1, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    for n in 1..=20 {
        peer.send(Message::text(n.to_string())).await.unwrap();
        // One read each: what comes together counts once.
        running.events.wait_for(&format!("message.received {n}")).await;
    }
    let _peer = accept(&mut peers, &[CONNECTED]).await;
    let said = running.events.wait_for("connection.gap silent").await;
    let at = said.iter().position(|said| said == "connection.silent message.received").expect("it is told");
    assert_eq!(said[at + 1..], ["connection.closed silent", "connection.opened", "connection.gap silent"]);
    let events = running.events.messages.borrow().clone();
    let last = events[at - 1].event().unwrap().received_at;
    let (silent, gap) = (events[at].event().unwrap().link.unwrap(), events[at + 3].event().unwrap().link.unwrap());
    assert_eq!((silent.from, gap.from), (Some(last), Some(last)));
    assert_eq!(running.stop().await.unwrap().silences, 1);
}

#[tokio::test]
async fn a_lost_connection_is_a_gap_from_the_last_frame() {
    let (mut peers, url) = scripted().await;
    let running = start(config(), vec![artifact("1", 1, &url)]);
    let peer = accept(&mut peers, &[CONNECTED, "1"]).await;
    running.events.wait_for("message.received 1").await;
    peer.get_ref().set_zero_linger().unwrap();
    drop(peer);
    let mut peer = accept(&mut peers, &[CONNECTED, "2"]).await;
    let said = running.events.wait_for("message.received 2").await;
    assert_eq!(
        said,
        [
            "connection.opened",
            "connection.gap start",
            "message.received 1",
            "connection.closed reset",
            "connection.opened",
            "connection.gap reset",
            "message.received 2",
        ]
    );
    let messages = running.events.messages.borrow().clone();
    let (last, gap) = (messages[2].event().unwrap().received_at, messages[5].event().unwrap().link.unwrap());
    assert!(gap.from == Some(last) && gap.to > gap.from, "{gap:?} after {last}");

    // A close with a code; and the answer to a stop is a close frame.
    peer.close(None).await.unwrap();
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap server_closed").await;
    running.shutdown.request();
    let closed = timeout(LIMIT, async { peer.by_ref().any(|message| async move { matches!(message, Ok(Message::Close(_))) }).await });
    assert!(closed.await.unwrap(), "a close frame comes");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn half_open_and_silent_peers_are_left() {
    let (mut peers, url) = scripted().await;
    let running = start(
        IngestConfig { connected_timeout_ms: 50, heartbeat_ms: 60, heartbeat_timeout_ms: 50, ..config() },
        vec![artifact("1", 1, &url)],
    );
    // Says nothing; says something else first; says too little later on, whatever else it says.
    let silent = accept(&mut peers, &[]).await;
    let rude = accept(&mut peers, &["1"]).await;
    let mut half_open = accept(&mut peers, &[CONNECTED]).await;
    let chatting = async {
        while half_open.send(Message::text("2")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, chatting).await.unwrap();
    let said = running.events.wait_for("connection.closed heartbeat").await;
    assert!(said.contains(&"message.received 1".to_owned()), "what a rude peer said is kept: {said:?}");
    assert_eq!(said.iter().filter(|said| *said == "connection.opened").count(), 1);
    drop((silent, rude));
    assert!(running.stop().await.unwrap().failures >= 3);
}

#[tokio::test]
async fn a_refusal_stops_the_account_until_a_new_artifact() {
    let (mut peers, url) = scripted().await;
    let running = start(config(), vec![artifact("1", 1, &url)]);
    for _ in 0..3 {
        accept(&mut peers, &[r#"{"error":1}"#]).await;
    }
    running.events.wait_for("account.auth_changed rejected").await;
    assert_eq!(running.counters.read().connects, 3);

    running.artifacts.lock().unwrap()[0] = artifact("1", 2, &url);
    let _peer = accept(&mut peers, &[CONNECTED, r#"{"error":"Wrong user"}"#]).await;
    let refused_twice = |said: &[String]| said.iter().filter(|said| *said == "account.auth_changed rejected").count() == 2;
    let said = running.events.wait("the second refusal", refused_twice).await;
    assert!(said.contains(&"connection.closed auth_refused".to_owned()), "{said:?}");
    assert_eq!(running.stop().await.unwrap().connects, 4, "no loop");
}

#[tokio::test]
async fn frames_that_cannot_be_read_are_quarantined_with_their_bytes_and_the_stream_goes_on() {
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { frame_max_bytes: 1_000, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED, "1", &"9".repeat(1_001)]).await;
    peer.get_mut().write_all(b"\x81\x03a\xff\xfe").await.unwrap();
    peer.send(Message::text("2")).await.unwrap();
    running.events.wait_for("message.received 2").await;
    running.quarantine.wait("both", |said| said.len() == 2).await;
    let messages = running.quarantine.messages.borrow().clone();
    let told = |envelope: &Envelope| {
        ["reason", "length", "connection", "frame_no"].map(|name| envelope.attribute(name).unwrap_or_default().to_owned())
    };
    let [reason, length, connection, frame_no] = told(&messages[0]);
    assert_eq!((&*reason, &*length, &*frame_no), ("too_large", "1001", "3"));
    assert!(!connection.is_empty());
    assert_eq!((messages[0].data(), messages[1].data()), ("9".repeat(1_000).as_bytes(), &b"a\xff\xfe"[..]));
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.connects, counts.failures, counts.rejected), (1, 0, 2), "on the same connection");
}

#[tokio::test]
async fn a_bus_that_is_down_stops_the_reader_and_loses_nothing_of_class_a() {
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { buffer_max_bytes: 40_000, heartbeat_ms: 20, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap start").await;
    running.events.down.store(true, Ordering::SeqCst);
    for n in 1..=1_000i64 {
        peer.feed(Message::text(n.to_string())).await.unwrap();
        peer.feed(Message::text((-n).to_string())).await.unwrap();
    }
    peer.flush().await.unwrap();
    running.counted("a full buffer", |counts| counts.waits_a > 0 && counts.publish_retries > 0).await;
    let before = running.counters.read();
    // Nothing is read, but the heart beats on.
    let mut heartbeats = 0;
    while heartbeats < 5 {
        let message = timeout(LIMIT, peer.next()).await.unwrap().unwrap().unwrap();
        heartbeats += usize::from(message.to_text().unwrap().starts_with(r#"{"act":"get_onlines""#));
    }
    let counts = running.counters.read();
    assert_eq!((counts.live, counts.failures, counts.frames), (1, 0, before.frames));
    assert!(counts.buffer_bytes <= 40_000 && counts.dropped_c > 0, "{counts:?}");

    running.events.down.store(false, Ordering::SeqCst);
    let said = running.events.wait_for("message.received 1000").await;
    let messages: Vec<&String> = said.iter().filter(|said| said.starts_with("message")).collect();
    assert_eq!(messages.len(), 1_000);
    assert!(messages.iter().enumerate().all(|(n, said)| **said == format!("message.received {}", n + 1)), "all, in order");
    assert_eq!(running.stop().await.unwrap().connects, 1);
}

#[tokio::test]
async fn a_connection_that_dies_while_nobody_reads_is_a_gap_of_our_own_making() {
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { buffer_max_bytes: 4_000, heartbeat_timeout_ms: 20, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap start").await;
    running.events.down.store(true, Ordering::SeqCst);
    for n in 1..=20 {
        peer.send(Message::text(n.to_string())).await.unwrap();
    }
    running.counted("a full buffer", |counts| counts.waits_a > 0).await;
    // Longer than `heartbeat_timeout_ms`: from then on the pause counts as a cause.
    tokio::time::sleep(Duration::from_millis(40)).await;
    peer.get_ref().set_zero_linger().unwrap();
    drop(peer);
    running.events.down.store(false, Ordering::SeqCst);
    let _peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap backpressure").await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_bug_ends_one_account_which_is_started_again() {
    let (player, url, _platform) = platform(&["1", "2"]).await;
    let running = start(config(), vec![artifact("1", 1, &url), artifact("2", 1, &url)]);
    for (account, frame) in [("1", "1"), ("1", "a bug"), ("2", "2")] {
        player.play(account, frame).await.unwrap();
    }
    running.events.wait_for("message.received 2").await;
    running.counted("a third connection", |counts| counts.connects == 3 && counts.live == 2).await;
    player.play("1", "3").await.unwrap();
    running.events.wait_for("message.received 3").await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_drain_that_cannot_finish_says_what_was_left() {
    let (player, url, _platform) = platform(&["1"]).await;
    let running = start(IngestConfig { drain_timeout_s: 0, ..config() }, vec![artifact("1", 1, &url)]);
    running.events.wait_for("connection.gap start").await;
    running.events.down.store(true, Ordering::SeqCst);
    player.play("1", "1").await.unwrap();
    running.counted("a refused publish", |counts| counts.publish_retries > 0).await;
    let error = running.stop().await.unwrap_err();
    assert!(matches!(error, IngestError::Undrained { bytes: 1.., after_s: 0, .. }), "{error}");
}
