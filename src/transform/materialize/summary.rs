//! One fan's batch, for the documents.

use crate::schema::document::{FanSummary, MediaDocument, MessageDocument};
use crate::schema::event::{Event, EventKind};
use crate::schema::state::ConversationState;
use crate::schema::text::Untrusted;
use crate::schema::time::Millis;
use crate::transform::fold::{self, Depth, Novelty, new_conversation};
use crate::transform::policy::CompiledPolicy;
use crate::transform::repair;
use crate::transform::view::{self, Standing};

use super::{MaterializeError, MessageDeletion, SummaryWrite, Tally, json};

/// What most summaries fit in.
const SUMMARY_BYTES: usize = 4_096;

/// One fan while a batch of events is folded for the documents.
pub struct SummaryBatch<'p> {
    state: Box<ConversationState>,
    rev: u64,
    policy: &'p CompiledPolicy,
    now: Millis,
    keep: Keep,
    changed: bool,
    messages: Vec<MessageDocument>,
    deletions: Vec<MessageDeletion>,
    /// What the batch did so far.
    pub tally: Tally,
}

/// How long documents are kept, and whose messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// A summary, after its last change, in milliseconds.
    pub summary_ttl_ms: i64,
    /// A message, after it was sent, in milliseconds.
    pub message_ttl_ms: i64,
    /// Only the messages of high-value fans.
    pub high_value_only: bool,
}

impl<'p> SummaryBatch<'p> {
    /// Begins with what the store has: a state, or none, and its `rev`, which is 0 where there was none.
    #[must_use]
    pub fn new(
        account: &str,
        conversation: &str,
        state: Option<Box<ConversationState>>,
        rev: u64,
        policy: &'p CompiledPolicy,
        now: Millis,
        keep: Keep,
    ) -> Self {
        let state = state.unwrap_or_else(|| Box::new(new_conversation(account, conversation)));
        let (messages, deletions) = (Vec::new(), Vec::new());
        Self { state, rev, policy, now, keep, changed: false, messages, deletions, tally: Tally::default() }
    }

    /// Folds an event in.
    pub fn apply(&mut self, event: &Event<'_>) {
        let applied = fold::apply(&mut self.state, event, self.now, self.policy.policy().horizon_ms, Depth::DOCUMENTS);
        self.tally.count(applied);
        if applied.novelty == Novelty::Stale {
            return;
        }
        self.changed = true;
        match event.kind {
            EventKind::MessageReceived | EventKind::MessageSent => self.messages.extend(message_document(event, self.keep.message_ttl_ms)),
            EventKind::MessageDeleted => {
                let deletion = event.message_id().map(|id| MessageDeletion { message: id.to_owned(), deleted_at: event.at() });
                self.deletions.extend(deletion);
            }
            _ => {}
        }
    }

    /// The source deleted a message whose delete was seen before it.
    pub fn delete(&mut self, message: &str, deleted_at: Millis) {
        fold::delete_message(&mut self.state, message);
        self.deletions.push(MessageDeletion { message: message.to_owned(), deleted_at });
        self.changed = true;
    }

    /// The fan was online.
    pub fn online(&mut self, at: Millis) {
        if self.now.since(at) <= self.policy.policy().horizon_ms {
            self.changed |= fold::apply_online(&mut self.state, at);
        }
    }

    /// Writes the summary though nothing happened: what stands in the store is not what its state says.
    pub fn refresh(&mut self) {
        self.changed = true;
    }

    /// Writes the summary from what another store knows; the store has lost it, or some of it.
    pub fn restore(&mut self, known: Box<ConversationState>) {
        self.state = repair::joined(known, &self.state);
        self.changed = true;
    }

    /// The write, and the state for the next batch; `None` where nothing changed.
    ///
    /// # Errors
    /// Where the summary does not serialize.
    pub fn finish(self) -> Result<Option<(SummaryWrite, Box<ConversationState>)>, MaterializeError> {
        if !self.changed {
            return Ok(None);
        }
        let standing = Standing::of(&self.state, self.policy);
        let rev = self.rev + 1;
        let expire_at = self.now.plus(self.keep.summary_ttl_ms);
        let summary = view::summary(&self.state, &standing, rev, self.now, expire_at);
        let keep_messages = !self.keep.high_value_only || standing.high_value.is;
        let (messages, deletions, unkept) = if keep_messages {
            (self.messages, self.deletions, Vec::new())
        } else {
            let is_deleted = |id: &str| self.deletions.iter().any(|deletion| deletion.message == id);
            let ids = self.messages.iter().map(|message| message.message_id.raw()).filter(|id| !is_deleted(id));
            (Vec::new(), Vec::new(), ids.map(str::to_owned).collect())
        };
        let write = SummaryWrite {
            account: self.state.account.raw().to_owned(),
            // One-to-one chats: a fan's summary is found by the conversation.
            fan: self.state.conversation.raw().to_owned(),
            conversation: self.state.conversation.raw().to_owned(),
            expected_rev: self.rev,
            rev,
            summary: encode(summary)?,
            fold: self.state.encode()?,
            expire_at,
            messages,
            deletions,
            unkept,
        };
        Ok(Some((write, self.state)))
    }
}

