//! A batch of deliveries, decoded and sorted by what each event changes.
//!
//! Owns the routing rules of `docs/fold.md`, "Which state an event changes". Pure: the stores' answers come in as arguments.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bus::Delivery;
use crate::schema::envelope::EnvelopeError;
use crate::schema::event::{Event, EventKind};
use crate::schema::state::ONLINE_MAX;
use crate::schema::time::Millis;
use crate::transform::fold;
use crate::transform::repair::{self, Store};
use crate::transform::resolve::{Claims, Resolved};

/// What a lane is given.
#[derive(Debug)]
pub(super) enum Work {
    /// An event.
    Delivery(Delivery),
    /// A conversation whose timer fell due.
    Due {
        /// The account.
        account: String,
        /// The conversation.
        conversation: String,
    },
    /// A message that was deleted, as the documents know and the views may have forgotten.
    Deleted {
        /// The account.
        account: String,
        /// The conversation.
        conversation: String,
        /// The message.
        message: String,
        /// When.
        at: Millis,
    },
    /// An account that the documents know and the views may have lost.
    RefillAccount {
        /// The account.
        account: String,
        /// Dropped with the work when it is done.
        #[expect(dead_code, reason = "held, not read: the watcher counts its clones")]
        filled: Arc<()>,
    },
    /// A conversation that the documents know and the views may have lost.
    Refill {
        /// The account.
        account: String,
        /// The conversation.
        conversation: String,
        /// Dropped with the work when it is done.
        #[expect(dead_code, reason = "held, not read: the watcher counts its clones")]
        filled: Arc<()>,
    },
}

/// The events of a batch, and the deliveries that hold none.
#[derive(Default)]
pub(super) struct Decoded<'b> {
    /// Events with the index of their work.
    pub events: Vec<(usize, Event<'b>)>,
    /// Work whose delivery is not an event, and why.
    pub poison: Vec<(usize, EnvelopeError)>,
}

impl<'b> Decoded<'b> {
    /// Decodes a batch; the events borrow from it.
    #[must_use]
    pub(super) fn of(batch: &'b [Work]) -> Self {
        let mut decoded = Self { events: Vec::with_capacity(batch.len()), poison: Vec::new() };
        for (index, work) in batch.iter().enumerate() {
            if let Work::Delivery(delivery) = work {
                match delivery.envelope.event() {
                    Ok(event) => decoded.events.push((index, event)),
                    Err(error) => decoded.poison.push((index, error)),
                }
            }
        }
        decoded
    }

    /// Drops the events that are too old to change anything, before any store is told of them. Returns how many.
    pub(super) fn drop_stale(&mut self, now: Millis, horizon_ms: i64) -> usize {
        let before = self.events.len();
        self.events.retain(|(_, event)| !fold::is_stale(event, now, horizon_ms));
        before - self.events.len()
    }

    /// What the batch says of messages, an entry an account.
    #[must_use]
    pub(super) fn claims(&self) -> Vec<Claims> {
        let mut claims: Vec<Claims> = Vec::new();
        let mut places: HashMap<&str, usize, foldhash::fast::RandomState> = HashMap::default();
        for (_, event) in &self.events {
            let Some(message) = event.message_id() else { continue };
            let conversation = event.conversation_id.as_ref().map(|id| id.raw());
            let is_message = matches!(event.kind, EventKind::MessageReceived | EventKind::MessageSent);
            if !(is_message && conversation.is_some() || event.kind == EventKind::MessageDeleted) {
                continue;
            }
            let account = event.account_id.raw();
            let place = *places.entry(account).or_insert_with(|| {
                claims.push(Claims { account: account.to_owned(), ..Claims::default() });
                claims.len() - 1
            });
            match conversation {
                Some(conversation) if is_message => claims[place].messages.push((message.to_owned(), conversation.to_owned())),
                _ => claims[place].deletes.push((message.to_owned(), event.at())),
            }
        }
        claims
    }
}

/// One thing that happens to a conversation, in the order of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'b> {
    /// An event of it; its place among the decoded events.
    Event(usize),
    /// A message of it was deleted, as was known before the message came.
    Deleted(&'b str, Millis),
    /// Its fan was online; the place of the `presence.snapshot`.
    Online(usize),
    /// A timer fell due.
    Due,
    /// The documents know it.
    Refill,
    /// A repair is asked for; the place of the `repair.requested`.
    Repair(usize),
}

/// The items of one conversation.
#[derive(Debug)]
pub(super) struct Group<'b> {
    /// The account.
    pub account: &'b str,
    /// The conversation.
    pub conversation: &'b str,
    /// What happens to it.
    pub items: Vec<Item<'b>>,
    /// Something of it creates the conversation where there is none; being online, and timers, do not.
    pub creates: bool,
    /// What stands in the store is not to be trusted: it is read again, and filled from elsewhere.
    pub repairs: bool,
}

/// What happens to one account beyond its conversations.
#[derive(Debug)]
pub(super) struct AccountGroup<'b> {
    /// The account.
    pub account: &'b str,
    /// Its events, by their places among the decoded ones.
    pub places: Vec<usize>,
    /// The documents know it, and the store may have lost it.
    pub refill: bool,
}

