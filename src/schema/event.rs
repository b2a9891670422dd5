//! The event: what one item of a frame means, in the one form that everything behind ingest reads.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Untrusted;
use super::time::Millis;

/// `convpipe.event.v1`. A field that is absent was *not stated* by the source; it never stands for zero or for an empty text.
///
/// Encoded, it borrows from the frame; decoded, from the delivery. Unknown fields are passed over, an unknown `kind` reads as
/// [`EventKind::Unknown`], so that an older reader survives a newer writer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Event<'a> {
    /// Version of this shape, [`super::EVENT_SCHEMA`].
    #[serde(borrow)]
    pub schema: Cow<'a, str>,
    /// Version of the code that made it, [`super::NORMALIZER`].
    #[serde(borrow)]
    pub normalizer: Cow<'a, str>,
    /// Deterministic identity from the source's own ids: the same thing seen twice has the same id.
    #[serde(borrow)]
    pub id: Untrusted<'a>,
    /// The source gave no usable id, so `id` ends in a hash of the canonical payload and the second it was received in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub weak_id: bool,
    /// What happened.
    pub kind: EventKind,
    /// The platform, `onlyfans`.
    #[serde(borrow)]
    pub platform: Cow<'a, str>,
    /// The account whose socket said it.
    #[serde(borrow)]
    pub account_id: Untrusted<'a>,
    /// The conversation: in one-to-one chats the fan's id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Untrusted<'a>>,
    /// The counterparty.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fan_id: Option<Untrusted<'a>>,
    /// Who acted.
    pub direction: Direction,
    /// The platform's time; absent where it gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Millis>,
    /// Our clock when the frame was read.
    pub received_at: Millis,
    /// The socket session it came over: 16 hex digits, growing with the time the session began.
    #[serde(borrow)]
    pub connection: Untrusted<'a>,
    /// Number of the frame within its connection, from 1.
    pub frame_no: u64,
    /// Number of the event within its frame, from 0.
    pub item_no: u32,
    /// A chat message, or what is said of one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message<'a>>,
    /// Money that moved with this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// What is said of the fan's subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// A partial profile of the counterparty.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fan: Option<FanProfile<'a>>,
    /// Absolute totals that the source reported for this fan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<ReportedSpend>,
    /// Account-wide counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Who is online.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence<'a>>,
    /// What else of the platform this is about: the post, story, stream, queue or toast.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target<'a>>,
    /// What happened to the connection; only with the `connection.*` and `account.*` kinds.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link<'a>>,
    /// The source item, unchanged but for signed media URLs, which are replaced by null.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub raw: Option<Cow<'a, RawValue>>,
    /// The source item was larger than 64 KiB and is not in `raw`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub raw_omitted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde's skip_serializing_if calls")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:ident;)+) => {
        /// What happened. The names are the contract; their classes decide what is shed first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventKind { $($(#[$doc])* $variant,)+ }

        impl EventKind {
            /// Every kind, in the order of the catalogue.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$variant,)+];

            /// The name as it stands in events, rules and filters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$variant => $name,)+ }
            }

            /// The CloudEvents type, `convpipe.<kind>.v1`.
            #[must_use]
            pub const fn cloud_event_type(self) -> &'static str {
                match self { $(EventKind::$variant => concat!("convpipe.", $name, ".v1"),)+ }
            }

            /// What may be shed under pressure.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(EventKind::$variant => Class::$class,)+ }
            }

            /// The kind of that name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(EventKind::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// A fan wrote.
    MessageReceived = "message.received", A;
    /// The account wrote.
    MessageSent = "message.sent", A;
    /// A message was deleted; the source does not say in which conversation.
    MessageDeleted = "message.deleted", A;
    /// A message was liked.
    MessageLiked = "message.liked", B;
    /// A like was taken back.
    MessageUnliked = "message.unliked", B;
    /// A tip, on the profile, a post, a story or a stream.
    TipReceived = "tip.received", A;
    /// A paid message was bought.
    PpvUnlocked = "ppv.unlocked", A;
    /// A paid post was bought.
    PostPurchased = "post.purchased", A;
    /// A new subscriber.
    SubscriptionStarted = "subscription.started", A;
    /// A former subscriber came back.
    SubscriptionReturned = "subscription.returned", A;
    /// A subscription went on for another term.
    SubscriptionRenewed = "subscription.renewed", A;
    /// A subscription ended.
    SubscriptionExpired = "subscription.expired", A;
    /// A fan is typing; holds for five seconds.
    TypingStarted = "typing.started", C;
    /// Who is online now.
    PresenceSnapshot = "presence.snapshot", C;
    /// Account-wide counters.
    CountersUpdated = "counters.updated", B;
    /// A notification that is none of the kinds above.
    NotificationReceived = "notification.received", B;
    /// A toast.
    ToastReceived = "toast.received", B;
    /// A bulk message is being sent.
    BulkProgressed = "bulk.progressed", B;
    /// A bulk message is sent, failed or cancelled.
    BulkFinished = "bulk.finished", B;
    /// A post went out.
    PostPublished = "post.published", B;
    /// A post changed.
    PostUpdated = "post.updated", B;
    /// A post expired.
    PostExpired = "post.expired", B;
    /// A post's fundraising moved.
    PostFundraisingUpdated = "post.fundraising_updated", B;
    /// A story went out or changed.
    StoryPublished = "story.published", B;
    /// A stream began.
    StreamStarted = "stream.started", B;
    /// A stream ended.
    StreamStopped = "stream.stopped", B;
    /// A stream changed.
    StreamUpdated = "stream.updated", C;
    /// Someone began to watch a stream.
    StreamJoined = "stream.joined", C;
    /// Someone stopped watching a stream.
    StreamLeft = "stream.left", C;
    /// Someone commented on a stream.
    StreamCommented = "stream.commented", C;
    /// Someone liked a stream.
    StreamLiked = "stream.liked", C;
    /// The socket is live.
    ConnectionOpened = "connection.opened", A;
    /// The socket is gone.
    ConnectionClosed = "connection.closed", A;
    /// Frames may have been missed between two times.
    ConnectionGap = "connection.gap", A;
    /// The socket is up and says nothing where it used to.
    ConnectionSilent = "connection.silent", A;
    /// The account's session material changed state.
    AccountAuthChanged = "account.auth_changed", A;
    /// An operator asked for a conversation's views to be rewritten.
    RepairRequested = "repair.requested", A;
    /// A key that the catalogue does not know; carried, never dropped.
    Unknown = "unknown", A;
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Untrusted::deserialize(deserializer)?;
        Ok(Self::parse(name.raw()).unwrap_or(Self::Unknown))
    }
}

