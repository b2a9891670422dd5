//! A place in which a pipeline runs: a folder with bus, documents and config, and a prefix of its own in some Redis; and what was written there.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convpipe::auth::ArtifactStore;
use convpipe::backends;
use convpipe::bus::embedded::EmbeddedBus;
use convpipe::bus::{Bus, BusError};
use convpipe::config::{BusBackend, Config, DocumentsBackend, HealthConfig, Listen, RedisConfig};
use convpipe::documents::{Access, Documents, HistoryPage};
use convpipe::runtime::clock;
use convpipe::schema::artifact::Artifact;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::policy::HighValuePolicy;
use convpipe::schema::time::Millis;
use convpipe::transform::normalize::{FrameContext, normalize};
use convpipe::views::{Reader, StreamEntry, StreamRange};
use serde_json::{Value, json};

use crate::oracle::compare::{Actual, ActualAccount, ActualConversation, Index, compare};
use crate::oracle::model::{HISTORY_WRITE_FIELDS, SNAPSHOT_WRITE_FIELDS, SUMMARY_WRITE_FIELDS, without};
use crate::support::emulator::Emulator;
use crate::support::process::Process;

/// Longest wait for anything; a busy machine gets its time.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The folder and the config.
pub(crate) struct Place {
    pub(crate) config: Config,
    dir: tempfile::TempDir,
}

impl Place {
    /// A new place whose views stand in that Redis under `prefix`.
    pub(crate) fn new(redis_url: &str, prefix: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("convpipe-place-").tempdir().unwrap();
        let mut config = Config::default();
        config.bus.embedded.dir = dir.path().join("bus");
        config.documents.embedded.path = dir.path().join("documents.db");
        config.documents.linger_ms = 5;
        config.auth.dir = dir.path().join("auth");
        config.redis.url = redis_url.to_owned();
        config.redis.prefix = prefix.to_owned();
        // Many run side by side.
        let off = Listen::default();
        config.health = HealthConfig { ingest: off, snapshot: off, auth_refresh: off, dashboard: off, ..config.health };
        config.high_value.lists = vec!["880001".to_owned()];
        Self { config, dir }
    }

    /// The same on Google's emulators, with topic and documents in a project of its own; `None` where there are none. Without the pause between two
    /// writes of a summary that Firestore itself asks for.
    pub(crate) async fn on_google(redis_url: &str, prefix: &str, ordering: bool) -> Option<Self> {
        let emulators = tokio::task::spawn_blocking(|| Some((Emulator::pubsub()?, Emulator::firestore()?)));
        let (pubsub, firestore) = emulators.await.unwrap()?;
        let mut place = Self::new(redis_url, prefix);
        let project = format!("oracle-{:016x}", fastrand::u64(..));
        let Config { bus, documents, .. } = &mut place.config;
        bus.backend = BusBackend::Google;
        bus.google.project = Some(project.clone());
        bus.google.emulator = Some(pubsub.address.clone());
        bus.google.ordering = ordering;
        bus.google.lease_s = 10;
        documents.backend = DocumentsBackend::Firestore;
        documents.firestore.project = Some(project);
        documents.firestore.emulator = Some(firestore.address.clone());
        documents.firestore.summary_interval_ms = 0;
        backends::provision(&place.config, true).await.unwrap();
        Some(place)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts `convpipe ARGS…` here, with this place's config.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        self.start_with(args, &[])
    }

    /// The same with variables of its own.
    pub(crate) fn start_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Process {
        let file = self.write_config();
        let mut all = vec!["--config", file.to_str().unwrap()];
        all.extend(args);
        Process::start_with(self.dir(), &all, variables)
    }

    pub(crate) fn write_config(&self) -> PathBuf {
        let (file, new) = (self.dir().join("convpipe.yaml"), self.dir().join("new.yaml"));
        // JSON is YAML. Replaced as a whole: a process that was started a moment ago may be reading it.
        std::fs::write(&new, serde_json::to_vec(&self.config).unwrap()).unwrap();
        std::fs::rename(&new, &file).unwrap();
        file
    }

    /// Fans count as high-value by their id alone, and no entry depends on what came before: so feeds are the same in any order.
    pub(crate) fn judge_by_id_alone(&mut self) {
        let fans = (100_000_001..=100_001_000).step_by(9).map(|fan: u64| fan.to_string()).collect();
        self.config.high_value = HighValuePolicy { spend_min: None, payment_min: None, lists: Vec::new(), fans };
        self.config.priority.rules.retain(|rule| rule.reason != "high_value_typing");
    }

    /// Puts these into the folder that ingest looks into.
    pub(crate) fn write_artifacts(&self, artifacts: impl IntoIterator<Item = Artifact>) {
        std::fs::DirBuilder::new().mode(0o700).create(&self.config.auth.dir).unwrap();
        let store = ArtifactStore::new(&self.config.auth.dir);
        artifacts.into_iter().for_each(|artifact| store.write(&artifact).map(|_| ()).unwrap());
    }

