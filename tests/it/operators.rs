//! `tail-priority` and `inspect-fan` as people run them, on a real Redis and a real documents file.

mod inspect_fan;
mod tail_priority;

use std::path::Path;
use std::time::Duration;

use convpipe::config::{EmbeddedDocumentsConfig, RedisConfig};
use convpipe::documents::{Access, Documents};
use convpipe::schema::event::{Basis, Direction, EventKind};
use convpipe::schema::policy::Level;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{
    ConversationSnapshot, EntryEvent, EntryFan, EntryMoney, FanView, HighValue, LastMessage, PriorityEntry, Spend,
};
use convpipe::transform::materialize::{ConversationWrite, WriteOutcome};
use convpipe::views::Writer;

use super::support::process::{Output, Process};
use super::support::redis::RedisServer;

const A: &str = "200000001";
const B: &str = "200000002";
const T0: Millis = Millis(1_784_808_000_000);
const LIMIT: Duration = Duration::from_secs(20);
/// A name that would clear the screen, turn the line around and hide a tag.
const HOSTILE: &str = "\u{1b}[2Jevil\u{202e}\u{e0041}\nname\u{9b}";

/// A folder with a config in it, and the Redis that it names.
struct Site {
    folder: tempfile::TempDir,
    redis: RedisServer,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), redis: RedisServer::start() };
        site.configure("");
        site
    }

    /// Writes the config, with further lines under `redis`.
    fn configure(&self, redis: &str) {
        let text = format!("redis:\n  url: {}\n{redis}documents:\n  embedded:\n    path: store/documents.db\n", self.redis.url());
        std::fs::write(self.folder().join("convpipe.yaml"), text).unwrap();
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn writer(&self) -> Writer {
        let writer = Writer::connect(&RedisConfig { url: self.redis.url(), ..RedisConfig::default() }).await.unwrap();
        // As the snapshot service does before its first write.
        writer.epoch().await.unwrap();
        writer
    }

    async fn documents(&self) -> Documents {
        let path = self.folder().join("store/documents.db");
        Documents::embedded(&EmbeddedDocumentsConfig { path, ..EmbeddedDocumentsConfig::default() }, Access::ReadWrite).await.unwrap()
    }

    fn start(&self, args: &str) -> Process {
        Process::start(self.folder(), &args.split_whitespace().collect::<Vec<_>>())
    }

    fn run(&self, args: &str) -> Output {
        self.start(args).wait(LIMIT)
    }

    /// Runs a command that should end so and say that on stderr.
    fn check(&self, args: &str, code: i32, says: &str) -> Output {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args}: {output:#?}");
        assert!(output.stderr.join("\n").contains(says), "{args}: no {says:?} in {:#?}", output.stderr);
        output
    }
}

/// A tip of a fan, as it stands in the feed.
fn entry(account: &str, fan: &str, level: Level, text: &str) -> PriorityEntry {
    PriorityEntry {
        level,
        reasons: vec!["tip".to_owned()],
        score: 1,
        event: EntryEvent { id: format!("{account}:{text}").as_str().into(), kind: Some(EventKind::TipReceived) },
        account_id: account.into(),
        conversation_id: Some(fan.into()),
        fan: Some(EntryFan { id: fan.into(), name: Some("Ann".into()), tier: "whale".into(), high_value: true }),
        preview: Some(text.into()),
        money: Some(EntryMoney { minor: 2_500, basis: Basis::Gross }),
        awaiting_reply_since: None,
        occurred_at: Some(T0),
        received_at: T0,
        applied_at: T0.plus(350),
    }
}

/// A conversation at its first revision.
fn conversation(account: &str, fan: &str) -> ConversationWrite {
    let snapshot = ConversationSnapshot {
        account_id: account.into(),
        conversation_id: fan.into(),
        fan: FanView { id: fan.into(), name: Some(HOSTILE.into()), username: Some("ann".into()), ..FanView::default() },
        tier: "whale".into(),
        high_value: HighValue { is: true, why: vec!["spend >= 50000".to_owned()] },
        last_message: Some(LastMessage { id: "m1".into(), preview: "hello there".into(), direction: Direction::In, at: T0 }),
        last_inbound_at: Some(T0),
        last_outbound_at: None,
        unread: 3,
        unread_more: false,
        awaiting_reply_since: Some(T0),
        last_ppv: None,
        spend: Spend::default(),
        subscription: None,
        typing_until: None,
        presence: None,
        first_seen_at: None,
        stale: None,
        rev: 1,
        received_at: T0,
        applied_at: T0,
        event_id: "event".into(),
    };
    ConversationWrite {
        account: account.into(),
        conversation: fan.into(),
        expected_rev: 0,
        rev: 1,
        snapshot: serde_json::to_vec(&snapshot).unwrap(),
        fold: b"fold".to_vec(),
        active_at: T0,
        awaiting_since: Some(T0),
        due_at: None,
        fan_events: Vec::new(),
        priority: Vec::new(),
    }
}

async fn write(writer: &Writer, write: ConversationWrite) {
    assert_eq!(writer.write_conversations(&[write]).await.unwrap(), [WriteOutcome::Written]);
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn nothing_disturbs(lines: &[String]) {
    let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{e0000}'..='\u{e007f}');
    assert!(lines.iter().all(|line| !line.contains(bad)), "{lines:?}");
}
