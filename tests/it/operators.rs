//! `tail-priority` and `inspect-fan` as people and scripts run them: the real program on a private Redis and a documents file, both
//! filled by the real fold through the real writers.

mod inspect;
mod tail;
mod terminal;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use convpipe::config::{EmbeddedDocumentsConfig, RedisConfig};
use convpipe::documents::{Access, Documents};
use convpipe::runtime::clock;
use convpipe::schema::event::{Basis, Currency, Direction, Event, EventKind, FanProfile, Message, Money};
use convpipe::schema::policy::{HighValuePolicy, Policy};
use convpipe::schema::state::ConversationState;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::{ConversationBatch, Keep, SummaryBatch, WriteOutcome};
use convpipe::transform::policy::CompiledPolicy;
use convpipe::views::Writer;

use super::support::process::{Output, Process};
use super::support::redis::RedisServer;

const LIMIT: Duration = Duration::from_secs(20);
const HOUR: i64 = 3_600_000;
const A: &str = "200000001";
const B: &str = "200000002";
const ANN: &str = "100000001";
const BOB: &str = "100000002";
/// What a stranger may call himself, and write.
const HOSTILE_NAME: &str = "Ev\u{202e}il\u{1b}[31m 你好";
const HOSTILE_TEXT: &str = "a\nb\u{1b}]0;pwned\u{7}\u{9b}2J <b>x</b> =cmd()";

/// Both stores, the config that names them, and what was folded into them so far.
struct Stores {
    server: RedisServer,
    dir: tempfile::TempDir,
    redis: RedisConfig,
    writer: Writer,
    documents: Documents,
    policy: CompiledPolicy,
    states: HashMap<(String, String), Folded>,
}

/// A conversation: its state in Redis, in the documents, and the revision of both.
type Folded = (Box<ConversationState>, Box<ConversationState>, u64);

impl Stores {
    async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    async fn on(server: RedisServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redis = RedisConfig { url: server.url(), ..RedisConfig::default() };
        let yaml = format!("redis:\n  url: {}\n  timeout_ms: 5000\ndocuments:\n  embedded:\n    path: documents.db\n", redis.url);
        fs::write(dir.path().join("convpipe.yaml"), yaml).unwrap();
        let file = EmbeddedDocumentsConfig { path: dir.path().join("documents.db"), ..EmbeddedDocumentsConfig::default() };
        let documents = Documents::embedded(&file, Access::ReadWrite).await.unwrap();
        let writer = Writer::connect(&redis).await.unwrap();
        writer.epoch().await.unwrap();
        let high_value = HighValuePolicy { fans: vec![ANN.to_owned()], ..HighValuePolicy::default() };
        let policy = CompiledPolicy::new(Policy { high_value, ..Policy::default() }).unwrap();
        Self { server, dir, redis, writer, documents, policy, states: HashMap::new() }
    }

    /// Folds an event into both stores, as if it were `now`.
    async fn say(&mut self, event: &Event<'_>, now: Millis) {
        let (account, fan) = (event.account_id.raw(), event.fan_id.as_ref().unwrap().raw());
        let key = (account.to_owned(), fan.to_owned());
        let (view, document, rev) =
            self.states.remove(&key).map_or((None, None, 0), |(view, document, rev)| (Some(view), Some(document), rev));
        let mut views = ConversationBatch::new(account, fan, view, rev, &self.policy, now);
        views.apply(event, || serde_json::to_vec(event).unwrap().into()).unwrap();
        let (write, view) = views.finish().unwrap().unwrap();
        assert_eq!(self.writer.write_conversations(&[write]).await.unwrap(), [WriteOutcome::Written]);
        let keep = Keep { summary_ttl_ms: 365 * 24 * HOUR, message_ttl_ms: 365 * 24 * HOUR, high_value_only: false };
        let mut summary = SummaryBatch::new(account, fan, document, rev, &self.policy, now, keep);
        summary.apply(event);
        let (write, document) = summary.finish().unwrap().unwrap();
        assert_eq!(self.documents.write(vec![write]).await.unwrap(), [WriteOutcome::Written]);
        self.states.insert(key, (view, document, rev + 1));
        self.next_millisecond();
    }

