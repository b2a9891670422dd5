//! A recording folded in memory: what the state would be, with nothing written anywhere.
//!
//! Takes the same road as the services (normalize, fold, materialize) with maps in the place of the stores. The clock is the frames' own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::daemons::snapshot::Policies;
use crate::schema::event::{Event, EventKind};
use crate::schema::time::Millis;
use crate::schema::view::AccountView;
use crate::transform::filter::Filter;
use crate::transform::fold;
use crate::transform::materialize::{ConversationBatch, MaterializeError, Tally};
use crate::transform::normalize::{FrameContext, Reason};
use crate::transform::{priority, view};

use super::Played;

/// What a recording came to.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames and events read.
    pub frames: u64,
    /// Frames that only answered the session.
    pub control: u64,
    /// Events by kind.
    pub kinds: BTreeMap<EventKind, u64>,
    /// Rejected items by reason.
    pub rejected: BTreeMap<Reason, u64>,
    /// Events for the streams of high-value fans.
    pub fan_events: u64,
    /// Entries of the priority feed, by level.
    pub priority: BTreeMap<String, u64>,
    /// What the fold did.
    pub tally: Tally,
}

/// The snapshots at the end, in order of account and conversation, as JSON; and the accounts.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Conversation snapshots.
    pub snapshots: Vec<Vec<u8>>,
    /// Accounts.
    pub accounts: BTreeMap<String, AccountView>,
    /// What was counted.
    pub counts: Counts,
}

impl Outcome {
    /// How many events were folded.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.counts.kinds.values().sum()
    }
}

/// A dry run in progress.
pub struct DryRun<'p> {
    policies: &'p Policies,
    conversations: HashMap<(String, String), ConversationBatch<'p>>,
    accounts: BTreeMap<String, crate::schema::state::AccountState>,
    messages: HashMap<(String, String), String>,
    deleted: HashMap<(String, String), Millis>,
    frame_nos: HashMap<String, u64>,
    counts: Counts,
    depth_max: usize,
    filter: Option<Arc<Filter>>,
}

impl<'p> DryRun<'p> {
    /// Begins with nothing known.
    #[must_use]
    pub fn new(policies: &'p Policies, depth_max: usize) -> Self {
        Self {
            policies,
            conversations: HashMap::new(),
            accounts: BTreeMap::new(),
            messages: HashMap::new(),
            deleted: HashMap::new(),
            frame_nos: HashMap::new(),
            counts: Counts::default(),
            depth_max,
            filter: None,
        }
    }

    /// Has only the events be folded for which the filter holds.
    #[must_use]
    pub fn with_filter(mut self, filter: Option<Arc<Filter>>) -> Self {
        self.filter = filter;
        self
    }

    /// Folds a frame or an event in. How much of it was rejected.
    ///
    /// # Errors
    /// Where a view does not serialize: our own broken invariant.
    pub fn frame(&mut self, played: &Played) -> Result<u64, MaterializeError> {
        self.counts.frames += 1;
        let frame_no = self.frame_nos.entry(played.account.clone()).or_default();
        *frame_no += 1;
        let context = FrameContext {
            account_id: &played.account,
            // One connection an account, the same for every run of the same recording.
            connection: "0000000000000000",
            frame_no: *frame_no,
            received_at: played.received_at,
            raw: true,
            depth_max: self.depth_max,
        };
        let normalized = played.read(&context);
        if normalized.events.is_empty() && normalized.rejected.is_empty() {
            self.counts.control += 1;
        }
        for rejected in &normalized.rejected {
            *self.counts.rejected.entry(rejected.reason).or_default() += 1;
        }
        let filter = self.filter.clone();
        for event in normalized.events.iter().filter(|event| filter.as_ref().is_none_or(|filter| filter.holds_for_event(event))) {
            *self.counts.kinds.entry(event.kind).or_default() += 1;
            self.event(event)?;
        }
        Ok(normalized.rejected.len() as u64)
    }

