//! What the views had before Redis lost it, from the documents.
//!
//! Owns when the documents are asked, and how what they know becomes a state of the views. Where they cannot be read the views go on without and owe it:
//! such a state stays below the [floor](super::floor), so that it is filled as soon as they can be.

use std::sync::Arc;

use crate::documents::Documents;
use crate::schema::state::{AccountState, ConversationState};
use crate::transform::fold;

use super::counters::SnapshotCounters;
use super::floor::Floor;
use super::lane::{Loaded, Want, decode, decode_account};

/// The documents, and what is owed to the views.
pub(super) struct Refill {
    /// The documents.
    pub documents: Documents,
    /// Which states hold what the documents know.
    pub floor: Arc<Floor>,
    /// What is counted.
    pub counters: Arc<SnapshotCounters>,
}

impl Refill {
    /// Takes from the documents what Redis does not have, or has from before it lost data. Of those that are not created where they are
    /// absent, only those that are there are filled; what is repaired is taken from the documents whatever Redis has.
    pub(super) async fn conversations(&self, wanted: &[(String, String)], wants: &[Want], loaded: &mut [Loaded]) {
        let is_missing = |place: usize| {
            let loaded: &Loaded = &loaded[place];
            let Want { creates, repairs } = wants[place];
            repairs || !self.floor.is_current(loaded.rev) && (creates || loaded.rev > 0) || loaded.rev > 0 && loaded.state.is_none()
        };
        let places: Vec<usize> = (0..wanted.len()).filter(|&place| is_missing(place)).collect();
        if places.is_empty() {
            return;
        }
        let missing: Vec<(String, String)> = places.iter().map(|&place| wanted[place].clone()).collect();
        let may_ask = self.floor.may_ask();
        let found = if may_ask { self.documents.load(&missing).await } else { Ok(Vec::new()) };
        match found {
            Ok(found) if may_ask => {
                for (place, stored) in places.into_iter().zip(found) {
                    let loaded = &mut loaded[place];
                    loaded.first_rev = self.floor.first_rev();
                    let Some(stored) = stored else { continue };
                    let (account, conversation) = &wanted[place];
                    let Some(state) = decode(account, conversation, &stored.fold, "documents") else { continue };
                    loaded.state = Some(filled(state, loaded.state.take()));
                    SnapshotCounters::add(&self.counters.refilled, 1);
                }
            }
            unread => {
                SnapshotCounters::add(&self.counters.refill_failed, missing.len());
                if let Err(error) = unread {
                    tracing::warn!(%error, conversations = missing.len(), "views are written without what the documents know, until those can be read");
                }
                self.floor.owe(missing, may_ask);
            }
        }
    }

    /// What the documents know of these accounts; nothing where they cannot be read, which is owed then.
    pub(super) async fn accounts(&self, accounts: &[String]) -> Option<Vec<Option<AccountState>>> {
        if accounts.is_empty() {
            return Some(Vec::new());
        }
        let found = if self.floor.may_ask() { Some(self.documents.load_accounts(accounts).await) } else { None };
        match found {
            Some(Ok(found)) => {
                let state = |(stored, account): (Option<crate::documents::StoredState>, &String)| {
                    stored.map(|stored| fold::account_for_views(decode_account(account, &stored.fold, "documents")))
                };
                Some(found.into_iter().zip(accounts).map(state).collect())
            }
            unread => {
                SnapshotCounters::add(&self.counters.refill_failed, accounts.len());
                if let Some(Err(error)) = unread {
                    tracing::warn!(%error, accounts = accounts.len(), "accounts are written without what the documents know, until those can be read");
                }
                self.floor.owe_everything();
                None
            }
        }
    }
}

/// The documents' state as the views need it. What Redis still has of before tells which events stand in its feeds already.
fn filled(state: Box<ConversationState>, older: Option<Box<ConversationState>>) -> Box<ConversationState> {
    let mut state = fold::for_views(state);
    if let Some(older) = older {
        state.seen = older.seen;
        state.seen_noise = older.seen_noise;
    }
    state
}