    /// Waits until Redis' clock, which makes the ids, has moved on, so that the order over accounts is certain.
    fn next_millisecond(&self) {
        let now = || {
            let (seconds, micros): (u64, u64) = self.server.run(&["TIME"]);
            (seconds, micros / 1000)
        };
        let begun = now();
        while now() == begun {}
    }

    /// Starts Redis again and waits until it has read its log.
    async fn restart(&mut self) {
        self.server.restart();
        let connected = async {
            loop {
                match Writer::connect(&self.redis).await {
                    Ok(writer) => return writer,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        };
        self.writer = tokio::time::timeout(LIMIT, connected).await.unwrap();
    }

    /// A message of a fan, now.
    async fn message(&mut self, account: &str, fan: &str, number: u64, text: &str) {
        let now = clock::now();
        self.say(&message(account, fan, number, text, now), now).await;
    }

    /// The first id of each account's feed is the oldest.
    fn ids(&self, account: &str) -> Vec<String> {
        let entries: Vec<(String, Vec<String>)> = self.server.run(&["XRANGE", &feed(account), "-", "+"]);
        entries.into_iter().map(|(id, _)| id).collect()
    }

    /// The entries of an account's feed as they are stored.
    fn stored(&self, account: &str) -> Vec<String> {
        let entries: Vec<(String, Vec<String>)> = self.server.run(&["XRANGE", &feed(account), "-", "+"]);
        entries.into_iter().map(|(_, fields)| fields[1].clone()).collect()
    }

    fn start(&self, line: &str) -> Process {
        start(self.dir.path(), line)
    }

    fn run(&self, line: &str) -> Output {
        self.start(line).wait(LIMIT)
    }
}

fn feed(account: &str) -> String {
    format!("convpipe:{{{account}}}:priority")
}

/// Starts `convpipe LINE`; words such as `COLUMNS=80` in front are variables.
fn start(dir: &Path, line: &str) -> Process {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_variable = |word: &&&str| word.contains('=') && !word.starts_with('-');
    let count = words.iter().take_while(is_variable).count();
    let variables: Vec<(&str, &str)> = words[..count].iter().map(|word| word.split_once('=').unwrap()).collect();
    Process::start_with(dir, &words[count..], &variables)
}

fn message<'a>(account: &'a str, fan: &'a str, number: u64, text: &'a str, at: Millis) -> Event<'a> {
    let mut event =
        Event::of_account(EventKind::MessageReceived, format!("onlyfans:{account}:msg:{number}:received"), account, "00000000000000c1", at);
    (event.conversation_id, event.fan_id, event.direction) = (Some(fan.into()), Some(fan.into()), Direction::In);
    (event.occurred_at, event.frame_no) = (Some(at), number);
    event.message = Some(Message { id: Some(number.to_string().into()), text: Some(text.into()), ..Message::default() });
    event
}

fn named<'a>(mut event: Event<'a>, name: &'a str) -> Event<'a> {
    event.fan = Some(FanProfile { name: Some(name.into()), username: Some("u1".into()), ..FanProfile::default() });
    event
}

fn tip<'a>(account: &'a str, fan: &'a str, number: u64, minor: i64, at: Millis) -> Event<'a> {
    let mut event = message(account, fan, number, "for you", at);
    event.kind = EventKind::TipReceived;
    event.message = None;
    event.money = Some(Money { minor, currency: Currency::Usd, basis: Basis::Gross, net_minor: None });
    event
}

/// While it lives, recorded output is compared without what differs from run to run: times.
fn steady() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    for (pattern, with) in [
        // A run around midnight has a line for the day.
        (r"\d{4}-\d\d-\d\d UTC\n", ""),
        (r"\b\d{4}-\d\d-\d\d\b", "0000-00-00"),
        (r"\b\d\d:\d\d:\d\d\b", "00:00:00"),
        (r"newest (now|\d+s ago)", "newest <age>"),
    ] {
        settings.add_filter(pattern, with);
    }
    settings.bind_to_scope()
}

#[track_caller]
fn assert_inert(lines: &[String]) {
    let text = lines.concat();
    let bad = text.chars().find(|&c| c.is_control() || matches!(c, '\u{202e}' | '\u{80}'..='\u{9f}'));
    assert_eq!(bad, None, "{text:?}");
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout {:#?}\nstderr {:#?}", output.stdout, output.stderr);
}
