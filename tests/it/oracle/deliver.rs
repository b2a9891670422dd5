//! How a history arrives: shuffled, told again, cut into batches.
//!
//! Owns: the transformations of a list of deliveries. Does not own: what happened. Invariant: whatever the delivery, each event of
//! the history arrives at least once, and nothing arrives whose facts are not in it.

use std::collections::BTreeSet;

use convpipe::schema::event::{Event, EventKind};
use convpipe::schema::ids::hash64;
use convpipe::schema::text::Untrusted;
use convpipe::schema::time::Millis;
use proptest::prelude::*;

use super::model::is_carried;

/// Deliveries in the order in which they arrive, cut where a consumer's batch ends.
pub(crate) type Arrival = Vec<Vec<Vec<u8>>>;

/// One way for a history to arrive. Each list is used in turns, so it fits any length; an empty one changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    disorder: Disorder,
    keys: Vec<u16>,
    repeats: Vec<Repeat>,
    batch_lengths: Vec<usize>,
}

/// How far events leave their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disorder {
    /// Any shuffle of all events.
    Any,
    /// In the order of their times, but for events that come at most so many places late: always within the rings of recent ids.
    Late(u16),
}

/// How often one event arrives.
#[derive(Debug, Clone, Copy)]
enum Repeat {
    Once,
    /// The same bytes three times: deliveries that were not acked.
    Thrice,
    /// Read from another socket, too: same id, same facts, but another way here.
    SeenAgain,
    /// Both.
    ThriceAndSeenAgain,
}

/// Any delivery.
pub(crate) fn deliveries() -> impl Strategy<Value = Delivery> {
    let disorder = prop_oneof![2 => Just(Disorder::Any), 1 => Just(Disorder::Late(8))];
    let keys = prop::collection::vec(any::<u16>(), 0..=97);
    let repeat = prop_oneof![
        4 => Just(Repeat::Once),
        1 => Just(Repeat::Thrice),
        1 => Just(Repeat::SeenAgain),
        1 => Just(Repeat::ThriceAndSeenAgain),
    ];
    let batch_lengths = prop_oneof![Just(vec![1]), Just(vec![usize::MAX]), prop::collection::vec(1..=40_usize, 1..=7)];
    (disorder, keys, prop::collection::vec(repeat, 0..=31), batch_lengths).prop_map(|(disorder, keys, repeats, batch_lengths)| Delivery {
        disorder,
        keys,
        repeats,
        batch_lengths,
    })
}

impl Delivery {
    /// Everything in one batch, in the given order.
    pub(crate) fn plain() -> Self {
        Self { disorder: Disorder::Any, keys: Vec::new(), repeats: Vec::new(), batch_lengths: Vec::new() }
    }

    /// Nothing comes so late that a ring of recent ids has forgotten what it needs: feeds and counts are exact.
    pub(crate) fn is_within_rings(&self) -> bool {
        matches!(self.disorder, Disorder::Late(_))
    }

    /// The events as they arrive. What is older than `horizon` tells nothing, so it does not make a conversation exist either.
    pub(crate) fn of(&self, events: &[Vec<u8>], horizon: Millis) -> Arrival {
        let ordered = match self.disorder {
            Disorder::Any => events.to_vec(),
            Disorder::Late(_) => in_order(events),
        };
        let shuffled = shuffled(duplicated(&ordered, &self.repeats), &self.keys, self.disorder);
        batched(online_when_known(shuffled, horizon), &self.batch_lengths)
    }
}

/// By time and hash of the id, as the rings have it.
fn in_order(events: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut events = events.to_vec();
    events.sort_by_cached_key(|bytes| {
        let event = parse(bytes);
        (event.at(), hash64(event.id.raw()))
    });
    events
}

