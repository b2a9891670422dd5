//! What a real implementation came to, held against what the model expects, with differences that a person can read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use serde_json::{Value, json};

use super::feeds::Feed;
use super::model::{
    Expected, HISTORY_WRITE_FIELDS, Model, RECENT_IN_DOCUMENTS, RECENT_IN_VIEWS, SNAPSHOT_WRITE_FIELDS, SUMMARY_WRITE_FIELDS, without,
};

/// What an implementation came to. A part that it does not make (the views make no summaries) is `None` and is not compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Actual {
    /// By account and conversation: each that exists.
    pub(crate) conversations: BTreeMap<(String, String), ActualConversation>,
    /// By account.
    pub(crate) accounts: BTreeMap<String, ActualAccount>,
}

/// One conversation, as it was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActualConversation {
    /// JSON of the `ConversationSnapshot`.
    pub(crate) snapshot: Option<Value>,
    /// JSON of the `FanSummary`.
    pub(crate) summary: Option<Value>,
    /// JSON of each `MessageDocument`, by message id.
    pub(crate) history: Option<BTreeMap<String, Value>>,
    /// Ids of the events in the fan's stream, as often as they stand there.
    pub(crate) fan_events: Option<Vec<String>>,
    /// Its scores in the indexes.
    pub(crate) index: Option<Index>,
    /// Events that were counted as seen because the ring was full of newer ones.
    pub(crate) window_miss: u64,
}

/// Scores in the inbox and among those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) active_at: Millis,
    pub(crate) awaiting_since: Option<Millis>,
}

/// One account, as it was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActualAccount {
    /// JSON of the `AccountView`.
    pub(crate) view: Option<Value>,
    /// Ids of all events in the account's priority feed, of its conversations too, as often as they stand there; no timers.
    pub(crate) priority: Option<Vec<String>>,
    /// As in a conversation, of events that belong to none.
    pub(crate) window_miss: u64,
}

/// One difference: where, what the model expects, what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    at: String,
    expected: String,
    actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.at, self.expected, self.actual)
    }
}

/// All differences between the model and an implementation that saw the same deliveries.
///
/// With `exact`, each event arrived while the rings remembered what they need, so feeds and counts must be equal; otherwise they may
/// lack what the implementation says it missed.
pub(crate) fn differences(model: &Model<'_>, actual: &Actual, policy: &Policy, exact: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    for account in model.accounts() {
        let conversations = model.conversations(account, policy);
        let of_account = actual.conversations.iter().filter(|((of, _), _)| of == account);
        let exist: BTreeSet<&str> = of_account.clone().map(|((_, conversation), _)| conversation.as_str()).collect();
        if exist != conversations {
            found.push(difference(&format!("conversations of {account}"), &conversations, &exist));
        }
        let expected_account = model.account(account, policy);
        let mut priority = expected_account.priority;
        let mut missed = 0;
        for ((_, conversation), actual) in of_account {
            let expect = |recent_k| model.conversation(account, conversation, policy, recent_k);
            let (Some(views), Some(documents)) = (expect(RECENT_IN_VIEWS), expect(RECENT_IN_DOCUMENTS)) else { continue };
            let tolerance = if exact { 0 } else { actual.window_miss };
            compare_conversation(&format!("{account}/{conversation}"), &views, &documents, actual, tolerance, &mut found);
            priority.certain.extend(views.priority.certain);
            priority.possible.extend(views.priority.possible);
            missed += actual.window_miss;
        }
        if let Some(actual) = actual.accounts.get(account) {
            if let Some(view) = &actual.view {
                compare(&format!("{account} account"), &expected_account.view, view, &mut found);
            }
            if let Some(ids) = &actual.priority {
                let tolerance = if exact { 0 } else { missed + actual.window_miss };
                compare_feed(&format!("{account} priority"), &priority, ids, tolerance, &mut found);
            }
        }
    }
    found
}

fn compare_conversation(
    at: &str,
    views: &Expected,
    documents: &Expected,
    actual: &ActualConversation,
    missed: u64,
    found: &mut Vec<Difference>,
) {
    if !views.money_in_memory {
        found.push(difference(&format!("{at} payments"), &"a history within the money memory", &"more"));
    }
    if let Some(snapshot) = &actual.snapshot {
        compare(&format!("{at} snapshot"), &views.snapshot, &without(snapshot.clone(), SNAPSHOT_WRITE_FIELDS), found);
    }
    if let Some(summary) = &actual.summary {
        let mut summary = without(summary.clone(), SUMMARY_WRITE_FIELDS);
        for count in ["messages_in", "messages_out"] {
            let (expected, actual) = (documents.summary[count].as_u64().unwrap(), summary[count].as_u64().unwrap_or(u64::MAX));
            if actual <= expected && expected - actual <= missed {
                summary[count] = json!(expected);
            }
        }
        compare(&format!("{at} summary"), &documents.summary, &summary, found);
    }
    if let Some(history) = &actual.history {
        let kept = history.iter().map(|(id, document)| (id.clone(), without(document.clone(), HISTORY_WRITE_FIELDS)));
        compare(&format!("{at} history"), &json!(documents.history), &Value::Object(kept.collect()), found);
    }
    if let Some(ids) = &actual.fan_events {
        compare_feed(&format!("{at} fan events"), &views.fan_events, ids, missed, found);
    }
    let index = Index { active_at: views.active_at, awaiting_since: views.awaiting_since };
    if actual.index.is_some_and(|actual| actual != index) {
        found.push(difference(&format!("{at} index"), &index, &actual.index));
    }
}

/// What is certain stands there once, but for what was missed; and nothing that is not possible.
fn compare_feed(at: &str, expected: &Feed, actual: &[String], missed: u64, found: &mut Vec<Difference>) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for id in actual {
        *counts.entry(id).or_default() += 1;
    }
    let absent: Vec<&String> = expected.certain.iter().filter(|id| !counts.contains_key(id.as_str())).collect();
    if absent.len() as u64 > missed {
        found.push(difference(at, &format!("{absent:?} too (misses that are owned up to: {missed})"), &actual));
    }
    for (id, count) in counts {
        if expected.certain.contains(id) {
            if count != 1 {
                found.push(difference(at, &format!("{id} once"), &format!("{count} times")));
            }
        } else if !expected.possible.contains(id) {
            found.push(difference(at, &format!("no {id}"), &actual));
        }
    }
}

/// Differences of two JSON values, field by field. An absent field is null.
pub(crate) fn compare(at: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(got)) => {
            for field in wanted.keys().chain(got.keys()).collect::<BTreeSet<_>>() {
                compare(&format!("{at}.{field}"), &expected[field], &actual[field], found);
            }
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            for (place, (wanted, got)) in wanted.iter().zip(got).enumerate() {
                compare(&format!("{at}[{place}]"), wanted, got, found);
            }
        }
        _ if expected == actual => {}
        _ => found.push(Difference { at: at.to_owned(), expected: expected.to_string(), actual: actual.to_string() }),
    }
}

fn difference(at: &str, expected: &dyn fmt::Debug, actual: &dyn fmt::Debug) -> Difference {
    Difference { at: at.to_owned(), expected: format!("{expected:?}"), actual: format!("{actual:?}") }
}
