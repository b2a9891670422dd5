//! The fold: events into state. `docs/fold.md` is its specification.
//!
//! Owns every rule by which an event changes what is known. Does not own what is shown or alerted ([`super::view`], [`super::priority`]).
//! Invariant: any order, batching and repetition of the same events ends in the same state, as far as the specification promises.

use crate::schema::event::{Class, Direction, Event, EventKind, FanProfile, Message, Subscription, SubscriptionState};
use crate::schema::ids::{hash64, message_rank};
use crate::schema::state::{
    AccountState, ConversationState, DELETED_MAX, DeletedMessage, Greatest, Merged, ONLINE_MAX, PAID_MESSAGES_MAX, PaidMessage, Place,
    ProfileState, RecentMessage, Register, ReportedState, SEEN_MAX, SEEN_NOISE_MAX, Seen, Stamp, SubscriptionStateRegisters, WAITING_MAX,
    WaitingMessage,
};
use crate::schema::text::{OwnedText, Untrusted, cut};
use crate::schema::time::Millis;

use super::money;

/// How long `typing.started` holds; what a user interface lets it expire after.
pub const TYPING_MS: i64 = 5_000;

/// Characters of a fan's names, and of the account's note on the fan, that are remembered.
const NAME_CHARS_MAX: usize = 256;
const NOTICE_CHARS_MAX: usize = 2_000;
/// Lists of a fan, and characters of each one's name, that are remembered.
const LISTS_MAX: usize = 256;
const LIST_CHARS_MAX: usize = 64;

/// How much of the newest messages a state keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages.
    pub recent: usize,
    /// Characters of each one's text.
    pub text_chars: usize,
}

impl Depth {
    /// For Redis: the last message, and what takes its place when messages are deleted.
    pub const VIEWS: Self = Self { recent: 5, text_chars: 280 };
    /// For the documents: what a summary inlines.
    pub const DOCUMENTS: Self = Self { recent: 20, text_chars: 2_000 };
}

/// What an event did to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether it may be counted and appended.
    pub novelty: Novelty,
    /// Its time lay too far ahead and was not believed.
    pub clamped: bool,
    /// Memories for which it was too old.
    pub window_misses: u32,
}

/// Whether an event was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// For the first time.
    New,
    /// Before, or too old to tell.
    Seen,
    /// Older than the horizon: nothing was changed.
    Stale,
}

impl Applied {
    const STALE: Self = Self { novelty: Novelty::Stale, clamped: false, window_misses: 0 };

    /// Seen for the first time.
    #[must_use]
    pub fn is_new(self) -> bool {
        self.novelty == Novelty::New
    }
}

/// The stamp of an event.
#[must_use]
pub fn stamp(event: &Event<'_>) -> Stamp {
    let connection = event.connection.raw();
    let connection = connection_number(connection).unwrap_or_else(|| hash64(connection));
    Stamp { at: event.at(), connection, frame_no: event.frame_no, item_no: event.item_no, id: hash64(event.id.raw()) }
}

/// The number that 16 hex digits are.
fn connection_number(connection: &str) -> Option<u64> {
    let digits: &[u8; 16] = connection.as_bytes().try_into().ok()?;
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | u64::from((digit as char).to_digit(16)?)))
}

/// Whether an event is older than anything that is kept.
#[must_use]
pub fn is_stale(event: &Event<'_>, now: Millis, horizon_ms: i64) -> bool {
    now.since(event.at()) > horizon_ms
}

/// A conversation of which nothing is known yet.
#[must_use]
pub fn new_conversation(account: &str, conversation: &str) -> ConversationState {
    // One-to-one chats: the conversation is the fan. An event that says otherwise overwrites it.
    ConversationState {
        account: account.into(),
        conversation: conversation.into(),
        fan: conversation.into(),
        ..ConversationState::default()
    }
}

/// A state from the documents as the views need it: shorter, and with no memory of what was appended, since a store that has lost its state has
/// lost its streams too.
#[must_use]
pub fn for_views(mut state: Box<ConversationState>) -> Box<ConversationState> {
    state.recent.truncate(Depth::VIEWS.recent);
    for message in state.recent.items_mut() {
        message.text = message.text.as_untrusted().preview(Depth::VIEWS.text_chars);
    }
    state.seen = Greatest::default();
    state.seen_noise = Greatest::default();
    state
}

