//! The document store: [`contract`] holds for every engine and is run on each; [`file`] is what only the embedded engine has, [`firestore`]
//! and [`faults`] what only Firestore has.

mod contract;
mod faults;
mod file;
mod firestore;
mod proxy;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use convpipe::config::{EmbeddedDocumentsConfig, FirestoreConfig};
use convpipe::documents::{Access, Documents, HistoryPage};
use convpipe::schema::document::{FanSummary, MessageDocument};
use convpipe::schema::event::Direction;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{FanView, HighValue, Spend};
use convpipe::transform::materialize::{AccountDocumentWrite, MessageDeletion, SummaryWrite};

use crate::support::emulator::Emulator;

const NOW: Millis = Millis(1_784_808_000_000);
const LATER: Millis = NOW.plus(1_000_000);
const ACCOUNT: &str = "200000001";

/// Runs every test of the contract on an engine. `cases` are those of the property test.
macro_rules! contract {
    ($engine:ident, $cases:literal; $($test:ident)+) => {
        mod $engine {
            use proptest::prelude::*;

            $(#[tokio::test]
            async fn $test() {
                if let Some(fresh) = crate::documents::Fresh::$engine() {
                    crate::documents::contract::$test(fresh).await;
                }
            })+

            proptest! {
                #![proptest_config(ProptestConfig { cases: $cases, ..ProptestConfig::default() })]

                #[test]
                fn histories_converge(history in crate::documents::contract::any_history()) {
                    if let Some(fresh) = crate::documents::Fresh::$engine() {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(crate::documents::contract::histories_converge(fresh, history))?;
                    }
                }
            }
        }
    };
}

macro_rules! contracts {
    ($($engine:ident, $cases:literal;)+) => {
        $(contract! { $engine, $cases;
            what_was_written_is_read
            a_guard_that_does_not_hold_writes_nothing_of_that_fan
            writing_again_changes_nothing
            the_later_version_stays
            a_deletion_marks_its_message_before_and_after
            message_and_delete_learn_of_each_other_in_any_order
            a_delete_meets_its_message_whoever_writes_them
            a_delete_is_learned_of_also_where_messages_are_not_kept
            readers_do_not_see_what_is_expired
            pages_of_what_is_expired_are_not_given
            pages_give_every_message_once
            summaries_are_paged_by_fan
            accounts_are_guarded_as_summaries_are
            deletes_are_paged
            any_id_is_just_an_id
            writers_side_by_side_lose_nothing
        })+
    };
}

/// Each engine in a module of its name.
mod on {
    contracts! {
        embedded, 48;
        emulator, 4;
    }
}

/// An empty store that can be opened any number of times.
enum Fresh {
    Embedded(Place),
    Firestore(FirestoreConfig),
}

/// The file of an embedded store.
struct Place {
    dir: tempfile::TempDir,
    config: EmbeddedDocumentsConfig,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedDocumentsConfig { path: dir.path().join("store/documents.db"), ..EmbeddedDocumentsConfig::default() };
        Self { dir, config }
    }

    async fn open(&self) -> Documents {
        Documents::embedded(&self.config, Access::ReadWrite).await.unwrap()
    }
}

impl Fresh {
    #[expect(clippy::unnecessary_wraps, reason = "an emulator may be missing, and both are called alike")]
    fn embedded() -> Option<Self> {
        Some(Self::Embedded(Place::new()))
    }

    fn emulator() -> Option<Self> {
        Some(Self::Firestore(emulated(Emulator::firestore()?)))
    }

    /// Another empty store of the same engine.
    fn another(&self) -> Self {
        match self {
            Self::Embedded(_) => Self::Embedded(Place::new()),
            Self::Firestore(config) => Self::Firestore(FirestoreConfig { project: Some(project()), ..config.clone() }),
        }
    }

    /// A handle that knows nothing of the others, as one of another process.
    async fn open(&self) -> Documents {
        match self {
            Self::Embedded(place) => place.open().await,
            Self::Firestore(config) => Documents::firestore(config, Access::ReadWrite).await.unwrap(),
        }
    }

    /// How often something is done where once is not enough.
    const fn rounds(&self) -> usize {
        match self {
            Self::Embedded(_) => 40,
            Self::Firestore(_) => 8,
        }
    }
}

