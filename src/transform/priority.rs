//! The priority feed: which events raise an entry, how urgent it is, and why.

use crate::schema::event::Event;
use crate::schema::policy::Level;
use crate::schema::state::ConversationState;
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::{EntryEvent, EntryFan, EntryMoney, PriorityEntry};

use super::condition::Worked;
use super::due::Due;
use super::policy::CompiledPolicy;
use super::view::{PREVIEW_CHARS, Standing, awaiting_since, unread};

/// Both sides wrote within this time: an exchange is going on.
const ACTIVE_EXCHANGE_MS: i64 = 5 * 60 * 1000;
/// Typing, and being online, raise at most one entry in this time.
const NOISE_ENTRY_MS: i64 = 5 * 60 * 1000;

/// What is known beside an event when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The conversation, after the event; absent for an account's event.
    pub conversation: Option<(&'a ConversationState, &'a Standing)>,
    /// The policy.
    pub policy: &'a CompiledPolicy,
    /// The consumer's clock.
    pub now: Millis,
}

/// The entry that an event raises, if any rule matches and it is fresh.
#[must_use]
pub fn of_event(event: &Event<'_>, setting: Setting<'_>) -> Option<PriorityEntry> {
    let policy = setting.policy;
    if !policy.any_rule_names(event.kind) || setting.now.since(event.at()) > policy.policy().freshness_ms {
        return None;
    }
    let (level, reasons) = judge(event, setting)?;
    Some(entry(event, setting, level, reasons))
}

/// The entry for a fan who turned the renewal of the subscription off. It is raised by a change of state, like a timer, and has an id of that form.
#[must_use]
pub fn of_renewal_off(event: &Event<'_>, setting: Setting<'_>) -> Option<PriorityEntry> {
    const REASON: &str = "renewal_turned_off";
    let (state, _) = setting.conversation?;
    if setting.now.since(event.at()) > setting.policy.policy().freshness_ms {
        return None;
    }
    let mut entry = entry(event, setting, Level::Due, vec![REASON.to_owned()]);
    entry.event = EntryEvent { id: due_id(REASON, state, event.at()).into(), kind: None };
    Some(entry)
}

/// The entry of a timer.
#[must_use]
pub fn of_due(due: Due, state: &ConversationState, standing: &Standing, now: Millis) -> PriorityEntry {
    let id = due_id(&due.reason, state, due.since);
    let last = state.recent.items().iter().rev().find(|message| !message.deleted);
    PriorityEntry {
        level: Level::Due,
        reasons: vec![due.reason],
        score: score(Some((state, standing)), due.at, now),
        event: EntryEvent { id: id.into(), kind: None },
        account_id: state.account.clone(),
        conversation_id: Some(state.conversation.clone()),
        fan: Some(fan(state, standing)),
        preview: last.map(|message| message.text.as_untrusted().preview(PREVIEW_CHARS)),
        money: None,
        awaiting_reply_since: awaiting_since(state),
        occurred_at: None,
        received_at: due.at,
        applied_at: now,
    }
}

fn due_id(reason: &str, state: &ConversationState, since: Millis) -> String {
    format!("due:{reason}:{}:{}", state.conversation.raw(), since.0)
}

/// Whether typing or being online may raise an entry again; notes it if so.
pub fn may_repeat(last: &mut Option<Millis>, at: Millis) -> bool {
    let may = last.is_none_or(|last| at.since(last) >= NOISE_ENTRY_MS);
    if may {
        *last = Some(at);
    }
    may
}

fn judge(event: &Event<'_>, setting: Setting<'_>) -> Option<(Level, Vec<String>)> {
    let high_value = setting.conversation.is_some_and(|(_, standing)| standing.high_value.is);
    let active = setting.conversation.is_some_and(|(state, _)| in_exchange(event, state));
    let is_tip = event.message.as_ref().is_some_and(|message| message.is_tip == Some(true));
    let mut level = None;
    let mut reasons = Vec::new();
    for rule in setting.policy.rules() {
        if !rule.names(event.kind)
            || rule.high_value.is_some_and(|wanted| wanted != high_value)
            || rule.active_exchange.is_some_and(|wanted| wanted != active)
            || rule.is_tip.is_some_and(|wanted| wanted != is_tip)
        {
            continue;
        }
        if let Some(condition) = &rule.condition
            && !condition.holds(event, setting.conversation.map(|(state, _)| state), worked(setting))
        {
            continue;
        }
        level = level.max(Some(rule.level));
        reasons.push(rule.reason.clone());
    }
    level.map(|level| (level, reasons))
}

fn worked(setting: Setting<'_>) -> Worked<'_> {
    match setting.conversation {
        None => Worked { tier: "", high_value: false, value: 0, unread: 0, awaiting_s: None },
        Some((state, standing)) => Worked {
            tier: &standing.tier,
            high_value: standing.high_value.is,
            value: standing.value,
            unread: unread(state),
            awaiting_s: awaiting_since(state).map(|since| setting.now.since(since).max(0) / 1000),
        },
    }
}

/// The account's last message of its own lies at most five minutes before this one.
fn in_exchange(event: &Event<'_>, state: &ConversationState) -> bool {
    let at = event.at();
    state.reply_mark.is_some_and(|mark| mark.at <= at && at.since(mark.at) <= ACTIVE_EXCHANGE_MS)
}

fn entry(event: &Event<'_>, setting: Setting<'_>, level: Level, reasons: Vec<String>) -> PriorityEntry {
    let text = event.message.as_ref().and_then(|message| message.text.as_ref());
    PriorityEntry {
        level,
        reasons,
        score: score(setting.conversation, event.at(), setting.now),
        event: EntryEvent { id: event.id.raw().into(), kind: Some(event.kind) },
        account_id: event.account_id.raw().into(),
        conversation_id: setting.conversation.map(|(state, _)| state.conversation.clone()),
        fan: setting.conversation.map(|(state, standing)| fan(state, standing)),
        preview: text.filter(|text| !text.is_blank()).map(|text| text.preview(PREVIEW_CHARS)),
        money: event.money.map(|money| EntryMoney { minor: money.minor, basis: money.basis }),
        awaiting_reply_since: setting.conversation.and_then(|(state, _)| awaiting_since(state)),
        occurred_at: event.occurred_at,
        received_at: event.received_at,
        applied_at: setting.now,
    }
}

fn fan(state: &ConversationState, standing: &Standing) -> EntryFan {
    let profile = &state.profile;
    let name: Option<OwnedText> =
        [&profile.display_name, &profile.name, &profile.username].into_iter().flatten().next().map(|register| register.value.clone());
    EntryFan { id: state.fan.clone(), name, tier: standing.tier.clone(), high_value: standing.high_value.is }
}

/// Tier (5 bits), seconds of waiting (20 bits), seconds of recency (28 bits): exact in a double.
fn score(conversation: Option<(&ConversationState, &Standing)>, at: Millis, now: Millis) -> i64 {
    let tier = conversation.map_or(0, |(_, standing)| i64::try_from(standing.tier_no.min(31)).unwrap_or(31));
    let waiting = conversation.and_then(|(state, _)| awaiting_since(state)).map_or(0, |since| now.since(since) / 1000);
    let recency = at.0.div_euclid(1000) & ((1 << 28) - 1);
    (tier << 48) | (waiting.clamp(0, (1 << 20) - 1) << 28) | recency
}
