//! The fold and the materializer, held to the oracle: batch by batch, each state encoded and read back between two batches.

use std::collections::BTreeMap;

use bytes::Bytes;
use convpipe::schema::document::MessageDocument;
use convpipe::schema::event::{Counters, Event, EventKind, Link};
use convpipe::schema::policy::Policy;
use convpipe::schema::state::{AccountState, ConversationState};
use convpipe::schema::time::Millis;
use convpipe::transform::fold;
use convpipe::transform::materialize::{AccountBatch, ConversationBatch, Keep, SummaryBatch};
use convpipe::transform::policy::CompiledPolicy;
use proptest::prelude::*;
use serde_json::Value;

use crate::oracle::check::{check_fold, check_rows};
use crate::oracle::compare::{Actual, ActualAccount, ActualConversation, Index};
use crate::oracle::deliver::Arrival;

const KEEP: Keep = Keep { summary_ttl_ms: 1_000, message_ttl_ms: 1_000, high_value_only: false };

#[test]
fn the_fold_answers_the_hand_worked_rows() {
    let checked = check_rows(run).unwrap_or_else(|found| panic!("{found}"));
    assert!(checked >= 25, "only {checked} rows were checked");
}

#[test]
fn the_fold_converges_to_the_model() {
    check_fold(400, run).unwrap_or_else(|found| panic!("{found}"));
}

/// An event of an account that says something else than others at the same or another time.
fn account_event(kind: u8, at: i64, says: u8) -> Event<'static> {
    let kind =
        [EventKind::ConnectionGap, EventKind::ConnectionOpened, EventKind::CountersUpdated, EventKind::AccountAuthChanged][kind as usize];
    let mut event = Event::of_account(kind, format!("{} {at} {says}", kind.name()), "a", "c", Millis(at));
    let text = says.to_string();
    event.link = Some(Link { to: Some(Millis(at)), reason: Some(text.clone().into()), auth_status: Some(text.into()), ..Link::default() });
    event.counters = (kind == EventKind::CountersUpdated).then(|| Counters { unread_chats: Some(says.into()), ..Counters::default() });
    event
}

proptest! {
    #[test]
    fn states_of_an_account_merge_into_that_of_all_their_events(
        events in prop::collection::vec((0..4u8, 0..20i64, 0..3u8, 0..4u8), 0..120)
    ) {
        let fold = |keep: &dyn Fn(u8) -> bool| {
            let mut state = AccountState::default();
            for (kind, at, says, _) in events.iter().filter(|event| keep(event.3)) {
                fold::apply_account(&mut state, &account_event(*kind, *at, *says), Millis(20), 1_000);
            }
            state
        };
        // Some events were seen by one, some by the other, some by both.
        let (one, other, all) = (fold(&|seen| seen != 1), fold(&|seen| seen != 0), fold(&|_| true));
        let merged = |mut into: AccountState, from: &AccountState| { into.merge(from.clone()); into };
        prop_assert_eq!(&merged(one.clone(), &other), &all);
        prop_assert_eq!(&merged(other.clone(), &one), &all);
        prop_assert_eq!(&merged(all.clone(), &one), &all);
    }
}

/// What the stores would hold.
#[derive(Default)]
struct Store {
    conversations: BTreeMap<(String, String), Stored>,
    accounts: BTreeMap<String, (Vec<u8>, u64)>,
    actual: Actual,
    messages: BTreeMap<(String, String), String>,
    deleted: BTreeMap<(String, String), Millis>,
}

#[derive(Default)]
struct Stored {
    views: Vec<u8>,
    documents: Vec<u8>,
    rev: u64,
}

fn run(arrival: &Arrival, policy: &Policy, now: Millis) -> Actual {
    let policy = CompiledPolicy::new(policy.clone()).unwrap();
    let mut store = Store::default();
    for batch in arrival {
        store.apply(batch, &policy, now);
    }
    store.actual
}

