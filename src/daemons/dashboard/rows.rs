//! One line of the inbox and one of the feed: what of a conversation and of an entry is shown where many of them stand together.
//!
//! Owns which conversation stands in which tab. Does not own how lines look. Invariant: foreign text stays [`OwnedText`], which no page shows
//! but through [`super::html`] or as JSON.

use serde::Serialize;

use crate::schema::event::Direction;
use crate::schema::policy::Level;
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::{ConversationSnapshot, EntryMoney, LastPpv, PriorityEntry};
use crate::views::StreamId;

/// A conversation in the inbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) account: OwnedText,
    pub(super) id: OwnedText,
    /// The best name known, else the fan's id.
    pub(super) name: OwnedText,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<OwnedText>,
    pub(super) tier: String,
    pub(super) high_value: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preview: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) direction: Option<Direction>,
    /// When the last message was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Millis>,
    /// Last activity of any kind: the order of the inbox.
    pub(super) activity: Millis,
    pub(super) unread: u32,
    pub(super) unread_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting_since: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ppv: Option<LastPpv>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) typing_until: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) online_at: Option<Millis>,
    /// Frames may have been missed since.
    pub(super) stale: bool,
    /// Cents, as observed.
    pub(super) spent: i64,
    /// Cents, as observed.
    pub(super) tips: i64,
    /// The most urgent entry of the priority feed since the account last wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<Level>,
    pub(super) rev: u64,
    /// What stands in Redis cannot be read: all else is what was known before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unreadable: bool,
    /// The `rev` in Redis; `None` where that is none.
    #[serde(skip)]
    pub(super) stored_rev: Option<u64>,
    #[serde(skip)]
    pub(super) received_at: Millis,
    #[serde(skip)]
    pub(super) answered_at: Option<Millis>,
    #[serde(skip)]
    pub(super) level_at: Option<Millis>,
}

impl Row {
    /// The line of a conversation. Its level is that of `before` where nobody has answered since.
    pub(super) fn new(snapshot: &ConversationSnapshot, rev: u64, activity: Millis, before: Option<&Self>) -> Self {
        let fan = &snapshot.fan;
        let filled = |text: &&OwnedText| !text.as_untrusted().is_blank();
        let name = [&fan.display_name, &fan.name, &fan.username].into_iter().flatten().find(filled);
        let mut row = Self {
            account: snapshot.account_id.clone(),
            id: snapshot.conversation_id.clone(),
            name: name.unwrap_or(&fan.id).clone(),
            username: fan.username.clone(),
            tier: snapshot.tier.clone(),
            high_value: snapshot.high_value.is,
            preview: snapshot.last_message.as_ref().map(|message| message.preview.clone()),
            direction: snapshot.last_message.as_ref().map(|message| message.direction),
            at: snapshot.last_message.as_ref().map(|message| message.at),
            activity,
            unread: snapshot.unread,
            unread_more: snapshot.unread_more,
            waiting_since: snapshot.awaiting_reply_since,
            ppv: snapshot.last_ppv.clone(),
            typing_until: snapshot.typing_until,
            online_at: snapshot.presence.map(|presence| presence.as_of),
            stale: snapshot.stale.unwrap_or(false),
            spent: snapshot.spend.observed.total,
            tips: snapshot.spend.observed.tips,
            level: None,
            rev,
            unreadable: false,
            stored_rev: Some(rev),
            received_at: snapshot.received_at,
            answered_at: snapshot.last_outbound_at,
            level_at: None,
        };
        if let Some((level, at)) = before.and_then(|before| before.level.zip(before.level_at)) {
            row.raise(level, at);
        }
        row
    }

    /// The line of a conversation that cannot be read: what was known of it before, marked, or its id alone.
    pub(super) fn unreadable(account: &str, id: &str, stored_rev: Option<u64>, activity: Millis, before: Option<&Self>) -> Self {
        let known = before.cloned().unwrap_or_else(|| Self {
            account: account.into(),
            id: id.into(),
            name: id.into(),
            username: None,
            tier: String::new(),
            high_value: false,
            preview: None,
            direction: None,
            at: None,
            activity,
            unread: 0,
            unread_more: false,
            waiting_since: None,
            ppv: None,
            typing_until: None,
            online_at: None,
            stale: false,
            spent: 0,
            tips: 0,
            level: None,
            rev: 0,
            unreadable: true,
            stored_rev,
            received_at: activity,
            answered_at: None,
            level_at: None,
        });
        // Pages keep the row with the higher `rev`, so it never goes back.
        Self { unreadable: true, rev: stored_rev.unwrap_or(0).max(known.rev), stored_rev, activity, ..known }
    }

    /// Takes the level of an entry of the feed, unless the account wrote after it or the row has a more urgent one; whether that changed it.
    pub(super) fn raise(&mut self, level: Level, at: Millis) -> bool {
        let is_answered = self.answered_at.is_some_and(|answered| answered >= at);
        if is_answered || self.level >= Some(level) {
            return false;
        }
        (self.level, self.level_at) = (Some(level), Some(at));
        true
    }
}