/// A database of its own in the emulator, without the pause between writes that Firestore itself asks for.
fn emulated(emulator: &Emulator) -> FirestoreConfig {
    FirestoreConfig {
        project: Some(project()),
        emulator: Some(emulator.address.clone()),
        summary_interval_ms: 0,
        timeout_ms: 30_000,
        ..FirestoreConfig::default()
    }
}

/// A project that nobody else uses.
fn project() -> String {
    static PROJECTS: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("demo-{}-{since}-{}", std::process::id(), PROJECTS.fetch_add(1, Ordering::Relaxed))
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a handful of values in a test")]
enum Part {
    Message(MessageDocument),
    Deletion(MessageDeletion),
}

// Builders.

fn key(fan: &str) -> (String, String) {
    (ACCOUNT.to_owned(), fan.to_owned())
}

/// A write of a fan without messages, from `expected_rev` to the next.
fn write(fan: &str, expected_rev: u64) -> SummaryWrite {
    static FOLDS: AtomicU32 = AtomicU32::new(0);
    let summary = FanSummary {
        account_id: ACCOUNT.into(),
        conversation_id: format!("conversation {fan}").into(),
        fan: FanView { id: fan.into(), ..FanView::default() },
        tier: "none".to_owned(),
        high_value: HighValue::default(),
        spend: Spend::default(),
        messages_in: 0,
        messages_out: 0,
        first_seen_at: None,
        last_seen_at: None,
        subscription: None,
        last_ppv: None,
        awaiting_reply_since: None,
        recent: Vec::new(),
        rev: expected_rev + 1,
        applied_at: NOW,
        expire_at: LATER,
    };
    SummaryWrite {
        account: ACCOUNT.to_owned(),
        fan: fan.to_owned(),
        conversation: format!("conversation {fan}"),
        expected_rev,
        rev: expected_rev + 1,
        summary: serde_json::to_vec(&summary).unwrap(),
        fold: FOLDS.fetch_add(1, Ordering::Relaxed).to_le_bytes().to_vec(),
        expire_at: LATER,
        messages: Vec::new(),
        deletions: Vec::new(),
        unkept: Vec::new(),
    }
}

/// A write of what is known of an account, from `expected_rev` to the next.
fn write_account(account: &str, expected_rev: u64) -> AccountDocumentWrite {
    let gap = serde_json::json!({ "from": NOW, "to": LATER, "reason": "reset" });
    let document = serde_json::json!({ "account_id": account, "gap": gap, "rev": expected_rev + 1, "applied_at": NOW, "expire_at": LATER });
    AccountDocumentWrite {
        account: account.to_owned(),
        expected_rev,
        rev: expected_rev + 1,
        document: serde_json::to_vec(&document).unwrap(),
        fold: format!("{account} {expected_rev}").into_bytes(),
        expire_at: LATER,
    }
}

/// A write of a fan with these parts.
fn write_of(fan: &str, expected_rev: u64, parts: &[Part]) -> SummaryWrite {
    let mut write = write(fan, expected_rev);
    for part in parts.iter().cloned() {
        match part {
            Part::Message(message) => write.messages.push(message),
            Part::Deletion(deletion) => write.deletions.push(deletion),
        }
    }
    write
}

fn message(id: &str, sent_ms: i64, text: &str) -> MessageDocument {
    MessageDocument {
        message_id: id.into(),
        direction: Direction::In,
        sent_at: NOW.plus(sent_ms),
        text: Some(text.into()),
        html: None,
        reply_to: None,
        price: None,
        money: None,
        media: Vec::new(),
        is_tip: false,
        is_bulk: false,
        deleted_at: None,
        changed_at: None,
        event_id: "event".into(),
        expire_at: LATER,
    }
}

fn deletion(message: &str, ms: i64) -> MessageDeletion {
    MessageDeletion { message: message.to_owned(), deleted_at: NOW.plus(ms) }
}

/// The newest messages of the conversation with a fan.
async fn history(documents: &Documents, fan: &str) -> Vec<MessageDocument> {
    let page = HistoryPage { before: None, limit: 1_000 };
    documents.history(ACCOUNT, &format!("conversation {fan}"), page, NOW).await.unwrap().messages
}

fn ids(messages: &[MessageDocument]) -> Vec<&str> {
    messages.iter().map(|message| message.message_id.raw()).collect()
}

fn json(messages: &[MessageDocument]) -> serde_json::Value {
    serde_json::to_value(messages).unwrap()
}
