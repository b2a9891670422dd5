//! The messages of a conversation: which are recent, which wait for an answer, what the history holds, what was sold.

use std::collections::{BTreeMap, BTreeSet};

use convpipe::schema::document::{MediaDocument, MessageDocument, SummaryMessage};
use convpipe::schema::event::{EventKind, Message};
use convpipe::schema::ids::message_rank;
use convpipe::schema::text::{OwnedText, Untrusted};
use convpipe::schema::time::Millis;
use convpipe::schema::view::{LastMessage, LastPpv, PpvState};

use super::model::{Seen, register, stamp};

/// At most so many messages are counted as waiting.
const WAITING_MAX: usize = 100;

/// Where a message stands in its conversation: its time, then its rank, because many share one second.
type Place = (Millis, u64);

/// All messages of a conversation that have an id, by place.
pub(crate) struct Chat<'m> {
    messages: Vec<ChatMessage<'m>>,
    reply_mark: Option<Place>,
}

/// One message, whatever its versions said.
struct ChatMessage<'m> {
    id: &'m str,
    place: Place,
    /// The version that stays: the one that the source changed last.
    current: Seen<'m>,
    /// Any version said that its reader has opened it.
    is_opened: bool,
    deleted_at: Option<Millis>,
}

impl<'m> Chat<'m> {
    /// The messages that a conversation's events tell of, with the deletes of its account.
    pub(crate) fn of(told: &[Seen<'m>], deletes: &BTreeMap<&str, Millis>) -> Self {
        let versions: Vec<(&str, Seen<'_>)> =
            told.iter().filter(|event| is_message(event)).filter_map(|&event| Some((event.message_id()?, event))).collect();
        let ids: BTreeSet<&str> = versions.iter().map(|(id, _)| *id).collect();
        let mut messages: Vec<ChatMessage<'_>> = ids
            .into_iter()
            .filter_map(|id| {
                let of_id = || versions.iter().filter(|(other, _)| *other == id).map(|(_, event)| *event);
                let current = of_id().max_by_key(|event| (body(event).and_then(|message| message.changed_at), stamp(event)))?;
                let is_opened = of_id().any(|event| body(event).and_then(|message| message.is_opened) == Some(true));
                Some(ChatMessage { id, place: (current.at(), message_rank(id)), current, is_opened, deleted_at: deletes.get(id).copied() })
            })
            .collect();
        messages.sort_by_key(|message| message.place);
        let answers = messages.iter().filter(|message| message.current.kind == EventKind::MessageSent && !message.is_bulk());
        let reply_mark = answers.map(|message| message.place).max();
        Self { messages, reply_mark }
    }

    /// The greatest `k` messages, oldest first, without those that were deleted: these keep their place but are not shown.
    fn recent(&self, k: usize) -> impl DoubleEndedIterator<Item = &ChatMessage<'m>> {
        self.messages[self.messages.len().saturating_sub(k)..].iter().filter(|message| message.deleted_at.is_none())
    }

    /// The newest message, of the greatest `k`, that was not deleted.
    pub(crate) fn last_message(&self, k: usize) -> Option<LastMessage> {
        self.recent(k).next_back().map(|message| LastMessage {
            id: message.id.into(),
            preview: message.text(280),
            direction: message.current.direction,
            at: message.place.0,
        })
    }

    /// The messages that are inlined in a summary.
    pub(crate) fn summary(&self, k: usize) -> Vec<SummaryMessage> {
        let inline = |message: &ChatMessage<'_>| SummaryMessage {
            id: message.id.into(),
            direction: message.current.direction,
            at: message.place.0,
            text: message.text(2_000),
            price: body(message.current).and_then(|body| body.price),
            tip: message.current.money.map(|money| money.minor),
            media: body(message.current).map_or(0, |body| u32::try_from(body.media.len()).unwrap()),
        };
        self.recent(k).map(inline).collect()
    }

    /// Every message as the history keeps it, by its id.
    pub(crate) fn history(&self) -> impl Iterator<Item = (String, MessageDocument)> {
        self.messages.iter().map(|message| (message.id.to_owned(), message.document()))
    }

