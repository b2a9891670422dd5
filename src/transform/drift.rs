//! Drift: what one conversation looks like in both stores, and what is wrong where they differ.
//!
//! Both stores hold a fold of the same events, and beside it what people see. So each can be held against itself, and the two against each other.
//! Owns the comparison and its words. Pure: what was read, and how far each store has got, comes in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::ids::hash64;
use crate::schema::state::{ConversationState, RecentMessage};
use crate::schema::time::Millis;
use crate::schema::view::ConversationSnapshot;

use super::fold::{self, Depth};
use super::policy::CompiledPolicy;
use super::repair::Store;
use super::view::{self, Standing};

/// What is the matter with a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A store does not have it, or not the newest of it, and nothing that is still on its way explains that.
    Lost,
    /// What stands in a store is not what its own events say.
    Conflicting,
    /// A store is behind: something happened within the settle window, or deliveries wait.
    Late,
    /// An index is full, and names more recent ones.
    Trimmed,
    /// Its time has run out in a store, as it should.
    Expired,
}

impl Class {
    /// All of them, the worst first.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Conflicting, Self::Late, Self::Trimmed, Self::Expired];

    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Conflicting => "conflicting",
            Self::Late => "late",
            Self::Trimmed => "trimmed",
            Self::Expired => "expired",
        }
    }

    /// Whether somebody has to do something about it.
    #[must_use]
    pub const fn is_drift(self) -> bool {
        matches!(self, Self::Lost | Self::Conflicting)
    }
}

/// One thing that is the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What.
    pub class: Class,
    /// In which store.
    pub store: Store,
    /// What of it: `all`, `newest events`, `ttl`, an index, or fields of the snapshot or the summary.
    pub what: Vec<String>,
    /// What mends it.
    pub remedy: Remedy,
}

/// What mends a drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The store is written anew from what it has, or Redis from the documents.
    Rewrite,
    /// As `Rewrite`, and the state that Redis has has to go with the request.
    Carry,
    /// Neither store has it whole: only the events themselves, told again, bring it back.
    Replay,
}

/// A conversation as Redis has it.
#[derive(Debug, Clone, Default)]
pub struct ViewSide {
    /// The snapshot's JSON.
    pub snapshot: Vec<u8>,
    /// The state; `None` where it does not decode.
    pub state: Option<Box<ConversationState>>,
    /// How long it is kept, in milliseconds; `None` for ever.
    pub ttl_ms: Option<i64>,
    /// The inbox names it.
    pub in_inbox: bool,
    /// Since when it waits, as the index says.
    pub awaiting: Option<Millis>,
}

/// A conversation as the documents have it.
#[derive(Debug, Clone, Default)]
pub struct DocumentSide {
    /// The summary; `None` where it cannot be read.
    pub summary: Option<FanSummary>,
    /// The state; `None` where it does not decode.
    pub state: Option<Box<ConversationState>>,
}

/// By what is judged.
#[derive(Debug, Clone, Copy)]
pub struct Judging<'p> {
    /// The account's policy, which the services go by too.
    pub policy: &'p CompiledPolicy,
    /// The clock.
    pub now: Millis,
    /// How long a store may take.
    pub settle_ms: i64,
    /// How long Redis keeps a conversation after its last write.
    pub view_ttl_ms: i64,
    /// How long the documents keep a summary after its last write.
    pub summary_ttl_ms: i64,
    /// The inbox and the index of who waits name as many as they may.
    pub indexes_full: bool,
    /// Deliveries wait for the consumer of Redis.
    pub views_wait: bool,
    /// Deliveries wait for the consumer of the documents.
    pub documents_wait: bool,
}

/// What is the matter with one conversation; the worst first, nothing where all is well.
///
/// The two sides are read one after the other, so a conversation that is written meanwhile may look torn. What was written within the settle window is
/// therefore never worse than [`Class::Late`], and what is older is told only when a second look [finds it unmoved](settled).
#[must_use]
pub fn compare(view: Option<&ViewSide>, document: Option<&DocumentSide>, judging: &Judging<'_>) -> Vec<Drift> {
    let mut found = match (view, document) {
        (None, None) => Vec::new(),
        (Some(view), None) => {
            let mut found =
                vec![judging.absent(Store::Documents, applied_at(&view.snapshot), judging.summary_ttl_ms, view.state.is_some())];
            found.extend(judging.altered_snapshot(view));
            found.extend(judging.bounds(view));
            found
        }
        (None, Some(document)) => {
            let mut found = vec![judging.absent(Store::Views, written_at(document), judging.view_ttl_ms, false)];
            found.extend(judging.altered_summary(document));
            found
        }
        (Some(view), Some(document)) => judging.both(view, document),
    };
    found.sort_by_key(|drift| drift.class);
    found
}

