//! What both stores have of some conversations, read and judged.
//!
//! Invariant: nothing is told to be lost or conflicting that was only read in the middle of a write. A suspect is read again, the clock and what waits on
//! the bus before the stores, and told only if neither store was written to in between.

use std::sync::Arc;

use futures_util::future;

use crate::bus::{Bus, BusError};
use crate::config::{BusConfig, Config, HistoryScope};
use crate::daemons::snapshot::Policies;
use crate::documents::{Documents, DocumentsError, HistoryPage, StoredSummary};
use crate::runtime::clock;
use crate::schema::document::MessageDocument;
use crate::schema::state::ConversationState;
use crate::schema::time::Millis;
use crate::transform::drift::{Class, DocumentSide, Drift, Judging, Remedy, ViewSide, compare, missing, settled};
use crate::transform::repair::Store;
use crate::views::{Reader, StoredView};

use super::check::{CheckError, Indexes};

/// Newest messages of a conversation that are read to find those that its summary's state knows: twice as many as that are.
const MESSAGES: usize = 40;
/// Histories read at once.
const HISTORIES: usize = 16;

/// Whether deliveries wait for the consumer of Redis, and for that of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) views: bool,
    pub(super) documents: bool,
}

/// Reads and judges pairs.
pub(super) struct Pairs {
    reader: Reader,
    documents: Documents,
    bus: Bus,
    names: BusConfig,
    policies: Arc<Policies>,
    settle_ms: i64,
    view_ttl_ms: i64,
    summary_ttl_ms: i64,
    message_ttl_ms: i64,
    /// Whether the messages of the history are looked for.
    history: bool,
    indexes_max: usize,
}

/// One conversation as the stores have it.
struct Pair {
    view: Option<StoredView>,
    document: Option<StoredSummary>,
    history: History,
}

/// The newest messages of a conversation.
enum History {
    /// Nobody asked.
    Unasked,
    /// These, and whether there are no older ones.
    Read(Vec<MessageDocument>, bool),
    /// One of them is none that this version reads.
    Unreadable,
}

/// What is the matter with one conversation, the worst first, and the state that Redis has of it.
pub(super) struct Judged {
    /// Whether the documents have it.
    pub(super) is_documented: bool,
    pub(super) drifts: Vec<Drift>,
    pub(super) fold: Option<Vec<u8>>,
}

impl Pairs {
    pub(super) fn new(
        config: &Config,
        reader: Reader,
        documents: Documents,
        bus: &Bus,
        policies: Arc<Policies>,
        settle_ms: i64,
        history: bool,
    ) -> Self {
        let ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        Self {
            reader,
            documents,
            bus: bus.clone(),
            names: config.bus.clone(),
            policies,
            settle_ms,
            view_ttl_ms: ms(config.redis.conversation_ttl_s),
            summary_ttl_ms: ms(config.documents.summary_ttl_s),
            message_ttl_ms: ms(config.history.ttl_s),
            // Who was not high-value when a message came has none in a history of high-value fans.
            history: history && config.history.scope == HistoryScope::All,
            indexes_max: usize::try_from(config.redis.inbox_max).unwrap_or(usize::MAX),
        }
    }

    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(super) const fn documents(&self) -> &Documents {
        &self.documents
    }

    /// What waits now.
    pub(super) async fn waits(&self) -> Result<Waits, BusError> {
        let views = waits(&self.bus, &self.names.topic, &self.names.views_subscription).await?;
        let documents = waits(&self.bus, &self.names.topic, &self.names.documents_subscription).await?;
        Ok(Waits { views, documents })
    }

    /// Reads conversations of an account and says what is the matter with each, place by place.
    pub(super) async fn judge(&self, account: &str, ids: &[String], indexes: &Indexes, waits: Waits) -> Result<Vec<Judged>, CheckError> {
        let now = clock::now();
        let pairs = self.read(account, ids, now).await?;
        let mut judged: Vec<Judged> =
            ids.iter().zip(&pairs).map(|(id, pair)| self.judge_one(account, id, pair, indexes, now, waits)).collect();
        let suspects: Vec<usize> = (0..ids.len()).filter(|&at| is_suspect(&judged[at])).collect();
        if suspects.is_empty() {
            return Ok(judged);
        }
        // In this order: what was acked before the look at the bus stands in both stores, and what is written after the clock was read is young.
        let (now, waits) = (clock::now(), self.waits().await?);
        let concerns_indexes = |drift: &Drift| drift.what.iter().any(|what| what == "inbox" || what == "awaiting");
        let fresh = if suspects.iter().any(|&at| judged[at].drifts.iter().any(concerns_indexes)) {
            Some(Indexes::read(&self.reader, account).await?)
        } else {
            None
        };
        let indexes = fresh.as_ref().unwrap_or(indexes);
        let asked: Vec<String> = suspects.iter().map(|&at| ids[at].clone()).collect();
        let again = self.read(account, &asked, now).await?;
        for ((at, id), pair) in suspects.into_iter().zip(&asked).zip(again) {
            let has_moved = pairs[at].has_moved(&pair);
            let Judged { is_documented, drifts, fold } = self.judge_one(account, id, &pair, indexes, now, waits);
            judged[at] = Judged { is_documented, drifts: settled(drifts, has_moved), fold };
        }
        Ok(judged)
    }