    /// Whether a message of that id was seen.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.messages.iter().any(|message| message.id == id)
    }

    /// Messages of the fan that no answer follows, oldest first; bulk messages answer nothing.
    fn unanswered(&self) -> Vec<&ChatMessage<'m>> {
        let past_mark = |message: &&ChatMessage<'_>| self.reply_mark.is_none_or(|mark| message.place > mark);
        self.messages.iter().filter(|message| message.current.kind == EventKind::MessageReceived).filter(past_mark).collect()
    }

    /// The newest of them, as many as are remembered.
    fn waiting(&self) -> Vec<&ChatMessage<'m>> {
        let mut unanswered = self.unanswered();
        unanswered.split_off(unanswered.len().saturating_sub(WAITING_MAX))
    }

    /// Waiting messages that nobody opened.
    pub(crate) fn unread(&self) -> u32 {
        let unread = self.waiting().into_iter().filter(|message| !message.is_opened && message.deleted_at.is_none());
        u32::try_from(unread.count()).unwrap()
    }

    /// More wait than are remembered.
    pub(crate) fn unread_more(&self) -> bool {
        self.unanswered().len() > WAITING_MAX
    }

    /// Since when the fan waits. Opening a message does not answer it; deleting it takes it back.
    pub(crate) fn awaiting_since(&self) -> Option<Millis> {
        self.waiting().into_iter().filter(|message| message.deleted_at.is_none()).map(|message| message.place.0).min()
    }
}

impl ChatMessage<'_> {
    fn is_bulk(&self) -> bool {
        body(self.current).and_then(|body| body.is_bulk) == Some(true)
    }

    /// The plain text, cut; empty where the source gave none.
    fn text(&self, max: usize) -> OwnedText {
        body(self.current).and_then(|body| body.text.as_ref()).map(|text| text.preview(max)).unwrap_or_default()
    }

    fn document(&self) -> MessageDocument {
        let event = self.current;
        let body = event.message.clone().unwrap_or_default();
        let owned = |text: Option<Untrusted<'_>>| text.map(Untrusted::into_owned);
        MessageDocument {
            message_id: self.id.into(),
            direction: event.direction,
            sent_at: self.place.0,
            media: body.media.iter().map(MediaDocument::from).collect(),
            text: owned(body.text),
            html: owned(body.html),
            reply_to: owned(body.reply_to),
            price: body.price,
            money: event.money,
            is_tip: body.is_tip == Some(true),
            is_bulk: self.is_bulk(),
            deleted_at: self.deleted_at,
            changed_at: body.changed_at,
            event_id: event.id.raw().into(),
            expire_at: Millis(0),
        }
    }
}

/// The paid message with the greatest rank: sent, or unlocked as soon as anything said so.
pub(crate) fn last_ppv(told: &[Seen<'_>]) -> Option<LastPpv> {
    let price_of = |event: Seen<'_>| body(event)?.price.filter(|&price| event.kind == EventKind::MessageSent && price > 0);
    let is_paid = |event: Seen<'_>| price_of(event).is_some() || event.kind == EventKind::PpvUnlocked;
    let id = told.iter().filter(|event| is_paid(event)).filter_map(|event| event.message_id()).max_by_key(|id| message_rank(id))?;

    let of_id: Vec<Seen<'_>> = told.iter().copied().filter(|event| event.message_id() == Some(id)).collect();
    let sent = register(&of_id, |event| Some((price_of(event)?, event.at())));
    let unlocked_at = of_id.iter().filter(|event| event.kind == EventKind::PpvUnlocked).map(|event| event.at()).min();
    let (state, at) = match (unlocked_at, sent) {
        (Some(at), _) => (PpvState::Unlocked, at),
        (None, Some((_, at))) => (PpvState::Sent, at),
        (None, None) => return None,
    };
    Some(LastPpv { message_id: id.into(), price: sent.map(|(price, _)| price), state, at })
}

fn is_message(event: Seen<'_>) -> bool {
    matches!(event.kind, EventKind::MessageReceived | EventKind::MessageSent)
}

fn body<'m>(event: Seen<'m>) -> Option<&'m Message<'m>> {
    event.message.as_ref()
}
