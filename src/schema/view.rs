//! What stands in Redis: the conversation snapshot, the priority entry, the account's view.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{Basis, Counters, Direction, EventKind, ReportedSpend, Subscription};
use super::policy::Level;
use super::text::OwnedText;
use super::time::Millis;

/// The current state of one conversation, as dashboards and automation read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationSnapshot {
    /// The account.
    pub account_id: OwnedText,
    /// The conversation.
    pub conversation_id: OwnedText,
    /// The fan and their profile.
    pub fan: FanView,
    /// Value tier.
    pub tier: String,
    /// Whether the fan is high-value, and why.
    pub high_value: HighValue,
    /// The newest message that was not deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<LastMessage>,
    /// When the fan last wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_inbound_at: Option<Millis>,
    /// When the account last wrote, bulk messages included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outbound_at: Option<Millis>,
    /// Unread messages of the fan, among the newest 100 that wait.
    pub unread: u32,
    /// More than 100 messages wait, so there may be more unread ones than `unread` says.
    #[serde(default, skip_serializing_if = "super::event::is_false")]
    pub unread_more: bool,
    /// Since when the fan waits for an answer; absent when nobody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_reply_since: Option<Millis>,
    /// The newest paid message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ppv: Option<LastPpv>,
    /// What the fan spent.
    pub spend: Spend,
    /// What is known of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// The fan is typing, if this lies in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typing_until: Option<Millis>,
    /// The fan was seen online at this time. Readers let it expire to *unknown*; silence is not offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceView>,
    /// When the fan was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Millis>,
    /// Frames may have been missed since the last event. Not stored: the reader derives it from the account's last gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<bool>,
    /// Grows by one with every write.
    pub rev: u64,
    /// When the newest event in it was received.
    pub received_at: Millis,
    /// When it was written.
    pub applied_at: Millis,
    /// Id of the newest event in it.
    pub event_id: OwnedText,
}

/// The fan as far as the stream has told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FanView {
    /// The source's id.
    pub id: OwnedText,
    /// The name the fan chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<OwnedText>,
    /// The handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<OwnedText>,
    /// The name the account gave the fan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<OwnedText>,
    /// The account's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<OwnedText>,
    /// Lists the fan stands in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<OwnedText>,
}

/// Whether a fan is high-value, and by which of the policy's criteria.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HighValue {
    /// Whether any criterion holds.
    pub is: bool,
    /// The criteria that hold: `spend_minor >= 50000`, `payment_minor >= 10000` (both in minor units, such as cents), `list:vip`, `listed by id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// The newest message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastMessage {
    /// The source's message id.
    pub id: OwnedText,
    /// The first 280 characters of its text.
    pub preview: OwnedText,
    /// Who wrote it.
    pub direction: Direction,
    /// When.
    pub at: Millis,
}

/// The newest paid message and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastPpv {
    /// The source's message id.
    pub message_id: OwnedText,
    /// Price in minor units, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// What became of it.
    pub state: PpvState,
    /// When that was.
    pub at: Millis,
}

/// What became of a paid message. Unlocked never reverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PpvState {
    /// Sent, not bought as far as is known.
    Sent,
    /// Bought.
    Unlocked,
}

/// What the fan spent: what we saw, and what the source says. The two are never added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spend {
    /// Derived from the payments seen, each counted once.
    pub observed: SpendTotals,
    /// The source's own totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<ReportedSpend>,
}

/// Totals in minor units by category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpendTotals {
    /// All categories.
    pub total: i64,
    /// Paid messages.
    pub messages: i64,
    /// Tips.
    pub tips: i64,
    /// Subscriptions.
    pub subscriptions: i64,
    /// Posts.
    pub posts: i64,
    /// Tips on streams.
    pub streams: i64,
    /// Number of payments.
    pub payments: u64,
    /// The largest of them.
    pub largest: i64,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Millis>,
}

/// Seen online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceView {
    /// What was seen; the source only ever says `online`.
    pub state: PresenceState,
    /// When.
    pub as_of: Millis,
}

/// What the source says of a fan's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceState {
    /// Online at that time.
    Online,
}

/// One entry of the priority feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriorityEntry {
    /// How urgent.
    pub level: Level,
    /// Which rules say so.
    pub reasons: Vec<String>,
    /// Order inside a level: value tier, then waiting time, then recency; larger is first.
    pub score: i64,
    /// The event, or for a timer the event that it counts from.
    pub event: EntryEvent,
    /// The account.
    pub account_id: OwnedText,
    /// The conversation, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<OwnedText>,
    /// The fan, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan: Option<EntryFan>,
    /// The first 280 characters of what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<OwnedText>,
    /// The amount, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<EntryMoney>,
    /// Since when the fan waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_reply_since: Option<Millis>,
    /// The platform's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Millis>,
    /// When the frame was read; for a timer, when it fell due.
    pub received_at: Millis,
    /// When the entry was written.
    pub applied_at: Millis,
}

/// The event behind an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryEvent {
    /// Its id; a timer's is `due:<what>:<conversation>:<time it counts from>`.
    pub id: OwnedText,
    /// Its kind; absent for a timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EventKind>,
}

/// The fan of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryFan {
    /// The source's id.
    pub id: OwnedText,
    /// The best name known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<OwnedText>,
    /// Value tier.
    pub tier: String,
    /// Whether the fan is high-value.
    #[serde(default, skip_serializing_if = "super::event::is_false")]
    pub high_value: bool,
}

/// The money of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryMoney {
    /// In minor units.
    pub minor: i64,
    /// Before or after the platform's share.
    pub basis: Basis,
}

/// What is known of an account beyond its conversations: the fields of the account hash, each JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccountView {
    /// The newest counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<CountersView>,
    /// Who was online at the last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<AccountPresence>,
    /// The socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionView>,
    /// The newest gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapView>,
    /// The session material.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthView>,
}

/// The newest counters and when they were said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountersView {
    /// The counters.
    #[serde(flatten)]
    pub counters: Counters,
    /// When the newest of them was said.
    pub as_of: Millis,
}

/// Who was online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccountPresence {
    /// Ids, at most 500.
    pub online: Vec<OwnedText>,
    /// When.
    pub as_of: Millis,
}

/// The state of an account's socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionView {
    /// `opened`, `closed` or `silent`.
    pub state: String,
    /// The socket session.
    pub id: OwnedText,
    /// Why, where it is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub as_of: Millis,
}

/// The newest hole in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GapView {
    /// The last time anything was heard before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Millis>,
    /// When the account was live again.
    pub to: Millis,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of an account's session material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthView {
    /// `needs_otp`, `needs_face_check`, `rejected`, `expired`.
    pub status: String,
    /// Since when.
    pub as_of: Millis,
}
