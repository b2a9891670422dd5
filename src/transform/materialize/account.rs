//! One account's batch, for Redis.

use crate::schema::event::{Event, EventKind};
use crate::schema::state::AccountState;
use crate::schema::time::Millis;
use crate::schema::view::AccountView;
use crate::transform::fold::{self, Novelty};
use crate::transform::policy::CompiledPolicy;
use crate::transform::priority::{self, Setting};
use crate::transform::view;

use super::{AccountWrite, MaterializeError, Tally};

/// One account while a batch of its own events is folded for Redis.
pub struct AccountBatch<'p> {
    account: String,
    state: AccountState,
    before: AccountView,
    rev: u64,
    first_rev: u64,
    policy: &'p CompiledPolicy,
    now: Millis,
    changed: bool,
    priority: Vec<Vec<u8>>,
    /// What the batch did so far.
    pub tally: Tally,
}

impl<'p> AccountBatch<'p> {
    /// Begins with what the store has: the state and its `rev`, or nothing.
    #[must_use]
    pub fn new(account: &str, stored: Option<(AccountState, u64)>, policy: &'p CompiledPolicy, now: Millis) -> Self {
        let (state, rev) = stored.unwrap_or_default();
        let before = view::account(&state);
        Self {
            account: account.to_owned(),
            state,
            before,
            rev,
            first_rev: 1,
            policy,
            now,
            changed: false,
            priority: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// As [`super::ConversationBatch::beginning_with`].
    #[must_use]
    pub fn beginning_with(mut self, first_rev: u64) -> Self {
        self.first_rev = first_rev;
        self
    }

    /// Writes the account though nothing happened to it: the store has lost it.
    pub fn refresh(&mut self) {
        self.changed = true;
        // All fields: whatever the store still has of them may be older.
        self.before = AccountView::default();
    }

    /// Folds an event in.
    ///
    /// # Errors
    /// Where an entry does not serialize.
    pub fn apply(&mut self, event: &Event<'_>) -> Result<(), MaterializeError> {
        let applied = fold::apply_account(&mut self.state, event, self.now, self.policy.policy().horizon_ms);
        self.tally.count(applied);
        if applied.novelty == Novelty::Stale {
            return Ok(());
        }
        self.changed = true;
        // Being online is judged for each fan, by `ConversationBatch::online`.
        if applied.is_new() && event.kind != EventKind::PresenceSnapshot {
            let setting = Setting { conversation: None, policy: self.policy, now: self.now };
            if let Some(entry) = priority::of_event(event, setting) {
                self.priority.push(serde_json::to_vec(&entry)?);
            }
        }
        Ok(())
    }

    /// The write, with the fields that changed, and the state for the next batch; `None` where nothing changed.
    ///
    /// # Errors
    /// Where a field does not serialize.
    pub fn finish(self) -> Result<Option<(AccountWrite, AccountState)>, MaterializeError> {
        if !self.changed {
            return Ok(None);
        }
        let after = view::account(&self.state);
        let mut fields = Vec::new();
        let all = self.rev == 0;
        put_field(&mut fields, "counters", all, self.before.counters.as_ref(), after.counters.as_ref())?;
        put_field(&mut fields, "presence", all, self.before.presence.as_ref(), after.presence.as_ref())?;
        put_field(&mut fields, "connection", all, self.before.connection.as_ref(), after.connection.as_ref())?;
        put_field(&mut fields, "gap", all, self.before.gap.as_ref(), after.gap.as_ref())?;
        put_field(&mut fields, "auth", all, self.before.auth.as_ref(), after.auth.as_ref())?;
        let write = AccountWrite {
            account: self.account,
            expected_rev: self.rev,
            rev: self.first_rev.max(self.rev + 1),
            fold: self.state.encode()?,
            fields,
            priority: self.priority,
        };
        Ok(Some((write, self.state)))
    }
}

fn put_field<T: PartialEq + serde::Serialize>(
    fields: &mut Vec<(&'static str, Vec<u8>)>,
    name: &'static str,
    all: bool,
    before: Option<&T>,
    after: Option<&T>,
) -> Result<(), serde_json::Error> {
    if let Some(value) = after
        && (all || before != after)
    {
        fields.push((name, serde_json::to_vec(value)?));
    }
    Ok(())
}