    fn judge_one(&self, account: &str, id: &str, pair: &Pair, indexes: &Indexes, now: Millis, waits: Waits) -> Judged {
        let judging = Judging {
            policy: self.policies.of(account),
            now,
            settle_ms: self.settle_ms,
            view_ttl_ms: self.view_ttl_ms,
            summary_ttl_ms: self.summary_ttl_ms,
            indexes_full: indexes.inbox.len() >= self.indexes_max || indexes.awaiting.len() >= self.indexes_max,
            views_wait: waits.views,
            documents_wait: waits.documents,
        };
        let view = pair.view.as_ref().map(|view| view_side(view, indexes, id));
        let document = pair.document.as_ref().map(document_side);
        let mut drifts = compare(view.as_ref(), document.as_ref(), &judging);
        drifts.extend(document.and_then(|document| match &pair.history {
            History::Unasked => None,
            History::Read(messages, is_all) => missing(&document, messages, *is_all, self.message_ttl_ms, &judging),
            History::Unreadable => {
                let what = vec!["messages".to_owned()];
                Some(Drift { class: Class::Conflicting, store: Store::Documents, what, remedy: Remedy::Replay })
            }
        }));
        drifts.sort_by_key(|drift| drift.class);
        let fold = pair.view.as_ref().map(|view| view.fold.clone()).filter(|fold| !fold.is_empty());
        Judged { is_documented: pair.document.is_some(), drifts, fold }
    }

    async fn read(&self, account: &str, ids: &[String], now: Millis) -> Result<Vec<Pair>, CheckError> {
        let views = self.reader.stored(account, ids).await?;
        let documents = self.documents.stored(account, ids, now).await?;
        let mut histories = Vec::with_capacity(ids.len());
        for ids in ids.chunks(HISTORIES) {
            // After the summaries: a history may be ahead of a summary, and never behind.
            histories.extend(future::try_join_all(ids.iter().map(|id| self.history(account, id, now))).await?);
        }
        let pairs = views.into_iter().zip(documents).zip(histories);
        Ok(pairs.map(|((view, document), history)| Pair { view, document, history }).collect())
    }

    async fn history(&self, account: &str, id: &str, now: Millis) -> Result<History, DocumentsError> {
        if !self.history {
            return Ok(History::Unasked);
        }
        let page = HistoryPage { before: None, limit: MESSAGES };
        match self.documents.history(account, id, page, now).await {
            Ok(history) => Ok(History::Read(history.messages, history.next.is_none())),
            Err(DocumentsError::Document { .. }) => Ok(History::Unreadable),
            Err(error) => Err(error),
        }
    }
}

impl Pair {
    /// Whether a store was written to between two readings.
    fn has_moved(&self, again: &Self) -> bool {
        let of_view = |pair: &Self| pair.view.as_ref().map(|view| (view.snapshot.clone(), view.fold.clone()));
        let of_document = |pair: &Self| pair.document.as_ref().map(|document| (document.rev, document.fold.clone()));
        of_view(self) != of_view(again) || of_document(self) != of_document(again)
    }
}

fn is_suspect(judged: &Judged) -> bool {
    judged.drifts.iter().any(|drift| drift.class.is_drift())
}

fn view_side(view: &StoredView, indexes: &Indexes, id: &str) -> ViewSide {
    ViewSide {
        snapshot: view.snapshot.clone(),
        state: ConversationState::decode(&view.fold).ok().map(Box::new),
        ttl_ms: view.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok()),
        in_inbox: indexes.inbox.contains(id),
        awaiting: indexes.awaiting.get(id).copied(),
    }
}

fn document_side(stored: &StoredSummary) -> DocumentSide {
    DocumentSide { summary: stored.summary.clone(), state: ConversationState::decode(&stored.fold).ok().map(Box::new) }
}

/// Whether the subscription has deliveries that nobody has acked; not, where that cannot be told.
async fn waits(bus: &Bus, topic: &str, subscription: &str) -> Result<bool, BusError> {
    match bus.backlog(topic, subscription).await {
        Ok(backlog) => Ok(backlog.messages.is_some_and(|messages| messages > 0)),
        Err(BusError::NoSubscription { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