    /// What it came to.
    ///
    /// # Errors
    /// Where a view does not serialize: our own broken invariant.
    pub fn finish(mut self) -> Result<Outcome, MaterializeError> {
        let mut conversations: Vec<_> = self.conversations.drain().collect();
        conversations.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut snapshots = Vec::with_capacity(conversations.len());
        for (_, mut batch) in conversations {
            self.counts.take(&mut batch)?;
            if let Some((write, _)) = batch.finish()? {
                snapshots.push(write.snapshot);
            }
        }
        let accounts = self.accounts.iter().map(|(account, state)| (account.clone(), view::account(state))).collect();
        Ok(Outcome { snapshots, accounts, counts: self.counts })
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), MaterializeError> {
        let account = event.account_id.raw();
        match event.kind {
            EventKind::Unknown | EventKind::RepairRequested => return Ok(()),
            EventKind::MessageDeleted => {
                let Some(message) = event.message_id() else { return Ok(()) };
                let key = (account.to_owned(), message.to_owned());
                self.deleted.insert(key.clone(), event.at());
                if let Some(conversation) = self.messages.get(&key).cloned() {
                    self.apply(account, &conversation, event)?;
                }
                return Ok(());
            }
            EventKind::PresenceSnapshot => self.online(account, event)?,
            _ => {}
        }
        let Some(conversation) = event.conversation_id.as_ref().map(|id| id.raw()) else {
            return self.account(account, event);
        };
        self.apply(account, conversation, event)?;
        if matches!(event.kind, EventKind::MessageReceived | EventKind::MessageSent)
            && let Some(message) = event.message_id()
        {
            let key = (account.to_owned(), message.to_owned());
            if self.deleted.contains_key(&key)
                && let Some(batch) = self.conversations.get_mut(&(account.to_owned(), conversation.to_owned()))
            {
                batch.delete(message);
            }
            self.messages.insert(key, conversation.to_owned());
        }
        Ok(())
    }

    fn apply(&mut self, account: &str, conversation: &str, event: &Event<'_>) -> Result<(), MaterializeError> {
        let policy = self.policies.of(account);
        let batch = self
            .conversations
            .entry((account.to_owned(), conversation.to_owned()))
            .or_insert_with(|| ConversationBatch::new(account, conversation, None, 0, policy, event.received_at));
        batch.set_now(event.received_at);
        batch.apply(event, Bytes::new)?;
        self.counts.take(batch)
    }

    fn online(&mut self, account: &str, event: &Event<'_>) -> Result<(), MaterializeError> {
        for fan in event.presence.iter().flat_map(|presence| &presence.online) {
            if let Some(batch) = self.conversations.get_mut(&(account.to_owned(), fan.raw().to_owned())) {
                batch.set_now(event.received_at);
                batch.online(event)?;
                self.counts.take(batch)?;
            }
        }
        Ok(())
    }

    fn account(&mut self, account: &str, event: &Event<'_>) -> Result<(), MaterializeError> {
        let policy = self.policies.of(account);
        let state = self.accounts.entry(account.to_owned()).or_default();
        let applied = fold::apply_account(state, event, event.received_at, policy.policy().horizon_ms);
        self.counts.tally.count(applied);
        let setting = priority::Setting { conversation: None, policy, now: event.received_at };
        if applied.is_new()
            && event.kind != EventKind::PresenceSnapshot
            && let Some(entry) = priority::of_event(event, setting)
        {
            *self.counts.priority.entry(entry.level.name().to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

impl Counts {
    /// Counts what a batch would have appended, and forgets it, so that a long recording needs no memory for its feeds.
    fn take(&mut self, batch: &mut ConversationBatch<'_>) -> Result<(), MaterializeError> {
        let (fan_events, priority) = batch.take_feeds();
        self.fan_events += fan_events.len() as u64;
        for entry in priority {
            let entry: crate::schema::view::PriorityEntry = serde_json::from_slice(&entry)?;
            *self.priority.entry(entry.level.name().to_owned()).or_default() += 1;
        }
        self.tally.add(std::mem::take(&mut batch.tally));
        Ok(())
    }
}
