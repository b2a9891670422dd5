//! What a fan spent, as far as it was seen: the same tip may be told of up to three times, and two equal tips are two.

use std::collections::BTreeMap;

use convpipe::schema::event::EventKind;
use convpipe::schema::ids::hash64;
use convpipe::schema::time::Millis;
use convpipe::schema::view::SpendTotals;

use super::model::Seen;

/// How much later than a group's first member another member may be.
const GROUP_WINDOW_MS: i64 = 120_000;
/// What the fold's memory holds: the payments of so long before the newest, and no more than so many.
const MEMORY_MS: i64 = 7 * 86_400_000;
const MEMORY_PAYMENTS: usize = 256;

/// One event that money came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment {
    at: Millis,
    id_hash: u64,
    /// In minor units.
    pub(crate) minor: i64,
    category: Category,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Category {
    Tips,
    Streams,
    Messages,
    Posts,
    Subscriptions,
}

/// In which of its ways the platform told of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Message,
    Live,
    Notification,
}

/// The payments of a conversation, each once, in their order.
pub(crate) fn payments(told: &[Seen<'_>]) -> Vec<Payment> {
    let mut by_id: BTreeMap<&str, Payment> = BTreeMap::new();
    for event in told {
        let Some(payment) = payment(event) else { continue };
        let stays = by_id.entry(event.id.raw()).or_insert(payment);
        if (payment.at, payment.minor) > (stays.at, stays.minor) {
            *stays = payment;
        }
    }
    let mut payments: Vec<Payment> = by_id.into_values().collect();
    payments.sort_by_key(|payment| (payment.at, payment.id_hash));
    payments
}

fn payment(event: Seen<'_>) -> Option<Payment> {
    let target = event.target.as_ref().map(|target| target.kind.as_ref());
    let category = match event.kind {
        EventKind::MessageReceived => Category::Tips,
        EventKind::TipReceived if target == Some("stream") => Category::Streams,
        EventKind::TipReceived => Category::Tips,
        EventKind::PpvUnlocked => Category::Messages,
        EventKind::PostPurchased => Category::Posts,
        kind if kind.name().starts_with("subscription.") => Category::Subscriptions,
        _ => return None,
    };
    let shape = match (event.kind, target) {
        (EventKind::MessageReceived, _) => Shape::Message,
        (EventKind::TipReceived, Some("story" | "stream")) => Shape::Live,
        _ => Shape::Notification,
    };
    Some(Payment { at: event.at(), id_hash: hash64(event.id.raw()), minor: event.money?.minor, category, shape })
}

/// Totals over payments in their order.
pub(crate) fn totals(payments: &[Payment]) -> SpendTotals {
    let mut groups: Vec<Vec<Payment>> = Vec::new();
    for payment in payments {
        let group = groups.iter_mut().find(|group| is_same(group, payment));
        match group {
            Some(group) => group.push(*payment),
            None => groups.push(vec![*payment]),
        }
    }
    let mut totals = SpendTotals { last_at: payments.iter().map(|payment| payment.at).max(), ..SpendTotals::default() };
    for group in &groups {
        let first = group[0];
        let on_stream = group.iter().any(|member| member.category == Category::Streams);
        let of_category = match if on_stream { Category::Streams } else { first.category } {
            Category::Tips => &mut totals.tips,
            Category::Streams => &mut totals.streams,
            Category::Messages => &mut totals.messages,
            Category::Posts => &mut totals.posts,
            Category::Subscriptions => &mut totals.subscriptions,
        };
        *of_category += first.minor;
        totals.total += first.minor;
        totals.payments += 1;
        totals.largest = totals.largest.max(first.minor);
    }
    totals
}

/// The payment is another telling of what the group is about.
fn is_same(group: &[Payment], payment: &Payment) -> bool {
    let is_tip = |payment: &Payment| matches!(payment.category, Category::Tips | Category::Streams);
    is_tip(&group[0])
        && is_tip(payment)
        && group[0].minor == payment.minor
        && payment.at.since(group[0].at) <= GROUP_WINDOW_MS
        && group.iter().all(|member| member.shape != payment.shape)
}

/// The fold never had to forget one of these, in whatever order they came.
pub(crate) fn in_memory(payments: &[Payment]) -> bool {
    let span = payments.last().zip(payments.first()).map_or(0, |(newest, oldest)| newest.at.since(oldest.at));
    payments.len() <= MEMORY_PAYMENTS && span < MEMORY_MS
}