    /// Starts with what another place's bus holds.
    pub(crate) fn copy_bus_of(&self, other: &Self) {
        let (from, to) = (&other.config.bus.embedded.dir, &self.config.bus.embedded.dir);
        let end = Instant::now() + LIMIT;
        // A publisher that was dropped a moment ago may still be putting its files away: then again, from the start.
        while let Err(error) = copy(from, to) {
            assert!(error.kind() == std::io::ErrorKind::NotFound && Instant::now() < end, "{error}");
            std::fs::remove_dir_all(to).unwrap();
        }
    }

    /// Of the embedded engine.
    pub(crate) fn bus(&self) -> Bus {
        Bus::Embedded(EmbeddedBus::open(&self.config.bus.embedded).unwrap())
    }

    pub(crate) async fn documents(&self) -> Documents {
        backends::documents(&self.config, Access::ReadWrite).await.unwrap()
    }

    pub(crate) async fn publish(&self, envelopes: Vec<Envelope>) {
        let bus = backends::bus(&self.config).await.unwrap();
        bus.publisher(&self.config.bus.topic).unwrap().publish(envelopes).await.unwrap();
    }

    /// What both subscriptions have not acked yet; all of it, while there is no subscription.
    pub(crate) async fn backlog(&self, bus: &Bus) -> Option<u64> {
        let of = async |subscription: &str| match bus.backlog(&self.config.bus.topic, subscription).await {
            Ok(backlog) => backlog.messages,
            Err(BusError::NoSubscription { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        Some(of(&self.config.bus.views_subscription).await? + of(&self.config.bus.documents_subscription).await?)
    }

    /// Waits until the backlog of both subscriptions together is at most so large.
    pub(crate) async fn wait_backlog(&self, bus: &Bus, most: u64) {
        wait_until(&format!("a backlog of {most}"), async || self.backlog(bus).await.is_some_and(|backlog| backlog <= most)).await;
    }

    /// Everything that stands in the stores. Timers are left out: they are facts about the moment.
    pub(crate) async fn read(&self) -> Actual {
        // How patient the service is to be is one thing, how patient its reader is another.
        let redis = RedisConfig { timeout_ms: u64::try_from(LIMIT.as_millis()).unwrap(), ..self.config.redis.clone() };
        let (reader, documents, now) = (Reader::connect(&redis).await.unwrap(), self.documents().await, clock::now());
        let mut actual = Actual::default();
        for (account, _) in reader.accounts().await.unwrap() {
            let entries = reader.priority(&account, StreamRange::Last(100_000)).await.unwrap();
            let view = serde_json::to_value(reader.account(&account).await.unwrap()).unwrap();
            let priority = ids(&entries, "/event/id").into_iter().filter(|id| !id.starts_with("due:")).collect();
            actual.accounts.insert(account.clone(), ActualAccount { view: Some(view), priority: Some(priority), window_miss: 0 });
            let awaiting: BTreeMap<String, Millis> = reader.awaiting(&account, 0, 100_000).await.unwrap().into_iter().collect();
            for (conversation, active_at) in reader.inbox(&account, 0, 100_000).await.unwrap() {
                let view = reader.conversation(&account, &conversation).await.unwrap().expect("what the inbox names is there");
                let fan_events = reader.fan_events(&account, &conversation, StreamRange::Last(100_000)).await.unwrap();
                let written = ActualConversation {
                    snapshot: Some(serde_json::from_str(&view.raw).unwrap()),
                    fan_events: Some(ids(&fan_events, "/id")),
                    index: Some(Index { active_at, awaiting_since: awaiting.get(&conversation).copied() }),
                    ..ActualConversation::default()
                };
                actual.conversations.insert((account.clone(), conversation), written);
            }
        }
        for account in documents.accounts().await.unwrap() {
            let mut after: Option<String> = None;
            loop {
                let page = documents.summaries(&account, after.as_deref(), 500, now).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.fan.clone());
                for found in page {
                    let summary = documents.summary(&account, &found.fan, now).await.unwrap().expect("it was on the page");
                    let history = history(&documents, &account, &found.conversation, now).await;
                    let written = actual.conversations.entry((account.clone(), found.conversation)).or_default();
                    written.summary = Some(serde_json::to_value(&summary.summary).unwrap());
                    written.history = Some(history);
                }
            }
        }
        for (at, written) in &actual.conversations {
            assert!(written.snapshot.is_some() && written.summary.is_some(), "{at:?} stands in one of the stores alone: {written:?}");
        }
        actual
    }
}

async fn history(documents: &Documents, account: &str, conversation: &str, now: Millis) -> BTreeMap<String, Value> {
    let (mut history, mut before) = (BTreeMap::new(), None);
    loop {
        let page = documents.history(account, conversation, HistoryPage { before, limit: 500 }, now).await.unwrap();
        history.extend(page.messages.iter().map(|message| (message.message_id.raw().to_owned(), serde_json::to_value(message).unwrap())));
        before = page.next;
        if before.is_none() {
            return history;
        }
    }
}

fn ids(entries: &[StreamEntry], pointer: &str) -> Vec<String> {
    let id = |entry: &StreamEntry| {
        let json: Value = serde_json::from_str(&entry.json).unwrap();
        json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {}", entry.json)).to_owned()
    };
    entries.iter().map(id).collect()
}

/// How two ends differ, but for what each write adds of its own. Feeds are compared without their order.
pub(crate) fn differences_of(expected: &Actual, actual: &Actual) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &comparable(expected), &comparable(actual), &mut found);
    found.iter().map(ToString::to_string).collect()
}