impl Store {
    fn apply(&mut self, batch: &[Vec<u8>], policy: &CompiledPolicy, now: Millis) {
        let horizon_ms = policy.policy().horizon_ms;
        let (batch, events): (Vec<&Vec<u8>>, Vec<Event<'_>>) = batch
            .iter()
            .map(|json| (json, serde_json::from_slice::<Event<'_>>(json).unwrap()))
            .filter(|(_, event)| !fold::is_stale(event, now, horizon_ms))
            .unzip();
        let account = |event: &Event<'_>| event.account_id.raw().to_owned();
        for event in &events {
            let Some(message) = event.message_id() else { continue };
            let key = (account(event), message.to_owned());
            match (event.kind, &event.conversation_id) {
                (EventKind::MessageDeleted, _) => {
                    let at = self.deleted.entry(key).or_insert(event.at());
                    *at = event.at().min(*at);
                }
                (EventKind::MessageReceived | EventKind::MessageSent, Some(conversation)) => {
                    self.messages.insert(key, conversation.raw().to_owned());
                }
                _ => {}
            }
        }
        // Everything of a conversation together, in the order of the batch.
        let mut groups: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        let mut of_accounts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, event) in events.iter().enumerate() {
            let conversation = match event.kind {
                EventKind::Unknown | EventKind::RepairRequested => continue,
                EventKind::MessageDeleted => {
                    let known = event.message_id().and_then(|message| self.messages.get(&(account(event), message.to_owned())));
                    let Some(known) = known else { continue };
                    Some(known.clone())
                }
                _ => event.conversation_id.as_ref().map(|id| id.raw().to_owned()),
            };
            for fan in event.presence.iter().flat_map(|presence| &presence.online) {
                groups.entry((account(event), fan.raw().to_owned())).or_default().push(place);
            }
            match conversation {
                Some(conversation) => groups.entry((account(event), conversation)).or_default().push(place),
                None => of_accounts.entry(account(event)).or_default().push(place),
            }
        }
        for ((account, conversation), places) in groups {
            self.conversation(&account, &conversation, &events, &batch, &places, policy, now);
        }
        for (account, places) in of_accounts {
            self.account(&account, &events, &places, policy, now);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one batch of one conversation, with all that it needs")]
    fn conversation(
        &mut self,
        account: &str,
        conversation: &str,
        events: &[Event<'_>],
        batch: &[&Vec<u8>],
        places: &[usize],
        policy: &CompiledPolicy,
        now: Millis,
    ) {
        let key = (account.to_owned(), conversation.to_owned());
        let creates = places.iter().any(|&place| events[place].kind != EventKind::PresenceSnapshot);
        if !creates && !self.conversations.contains_key(&key) {
            return;
        }
        let stored = self.conversations.entry(key.clone()).or_default();
        let read = |bytes: &[u8]| (!bytes.is_empty()).then(|| Box::new(ConversationState::decode(bytes).unwrap()));
        let mut views = ConversationBatch::new(account, conversation, read(&stored.views), stored.rev, policy, now);
        let mut documents = SummaryBatch::new(account, conversation, read(&stored.documents), stored.rev, policy, now, KEEP);
        for &place in places {
            let event = &events[place];
            if event.kind == EventKind::PresenceSnapshot {
                views.online(event).unwrap();
                documents.online(event.at());
                continue;
            }
            views.apply(event, || Bytes::copy_from_slice(batch[place])).unwrap();
            documents.apply(event);
            if matches!(event.kind, EventKind::MessageReceived | EventKind::MessageSent)
                && let Some(message) = event.message_id()
                && let Some(&at) = self.deleted.get(&(account.to_owned(), message.to_owned()))
            {
                views.delete(message);
                documents.delete(message, at);
            }
        }
        let misses = views.tally.window_misses;
        let (Some((view, view_state)), Some((summary, summary_state))) = (views.finish().unwrap(), documents.finish().unwrap()) else {
            if stored.rev == 0 {
                self.conversations.remove(&key);
            }
            return;
        };
        stored.rev = view.rev;
        stored.views = view_state.encode().unwrap();
        stored.documents = summary_state.encode().unwrap();
        let actual: &mut ActualConversation = self.actual.conversations.entry(key).or_default();
        actual.snapshot = Some(serde_json::from_slice(&view.snapshot).unwrap());
        actual.summary = Some(serde_json::from_slice(&summary.summary).unwrap());
        actual.index = Some(Index { active_at: view.active_at, awaiting_since: view.awaiting_since });
        actual.fan_events.get_or_insert_default().extend(view.fan_events.iter().map(|event| id_at(event, "/id")));
        actual.window_miss += misses;
        let history = actual.history.get_or_insert_default();
        for message in summary.messages {
            put_message(history, &message);
        }
        for deletion in summary.deletions {
            if let Some(message) = history.get_mut(&deletion.message) {
                let earlier = message.get("deleted_at").and_then(Value::as_str).and_then(Millis::parse);
                message["deleted_at"] = earlier.map_or(deletion.deleted_at, |at| at.min(deletion.deleted_at)).to_string().into();
            }
        }
        let feed = self.actual.accounts.entry(account.to_owned()).or_default();
        feed.priority
            .get_or_insert_default()
            .extend(view.priority.iter().map(|entry| id_at(entry, "/event/id")).filter(|id| !id.starts_with("due:")));
    }

    fn account(&mut self, account: &str, events: &[Event<'_>], places: &[usize], policy: &CompiledPolicy, now: Millis) {
        let stored = self.accounts.get(account).map(|(bytes, rev)| (AccountState::decode(bytes).unwrap(), *rev));
        let mut batch = AccountBatch::new(account, stored, policy, now);
        for &place in places {
            batch.apply(&events[place]).unwrap();
        }
        let misses = batch.tally.window_misses;
        let Some((write, state)) = batch.finish().unwrap() else { return };
        self.accounts.insert(account.to_owned(), (state.encode().unwrap(), write.rev));
        let actual: &mut ActualAccount = self.actual.accounts.entry(account.to_owned()).or_default();
        let view = actual.view.get_or_insert_with(|| Value::Object(serde_json::Map::new()));
        for (field, value) in write.fields {
            view[field] = serde_json::from_slice(&value).unwrap();
        }
        actual.priority.get_or_insert_default().extend(write.priority.iter().map(|entry| id_at(entry, "/event/id")));
        actual.window_miss += misses;
    }
}

/// What the document store promises: of two versions the later change stays, and a deletion is never taken back.
fn put_message(history: &mut BTreeMap<String, Value>, message: &MessageDocument) {
    let id = message.message_id.raw().to_owned();
    let new = serde_json::to_value(message).unwrap();
    let version = |value: &Value| (value["changed_at"].as_str().and_then(Millis::parse), value.to_string());
    match history.get_mut(&id) {
        Some(known) => {
            let deleted = known.get("deleted_at").cloned();
            let mut bare = known.clone();
            bare.as_object_mut().unwrap().remove("deleted_at");
            if version(&new) > version(&bare) {
                *known = new;
            }
            if let Some(deleted) = deleted {
                known["deleted_at"] = deleted;
            }
        }
        None => {
            history.insert(id, new);
        }
    }
}

fn id_at(json: &[u8], pointer: &str) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    value.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()
}
