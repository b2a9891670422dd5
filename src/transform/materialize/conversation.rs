//! One conversation's batch, for Redis.

use bytes::Bytes;

use crate::schema::event::{Event, EventKind};
use crate::schema::state::ConversationState;
use crate::schema::time::Millis;
use crate::schema::view::PriorityEntry;
use crate::transform::due;
use crate::transform::fold::{self, Depth, Novelty, new_conversation};
use crate::transform::policy::CompiledPolicy;
use crate::transform::priority::{self, Setting};
use crate::transform::view::{self, Standing};

use super::{ConversationWrite, MaterializeError, Tally, json};

/// What most snapshots and entries fit in.
const SNAPSHOT_BYTES: usize = 1_536;
const ENTRY_BYTES: usize = 768;

/// One conversation while a batch of its events is folded for Redis.
pub struct ConversationBatch<'p> {
    state: Box<ConversationState>,
    rev: u64,
    first_rev: u64,
    policy: &'p CompiledPolicy,
    now: Millis,
    standing: Standing,
    changed: bool,
    fan_events: Vec<Bytes>,
    priority: Vec<Vec<u8>>,
    /// What the batch did so far.
    pub tally: Tally,
}

impl<'p> ConversationBatch<'p> {
    /// Begins with what the store has: a state, or none, and its `rev`, which is 0 where there was none.
    #[must_use]
    pub fn new(
        account: &str,
        conversation: &str,
        state: Option<Box<ConversationState>>,
        rev: u64,
        policy: &'p CompiledPolicy,
        now: Millis,
    ) -> Self {
        let state = state.unwrap_or_else(|| Box::new(new_conversation(account, conversation)));
        let standing = Standing::of(&state, policy);
        let (fan_events, priority) = (Vec::new(), Vec::new());
        Self { state, rev, first_rev: 1, policy, now, standing, changed: false, fan_events, priority, tally: Tally::default() }
    }

    /// Has the write's `rev` be at least this. For a store that may lose its data: what it has lost, wholly or in part, goes on with a number that was
    /// not used before, so that a state remembered from then is never taken for the one that stands there.
    #[must_use]
    pub fn beginning_with(mut self, first_rev: u64) -> Self {
        self.first_rev = first_rev;
        self
    }

    /// Moves the clock, for a caller that folds a recording in its own time.
    pub fn set_now(&mut self, now: Millis) {
        self.now = now;
    }

    /// Takes out what has to be appended so far: events for the fan's stream, entries for the priority feed.
    pub fn take_feeds(&mut self) -> (Vec<Bytes>, Vec<Vec<u8>>) {
        (std::mem::take(&mut self.fan_events), std::mem::take(&mut self.priority))
    }

    /// Folds an event in; `data` is its JSON, for the high-value fan's stream.
    ///
    /// # Errors
    /// Where an entry does not serialize.
    pub fn apply(&mut self, event: &Event<'_>, data: impl FnOnce() -> Bytes) -> Result<(), MaterializeError> {
        let renewed = self.renews();
        let applied = fold::apply(&mut self.state, event, self.now, self.policy.policy().horizon_ms, Depth::VIEWS);
        self.tally.count(applied);
        if applied.novelty == Novelty::Stale {
            return Ok(());
        }
        self.changed = true;
        if event.money.is_some()
            || event.spend.is_some()
            || event.fan.as_ref().is_some_and(|fan| fan.lists.is_some())
            || event.fan_id.is_some() && self.rev == 0
        {
            self.standing = Standing::of(&self.state, self.policy);
        }
        if !applied.is_new() {
            return Ok(());
        }
        if self.standing.high_value.is {
            self.fan_events.push(data());
        }
        let entry = self.entry(event);
        self.push(entry)?;
        if renewed == Some(true) && self.renews() == Some(false) {
            let entry = priority::of_renewal_off(event, self.setting());
            self.push(entry)?;
        }
        Ok(())
    }

    /// The source deleted a message whose delete was seen before it.
    pub fn delete(&mut self, message: &str) {
        fold::delete_message(&mut self.state, message);
        self.changed = true;
    }

    /// The fan was online; `event` is the account's `presence.snapshot`.
    ///
    /// # Errors
    /// Where an entry does not serialize.
    pub fn online(&mut self, event: &Event<'_>) -> Result<(), MaterializeError> {
        let at = event.at();
        if self.now.since(at) > self.policy.policy().horizon_ms || !fold::apply_online(&mut self.state, at) {
            return Ok(());
        }
        self.changed = true;
        let entry = priority::of_event(event, self.setting());
        if entry.is_some() && priority::may_repeat(&mut self.state.online_entry_at, at) {
            self.push(entry)?;
        }
        Ok(())
    }

    /// Writes the conversation though nothing happened to it: the store has lost it.
    pub fn refresh(&mut self) {
        self.changed = true;
    }

    /// Raises the timers that have fallen due.
    ///
    /// # Errors
    /// Where an entry does not serialize.
    pub fn fire_due(&mut self) -> Result<(), MaterializeError> {
        let policy = self.policy.policy();
        for due in due::fire(&mut self.state, &policy.due, policy.freshness_ms, self.now) {
            let entry = priority::of_due(due, &self.state, &self.standing, self.now);
            self.push(Some(entry))?;
        }
        self.changed = true;
        Ok(())
    }

    /// The write, and the state for the next batch; `None` where nothing changed.
    ///
    /// # Errors
    /// Where the snapshot does not serialize.
    pub fn finish(self) -> Result<Option<(ConversationWrite, Box<ConversationState>)>, MaterializeError> {
        if !self.changed {
            return Ok(None);
        }
        let policy = self.policy.policy();
        let rev = self.first_rev.max(self.rev + 1);
        let snapshot = view::snapshot(&self.state, &self.standing, rev, self.now);
        let write = ConversationWrite {
            account: self.state.account.raw().to_owned(),
            conversation: self.state.conversation.raw().to_owned(),
            expected_rev: self.rev,
            rev,
            snapshot: json(&snapshot, SNAPSHOT_BYTES)?,
            fold: self.state.encode()?,
            active_at: view::active_at(&self.state),
            awaiting_since: snapshot.awaiting_reply_since,
            due_at: due::next(&self.state, &policy.due, policy.freshness_ms, self.now),
            fan_events: self.fan_events,
            priority: self.priority,
        };
        Ok(Some((write, self.state)))
    }

    fn setting(&self) -> Setting<'_> {
        Setting { conversation: Some((&self.state, &self.standing)), policy: self.policy, now: self.now }
    }

    fn renews(&self) -> Option<bool> {
        self.state.subscription.auto_renew.as_ref().map(|register| register.value)
    }

    fn entry(&mut self, event: &Event<'_>) -> Option<PriorityEntry> {
        let entry = priority::of_event(event, self.setting())?;
        if event.kind == EventKind::TypingStarted && !priority::may_repeat(&mut self.state.typing_entry_at, event.at()) {
            return None;
        }
        Some(entry)
    }

    fn push(&mut self, entry: Option<PriorityEntry>) -> Result<(), MaterializeError> {
        if let Some(entry) = entry {
            self.priority.push(json(&entry, ENTRY_BYTES)?);
        }
        Ok(())
    }
}