/// Largest summary, bytes of its JSON.
pub const SUMMARY_BYTES_MAX: usize = 256 << 10;

/// The summary's JSON, without the oldest of its messages where it would be larger than [`SUMMARY_BYTES_MAX`] with them. The history has them.
fn encode(mut summary: FanSummary) -> Result<Vec<u8>, MaterializeError> {
    loop {
        let json = json(&summary, SUMMARY_BYTES)?;
        if json.len() <= SUMMARY_BYTES_MAX || summary.recent.is_empty() {
            return Ok(json);
        }
        summary.recent.remove(0);
    }
}

/// The history document of a message; `None` for one without an id.
fn message_document(event: &Event<'_>, ttl_ms: i64) -> Option<MessageDocument> {
    let message = event.message.as_ref()?;
    let owned = |text: &Option<Untrusted<'_>>| text.as_ref().map(|text| text.raw().into());
    let sent_at = event.at();
    Some(MessageDocument {
        message_id: message.id.as_ref()?.raw().into(),
        direction: event.direction,
        sent_at,
        text: owned(&message.text),
        html: owned(&message.html),
        reply_to: owned(&message.reply_to),
        price: message.price.filter(|&price| price > 0),
        money: event.money,
        media: message.media.iter().map(MediaDocument::from).collect(),
        is_tip: message.is_tip == Some(true),
        is_bulk: message.is_bulk == Some(true),
        deleted_at: None,
        changed_at: message.changed_at,
        event_id: event.id.raw().into(),
        expire_at: sent_at.plus(ttl_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::document::SummaryMessage;
    use crate::schema::event::{Direction, FanProfile};
    use crate::schema::policy::Policy;

    fn encoded(texts: &[&str], notice: &str) -> FanSummary {
        let policy = CompiledPolicy::new(Policy::default()).expect("the default compiles");
        let mut state = new_conversation("a", "c");
        state.profile.notice = Some(crate::schema::state::Register { stamp: crate::schema::state::Stamp::default(), value: notice.into() });
        let standing = Standing::of(&state, &policy);
        let mut summary = view::summary(&state, &standing, 1, Millis(1), Millis(2));
        summary.recent = (0..)
            .zip(texts)
            .map(|(id, &text)| SummaryMessage {
                id: id.to_string().into(),
                direction: Direction::In,
                at: Millis(id),
                text: text.into(),
                price: None,
                tip: None,
                media: 0,
            })
            .collect();
        let json = encode(summary).expect("serializes");
        assert!(json.len() <= SUMMARY_BYTES_MAX.max(notice.len() + 4_096));
        serde_json::from_slice(&json).expect("whole")
    }

    #[test]
    fn no_profile_makes_a_summary_larger_than_its_bound() {
        let policy = CompiledPolicy::new(Policy::default()).expect("the default compiles");
        let keep = Keep { summary_ttl_ms: 1, message_ttl_ms: 1, high_value_only: false };
        let huge = "\u{1}".repeat(SUMMARY_BYTES_MAX);
        let text = || Some(Untrusted::borrowed(&huge));
        let lists = Some(vec![Untrusted::borrowed(&huge); 1_024]);
        let mut event = Event::of_account(EventKind::MessageReceived, "id".to_owned(), "a", "c", Millis(1));
        event.fan = Some(FanProfile { name: text(), username: text(), display_name: text(), notice: text(), lists });
        let mut batch = SummaryBatch::new("a", "c", None, 0, &policy, Millis(1), keep);
        batch.apply(&event);
        let (write, _) = batch.finish().expect("serializes").expect("changed");
        assert!(write.summary.len() <= SUMMARY_BYTES_MAX, "{}", write.summary.len());
        assert!(write.fold.len() <= SUMMARY_BYTES_MAX, "{}", write.fold.len());
    }

    #[test]
    fn a_summary_drops_its_oldest_messages_beyond_its_bound() {
        let (small, large) = ("x".repeat(1_000), "\u{1}".repeat(20_000));
        let ids = |summary: FanSummary| summary.recent.iter().map(|message| message.id.raw().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(encoded(&[&small, &small, &small], "")), ["0", "1", "2"]);
        assert_eq!(ids(encoded(&[&large, &large, &large, &small], "")), ["1", "2", "3"]);
        assert_eq!(ids(encoded(&[&small, &small], &"n".repeat(SUMMARY_BYTES_MAX))), [""; 0]);
    }
}
