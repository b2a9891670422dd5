//! The state of a conversation and of an account: what the fold remembers between events.
//!
//! Owns: the shapes and their encoding. Does not own the rules (`transform::fold`) or the memories that make the fold converge
//! ([`super::memory`]). Invariant: a state's size is bounded whatever was applied.

use serde::{Deserialize, Serialize};

use super::event::{Basis, Direction, SubscriptionState};
use super::text::OwnedText;
use super::time::Millis;

pub use super::memory::{Greatest, Keyed, Merged, Register};
pub use super::seen::Seen;

/// First byte of an encoded state. Another value is another shape.
const STATE_VERSION: u8 = 2;
/// What most encoded states fit in.
const ENCODED_BYTES: usize = 2_048;

/// Messages remembered as waiting for an answer.
pub const WAITING_MAX: usize = 100;
/// Ids of class A and B events remembered.
pub const SEEN_MAX: usize = 64;
/// Ids of class C events remembered.
pub const SEEN_NOISE_MAX: usize = 16;
/// Payments remembered.
pub const PAYMENTS_MAX: usize = 256;
/// How long payments are remembered, counted back from the newest.
pub const PAYMENTS_AGE_MAX_MS: i64 = 7 * 86_400 * 1000;
/// Paid messages remembered.
pub const PAID_MESSAGES_MAX: usize = 4;
/// Deleted messages remembered, for a delete that is folded before its message.
pub const DELETED_MAX: usize = 16;
/// Fans remembered as online, an account.
pub const ONLINE_MAX: usize = 500;

/// A state that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by another version of the program.
    #[error("the state has version {0}, this program reads {STATE_VERSION}; run the newer program")]
    Version(u8),
    /// Damaged.
    #[error("the state does not decode: {0}")]
    Decode(postcard::Error),
}

/// Where an event stands among all others: last-writer-wins goes by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The event's time.
    pub at: Millis,
    /// Its connection, as a number that grows with time.
    pub connection: u64,
    /// Its frame.
    pub frame_no: u64,
    /// Its place in the frame.
    pub item_no: u32,
    /// Hash of its id.
    pub id: u64,
}

/// Where a message stands in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Place {
    /// When it was sent.
    pub at: Millis,
    /// `ids::message_rank` of its id.
    pub rank: u64,
}

/// What the fold remembers of one conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConversationState {
    /// The account.
    pub account: OwnedText,
    /// The conversation.
    pub conversation: OwnedText,
    /// The fan.
    pub fan: OwnedText,
    /// Profile.
    pub profile: ProfileState,
    /// The newest messages.
    pub recent: Greatest<RecentMessage>,
    /// When the fan last wrote.
    pub last_inbound_at: Option<Millis>,
    /// When the account last wrote.
    pub last_outbound_at: Option<Millis>,
    /// The account's last message that was not bulk.
    pub reply_mark: Option<Place>,
    /// Inbound messages past the reply mark.
    pub waiting: Greatest<WaitingMessage>,
    /// The greatest of those that `waiting` had no room for.
    pub waiting_forgotten: Option<Place>,
    /// Messages that the source deleted: the delete may be folded before its message, by another lane.
    pub deleted: Greatest<DeletedMessage>,
    /// Payments.
    pub money: MoneyState,
    /// The source's own totals.
    pub reported: Option<ReportedState>,
    /// Subscription.
    pub subscription: SubscriptionStateRegisters,
    /// The newest paid messages.
    pub paid: Greatest<PaidMessage>,
    /// The fan types until then.
    pub typing_until: Option<Millis>,
    /// The fan was online then.
    pub online_at: Option<Millis>,
    /// Smallest time of any event.
    pub first_seen_at: Option<Millis>,
    /// Greatest time of anything the fan did.
    pub last_seen_at: Option<Millis>,
    /// Greatest time of a class A event.
    pub active_at: Option<Millis>,
    /// Id of the newest event.
    pub latest: Option<Register<OwnedText>>,
    /// Greatest `received_at`.
    pub received_at: Millis,
    /// New messages of the fan.
    pub messages_in: u64,
    /// New messages of the account.
    pub messages_out: u64,
    /// Ids of class A and B events.
    #[serde(with = "super::seen::packed")]
    pub seen: Greatest<Seen>,
    /// Ids of class C events.
    #[serde(with = "super::seen::packed")]
    pub seen_noise: Greatest<Seen>,
    /// When typing last raised an entry.
    pub typing_entry_at: Option<Millis>,
    /// When being online last raised an entry.
    pub online_entry_at: Option<Millis>,
    /// Which timers were raised.
    pub due: DueState,
}