fn comparable(actual: &Actual) -> Value {
    let sorted = |ids: &Option<Vec<String>>| {
        let mut ids = ids.clone().unwrap_or_default();
        ids.sort();
        ids
    };
    let mut all = serde_json::Map::new();
    for ((account, conversation), written) in &actual.conversations {
        let history = written.history.iter().flatten().map(|(id, message)| (id.clone(), without(message.clone(), HISTORY_WRITE_FIELDS)));
        let conversation_json = json!({
            "snapshot": written.snapshot.clone().map(|snapshot| without(snapshot, SNAPSHOT_WRITE_FIELDS)),
            "summary": written.summary.clone().map(|summary| without(summary, SUMMARY_WRITE_FIELDS)),
            "history": history.collect::<serde_json::Map<_, _>>(),
            "fan_events": sorted(&written.fan_events),
            "index": written.index.map(|index| json!([index.active_at, index.awaiting_since])),
        });
        all.insert(format!("{account}/{conversation}"), conversation_json);
    }
    for (account, written) in &actual.accounts {
        all.insert(account.clone(), json!({ "view": written.view, "priority": sorted(&written.priority) }));
    }
    all.into()
}

/// Asks again and again until it holds.
pub(crate) async fn wait_until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < end, "no {what} within {LIMIT:?}");
        // The stores tell nobody that they changed.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Account and text of the first frames of the busy evening, moved so that the last of them is said now.
pub(crate) fn present_frames(frames: usize) -> Vec<(String, String)> {
    let lines = recorded(frames);
    let shift = shift_of(&lines);
    let moved = lines.into_iter().map(|mut line| {
        let account = line["account"].as_str().unwrap().to_owned();
        let text = match line["frame"].take() {
            Value::String(text) => text,
            mut frame => {
                move_times(&mut frame, shift);
                frame.to_string()
            }
        };
        (account, text)
    });
    moved.collect()
}

/// The events of the first frames of the busy evening, each received when it was recorded, moved so that the last was received now.
pub(crate) fn busy_evening(frames: usize) -> Vec<Envelope> {
    let lines = recorded(frames);
    let shift = shift_of(&lines);
    let mut envelopes = Vec::new();
    for (number, ((account, frame), line)) in present_frames(frames).iter().zip(&lines).enumerate() {
        let context = FrameContext {
            account_id: account,
            connection: "0198a0000000000a",
            frame_no: number as u64 + 1,
            received_at: busy_evening_began().plus(line["t_ms"].as_i64().unwrap()).plus(shift),
            raw: true,
            depth_max: 64,
        };
        envelopes.extend(normalize(frame.as_bytes(), &context).events.iter().map(|event| Envelope::of_event(event).unwrap()));
    }
    envelopes
}

/// A recording of the first frames of the busy evening that ends now. Who is online is left out: it tells nothing of a conversation that does
/// not exist yet, and within one batch nobody can say which of the two came first.
pub(crate) fn present_recording(frames: usize) -> String {
    let mut lines = recorded(frames);
    let shift = shift_of(&lines);
    lines.retain(|line| line["frame"].get("online").is_none());
    lines.iter_mut().for_each(|line| move_times(line, shift));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn shift_of(lines: &[Value]) -> i64 {
    let end = busy_evening_began().plus(lines.last().unwrap()["t_ms"].as_i64().unwrap());
    clock::now().since(end) / 1000 * 1000
}

fn busy_evening_began() -> Millis {
    Millis::parse("2026-07-24T20:00:00Z").unwrap()
}

/// The first lines of the busy evening.
fn recorded(frames: usize) -> Vec<Value> {
    use std::io::{BufRead as _, BufReader};
    let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/busy-evening.jsonl.gz")).unwrap();
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines().take(frames);
    // One frame has a number that no JSON value holds. It is quarantined, and nothing here is about it.
    lines.filter_map(|line| serde_json::from_str(&line.unwrap()).ok()).collect()
}

/// The event, with all of its times moved by so many milliseconds.
pub(crate) fn moved_event(json: &[u8], by_ms: i64) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(json).unwrap();
    move_times(&mut event, by_ms);
    serde_json::to_vec(&event).unwrap()
}

fn move_times(value: &mut Value, by_ms: i64) {
    match value {
        Value::String(text) if text.len() >= 20 && text.as_bytes()[10] == b'T' => {
            if let Some(time) = Millis::parse(text) {
                *text = time.plus(by_ms).to_string();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_times(value, by_ms)),
        // What the source wrote is carried, and decides nothing.
        Value::Object(fields) => fields.iter_mut().filter(|(name, _)| *name != "raw").for_each(|(_, value)| move_times(value, by_ms)),
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