impl JsonSchema for EventKind {
    fn schema_name() -> Cow<'static, str> {
        "EventKind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

/// What may be shed under pressure: C first, B down to its newest value, A never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Class {
    /// Messages, money, subscriptions, connection, repair, unknown.
    A,
    /// Counters, likes, bulk, posts, stories, notifications.
    B,
    /// Typing, presence, stream noise.
    C,
}

impl Class {
    /// The attribute's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// Who acted: the fan (`in`), the account (`out`), or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the fan to the account.
    In,
    /// From the account to the fan.
    Out,
    /// Neither: counters, connection, posts.
    System,
}

/// A chat message, or what an event says of one. Everything but `id` is optional at the source.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Message<'a> {
    /// The source's message id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Untrusted<'a>>,
    /// The text as the source wrote it: HTML by strangers.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub html: Option<Untrusted<'a>>,
    /// The same text, plain.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Untrusted<'a>>,
    /// Id of the message this one answers.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Untrusted<'a>>,
    /// What hangs on it; never a URL.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media<'a>>,
    /// Price of a paid message, in minor units; what it costs, not what was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// Anyone may see it without paying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_free: Option<bool>,
    /// Its reader has opened it (inbound: the account; outbound: the fan, who thereby bought it where it had a price).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_opened: Option<bool>,
    /// A tip came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_tip: Option<bool>,
    /// Sent from a queue to many; does not end the fan's waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_bulk: Option<bool>,
    /// The queue it was sent from.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<Untrusted<'a>>,
    /// When the source last changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Millis>,
}

/// One medium of a message.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Media<'a> {
    /// The source's id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Untrusted<'a>>,
    /// `photo`, `video`, `gif`, `audio`, or what the source says next year.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Untrusted<'a>>,
    /// Whether its reader may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_view: Option<bool>,
    /// Length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u32>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// In minor units (cents).
    pub minor: i64,
    /// ISO 4217.
    pub currency: Currency,
    /// Before or after the platform's share.
    pub basis: Basis,
    /// The net amount, where the source states both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_minor: Option<i64>,
}

/// The only currency that the platform uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Currency {
    /// United States dollar.
    #[default]
    #[serde(rename = "USD")]
    Usd,
}

/// Whether the platform's share is still in an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// What the fan paid.
    Gross,
    /// What the account gets.
    Net,
    /// The source does not say.
    Unknown,
}

/// What an event says of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscription {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SubscriptionState>,
    /// When the paid term ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// Whether it renews by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<bool>,
    /// The counterparty subscribes to the account: a real fan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_fan: Option<bool>,
    /// The account subscribes to the counterparty: a creator it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub we_follow: Option<bool>,
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    /// Paid for, now.
    Active,
    /// Over.
    Expired,
}

/// A partial profile. A field that is absent or blank never overwrites one that is known.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct FanProfile<'a> {
    /// The name the fan chose.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Untrusted<'a>>,
    /// The handle.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Untrusted<'a>>,
    /// The name the account gave the fan.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Untrusted<'a>>,
    /// The account's note on the fan.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Untrusted<'a>>,
    /// Lists the fan stands in. Absent: not stated; empty: stands in none.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Vec<Untrusted<'a>>>,
}

