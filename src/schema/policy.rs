//! What people decide: who is high-value, which tiers there are, what is a priority. Plain data, embedded in the config and
//! compiled by [`crate::transform`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::EventKind;

/// Who counts as a high-value fan: whoever meets one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HighValuePolicy {
    /// Spend from which a fan is high-value, in minor units (cents): the larger of what we observed and what the source reports.
    pub spend_min: Option<i64>,
    /// A single payment from which a fan is high-value, in minor units.
    pub payment_min: Option<i64>,
    /// Names or ids of the account's lists that make their members high-value.
    pub lists: Vec<String>,
    /// Ids of fans that are high-value whatever they spent.
    pub fans: Vec<String>,
}

impl Default for HighValuePolicy {
    fn default() -> Self {
        Self { spend_min: Some(50_000), payment_min: Some(10_000), lists: Vec::new(), fans: Vec::new() }
    }
}

/// One value tier. A fan is in the first, in descending order of `spend_min`, whose threshold the spend reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its name, shown to people.
    pub name: String,
    /// Spend from which it holds, in minor units.
    pub spend_min: i64,
}

/// The tiers of a fresh config.
#[must_use]
pub fn default_tiers() -> Vec<Tier> {
    [("whale", 100_000), ("high", 25_000), ("regular", 2_500), ("low", 1), ("none", 0)]
        .into_iter()
        .map(|(name, spend_min)| Tier { name: name.to_owned(), spend_min })
        .collect()
}

/// How urgent an entry of the priority feed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Best effort: likes, posts, stories.
    Low,
    /// A timer fell due.
    Due,
    /// Within two seconds.
    High,
    /// Within one second.
    Urgent,
}

impl Level {
    /// Every level, most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Due, Self::Low];

    /// The name as it stands in entries and flags.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Due => "due",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// One rule of the priority feed. The most urgent level of all rules that match is the entry's; every match adds its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityRule {
    /// The reason it gives: `tip`, `high_value_message`.
    pub reason: String,
    /// The level it asks for.
    pub level: Level,
    /// Kinds it looks at: a kind, or a prefix ending in `.`. Checked before anything else, so a rule costs nothing for other kinds.
    pub kinds: Vec<String>,
    /// Only for high-value fans (true), only for others (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_value: Option<bool>,
    /// Only in (true) or only outside (false) an active exchange: both sides wrote within the last five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_exchange: Option<bool>,
    /// Only messages with a tip (true), only others (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_tip: Option<bool>,
    /// A further condition, in CEL over `event`, `fan` and `conversation` (docs/priority.md lists the fields).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

impl PriorityRule {
    /// Whether the rule looks at events of this kind.
    #[must_use]
    pub fn names(&self, kind: EventKind) -> bool {
        let name = kind.name();
        self.kinds.iter().any(|wanted| if wanted.ends_with('.') { name.starts_with(wanted.as_str()) } else { name == wanted })
    }
}

/// The rules of a fresh config.
#[must_use]
pub fn default_rules() -> Vec<PriorityRule> {
    let rule = |reason: &str, level, kinds: &[&str], high_value, active_exchange| PriorityRule {
        reason: reason.to_owned(),
        level,
        kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
        high_value,
        active_exchange,
        is_tip: None,
        when: None,
    };
    vec![
        rule("tip", Level::Urgent, &["tip.received"], None, None),
        PriorityRule { is_tip: Some(true), ..rule("tip", Level::Urgent, &["message.received"], None, None) },
        rule("ppv_unlocked", Level::Urgent, &["ppv.unlocked"], None, None),
        rule("high_value_message", Level::Urgent, &["message.received"], Some(true), None),
        rule("active_exchange", Level::Urgent, &["message.received"], None, Some(true)),
        rule("message", Level::High, &["message.received"], None, None),
        rule("new_subscriber", Level::High, &["subscription.started"], None, None),
        rule("returning_subscriber", Level::High, &["subscription.returned"], None, None),
        rule("post_purchased", Level::High, &["post.purchased"], None, None),
        rule("high_value_typing", Level::High, &["typing.started"], Some(true), None),
        rule("high_value_online", Level::High, &["presence.snapshot"], Some(true), None),
        rule("subscription_expired", Level::Due, &["subscription.expired"], None, None),
        rule("like", Level::Low, &["message.liked"], None, None),
        rule("post", Level::Low, &["post.published", "post.expired"], None, None),
        rule("story", Level::Low, &["story."], None, None),
        rule("stream", Level::Low, &["stream.started", "stream.stopped"], None, None),
    ]
}

/// When a fan who waits, or a subscription that ends, is worth an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DuePolicy {
    /// Waiting times after which a fan without an answer is an entry, in seconds, ascending.
    pub awaiting_s: Vec<u32>,
    /// How long before its end a subscription that does not renew is an entry, in seconds.
    pub subscription_expiring_s: u32,
}

impl Default for DuePolicy {
    fn default() -> Self {
        Self { awaiting_s: vec![120, 300, 1200], subscription_expiring_s: 86_400 }
    }
}

/// Everything that the fold and the materializer need to know of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// Who is high-value.
    pub high_value: HighValuePolicy,
    /// The value tiers.
    pub tiers: Vec<Tier>,
    /// The rules of the priority feed.
    pub rules: Vec<PriorityRule>,
    /// The timers.
    pub due: DuePolicy,
    /// Age beyond which an event raises no entry, in milliseconds.
    pub freshness_ms: i64,
    /// Age beyond which an event changes nothing, in milliseconds: the TTL of the snapshot.
    pub horizon_ms: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            high_value: HighValuePolicy::default(),
            tiers: default_tiers(),
            rules: default_rules(),
            due: DuePolicy::default(),
            freshness_ms: 10 * 60 * 1000,
            horizon_ms: 30 * 86_400 * 1000,
        }
    }
}