/// A fan's profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileState {
    /// The name the fan chose.
    pub name: Option<Register<OwnedText>>,
    /// The handle.
    pub username: Option<Register<OwnedText>>,
    /// The name the account gave the fan.
    pub display_name: Option<Register<OwnedText>>,
    /// The account's note.
    pub notice: Option<Register<OwnedText>>,
    /// Lists the fan stands in.
    pub lists: Option<Register<Vec<OwnedText>>>,
}

/// A message among the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentMessage {
    /// Where it stands.
    pub place: Place,
    /// Which version this is: when the source changed it, and the event that said so.
    pub version: (Option<Millis>, Stamp),
    /// The source's id.
    pub id: OwnedText,
    /// Who wrote it.
    pub direction: Direction,
    /// Its text, cut to what the views or documents show.
    pub text: OwnedText,
    /// Price of a paid message.
    pub price: Option<i64>,
    /// Tip that came with it.
    pub tip: Option<i64>,
    /// Number of media.
    pub media: u32,
    /// It was deleted.
    pub deleted: bool,
}

impl Keyed for RecentMessage {
    type Key = Place;
    type Id = u64;

    fn key(&self) -> Place {
        self.place
    }

    fn id(&self) -> u64 {
        self.place.rank
    }
}

/// An inbound message past the reply mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingMessage {
    /// Where it stands.
    pub place: Place,
    /// The account has opened it.
    pub opened: bool,
    /// It was deleted.
    pub deleted: bool,
}

impl Keyed for WaitingMessage {
    type Key = Place;
    type Id = u64;

    fn key(&self) -> Place {
        self.place
    }

    fn id(&self) -> u64 {
        self.place.rank
    }
}

/// A message that the source deleted, by the rank of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedMessage(pub u64);

impl Keyed for DeletedMessage {
    type Key = u64;
    type Id = u64;

    fn key(&self) -> u64 {
        self.0
    }

    fn id(&self) -> u64 {
        self.0
    }
}

/// The payments of the last days, and the totals of all before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MoneyState {
    /// Payments by time and id.
    pub payments: Greatest<Payment>,
    /// What has left the memory.
    pub settled: SettledState,
    /// Key of the newest payment that has left; what is not newer counts as seen.
    pub floor: Option<(Millis, u64)>,
}

/// Totals of the payments that have left the memory, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledState {
    /// Tips.
    pub tips: i64,
    /// Tips on streams.
    pub streams: i64,
    /// Paid messages.
    pub messages: i64,
    /// Posts.
    pub posts: i64,
    /// Subscriptions.
    pub subscriptions: i64,
    /// Number of payments.
    pub payments: u64,
    /// The largest.
    pub largest: i64,
    /// The newest.
    pub last_at: Option<Millis>,
}

/// The source's own totals. The view's type leaves fields out when it is written, which only JSON can read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedState {
    /// The time the totals are of, then the event that said so: the greatest stays.
    pub version: (Millis, Stamp),
    /// All of it.
    pub total: Option<i64>,
    /// For messages.
    pub messages: Option<i64>,
    /// For tips.
    pub tips: Option<i64>,
    /// For subscriptions.
    pub subscriptions: Option<i64>,
    /// For posts.
    pub posts: Option<i64>,
    /// For streams.
    pub streams: Option<i64>,
    /// Before or after the platform's share.
    pub basis: Basis,
}

/// One payment, as one event reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// When.
    pub at: Millis,
    /// Hash of the event's id.
    pub id: u64,
    /// Amount in minor units.
    pub minor: i64,
    /// What for.
    pub category: Category,
    /// In which shape it was reported.
    pub shape: Shape,
    /// Its group is in the settled totals already.
    pub settled: bool,
}

impl Keyed for Payment {
    type Key = (Millis, u64);
    type Id = u64;

    fn key(&self) -> (Millis, u64) {
        (self.at, self.id)
    }

    fn id(&self) -> u64 {
        self.id
    }
}

/// What a payment was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Category {
    /// A tip on a message, the profile, a post or a story.
    Tips,
    /// A tip on a stream.
    Streams,
    /// A paid message.
    Messages,
    /// A paid post.
    Posts,
    /// A subscription.
    Subscriptions,
}

/// In which shape a payment was reported: one payment may come in several, each of them once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// A chat message with a tip.
    Message,
    /// A notification.
    Notification,
    /// A tip on a story or a stream, as it happens.
    Live,
}

/// What is known of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionStateRegisters {
    /// Where it stands.
    pub state: Option<Register<SubscriptionState>>,
    /// When the paid term ends.
    pub expires_at: Option<Register<Millis>>,
    /// Whether it renews by itself.
    pub auto_renew: Option<Register<bool>>,
    /// The counterparty subscribes to the account.
    pub is_fan: Option<Register<bool>>,
    /// The account subscribes to the counterparty.
    pub we_follow: Option<Register<bool>>,
}

