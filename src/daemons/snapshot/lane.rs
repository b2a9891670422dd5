//! A lane: folds batches and writes them, one after the other. What differs between Redis and the documents is its [`Target`].
//!
//! Owns the guarded round: load what is not in memory, fold, write, and again for what another writer was faster with. Invariant: when
//! [`Lane::process`] returns `Ok`, everything the batch changed is in the store, so its deliveries may be acked.

use std::future::Future;
use std::sync::Arc;

use crate::documents::DocumentsError;
use crate::runtime::clock::Now;
use crate::schema::state::{AccountState, ConversationState};
use crate::schema::time::Millis;
use crate::transform::materialize::{MaterializeError, Tally, WriteOutcome};
use crate::transform::repair::Store;
use crate::transform::resolve::{Claims, Resolved};
use crate::views::ViewsError;

use super::counters::SnapshotCounters;
use super::gather::{AccountGroup, Decoded, Gathered, Group, Item, Work};
use super::rules::Rules;
use super::states::States;

/// Rounds that one batch may lose against other writers before it is put off.
pub(super) const ROUNDS_MAX: u32 = 20;

/// Why a batch is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    /// Redis.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// The documents.
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    /// Other writers were faster every time.
    #[error("{0} conversations were written by others {ROUNDS_MAX} times in a row")]
    Conflicts(usize),
    /// Our own broken invariant.
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
}

impl LaneError {
    /// Why and at which stage something of the batch has to be set aside, where trying again is of no use; `None` where it is.
    #[must_use]
    pub(super) const fn blame(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Materialize(_) => Some(("not_applicable", "apply")),
            Self::Documents(error) if error.is_of_one_document() => Some(("refused_by_store", "write")),
            _ => None,
        }
    }
}

/// A state as a store has it; `state` is absent where the store has none or it cannot be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    /// The state.
    pub state: Option<Box<ConversationState>>,
    /// Its `rev`; 0 where the store has none.
    pub rev: u64,
    /// What its write has at least as `rev`; 0 where that does not matter. Only a state that was filled from elsewhere, or is new, has one.
    pub first_rev: u64,
}

/// A group, folded.
pub(super) struct Folded<W> {
    /// What has to be written.
    pub write: W,
    /// The state after it, encoded as it is written.
    pub fold: Box<[u8]>,
    /// Its `rev`.
    pub rev: u64,
    /// What the group did.
    pub tally: Tally,
}

/// What a conversation is loaded for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Want {
    /// It will be created where it is absent.
    pub creates: bool,
    /// What the store has is not to be trusted, or is not all.
    pub repairs: bool,
}

/// Where a lane writes.
pub(super) trait Target: Send + Sync {
    /// Which store it is.
    const STORE: Store;

    /// A guarded write of one conversation.
    type Write: Send + Sync;

    /// Conversations of one batch, about: few enough that one lane folds while the store writes for another, as many as the store likes.
    const CONVERSATIONS_MAX: usize;

    /// Whether a state that was remembered with this `rev` may be used.
    fn is_current(&self, rev: u64) -> bool {
        rev > 0
    }

    /// Folds by these rules from now on. Between two batches only.
    fn adopt(&mut self, rules: Arc<Rules>);

    /// Claims the batch's messages and deletes in the store's index.
    fn resolve(&self, claims: &[Claims]) -> impl Future<Output = Result<Vec<Resolved>, LaneError>> + Send;

    /// Loads states by account and conversation.
    fn load(&self, wanted: &[(String, String)], wants: &[Want]) -> impl Future<Output = Result<Vec<Loaded>, LaneError>> + Send;

    /// Folds a group into a state; nothing where that changes nothing.
    ///
    /// # Errors
    /// Where the result does not serialize.
    fn fold(
        &self,
        batch: &[Work],
        decoded: &Decoded<'_>,
        group: &Group<'_>,
        loaded: Loaded,
        now: Millis,
    ) -> Result<Option<Folded<Self::Write>>, MaterializeError>;

    /// Writes; an outcome for each.
    fn write(&self, writes: Vec<Self::Write>) -> impl Future<Output = Result<Vec<WriteOutcome>, LaneError>> + Send;

