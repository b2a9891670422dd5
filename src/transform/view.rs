//! From a state to what people see of it.

use crate::schema::document::{FanSummary, SummaryMessage};
use crate::schema::event::{ReportedSpend, Subscription};
use crate::schema::state::{AccountState, ConversationState, Register, WaitingMessage};
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::{
    AccountPresence, AuthView, ConnectionView, ConversationSnapshot, CountersView, FanView, GapView, HighValue, LastMessage, LastPpv,
    PpvState, PresenceState, PresenceView, Spend, SpendTotals,
};

use super::money;
use super::policy::CompiledPolicy;

/// What the fan is worth, by a policy: changes only with money and lists, so it is worked out once a batch and after such an event.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What was observed.
    pub observed: SpendTotals,
    /// The greater of what was observed and what the source reports.
    pub value: i64,
    /// Value tier.
    pub tier: String,
    /// Its number; 0 is the lowest.
    pub tier_no: usize,
    /// Whether the fan is high-value, and why.
    pub high_value: HighValue,
}

impl Standing {
    /// Works it out.
    #[must_use]
    pub fn of(state: &ConversationState, policy: &CompiledPolicy) -> Self {
        let observed = money::totals(&state.money);
        let reported = state.reported.as_ref().and_then(|reported| reported.total).unwrap_or(0);
        let value = observed.total.max(reported);
        let (tier, tier_no) = policy.tier(value);
        Self { value, tier: tier.to_owned(), tier_no, high_value: high_value(state, policy, value, observed.largest), observed }
    }
}

/// Unread messages that the state remembers.
#[must_use]
pub fn unread(state: &ConversationState) -> u32 {
    u32::try_from(state.waiting.items().iter().filter(|message| is_unread(message)).count()).unwrap_or(u32::MAX)
}

/// Since when the fan waits for an answer.
#[must_use]
pub fn awaiting_since(state: &ConversationState) -> Option<Millis> {
    state.waiting.items().iter().find(|message| !message.deleted).map(|message| message.place.at)
}

fn is_unread(message: &WaitingMessage) -> bool {
    !message.opened && !message.deleted
}

fn high_value(state: &ConversationState, policy: &CompiledPolicy, value: i64, largest: i64) -> HighValue {
    let thresholds = &policy.policy().high_value;
    let mut why = Vec::new();
    if let Some(min) = thresholds.spend_min.filter(|&min| value >= min) {
        why.push(format!("spend_minor >= {min}"));
    }
    if let Some(min) = thresholds.payment_min.filter(|&min| largest >= min) {
        why.push(format!("payment_minor >= {min}"));
    }
    if let Some(lists) = &state.profile.lists {
        why.extend(lists.value.iter().filter(|list| policy.names_list(list.raw())).map(|list| format!("list:{}", list.raw())));
    }
    if policy.names_fan(state.fan.raw()) {
        why.push("listed by id".to_owned());
    }
    HighValue { is: !why.is_empty(), why }
}

/// The conversation snapshot.
#[must_use]
pub fn snapshot(state: &ConversationState, standing: &Standing, rev: u64, now: Millis) -> ConversationSnapshot {
    let last = state.recent.items().iter().rev().find(|message| !message.deleted);
    ConversationSnapshot {
        account_id: state.account.clone(),
        conversation_id: state.conversation.clone(),
        fan: fan_view(state),
        tier: standing.tier.to_owned(),
        high_value: standing.high_value.clone(),
        last_message: last.map(|message| LastMessage {
            id: message.id.clone(),
            preview: message.text.as_untrusted().preview(PREVIEW_CHARS),
            direction: message.direction,
            at: message.place.at,
        }),
        last_inbound_at: state.last_inbound_at,
        last_outbound_at: state.last_outbound_at,
        unread: unread(state),
        unread_more: state.waiting_forgotten.is_some_and(|place| state.reply_mark.is_none_or(|mark| place > mark)),
        awaiting_reply_since: awaiting_since(state),
        last_ppv: last_ppv(state),
        spend: spend(state, standing),
        subscription: subscription(state),
        typing_until: state.typing_until,
        presence: state.online_at.map(|as_of| PresenceView { state: PresenceState::Online, as_of }),
        first_seen_at: state.first_seen_at,
        stale: None,
        rev,
        received_at: state.received_at,
        applied_at: now,
        event_id: state.latest.as_ref().map(|latest| latest.value.clone()).unwrap_or_default(),
    }
}

/// Characters of a preview.
pub const PREVIEW_CHARS: usize = 280;

