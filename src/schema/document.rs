//! What stands in the document store: message history and fan summaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{Direction, Media, Money, Subscription};
use super::text::OwnedText;
use super::time::Millis;
use super::view::{AccountView, FanView, HighValue, LastPpv, Spend};

/// One chat message: `accounts/A/conversations/C/messages/M`. Written by id, so a second delivery changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MessageDocument {
    /// The source's message id.
    pub message_id: OwnedText,
    /// Who wrote it.
    pub direction: Direction,
    /// When.
    pub sent_at: Millis,
    /// Plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<OwnedText>,
    /// The text as the source wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<OwnedText>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<OwnedText>,
    /// Price, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// Money that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// What hangs on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediaDocument>,
    /// A tip came with it.
    #[serde(default, skip_serializing_if = "super::event::is_false")]
    pub is_tip: bool,
    /// It went to many.
    #[serde(default, skip_serializing_if = "super::event::is_false")]
    pub is_bulk: bool,
    /// When it was deleted at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Millis>,
    /// When the source last changed it; of two versions the later one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Millis>,
    /// The event that it came with.
    pub event_id: OwnedText,
    /// When the store may forget it; readers ignore it from then on.
    pub expire_at: Millis,
}

/// One medium of a message, as in [`Media`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaDocument {
    /// The source's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OwnedText>,
    /// `photo`, `video`, `gif`, `audio`, or what the source says next year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<OwnedText>,
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

impl From<&Media<'_>> for MediaDocument {
    fn from(media: &Media<'_>) -> Self {
        Self {
            id: media.id.as_ref().map(|id| id.raw().into()),
            kind: media.kind.as_ref().map(|kind| kind.raw().into()),
            can_view: media.can_view,
            duration_s: media.duration_s,
            width: media.width,
            height: media.height,
        }
    }
}

/// One fan, denormalized: `accounts/A/fans/F`. One read serves an LLM prompt.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FanSummary {
    /// The account.
    pub account_id: OwnedText,
    /// The conversation with the fan.
    pub conversation_id: OwnedText,
    /// Profile.
    pub fan: FanView,
    /// Value tier.
    pub tier: String,
    /// Whether the fan is high-value, and why.
    pub high_value: HighValue,
    /// What the fan spent, by category.
    pub spend: Spend,
    /// Messages the fan wrote, as far as they were seen.
    pub messages_in: u64,
    /// Messages the account wrote, as far as they were seen.
    pub messages_out: u64,
    /// First seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Millis>,
    /// Last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Millis>,
    /// What is known of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// The newest paid message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ppv: Option<LastPpv>,
    /// Since when the fan waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_reply_since: Option<Millis>,
    /// The last 20 messages, oldest first.
    pub recent: Vec<SummaryMessage>,
    /// Grows by one with every write.
    pub rev: u64,
    /// When it was written.
    pub applied_at: Millis,
    /// When the store may forget it.
    pub expire_at: Millis,
}

/// What is known of an account beyond its conversations: `accounts/A`. As the account's view, without who is online.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AccountDocument {
    /// The account.
    pub account_id: OwnedText,
    /// What is known.
    #[serde(flatten)]
    pub view: AccountView,
    /// Grows by one with every write.
    pub rev: u64,
    /// When it was written.
    pub applied_at: Millis,
    /// When the store may forget it.
    pub expire_at: Millis,
}

/// A message as it is inlined in a summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryMessage {
    /// The source's message id.
    pub id: OwnedText,
    /// Who wrote it.
    pub direction: Direction,
    /// When.
    pub at: Millis,
    /// The first 2,000 characters of its plain text.
    pub text: OwnedText,
    /// Price of a paid message, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// Tip that came with it, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<i64>,
    /// Number of media.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub media: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde's skip_serializing_if calls")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