/// A batch, sorted by what it changes.
#[derive(Default)]
pub(super) struct Gathered<'b> {
    /// By conversation.
    pub conversations: Vec<Group<'b>>,
    /// By account.
    pub accounts: Vec<AccountGroup<'b>>,
    places: HashMap<(&'b str, &'b str), usize, foldhash::fast::RandomState>,
    /// Where the last item went: a lane takes conversations up one by one, so the next one mostly goes there too.
    last: usize,
    store: Option<Store>,
    account_places: HashMap<&'b str, usize, foldhash::fast::RandomState>,
}

impl<'b> Gathered<'b> {
    /// Sorts a batch for a store. `claims` and `resolved` belong together, place by place, as [`Decoded::claims`] made them.
    #[must_use]
    pub(super) fn of(store: Store, batch: &'b [Work], decoded: &'b Decoded<'b>, claims: &'b [Claims], resolved: &'b [Resolved]) -> Self {
        let mut gathered = Self { store: Some(store), ..Self::default() };
        let mut cursors = Cursors::new(claims, resolved);
        for (place, (_, event)) in decoded.events.iter().enumerate() {
            gathered.sort(place, event, &mut cursors);
        }
        for work in batch {
            match work {
                Work::Delivery(_) => {}
                Work::Due { account, conversation } => gathered.put(account, conversation, Item::Due, false),
                Work::Refill { account, conversation, .. } => gathered.put(account, conversation, Item::Refill, true),
                Work::Deleted { account, conversation, message, at } => {
                    gathered.put(account, conversation, Item::Deleted(message, *at), true)
                }
                Work::RefillAccount { account, .. } => {
                    gathered.account(account).refill = true;
                }
            }
        }
        gathered
    }

    fn sort(&mut self, place: usize, event: &'b Event<'b>, cursors: &mut Cursors<'b>) {
        let account = event.account_id.raw();
        match event.kind {
            EventKind::Unknown => return,
            EventKind::RepairRequested => {
                if let Some(conversation) =
                    event.conversation_id.as_ref().filter(|_| self.store.is_some_and(|store| repair::is_for(event, store)))
                {
                    self.put(account, conversation.raw(), Item::Repair(place), true);
                }
                return;
            }
            EventKind::MessageDeleted => {
                if let Some(conversation) = event.message_id().and_then(|_| cursors.next_delete(account)) {
                    self.put(account, conversation, Item::Event(place), true);
                }
                return;
            }
            EventKind::PresenceSnapshot => {
                let online = event.presence.iter().flat_map(|presence| &presence.online).take(ONLINE_MAX);
                for fan in online {
                    self.put(account, fan.raw(), Item::Online(place), false);
                }
            }
            _ => {}
        }
        let Some(conversation) = &event.conversation_id else {
            self.account(account).places.push(place);
            return;
        };
        let conversation = conversation.raw();
        self.put(account, conversation, Item::Event(place), true);
        if matches!(event.kind, EventKind::MessageReceived | EventKind::MessageSent)
            && let Some(message) = event.message_id()
            && let Some(deleted_at) = cursors.next_message(account)
        {
            self.put(account, conversation, Item::Deleted(message, deleted_at), true);
        }
    }

    fn put(&mut self, account: &'b str, conversation: &'b str, item: Item<'b>, creates: bool) {
        if self.conversations.get(self.last).is_none_or(|group| group.conversation != conversation || group.account != account) {
            self.last = *self.places.entry((account, conversation)).or_insert_with(|| {
                self.conversations.push(Group { account, conversation, items: Vec::new(), creates: false, repairs: false });
                self.conversations.len() - 1
            });
        }
        let group = &mut self.conversations[self.last];
        group.items.push(item);
        group.creates |= creates;
        group.repairs |= matches!(item, Item::Repair(_));
    }

    fn account(&mut self, account: &'b str) -> &mut AccountGroup<'b> {
        let at = *self.account_places.entry(account).or_insert_with(|| {
            self.accounts.push(AccountGroup { account, places: Vec::new(), refill: false });
            self.accounts.len() - 1
        });
        &mut self.accounts[at]
    }
}

/// Walks the stores' answers in the order in which the claims were made.
struct Cursors<'b> {
    accounts: HashMap<&'b str, Cursor<'b>, foldhash::fast::RandomState>,
}

struct Cursor<'b> {
    resolved: &'b Resolved,
    message: usize,
    delete: usize,
}

impl<'b> Cursors<'b> {
    fn new(claims: &'b [Claims], resolved: &'b [Resolved]) -> Self {
        let cursors =
            claims.iter().zip(resolved).map(|(claim, resolved)| (claim.account.as_str(), Cursor { resolved, message: 0, delete: 0 }));
        Self { accounts: cursors.collect() }
    }

    fn next_message(&mut self, account: &str) -> Option<Millis> {
        let cursor = self.accounts.get_mut(account)?;
        cursor.message += 1;
        *cursor.resolved.deleted_at.get(cursor.message - 1)?
    }

    fn next_delete(&mut self, account: &str) -> Option<&'b str> {
        let cursor = self.accounts.get_mut(account)?;
        cursor.delete += 1;
        cursor.resolved.conversations.get(cursor.delete - 1)?.as_deref()
    }
}