    /// Writes what belongs to accounts; nothing where the store keeps none.
    fn write_accounts(
        &mut self,
        decoded: &Decoded<'_>,
        accounts: &[AccountGroup<'_>],
        now: Millis,
    ) -> impl Future<Output = Result<(), LaneError>> + Send;

    /// Deals with timers of conversations that are not there any more.
    fn forget(&self, groups: &[&Group<'_>]) -> impl Future<Output = Result<(), LaneError>> + Send;
}

/// A target, and the states that it is known to have.
pub(super) struct Lane<T> {
    target: T,
    states: States,
    counters: Arc<SnapshotCounters>,
    now: Now,
}

impl<T: Target> Lane<T> {
    /// A lane that keeps at most `states_max_bytes` of states in memory.
    #[must_use]
    pub(super) fn new(target: T, states_max_bytes: usize, counters: Arc<SnapshotCounters>, now: Now) -> Self {
        Self { target, states: States::new(states_max_bytes), counters, now }
    }

    /// Folds by these rules from the next batch on.
    pub(super) fn adopt(&mut self, rules: Arc<Rules>) {
        self.target.adopt(rules);
    }

    /// Folds and writes a batch.
    ///
    /// # Errors
    /// Where the store fails. Whatever was written by then stays; the same batch may be processed again, and ends in the same state.
    pub(super) async fn process(&mut self, batch: &[Work], decoded: &Decoded<'_>) -> Result<(), LaneError> {
        let claims = decoded.claims();
        let resolved = if claims.is_empty() { Vec::new() } else { self.target.resolve(&claims).await? };
        self.count_unresolved(&resolved);
        let gathered = Gathered::of(T::STORE, batch, decoded, &claims, &resolved);
        self.write_conversations(batch, decoded, &gathered.conversations).await?;
        self.target.write_accounts(decoded, &gathered.accounts, (self.now)()).await
    }

    async fn write_conversations(&mut self, batch: &[Work], decoded: &Decoded<'_>, groups: &[Group<'_>]) -> Result<(), LaneError> {
        let mut pending: Vec<&Group<'_>> = groups.iter().collect();
        for _ in 0..ROUNDS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            pending = self.round(batch, decoded, &pending).await?;
        }
        Err(LaneError::Conflicts(pending.len()))
    }

    /// Folds and writes each group once. Returns the groups that another writer was faster with.
    async fn round<'g, 'b>(
        &mut self,
        batch: &[Work],
        decoded: &Decoded<'_>,
        groups: &[&'g Group<'b>],
    ) -> Result<Vec<&'g Group<'b>>, LaneError> {
        let loaded = self.load(groups).await?;
        let now = (self.now)();
        let (mut writes, mut after) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
        let mut gone = Vec::new();
        for (&group, loaded) in groups.iter().zip(loaded) {
            if loaded.state.is_none() && !group.creates {
                gone.push(group);
            } else if let Some(Folded { write, fold, rev, tally }) = self.target.fold(batch, decoded, group, loaded, now)? {
                after.push(After { group, fold, rev, tally });
                writes.push(write);
            }
        }
        if !gone.is_empty() {
            self.target.forget(&gone).await?;
        }
        let outcomes = if writes.is_empty() { Vec::new() } else { self.target.write(writes).await? };
        Ok(self.keep(after, &outcomes))
    }

    /// The states of these groups, from memory where they are there. What is to be refilled is always read: the memory knows a store that is gone.
    async fn load(&mut self, groups: &[&Group<'_>]) -> Result<Vec<Loaded>, LaneError> {
        let mut loaded: Vec<Loaded> = Vec::with_capacity(groups.len());
        let (mut wanted, mut wants, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let remembered = self.states.take(group.account, group.conversation);
            let remembered =
                remembered.filter(|(_, rev)| self.target.is_current(*rev) && !group.repairs && !group.items.contains(&Item::Refill));
            match remembered {
                Some((fold, rev)) => {
                    let state = decode(group.account, group.conversation, &fold, "memory");
                    loaded.push(Loaded { state, rev, first_rev: 0 });
                }
                None => {
                    places.push(loaded.len());
                    loaded.push(Loaded::default());
                    wanted.push((group.account.to_owned(), group.conversation.to_owned()));
                    wants.push(Want { creates: group.creates, repairs: group.repairs });
                }
            }
        }
        if !wanted.is_empty() {
            for (place, found) in places.into_iter().zip(self.target.load(&wanted, &wants).await?) {
                loaded[place] = found;
            }
        }
        Ok(loaded)
    }

    /// Keeps what was written; returns what has to be folded again.
    fn keep<'g, 'b>(&mut self, written: Vec<After<'g, 'b>>, outcomes: &[WriteOutcome]) -> Vec<&'g Group<'b>> {
        let mut conflicts = Vec::new();
        for (after, outcome) in written.into_iter().zip(outcomes) {
            match outcome {
                WriteOutcome::Written => {
                    self.counters.count(after.tally);
                    SnapshotCounters::add(&self.counters.writes, 1);
                    self.states.keep(after.group.account, after.group.conversation, after.fold, after.rev);
                }
                WriteOutcome::Conflict => conflicts.push(after.group),
            }
        }
        SnapshotCounters::add(&self.counters.conflicts, conflicts.len());
        conflicts
    }

    fn count_unresolved(&self, resolved: &[Resolved]) {
        let unresolved = resolved.iter().flat_map(|resolved| &resolved.conversations).filter(|conversation| conversation.is_none());
        SnapshotCounters::add(&self.counters.deletes_unresolved, unresolved.count());
    }
}

/// Reads a stored state; one that cannot be read is loud and counts as absent, so that it is written anew.
pub(super) fn decode(account: &str, conversation: &str, bytes: &[u8], store: &str) -> Option<Box<ConversationState>> {
    ConversationState::decode(bytes)
        .inspect_err(|error| tracing::error!(%error, account = ?account, conversation = ?conversation, store, "a stored state is unreadable and is rebuilt"))
        .ok()
        .map(Box::new)
}

/// Reads a stored account state; one that cannot be read is loud and counts as empty.
pub(super) fn decode_account(account: &str, bytes: &[u8], store: &str) -> AccountState {
    AccountState::decode(bytes)
        .inspect_err(|error| tracing::error!(%error, account = ?account, store, "a stored account state is unreadable and is rebuilt"))
        .unwrap_or_default()
}

/// A group, and what holds once its write has happened.
struct After<'g, 'b> {
    group: &'g Group<'b>,
    fold: Box<[u8]>,
    rev: u64,
    tally: Tally,
}