/// Each event as often as its turn says, each with its place in the order.
fn duplicated(events: &[Vec<u8>], repeats: &[Repeat]) -> Vec<(usize, Vec<u8>)> {
    let mut deliveries = Vec::new();
    let mut turns = repeats.iter().cycle();
    for (place, event) in events.iter().enumerate() {
        let repeat = turns.next().copied().unwrap_or(Repeat::Once);
        let copies = if matches!(repeat, Repeat::Thrice | Repeat::ThriceAndSeenAgain) { 3 } else { 1 };
        deliveries.extend(std::iter::repeat_n((place, event.clone()), copies));
        if matches!(repeat, Repeat::SeenAgain | Repeat::ThriceAndSeenAgain) {
            deliveries.push((place, seen_again(event)));
        }
    }
    deliveries
}

/// The same item of the source, read a moment later over another connection.
///
/// Its time stays: what the source does not date is known by the second in which it was read, so that read in another second it is
/// another event. Only a delete has an id of its own and no date.
fn seen_again(bytes: &[u8]) -> Vec<u8> {
    let event = parse(bytes);
    let mut again = event.clone();
    again.connection = Untrusted::borrowed("0198c0000000000c");
    again.frame_no += 100;
    again.received_at = event.received_at.plus(1_500);
    if again.at() != event.at() && event.kind != EventKind::MessageDeleted {
        again.received_at = event.received_at;
    }
    serde_json::to_vec(&again).unwrap()
}

/// Sorted by keys taken in turns. Without keys the order stays.
fn shuffled(deliveries: Vec<(usize, Vec<u8>)>, keys: &[u16], disorder: Disorder) -> Vec<Vec<u8>> {
    let mut turns = keys.iter().copied().cycle();
    let mut keyed: Vec<(usize, Vec<u8>)> = deliveries
        .into_iter()
        .map(|(place, event)| {
            let key = turns.next().unwrap_or(0);
            let key = match disorder {
                Disorder::Any => usize::from(key),
                Disorder::Late(places_max) => place + usize::from(key % places_max),
            };
            (key, event)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, event)| event).collect()
}

/// Holds a presence snapshot back until the conversations of all fans in it exist: by specification it changes existing ones only, so
/// before that its effect would depend on the order.
fn online_when_known(deliveries: Vec<Vec<u8>>, horizon: Millis) -> Vec<Vec<u8>> {
    type Conversations = BTreeSet<(String, String)>;
    let told_of = |bytes: &[u8]| {
        let event = parse(bytes);
        let conversation = event.conversation_id.as_ref().filter(|_| event.at() >= horizon && !is_carried(&event))?;
        Some((event.account_id.raw().to_owned(), conversation.raw().to_owned()))
    };
    let all: Conversations = deliveries.iter().filter_map(|bytes| told_of(bytes)).collect();
    let missing = |bytes: &[u8], known: &Conversations| {
        let event = parse(bytes);
        let online = event.presence.iter().flat_map(|presence| &presence.online);
        let conversations = online.map(|fan| (event.account_id.raw().to_owned(), fan.raw().to_owned()));
        conversations.filter(|conversation| all.contains(conversation)).any(|conversation| !known.contains(&conversation))
    };
    let (mut known, mut held, mut out) = (Conversations::new(), Vec::new(), Vec::new());
    for bytes in deliveries {
        if missing(&bytes, &known) {
            held.push(bytes);
            continue;
        }
        let is_new = told_of(&bytes).is_some_and(|conversation| known.insert(conversation));
        out.push(bytes);
        if is_new {
            let (still_held, released) = held.into_iter().partition(|bytes| missing(bytes, &known));
            held = still_held;
            out.extend::<Vec<Vec<u8>>>(released);
        }
    }
    out
}

/// Cut into batches of the given lengths, in turns; without lengths, one batch.
fn batched(deliveries: Vec<Vec<u8>>, lengths: &[usize]) -> Arrival {
    let mut rest = deliveries.into_iter().peekable();
    let mut lengths = lengths.iter().copied().cycle();
    let mut batches = Vec::new();
    while rest.peek().is_some() {
        batches.push(rest.by_ref().take(lengths.next().unwrap_or(usize::MAX)).collect());
    }
    batches
}

fn parse(bytes: &[u8]) -> Event<'_> {
    serde_json::from_slice(bytes).unwrap()
}