/// A paid message and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaidMessage {
    /// `ids::message_rank` of its id.
    pub rank: u64,
    /// The source's id.
    pub id: OwnedText,
    /// Price and time, once it was seen.
    pub sent: Option<Register<(i64, Millis)>>,
    /// When it was bought.
    pub unlocked_at: Option<Millis>,
}

impl Keyed for PaidMessage {
    type Key = u64;
    type Id = u64;

    fn key(&self) -> u64 {
        self.rank
    }

    fn id(&self) -> u64 {
        self.rank
    }
}

/// Which timers were raised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueState {
    /// For the wait that began then, this many.
    pub awaiting: Option<(Millis, u32)>,
    /// For the subscription that ends then, this many: one before, one at the end.
    pub subscription: Option<(Millis, u32)>,
}

/// What the fold remembers of an account beyond its conversations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    /// Chats with unread messages.
    pub unread_chats: Option<Register<u64>>,
    /// Unread chats that the platform ranks first.
    pub priority_chats: Option<Register<u64>>,
    /// Tips not yet looked at.
    pub unread_tips: Option<Register<u64>>,
    /// Unread notifications.
    pub notifications: Option<Register<u64>>,
    /// Hints waiting.
    pub has_new_hints: Option<Register<bool>>,
    /// Who was online.
    pub online: Option<Register<Vec<OwnedText>>>,
    /// `opened`, `closed` or `silent`; the socket session; why.
    pub connection: Option<Register<(String, OwnedText, Option<String>)>>,
    /// The newest gap: its end stands in the stamp; its start; why.
    pub gap: Option<Register<(Option<Millis>, Option<String>)>>,
    /// Status of the session material.
    pub auth: Option<Register<String>>,
    /// Ids of class A and B events.
    #[serde(with = "super::seen::packed")]
    pub seen: Greatest<Seen>,
    /// Ids of class C events.
    #[serde(with = "super::seen::packed")]
    pub seen_noise: Greatest<Seen>,
}

impl AccountState {
    /// Takes in what another fold of the same account's events knows, whichever events either of them saw. Associative, commutative, idempotent.
    pub fn merge(&mut self, other: Self) {
        Register::merge(&mut self.unread_chats, other.unread_chats);
        Register::merge(&mut self.priority_chats, other.priority_chats);
        Register::merge(&mut self.unread_tips, other.unread_tips);
        Register::merge(&mut self.notifications, other.notifications);
        Register::merge(&mut self.has_new_hints, other.has_new_hints);
        Register::merge(&mut self.online, other.online);
        Register::merge(&mut self.connection, other.connection);
        Register::merge(&mut self.gap, other.gap);
        Register::merge(&mut self.auth, other.auth);
        for (ring, other, max) in [(&mut self.seen, other.seen, SEEN_MAX), (&mut self.seen_noise, other.seen_noise, SEEN_NOISE_MAX)] {
            for seen in other.items() {
                ring.merge(*seen, max, |known, seen| known.at = known.at.max(seen.at));
            }
        }
    }
}

macro_rules! encoded {
    ($($state:ty),+) => {$(
        impl $state {
            /// The bytes of the `fold` field.
            ///
            /// # Errors
            /// None that a state can cause; the encoder's signature has one.
            pub fn encode(&self) -> Result<Vec<u8>, StateError> {
                let mut bytes = Vec::with_capacity(ENCODED_BYTES);
                bytes.push(STATE_VERSION);
                postcard::to_extend(self, bytes).map_err(StateError::Decode)
            }

            /// Reads the `fold` field.
            ///
            /// # Errors
            /// Where the bytes are damaged or another version's.
            pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
                match bytes.split_first() {
                    Some((&STATE_VERSION, rest)) => postcard::from_bytes(rest).map_err(StateError::Decode),
                    Some((&version, _)) => Err(StateError::Version(version)),
                    None => Err(StateError::Decode(postcard::Error::DeserializeUnexpectedEnd)),
                }
            }
        }
    )+};
}

encoded!(ConversationState, AccountState);

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn another_versions_state_is_refused() {
        let mut bytes = ConversationState::default().encode().expect("encodes");
        assert_eq!(ConversationState::decode(&bytes), Ok(ConversationState::default()));
        bytes[0] = 9;
        assert_eq!(ConversationState::decode(&bytes), Err(StateError::Version(9)));
        assert!(matches!(ConversationState::decode(&[]), Err(StateError::Decode(_))));
    }
}