/// The fan summary.
#[must_use]
pub fn summary(state: &ConversationState, standing: &Standing, rev: u64, now: Millis, expire_at: Millis) -> FanSummary {
    let messages = state.recent.items().iter().filter(|message| !message.deleted);
    FanSummary {
        account_id: state.account.clone(),
        conversation_id: state.conversation.clone(),
        fan: fan_view(state),
        tier: standing.tier.to_owned(),
        high_value: standing.high_value.clone(),
        spend: spend(state, standing),
        messages_in: state.messages_in,
        messages_out: state.messages_out,
        first_seen_at: state.first_seen_at,
        last_seen_at: state.last_seen_at,
        subscription: subscription(state),
        last_ppv: last_ppv(state),
        awaiting_reply_since: awaiting_since(state),
        recent: messages
            .map(|message| SummaryMessage {
                id: message.id.clone(),
                direction: message.direction,
                at: message.place.at,
                text: message.text.clone(),
                price: message.price,
                tip: message.tip,
                media: message.media,
            })
            .collect(),
        rev,
        applied_at: now,
        expire_at,
    }
}

/// When the conversation was last active: its score in the inbox.
#[must_use]
pub fn active_at(state: &ConversationState) -> Millis {
    state.active_at.or(state.first_seen_at).unwrap_or_default()
}

fn fan_view(state: &ConversationState) -> FanView {
    let profile = &state.profile;
    let text = |register: &Option<Register<OwnedText>>| register.as_ref().map(|register| register.value.clone());
    FanView {
        id: state.fan.clone(),
        name: text(&profile.name),
        username: text(&profile.username),
        display_name: text(&profile.display_name),
        notice: text(&profile.notice),
        lists: profile.lists.as_ref().map(|lists| lists.value.clone()).unwrap_or_default(),
    }
}

fn spend(state: &ConversationState, standing: &Standing) -> Spend {
    let reported = state.reported.map(|reported| ReportedSpend {
        total: reported.total,
        messages: reported.messages,
        tips: reported.tips,
        subscriptions: reported.subscriptions,
        posts: reported.posts,
        streams: reported.streams,
        basis: reported.basis,
        as_of: reported.version.0,
    });
    Spend { observed: standing.observed, reported }
}

fn subscription(state: &ConversationState) -> Option<Subscription> {
    let registers = &state.subscription;
    let subscription = Subscription {
        state: registers.state.as_ref().map(|register| register.value),
        expires_at: registers.expires_at.as_ref().map(|register| register.value),
        auto_renew: registers.auto_renew.as_ref().map(|register| register.value),
        is_fan: registers.is_fan.as_ref().map(|register| register.value),
        we_follow: registers.we_follow.as_ref().map(|register| register.value),
    };
    (subscription != Subscription::default()).then_some(subscription)
}

fn last_ppv(state: &ConversationState) -> Option<LastPpv> {
    let paid = state.paid.items().last()?;
    let sent = paid.sent.as_ref().map(|register| register.value);
    let (ppv_state, at) = match (paid.unlocked_at, sent) {
        (Some(at), _) => (PpvState::Unlocked, at),
        (None, Some((_, at))) => (PpvState::Sent, at),
        (None, None) => return None,
    };
    Some(LastPpv { message_id: paid.id.clone(), price: sent.map(|(price, _)| price), state: ppv_state, at })
}

/// The fields of the account's view that are known.
#[must_use]
pub fn account(state: &AccountState) -> crate::schema::view::AccountView {
    let counters = [
        state.unread_chats.as_ref().map(|register| register.stamp.at),
        state.priority_chats.as_ref().map(|register| register.stamp.at),
        state.unread_tips.as_ref().map(|register| register.stamp.at),
        state.notifications.as_ref().map(|register| register.stamp.at),
        state.has_new_hints.as_ref().map(|register| register.stamp.at),
    ];
    crate::schema::view::AccountView {
        counters: counters.into_iter().flatten().max().map(|as_of| CountersView {
            counters: crate::schema::event::Counters {
                unread_chats: state.unread_chats.as_ref().map(|register| register.value),
                priority_chats: state.priority_chats.as_ref().map(|register| register.value),
                unread_tips: state.unread_tips.as_ref().map(|register| register.value),
                notifications: state.notifications.as_ref().map(|register| register.value),
                has_new_hints: state.has_new_hints.as_ref().map(|register| register.value),
            },
            as_of,
        }),
        presence: state.online.as_ref().map(|online| AccountPresence { online: online.value.clone(), as_of: online.stamp.at }),
        connection: state.connection.as_ref().map(|connection| {
            let (name, id, reason) = connection.value.clone();
            ConnectionView { state: name, id, reason, as_of: connection.stamp.at }
        }),
        gap: state.gap.as_ref().map(|gap| {
            let (from, reason) = gap.value.clone();
            GapView { from, to: gap.stamp.at, reason }
        }),
        auth: state.auth.as_ref().map(|auth| AuthView { status: auth.value.clone(), as_of: auth.stamp.at }),
    }
}