/// An account's state from the documents, likewise.
#[must_use]
pub fn account_for_views(mut state: AccountState) -> AccountState {
    state.seen = Greatest::default();
    state.seen_noise = Greatest::default();
    state
}

/// Applies an event of this conversation.
pub fn apply(state: &mut ConversationState, event: &Event<'_>, now: Millis, horizon_ms: i64, depth: Depth) -> Applied {
    if is_stale(event, now, horizon_ms) {
        return Applied::STALE;
    }
    let stamp = stamp(event);
    let mut misses = 0;
    if event.kind == EventKind::MessageDeleted {
        if let Some(id) = event.message_id() {
            delete_message(state, id);
        }
        let novelty = see(&mut state.seen, &mut state.seen_noise, event.kind, stamp, &mut misses);
        return Applied { novelty, clamped: event.is_clamped(), window_misses: misses };
    }
    if let Some(fan) = event.fan_id.as_ref().filter(|fan| fan.raw() != state.fan.raw()) {
        state.fan = fan.raw().into();
    }
    if let Some(profile) = &event.fan {
        apply_profile(&mut state.profile, profile, stamp);
    }
    if let Some(message) = &event.message {
        apply_message(state, event, message, stamp, depth);
    }
    if let Some(payment) = money::payment(event, stamp) {
        misses += u32::from(!money::record(&mut state.money, payment));
    }
    if let Some(spend) = &event.spend {
        let version = (spend.as_of, stamp);
        if state.reported.is_none_or(|known| known.version <= version) {
            state.reported = Some(ReportedState {
                version,
                total: spend.total,
                messages: spend.messages,
                tips: spend.tips,
                subscriptions: spend.subscriptions,
                posts: spend.posts,
                streams: spend.streams,
                basis: spend.basis,
            });
        }
    }
    apply_subscription(&mut state.subscription, event, stamp);
    apply_times(state, event, stamp);

    let novelty = see(&mut state.seen, &mut state.seen_noise, event.kind, stamp, &mut misses);
    if novelty == Novelty::New {
        state.messages_in += u64::from(event.kind == EventKind::MessageReceived);
        state.messages_out += u64::from(event.kind == EventKind::MessageSent);
    }
    Applied { novelty, clamped: event.is_clamped(), window_misses: misses }
}

/// The fan of this conversation was online. Returns whether that is news: the fan was not known to be online at that time.
pub fn apply_online(state: &mut ConversationState, at: Millis) -> bool {
    let news = state.online_at.is_none_or(|known| at > known);
    raise(&mut state.online_at, at);
    raise(&mut state.last_seen_at, at);
    news
}

/// Marks a message as deleted, whether it has been folded already or comes later.
pub fn delete_message(state: &mut ConversationState, id: &str) {
    let rank = message_rank(id);
    state.deleted.merge(DeletedMessage(rank), DELETED_MAX, |_, _| {});
    if let Some(message) = state.recent.get_mut(rank) {
        message.deleted = true;
    }
    if let Some(message) = state.waiting.get_mut(rank) {
        message.deleted = true;
    }
}

/// Applies an event that belongs to no conversation, or `presence.snapshot`, to its account.
pub fn apply_account(state: &mut AccountState, event: &Event<'_>, now: Millis, horizon_ms: i64) -> Applied {
    if is_stale(event, now, horizon_ms) {
        return Applied::STALE;
    }
    let stamp = stamp(event);
    if let Some(counters) = &event.counters {
        put_some(&mut state.unread_chats, stamp, counters.unread_chats);
        put_some(&mut state.priority_chats, stamp, counters.priority_chats);
        put_some(&mut state.unread_tips, stamp, counters.unread_tips);
        put_some(&mut state.notifications, stamp, counters.notifications);
        put_some(&mut state.has_new_hints, stamp, counters.has_new_hints);
    }
    if let Some(presence) = &event.presence {
        Register::put(&mut state.online, stamp, || presence.online.iter().take(ONLINE_MAX).map(|id| id.raw().into()).collect());
    }
    apply_link(state, event, stamp);
    let mut window_misses = 0;
    let novelty = see(&mut state.seen, &mut state.seen_noise, event.kind, stamp, &mut window_misses);
    Applied { novelty, clamped: event.is_clamped(), window_misses }
}