/// What a second look says of a suspect. Where either side `has_moved` between the two looks, its parts may have been read before and after a write: it
/// is late, whatever it looks like. Where neither has, both stood side by side as they were read.
#[must_use]
pub fn settled(mut again: Vec<Drift>, has_moved: bool) -> Vec<Drift> {
    if has_moved {
        again.iter_mut().filter(|drift| drift.class.is_drift()).for_each(|drift| drift.class = Class::Late);
        again.sort_by_key(|drift| drift.class);
    }
    again
}

/// The messages that a summary's state knows, against the newest of the history; `is_all` where there are no older ones. `None` where all are there.
///
/// What a message says is compared only where both have it from the same event: of two versions that claim the same time, each store keeps one by rules
/// of its own. A message that is past `ttl_ms`, or older than what was read, is not asked for.
#[must_use]
pub fn missing(document: &DocumentSide, history: &[MessageDocument], is_all: bool, ttl_ms: i64, judging: &Judging<'_>) -> Option<Drift> {
    let state = document.state.as_ref()?;
    let read_to = if is_all { None } else { history.iter().map(|message| message.sent_at).min() };
    let is_due = |at: Millis| judging.now.since(at) < ttl_ms && read_to.is_none_or(|read_to| at > read_to);
    let (mut lost, mut altered) = (Vec::new(), Vec::new());
    for message in state.recent.items().iter().filter(|message| is_due(message.place.at)) {
        match history.iter().find(|stored| stored.message_id.raw() == message.id.raw()) {
            None => lost.push(format!("message {}", message.id.raw())),
            Some(stored) if !says(stored, message) => altered.push(format!("message {}", message.id.raw())),
            Some(_) => {}
        }
    }
    let class = if lost.is_empty() { Class::Conflicting } else { Class::Lost };
    lost.append(&mut altered);
    let class = if judging.moves(written_at(document)) { Class::Late } else { class };
    (!lost.is_empty()).then_some(Drift { class, store: Store::Documents, what: lost, remedy: Remedy::Replay })
}

fn says(stored: &MessageDocument, known: &RecentMessage) -> bool {
    let is_deleted = stored.deleted_at.is_some();
    let is_same_event = hash64(stored.event_id.raw()) == known.version.1.id;
    let text = || stored.text.as_ref().map(|text| text.as_untrusted().preview(Depth::DOCUMENTS.text_chars)).unwrap_or_default();
    let is_same = || (stored.direction, stored.price, text()) == (known.direction, known.price, known.text.clone());
    is_deleted == known.deleted && (!is_same_event || is_same())
}

