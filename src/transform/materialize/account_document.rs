//! One account's batch, for the documents.

use crate::schema::document::AccountDocument;
use crate::schema::event::{Class, Event};
use crate::schema::state::AccountState;
use crate::schema::time::Millis;
use crate::schema::view::AccountView;
use crate::transform::fold::{self, Novelty};
use crate::transform::policy::CompiledPolicy;
use crate::transform::view;

use super::{AccountDocumentWrite, MaterializeError, Tally};

/// One account while a batch of its own events is folded for the documents. What holds for seconds, such as who is online, is left out.
pub struct AccountDocumentBatch<'p> {
    account: String,
    state: AccountState,
    before: AccountView,
    rev: u64,
    policy: &'p CompiledPolicy,
    now: Millis,
    ttl_ms: i64,
    /// What the batch did so far.
    pub tally: Tally,
}

impl<'p> AccountDocumentBatch<'p> {
    /// Begins with what the store has: the state and its `rev`, or nothing. The document is kept for `ttl_ms` after its last change.
    #[must_use]
    pub fn new(account: &str, stored: Option<(AccountState, u64)>, policy: &'p CompiledPolicy, now: Millis, ttl_ms: i64) -> Self {
        let (state, rev) = stored.unwrap_or_default();
        let before = view::account(&state);
        Self { account: account.to_owned(), state, before, rev, policy, now, ttl_ms, tally: Tally::default() }
    }

    /// Whether the documents keep anything of such an event.
    #[must_use]
    pub fn keeps(event: &Event<'_>) -> bool {
        event.kind.class() != Class::C
    }

    /// Folds an event in.
    pub fn apply(&mut self, event: &Event<'_>) {
        if Self::keeps(event) {
            let applied = fold::apply_account(&mut self.state, event, self.now, self.policy.policy().horizon_ms);
            if applied.novelty != Novelty::Stale {
                self.tally.count(applied);
            }
        }
    }

    /// The write, and the state for the next batch; no write where nothing changed that a reader sees.
    ///
    /// # Errors
    /// Where the document does not serialize.
    pub fn finish(self) -> Result<(Option<AccountDocumentWrite>, AccountState), MaterializeError> {
        let view = view::account(&self.state);
        if view == self.before {
            return Ok((None, self.state));
        }
        let (rev, expire_at) = (self.rev + 1, self.now.plus(self.ttl_ms));
        let document = AccountDocument { account_id: self.account.as_str().into(), view, rev, applied_at: self.now, expire_at };
        let write = AccountDocumentWrite {
            account: self.account,
            expected_rev: self.rev,
            rev,
            document: serde_json::to_vec(&document)?,
            fold: self.state.encode()?,
            expire_at,
        };
        Ok((Some(write), self.state))
    }
}