/// Absolute totals as the source reports them, in minor units. Kept beside ours, never added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedSpend {
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// For messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<i64>,
    /// For tips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tips: Option<i64>,
    /// For subscriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<i64>,
    /// For posts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posts: Option<i64>,
    /// For streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<i64>,
    /// Before or after the platform's share.
    pub basis: Basis,
    /// The time the totals are of.
    pub as_of: Millis,
}

/// Account-wide counters, each only where the frame states it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Chats with unread messages (`chat_messages`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_chats: Option<u64>,
    /// Unread chats that the platform ranks first (`count_priority_chat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_chats: Option<u64>,
    /// Tips not yet looked at (`unread_tips`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_tips: Option<u64>,
    /// Unread notifications (`messages`); not chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<u64>,
    /// Hints waiting (`has_new_hints`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_new_hints: Option<bool>,
}

/// Who is online. Absence from the list is not "offline": the platform answers for those it was asked about.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Presence<'a> {
    /// Ids of those who are online.
    #[serde(borrow, default)]
    pub online: Vec<Untrusted<'a>>,
}

/// What else of the platform an event is about.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Target<'a> {
    /// `post`, `story`, `stream`, `queue`, `toast`, `notification`; for `unknown` events `key`.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Its id; for `unknown` events the frame's key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Untrusted<'a>>,
    /// What the source calls this sort of notification or toast: `tip/new_tips`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Untrusted<'a>>,
}

/// What happened to a connection or to its session material.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Link<'a> {
    /// Start of a gap: the last time anything was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Millis>,
    /// End of a gap: when the account was live again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Millis>,
    /// Why, as a short stable word: `reset`, `heartbeat`, `server_closed`, `auth_refused`, `backpressure`, `start`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// The WebSocket close code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// Status of the artifact, with `account.auth_changed`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub auth_status: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// When it happened, as far as is known: the platform's time, clamped to five minutes past ours, else ours.
    #[must_use]
    pub fn at(&self) -> Millis {
        let latest = self.received_at.plus(CLOCK_SKEW_MAX_MS);
        match self.occurred_at {
            Some(at) if at <= latest => at,
            _ => self.received_at,
        }
    }

    /// The platform's time lies further in the future than any clock skew explains, so [`Event::at`] does not use it.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        self.occurred_at.is_some_and(|at| at > self.received_at.plus(CLOCK_SKEW_MAX_MS))
    }

    /// The message's id, where the event names one.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message.as_ref()?.id.as_ref().map(Untrusted::raw)
    }

    /// An event of our own making about an account, not yet about any message, fan or money.
    #[must_use]
    pub fn of_account(kind: EventKind, id: String, account: &'a str, connection: &'a str, received_at: Millis) -> Self {
        Self {
            schema: Cow::Borrowed(super::EVENT_SCHEMA),
            normalizer: Cow::Borrowed(super::NORMALIZER),
            id: id.into(),
            weak_id: false,
            kind,
            platform: Cow::Borrowed("onlyfans"),
            account_id: account.into(),
            conversation_id: None,
            fan_id: None,
            direction: Direction::System,
            occurred_at: None,
            received_at,
            connection: connection.into(),
            frame_no: 0,
            item_no: 0,
            message: None,
            money: None,
            subscription: None,
            fan: None,
            spend: None,
            counters: None,
            presence: None,
            target: None,
            link: None,
            raw: None,
            raw_omitted: false,
        }
    }
}

/// How far the platform's clock may be ahead of ours before its time is not believed.
pub const CLOCK_SKEW_MAX_MS: i64 = 5 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_their_names() {
        for &kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.name()), Some(kind));
            assert_eq!(kind.cloud_event_type(), format!("convpipe.{kind}.v1"));
        }
    }

    #[test]
    fn a_newer_writers_event_is_read() {
        let json = r#"{"schema":"convpipe.event.v1","normalizer":"x","id":"i","kind":"message.translated","platform":"onlyfans",
            "account_id":"1","direction":"in","received_at":"2026-01-01T00:00:00.000Z","connection":"c","frame_no":1,"item_no":0,
            "shiny":{"new":1}}"#;
        let event: Event<'_> = serde_json::from_str(json).expect("unknown kinds and fields pass");
        assert_eq!(event.kind, EventKind::Unknown);
    }

    #[test]
    fn future_times_are_clamped() {
        let now = Millis(1_000_000_000);
        for (occurred, expected, clamped) in [
            (None, now, false),
            (Some(now.plus(-5)), now.plus(-5), false),
            (Some(now.plus(CLOCK_SKEW_MAX_MS)), now.plus(CLOCK_SKEW_MAX_MS), false),
            (Some(now.plus(CLOCK_SKEW_MAX_MS + 1)), now, true),
        ] {
            let mut event = Event::of_account(EventKind::Unknown, "i".into(), "1", "c", now);
            event.occurred_at = occurred;
            assert_eq!((event.at(), event.is_clamped()), (expected, clamped), "{occurred:?}");
        }
    }
}