impl Judging<'_> {
    fn absent(&self, store: Store, written_at: Millis, ttl_ms: i64, is_known: bool) -> Drift {
        let class = if self.now.since(written_at) >= ttl_ms {
            Class::Expired
        } else if self.moves(written_at) || self.waits(store) {
            Class::Late
        } else {
            Class::Lost
        };
        Drift { class, store, what: vec!["all".to_owned()], remedy: carry_if(is_known) }
    }

    fn both(&self, view: &ViewSide, document: &DocumentSide) -> Vec<Drift> {
        // A summary whose state cannot be read starts anew from what Redis knows.
        let remedy = carry_if(document.state.is_none() && view.state.is_some());
        let summary = self.altered_summary(document).map(|drift| Drift { remedy, ..drift });
        let mut found: Vec<Drift> = self.altered_snapshot(view).into_iter().chain(summary).collect();
        if found.is_empty() {
            found.extend(self.behind(view, document));
        }
        found.extend(self.bounds(view));
        found
    }

    /// The snapshot against the state that was written with it.
    fn altered_snapshot(&self, view: &ViewSide) -> Option<Drift> {
        let what = match &view.state {
            None => vec!["fold".to_owned()],
            Some(state) => different(&snapshot_of_json(&view.snapshot), &self.snapshot(state)),
        };
        self.altered(Store::Views, what, applied_at(&view.snapshot))
    }

    /// The summary against the state that was written with it.
    fn altered_summary(&self, document: &DocumentSide) -> Option<Drift> {
        let what = match (&document.state, &document.summary) {
            (None, _) => vec!["fold".to_owned()],
            (_, None) => vec!["summary".to_owned()],
            (Some(state), Some(summary)) => {
                let mut expected =
                    view::summary(state, &Standing::of(state, self.policy), summary.rev, summary.applied_at, summary.expire_at);
                // A summary that would be too large goes without its oldest messages.
                let extra = expected.recent.len().saturating_sub(summary.recent.len());
                expected.recent.drain(..extra);
                different(&json(summary), &json(&expected))
            }
        };
        self.altered(Store::Documents, what, written_at(document))
    }

    fn altered(&self, store: Store, what: Vec<String>, written_at: Millis) -> Option<Drift> {
        let class = if self.moves(written_at) { Class::Late } else { Class::Conflicting };
        (!what.is_empty()).then_some(Drift { class, store, what, remedy: Remedy::Rewrite })
    }

    /// One state against the other. Both are sound, so the one that has heard less is the one that is wrong; where both have heard the same, the documents
    /// are right.
    fn behind(&self, view: &ViewSide, document: &DocumentSide) -> Option<Drift> {
        let (ours, theirs) = (view.state.as_ref()?, document.state.as_ref()?);
        let expected = self.snapshot(&fold::for_views(theirs.clone()));
        let fields = different(&self.snapshot(ours), &expected);
        if fields.is_empty() {
            return None;
        }
        let store = if ours.received_at > theirs.received_at { Store::Documents } else { Store::Views };
        let is_behind = ours.received_at != theirs.received_at;
        let may_settle = self.moves(applied_at(&view.snapshot)) || self.moves(written_at(document));
        let (class, what) = match is_behind {
            // Which of the two is behind, times alone do not tell: what is on its way may be older than what came last.
            _ if may_settle || self.views_wait || self.documents_wait => (Class::Late, fields),
            true => (Class::Lost, std::iter::once("newest events".to_owned()).chain(fields).collect()),
            false => (Class::Conflicting, fields),
        };
        Some(Drift { class, store, what, remedy: carry_if(store == Store::Documents) })
    }

    /// What bounds it in Redis, and what names it there.
    fn bounds(&self, view: &ViewSide) -> Option<Drift> {
        let (mut what, written_at) = (Vec::new(), applied_at(&view.snapshot));
        let left_ms = self.view_ttl_ms - self.now.since(written_at);
        let is_off = |ttl: i64| (ttl - left_ms).abs() > self.settle_ms.max(TTL_SLACK_MS);
        // A snapshot that does not say when it was written does not say until when it is kept.
        if view.ttl_ms.is_none_or(|ttl| written_at > Millis(0) && is_off(ttl)) {
            what.push("ttl".to_owned());
        }
        let is_kept_as_long = what.is_empty();
        if !view.in_inbox {
            what.push("inbox".to_owned());
        }
        if view.state.as_ref().is_some_and(|state| view.awaiting != view::awaiting_since(state)) {
            what.push("awaiting".to_owned());
        }
        let class = if self.moves(written_at) {
            // Hash and indexes are read one after the other.
            Class::Late
        } else if is_kept_as_long && self.indexes_full {
            Class::Trimmed
        } else {
            Class::Conflicting
        };
        (!what.is_empty()).then_some(Drift { class, store: Store::Views, what, remedy: Remedy::Rewrite })
    }

    /// It was written so lately that what belongs to the same event may still be on its way. What claims to be written later than the clocks of services
    /// differ is not believed.
    const fn moves(&self, written_at: Millis) -> bool {
        let age_ms = self.now.since(written_at);
        age_ms <= self.settle_ms && age_ms >= -AHEAD_MAX_MS
    }

    const fn waits(&self, store: Store) -> bool {
        match store {
            Store::Views => self.views_wait,
            Store::Documents => self.documents_wait,
        }
    }

    fn snapshot(&self, state: &ConversationState) -> Value {
        json(&view::snapshot(state, &Standing::of(state, self.policy), 0, Millis(0)))
    }
}

const fn carry_if(is_known: bool) -> Remedy {
    if is_known { Remedy::Carry } else { Remedy::Rewrite }
}

/// How far a TTL may be from what it should be where the settle window says less: it is read after the clock.
const TTL_SLACK_MS: i64 = 1_000;
/// How far the clocks of services may differ.
const AHEAD_MAX_MS: i64 = 60_000;

/// What each write adds of its own, and what passes within seconds.
const INCIDENTAL: [&str; 6] = ["rev", "applied_at", "expire_at", "stale", "presence", "typing_until"];

/// The fields of two objects that differ.
fn different(a: &Value, b: &Value) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return vec!["snapshot".to_owned()] };
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    names.filter(|name| a.get(*name) != b.get(*name) && !INCIDENTAL.contains(&name.as_str())).cloned().collect()
}

fn json(view: &impl Serialize) -> Value {
    serde_json::to_value(view).unwrap_or_default()
}

/// The snapshot that JSON is; nothing where it is none.
fn snapshot_of_json(bytes: &[u8]) -> Value {
    serde_json::from_slice::<ConversationSnapshot>(bytes).map_or(Value::Null, |snapshot| json(&snapshot))
}

/// When a summary was written; long ago where it does not say.
fn written_at(document: &DocumentSide) -> Millis {
    document.summary.as_ref().map_or(Millis(0), |summary| summary.applied_at)
}

/// When a snapshot was written; long ago where it does not say.
#[must_use]
pub fn applied_at(snapshot: &[u8]) -> Millis {
    serde_json::from_slice::<ConversationSnapshot>(snapshot).map_or(Millis(0), |snapshot| snapshot.applied_at)
}

#[cfg(test)]
mod tests;