fn apply_link(state: &mut AccountState, event: &Event<'_>, stamp: Stamp) {
    let link = event.link.as_ref();
    let reason = || link.and_then(|link| link.reason.as_deref()).map(str::to_owned);
    let connection = |name: &str, reason| (name.to_owned(), OwnedText::from(event.connection.raw()), reason);
    match event.kind {
        EventKind::ConnectionOpened => {
            Register::put(&mut state.connection, stamp, || connection("opened", None));
            // The platform has accepted the session: whatever was wrong with it before is over.
            Register::put(&mut state.auth, stamp, || "ready".to_owned());
        }
        EventKind::ConnectionClosed => {
            Register::put(&mut state.connection, stamp, || connection("closed", reason()));
        }
        EventKind::ConnectionSilent => {
            Register::put(&mut state.connection, stamp, || connection("silent", reason()));
        }
        EventKind::ConnectionGap => {
            let to = link.and_then(|link| link.to).unwrap_or(stamp.at);
            let from = link.and_then(|link| link.from);
            Register::put(&mut state.gap, Stamp { at: to, ..stamp }, || (from, reason()));
        }
        EventKind::AccountAuthChanged => {
            let status = link.and_then(|link| link.auth_status.as_deref());
            put_some(&mut state.auth, stamp, status.map(str::to_owned));
        }
        _ => {}
    }
}

fn apply_profile(profile: &mut ProfileState, stated: &FanProfile<'_>, stamp: Stamp) {
    for (slot, text, max) in [
        (&mut profile.name, &stated.name, NAME_CHARS_MAX),
        (&mut profile.username, &stated.username, NAME_CHARS_MAX),
        (&mut profile.display_name, &stated.display_name, NAME_CHARS_MAX),
        (&mut profile.notice, &stated.notice, NOTICE_CHARS_MAX),
    ] {
        if let Some(text) = text {
            Register::put_text(slot, stamp, cut(text.raw(), max));
        }
    }
    if let Some(lists) = &stated.lists {
        let known = |list: &Untrusted<'_>| cut(list.raw(), LIST_CHARS_MAX).into();
        Register::put(&mut profile.lists, stamp, || lists.iter().take(LISTS_MAX).map(known).collect());
    }
}

fn apply_message(state: &mut ConversationState, event: &Event<'_>, message: &Message<'_>, stamp: Stamp, depth: Depth) {
    match event.kind {
        EventKind::MessageReceived => {
            let place = remember_message(state, event, message, stamp, depth);
            raise(&mut state.last_inbound_at, stamp.at);
            wait(state, place, message.is_opened == Some(true));
        }
        EventKind::MessageSent => {
            let place = remember_message(state, event, message, stamp, depth);
            raise(&mut state.last_outbound_at, stamp.at);
            if message.is_bulk != Some(true) {
                answer(state, place);
            }
            if let (Some(id), Some(price)) = (message.id.as_ref(), message.price.filter(|&price| price > 0)) {
                let sent = Some(Register { stamp, value: (price, stamp.at) });
                remember_paid(state, id.raw(), sent, None);
            }
        }
        EventKind::PpvUnlocked => {
            if let Some(id) = &message.id {
                remember_paid(state, id.raw(), None, Some(stamp.at));
            }
        }
        _ => {}
    }
}

fn remember_message(state: &mut ConversationState, event: &Event<'_>, message: &Message<'_>, stamp: Stamp, depth: Depth) -> Place {
    let id = message.id.as_ref().map_or(event.id.raw(), |id| id.raw());
    let place = Place { at: stamp.at, rank: message_rank(id) };
    let full_of_newer = state.recent.items().len() >= depth.recent && state.recent.items().first().is_some_and(|first| place < first.place);
    if full_of_newer {
        return place;
    }
    let recent = RecentMessage {
        place,
        version: (message.changed_at, stamp),
        id: id.into(),
        direction: event.direction,
        text: message.text.as_ref().map(|text| text.preview(depth.text_chars)).unwrap_or_default(),
        price: message.price.filter(|&price| price > 0),
        tip: event.money.map(|money| money.minor),
        media: u32::try_from(message.media.len()).unwrap_or(u32::MAX),
        deleted: is_deleted(state, place),
    };
    state.recent.merge(recent, depth.recent, |known, seen| {
        let (deleted, place) = (known.deleted, known.place.max(seen.place));
        if seen.version > known.version {
            *known = seen;
        }
        known.deleted = deleted;
        known.place = place;
    });
    place
}

