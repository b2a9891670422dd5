//! Payments: which events are some, which of them are the same payment, what they add up to. `docs/fold.md`, "Money", is the specification.

use crate::schema::event::{Event, EventKind};
use crate::schema::state::{Category, MoneyState, PAYMENTS_AGE_MAX_MS, PAYMENTS_MAX, Payment, SettledState, Shape, Stamp};
use crate::schema::time::Millis;
use crate::schema::view::SpendTotals;

/// Reports of one payment lie at most this far apart.
const SAME_PAYMENT_MS: i64 = 120_000;

/// The payment that an event reports, if it reports one.
#[must_use]
pub fn payment(event: &Event<'_>, stamp: Stamp) -> Option<Payment> {
    let money = event.money?;
    let target = event.target.as_ref().map(|target| &*target.kind);
    let (category, shape) = match event.kind {
        EventKind::MessageReceived => (Category::Tips, Shape::Message),
        EventKind::TipReceived if target == Some("stream") => (Category::Streams, Shape::Live),
        EventKind::TipReceived if target == Some("story") => (Category::Tips, Shape::Live),
        EventKind::TipReceived => (Category::Tips, Shape::Notification),
        EventKind::PpvUnlocked => (Category::Messages, Shape::Notification),
        EventKind::PostPurchased => (Category::Posts, Shape::Notification),
        EventKind::SubscriptionStarted
        | EventKind::SubscriptionReturned
        | EventKind::SubscriptionRenewed
        | EventKind::SubscriptionExpired => (Category::Subscriptions, Shape::Notification),
        _ => return None,
    };
    Some(Payment { at: stamp.at, id: stamp.id, minor: money.minor, category, shape, settled: false })
}

/// Remembers a payment. False where it is too old for the memory and therefore counts as seen.
pub fn record(state: &mut MoneyState, payment: Payment) -> bool {
    if state.floor.is_some_and(|floor| (payment.at, payment.id) <= floor) {
        return false;
    }
    // One more than the memory holds, so that the oldest is settled and not lost.
    state.payments.merge(payment, PAYMENTS_MAX + 1, |known, seen| {
        if (seen.at, seen.minor) > (known.at, known.minor) && !known.settled {
            *known = seen;
        }
    });
    settle(state);
    true
}

/// What the payments add up to, those in memory and those that have left.
#[must_use]
pub fn totals(state: &MoneyState) -> SpendTotals {
    let mut sums = state.settled;
    for group in groups(state.payments.items()) {
        add(&mut sums, &group);
    }
    SpendTotals {
        total: sums.tips + sums.streams + sums.messages + sums.posts + sums.subscriptions,
        messages: sums.messages,
        tips: sums.tips,
        subscriptions: sums.subscriptions,
        posts: sums.posts,
        streams: sums.streams,
        payments: sums.payments,
        largest: sums.largest,
        last_at: sums.last_at,
    }
}

/// One payment and all the reports of it.
struct Group {
    first_at: Millis,
    last_at: Millis,
    minor: i64,
    category: Category,
    shapes: Vec<Shape>,
    members: Vec<usize>,
}

/// The reports that are not settled, put together; `payments` stand in the order of time.
fn groups(payments: &[Payment]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, payment) in payments.iter().enumerate().filter(|(_, payment)| !payment.settled) {
        match groups.iter_mut().find(|group| group.takes(payment)) {
            Some(group) => group.join(index, payment),
            None => groups.push(Group::of(index, payment)),
        }
    }
    groups
}

/// The group of the oldest report, as [`groups`] has it: there it comes first, so it takes whatever it can.
fn group_of_oldest(payments: &[Payment], oldest: &Payment) -> Group {
    let mut group = Group::of(0, oldest);
    for (index, payment) in payments.iter().enumerate().skip(1).filter(|(_, payment)| !payment.settled) {
        if group.takes(payment) {
            group.join(index, payment);
        }
    }
    group
}

impl Group {
    fn of(index: usize, payment: &Payment) -> Self {
        Self {
            first_at: payment.at,
            last_at: payment.at,
            minor: payment.minor,
            category: payment.category,
            shapes: vec![payment.shape],
            members: vec![index],
        }
    }

    fn takes(&self, payment: &Payment) -> bool {
        is_tip(self.category)
            && is_tip(payment.category)
            && self.minor == payment.minor
            && payment.at.since(self.first_at) <= SAME_PAYMENT_MS
            && !self.shapes.contains(&payment.shape)
    }

    fn join(&mut self, index: usize, payment: &Payment) {
        self.last_at = self.last_at.max(payment.at);
        self.shapes.push(payment.shape);
        self.members.push(index);
        if payment.category == Category::Streams {
            self.category = Category::Streams;
        }
    }
}

fn is_tip(category: Category) -> bool {
    matches!(category, Category::Tips | Category::Streams)
}

/// Moves what is too old or too many into the settled totals, oldest first.
fn settle(state: &mut MoneyState) {
    loop {
        let payments = state.payments.items();
        let (Some(&oldest), Some(newest)) = (payments.first(), payments.last()) else { return };
        if payments.len() <= PAYMENTS_MAX && newest.at.since(oldest.at) <= PAYMENTS_AGE_MAX_MS {
            return;
        }
        if !oldest.settled {
            let group = group_of_oldest(payments, &oldest);
            add(&mut state.settled, &group);
            for &member in &group.members {
                state.payments.items_mut()[member].settled = true;
            }
        }
        let floor = (oldest.at, oldest.id);
        state.payments.retain(|payment| (payment.at, payment.id) > floor);
        state.floor = state.floor.max(Some(floor));
    }
}

fn add(sums: &mut SettledState, group: &Group) {
    let sum = match group.category {
        Category::Tips => &mut sums.tips,
        Category::Streams => &mut sums.streams,
        Category::Messages => &mut sums.messages,
        Category::Posts => &mut sums.posts,
        Category::Subscriptions => &mut sums.subscriptions,
    };
    *sum = sum.saturating_add(group.minor);
    sums.payments += 1;
    sums.largest = sums.largest.max(group.minor);
    sums.last_at = sums.last_at.max(Some(group.last_at));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payments() -> impl Strategy<Value = Vec<Payment>> {
        let shapes = prop_oneof![Just(Shape::Message), Just(Shape::Notification), Just(Shape::Live)];
        let categories = prop_oneof![Just(Category::Tips), Just(Category::Streams), Just(Category::Posts)];
        let one = (0i64..300, 1i64..4, shapes, categories, prop::bool::weighted(0.2));
        prop::collection::vec(one, 1..30).prop_map(|mut all| {
            all.sort_by_key(|one| one.0);
            let ids = 1..;
            let payment =
                |((s, minor, shape, category, settled), id)| Payment { at: Millis(s * 1_000), id, minor, category, shape, settled };
            all.into_iter().zip(ids).map(payment).collect()
        })
    }

    proptest! {
        #[test]
        fn the_oldest_report_is_in_the_same_group_alone_as_among_all(mut payments in payments()) {
            payments[0].settled = false;
            let among_all = groups(&payments).swap_remove(0);
            let alone = group_of_oldest(&payments, &payments[0]);
            prop_assert_eq!((alone.members, alone.category, alone.last_at), (among_all.members, among_all.category, among_all.last_at));
        }
    }
}