/// Which conversations are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    All,
    Priority,
    Unread,
    Awaiting,
    Tips,
    HighValue,
}

impl Tab {
    pub(super) const EVERY: [Self; 6] = [Self::All, Self::Priority, Self::Unread, Self::Awaiting, Self::Tips, Self::HighValue];

    /// The name in addresses.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Priority => "priority",
            Self::Unread => "unread",
            Self::Awaiting => "awaiting",
            Self::Tips => "tips",
            Self::HighValue => "high-value",
        }
    }

    /// The name on the page.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Priority => "Priority",
            Self::Unread => "Unread",
            Self::Awaiting => "Awaiting",
            Self::Tips => "With tips",
            Self::HighValue => "High-value",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|tab| tab.name() == name)
    }

    pub(super) fn has(self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Priority => row.level.is_some_and(|level| level > Level::Low),
            Self::Unread => row.unread > 0,
            Self::Awaiting => row.waiting_since.is_some(),
            Self::Tips => row.tips > 0,
            Self::HighValue => row.high_value,
        }
    }

    /// Brings rows, which stand by activity, into the order of the tab: who waits, the longest waiting first; priority, the most urgent first.
    pub(super) fn sort<T: AsRef<Row>>(self, rows: &mut [T]) {
        match self {
            Self::Awaiting => rows.sort_by_key(|row| row.as_ref().waiting_since),
            Self::Priority => rows.sort_by_key(|row| std::cmp::Reverse(row.as_ref().level)),
            _ => {}
        }
    }
}

/// An entry of the priority feed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Entry {
    /// Where it stands in the account's stream.
    pub(super) id: String,
    pub(super) account: OwnedText,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conversation: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<String>,
    pub(super) high_value: bool,
    pub(super) level: Level,
    pub(super) reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preview: Option<OwnedText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) money: Option<EntryMoney>,
    pub(super) received_at: Millis,
    pub(super) applied_at: Millis,
    /// From the frame to Redis, milliseconds.
    pub(super) lag_ms: i64,
}

impl Entry {
    pub(super) fn new(id: StreamId, entry: PriorityEntry) -> Self {
        let (name, tier, high_value) = match entry.fan {
            Some(fan) => (Some(fan.name.unwrap_or(fan.id)), Some(fan.tier), fan.high_value),
            None => (None, None, false),
        };
        Self {
            id: id.to_string(),
            account: entry.account_id,
            conversation: entry.conversation_id,
            name,
            tier,
            high_value,
            level: entry.level,
            reasons: entry.reasons,
            kind: entry.event.kind.map(|kind| kind.name()),
            preview: entry.preview,
            money: entry.money,
            received_at: entry.received_at,
            applied_at: entry.applied_at,
            lag_ms: entry.applied_at.since(entry.received_at).max(0),
        }
    }
}

/// How long somebody has been waiting, as the page colours it.
pub(super) const fn waiting_class(waiting_ms: i64) -> &'static str {
    match waiting_ms {
        ..120_000 => "wait-green",
        120_000..=300_000 => "wait-amber",
        300_001..=1_200_000 => "wait-orange",
        _ => "wait-red",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let json = r#"{"account_id":"1","conversation_id":"2","fan":{"id":"2","display_name":" ","username":"u2"},"tier":"none",
            "high_value":{"is":false},"unread":0,"spend":{"observed":{"total":0,"messages":0,"tips":0,"subscriptions":0,"posts":0,"streams":0,"payments":0,"largest":0}},
            "last_outbound_at":"2026-07-23T12:00:00.000Z","rev":1,"received_at":"2026-07-23T12:00:00.000Z","applied_at":"2026-07-23T12:00:00.000Z","event_id":"e"}"#;
        Row::new(&serde_json::from_str(json).unwrap(), 1, Millis(5), None)
    }

    #[test]
    fn a_row_keeps_its_most_urgent_level_until_somebody_answers() {
        let (mut row, answered) = (row(), Millis(1_784_808_000_000));
        assert_eq!(row.name.raw(), "u2");
        assert!(!row.raise(Level::Urgent, answered), "the account wrote after it");
        assert!(row.raise(Level::High, answered.plus(1)) && !row.raise(Level::Low, answered.plus(2)));
        assert!(Tab::Priority.has(&row) && !Tab::Unread.has(&row) && !Tab::Tips.has(&row));
        let mut other = row.clone();
        other.answered_at = Some(answered.plus(5));
        assert!(!other.raise(Level::Urgent, answered.plus(4)));
    }

    #[test]
    fn waiting_has_four_colours() {
        for (ms, class) in [
            (0, "wait-green"),
            (119_999, "wait-green"),
            (120_000, "wait-amber"),
            (300_000, "wait-amber"),
            (300_001, "wait-orange"),
            (1_200_000, "wait-orange"),
            (1_200_001, "wait-red"),
        ] {
            assert_eq!(waiting_class(ms), class, "{ms}");
        }
    }
}