fn is_deleted(state: &ConversationState, place: Place) -> bool {
    state.deleted.items().iter().any(|deleted| deleted.0 == place.rank)
}

/// An inbound message waits for an answer, unless one has been given.
fn wait(state: &mut ConversationState, place: Place, opened: bool) {
    if state.reply_mark.is_some_and(|mark| place <= mark) {
        return;
    }
    let message = WaitingMessage { place, opened, deleted: is_deleted(state, place) };
    let merged = state.waiting.merge(message, WAITING_MAX, |known, seen| {
        known.opened |= seen.opened;
        known.place = known.place.max(seen.place);
    });
    let forgotten = match merged {
        Merged::Known | Merged::New(None) => return,
        Merged::New(Some(first)) => first.place,
        Merged::Forgotten => place,
    };
    raise(&mut state.waiting_forgotten, forgotten);
}

/// The account wrote to this fan alone: what came before is answered.
fn answer(state: &mut ConversationState, place: Place) {
    if state.reply_mark.is_some_and(|mark| place <= mark) {
        return;
    }
    state.reply_mark = Some(place);
    state.waiting.retain(|message| message.place > place);
}

fn remember_paid(state: &mut ConversationState, id: &str, sent: Option<Register<(i64, Millis)>>, unlocked_at: Option<Millis>) {
    let paid = PaidMessage { rank: message_rank(id), id: id.into(), sent, unlocked_at };
    state.paid.merge(paid, PAID_MESSAGES_MAX, |known, seen| {
        if let Some(sent) = seen.sent {
            Register::put(&mut known.sent, sent.stamp, || sent.value);
        }
        known.unlocked_at = match (known.unlocked_at, seen.unlocked_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    });
}

fn apply_subscription(registers: &mut SubscriptionStateRegisters, event: &Event<'_>, stamp: Stamp) {
    let by_kind = match event.kind {
        EventKind::SubscriptionStarted | EventKind::SubscriptionReturned | EventKind::SubscriptionRenewed => {
            Some(SubscriptionState::Active)
        }
        EventKind::SubscriptionExpired => Some(SubscriptionState::Expired),
        _ => None,
    };
    let nothing = Subscription::default();
    let stated = event.subscription.as_ref().unwrap_or(&nothing);
    put_some(&mut registers.state, stamp, stated.state.or(by_kind));
    put_some(&mut registers.expires_at, stamp, stated.expires_at);
    put_some(&mut registers.auto_renew, stamp, stated.auto_renew);
    put_some(&mut registers.is_fan, stamp, stated.is_fan);
    put_some(&mut registers.we_follow, stamp, stated.we_follow);
}

fn apply_times(state: &mut ConversationState, event: &Event<'_>, stamp: Stamp) {
    let at = stamp.at;
    if event.kind == EventKind::TypingStarted {
        raise(&mut state.typing_until, at.plus(TYPING_MS));
    }
    state.first_seen_at = Some(state.first_seen_at.map_or(at, |first| first.min(at)));
    if event.direction == Direction::In {
        raise(&mut state.last_seen_at, at);
    }
    if event.kind.class() == Class::A {
        raise(&mut state.active_at, at);
    }
    state.received_at = state.received_at.max(event.received_at);
    Register::put_text(&mut state.latest, stamp, event.id.raw());
}

/// Looks an event up in the ring of its class, and remembers it.
fn see(ring: &mut Greatest<Seen>, noise: &mut Greatest<Seen>, kind: EventKind, stamp: Stamp, misses: &mut u32) -> Novelty {
    let (ring, max) = if kind.class() == Class::C { (noise, SEEN_NOISE_MAX) } else { (ring, SEEN_MAX) };
    match ring.merge(Seen::new(stamp.at, stamp.id), max, |known, seen| known.at = known.at.max(seen.at)) {
        Merged::New(_) => Novelty::New,
        Merged::Known => Novelty::Seen,
        Merged::Forgotten => {
            *misses += 1;
            Novelty::Seen
        }
    }
}

fn raise<T: Ord + Copy>(slot: &mut Option<T>, value: T) {
    *slot = Some(slot.map_or(value, |known| known.max(value)));
}

fn put_some<T>(slot: &mut Option<Register<T>>, stamp: Stamp, value: Option<T>) {
    if let Some(value) = value {
        Register::put(slot, stamp, || value);
    }
}
