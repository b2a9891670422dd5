//! Drift: what one conversation looks like in both stores, and what is wrong where they differ.
//!
//! Both stores hold a fold of the same events, and beside it what people see. So each can be held against itself, and the two against each other.
//! Owns the comparison and its words. Pure: what was read, and how far each store has got, comes in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::document::FanSummary;
use crate::schema::state::ConversationState;
use crate::schema::time::Millis;
use crate::schema::view::ConversationSnapshot;

use super::fold;
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
    /// The state of the other store has to go with the repair.
    pub carries: bool,
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
            let applied_at = document.summary.as_ref().map_or(Millis(0), |summary| summary.applied_at);
            let mut found = vec![judging.absent(Store::Views, applied_at, judging.view_ttl_ms, false)];
            found.extend(judging.altered_summary(document));
            found
        }
        (Some(view), Some(document)) => judging.both(view, document),
    };
    found.sort_by_key(|drift| drift.class);
    found
}

impl Judging<'_> {
    fn absent(&self, store: Store, applied_at: Millis, ttl_ms: i64, carries: bool) -> Drift {
        let age_ms = self.now.since(applied_at);
        let class = if age_ms >= ttl_ms {
            Class::Expired
        } else if age_ms <= self.settle_ms || self.waits(store) {
            Class::Late
        } else {
            Class::Lost
        };
        Drift { class, store, what: vec!["all".to_owned()], carries }
    }

    fn both(&self, view: &ViewSide, document: &DocumentSide) -> Vec<Drift> {
        // A summary whose state cannot be read starts anew from what Redis knows.
        let summary =
            self.altered_summary(document).map(|drift| Drift { carries: document.state.is_none() && view.state.is_some(), ..drift });
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
        self.altered(Store::Views, what)
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
        self.altered(Store::Documents, what)
    }

    fn altered(&self, store: Store, what: Vec<String>) -> Option<Drift> {
        (!what.is_empty()).then_some(Drift { class: Class::Conflicting, store, what, carries: false })
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
        let newest = applied_at(&view.snapshot).max(document.summary.as_ref().map_or(Millis(0), |summary| summary.applied_at));
        let (class, what) = match is_behind {
            // Which of the two is behind, times alone do not tell: what is on its way may be older than what came last.
            _ if self.now.since(newest) <= self.settle_ms || self.views_wait || self.documents_wait => (Class::Late, fields),
            true => (Class::Lost, std::iter::once("newest events".to_owned()).chain(fields).collect()),
            false => (Class::Conflicting, fields),
        };
        Some(Drift { class, store, what, carries: store == Store::Documents })
    }

    /// What bounds it in Redis, and what names it there.
    fn bounds(&self, view: &ViewSide) -> Option<Drift> {
        let (mut what, mut class) = (Vec::new(), Class::Conflicting);
        let left_ms = self.view_ttl_ms - self.now.since(applied_at(&view.snapshot));
        if view.ttl_ms.is_none_or(|ttl| (ttl - left_ms).abs() > self.settle_ms.max(1_000)) {
            what.push("ttl".to_owned());
        }
        let awaits = view.state.as_ref().and_then(|state| view::awaiting_since(state));
        let mut unnamed = Vec::new();
        if !view.in_inbox {
            unnamed.push("inbox".to_owned());
        }
        if view.state.is_some() && view.awaiting != awaits {
            unnamed.push("awaiting".to_owned());
        }
        if what.is_empty() && self.indexes_full {
            class = Class::Trimmed;
        } else if what.is_empty() && self.now.since(applied_at(&view.snapshot)) <= self.settle_ms {
            // Hash and indexes are read one after the other.
            class = Class::Late;
        }
        what.extend(unnamed);
        (!what.is_empty()).then_some(Drift { class, store: Store::Views, what, carries: false })
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

/// When a snapshot was written; long ago where it does not say.
#[must_use]
pub fn applied_at(snapshot: &[u8]) -> Millis {
    serde_json::from_slice::<ConversationSnapshot>(snapshot).map_or(Millis(0), |snapshot| snapshot.applied_at)
}
