//! Timers: what becomes worth an entry because nothing happened.

use crate::schema::policy::DuePolicy;
use crate::schema::state::ConversationState;
use crate::schema::time::Millis;

use super::view::awaiting_since;

/// A timer that fell due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// `awaiting_2m`, `subscription_expiring`, `subscription_expired`.
    pub reason: String,
    /// When it fell due.
    pub at: Millis,
    /// The time it counts from: of the message, or of the subscription's end.
    pub since: Millis,
}

/// When the next timer of the conversation falls due. What fell due longer ago than `freshness_ms` is passed over.
#[must_use]
pub fn next(state: &ConversationState, policy: &DuePolicy, freshness_ms: i64, now: Millis) -> Option<Millis> {
    let oldest = now.plus(-freshness_ms);
    let awaiting = awaiting(state, policy).map(|(_, at, _)| at);
    let subscription = subscription(state, policy).map(|(_, at, _)| at);
    awaiting.chain(subscription).filter(|&at| at >= oldest).min()
}

/// Marks what has fallen due as raised, and returns it: of several of one sort only the last, none older than `freshness_ms`.
pub fn fire(state: &mut ConversationState, policy: &DuePolicy, freshness_ms: i64, now: Millis) -> Vec<Due> {
    let oldest = now.plus(-freshness_ms);
    let awaiting = awaiting(state, policy).filter(|&(_, at, _)| at <= now).last();
    let subscription = subscription(state, policy).filter(|&(_, at, _)| at <= now).last();
    let mut fired = Vec::new();
    if let Some((number, at, since)) = awaiting {
        state.due.awaiting = Some((since, number + 1));
        let seconds = policy.awaiting_s.get(number as usize).copied().unwrap_or_default();
        fired.push(Due { reason: format!("awaiting_{}", short(seconds)), at, since });
    }
    if let Some((number, at, since)) = subscription {
        state.due.subscription = Some((since, number + 1));
        let reason = if number == 0 { "subscription_expiring" } else { "subscription_expired" };
        fired.push(Due { reason: reason.to_owned(), at, since });
    }
    fired.retain(|due| due.at >= oldest);
    fired
}

/// The timers of the current wait that were not raised: number, when, since.
fn awaiting(state: &ConversationState, policy: &DuePolicy) -> impl Iterator<Item = (u32, Millis, Millis)> {
    let since = awaiting_since(state);
    let raised = match (state.due.awaiting, since) {
        (Some((wait, raised)), Some(since)) if wait == since => raised,
        _ => 0,
    };
    let timers = policy.awaiting_s.iter().enumerate().skip(raised as usize);
    timers.filter_map(move |(number, &seconds)| {
        let since = since?;
        Some((u32::try_from(number).unwrap_or(u32::MAX), since.plus(i64::from(seconds) * 1000), since))
    })
}

/// The timers of a subscription that ends and does not renew, as far as they were not raised.
fn subscription(state: &ConversationState, policy: &DuePolicy) -> impl Iterator<Item = (u32, Millis, Millis)> {
    let registers = &state.subscription;
    let renews = registers.auto_renew.as_ref().is_some_and(|register| register.value);
    let end = registers.expires_at.as_ref().map(|register| register.value).filter(|_| !renews);
    let raised = match (state.due.subscription, end) {
        (Some((known, raised)), Some(end)) if known == end => raised,
        _ => 0,
    };
    let before = -i64::from(policy.subscription_expiring_s) * 1000;
    [before, 0].into_iter().zip(0..).skip(raised as usize).filter_map(move |(offset, number)| {
        let end = end?;
        Some((number, end.plus(offset), end))
    })
}

/// `2m` for 120 seconds, `90s` for 90.
fn short(seconds: u32) -> String {
    match seconds {
        0 => "0s".to_owned(),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::state::{Place, Register, Stamp, WaitingMessage};

    const FRESH: i64 = 600_000;

    fn waiting(since_s: i64) -> ConversationState {
        let mut state = ConversationState::default();
        let place = Place { at: Millis(since_s * 1000), rank: 1 };
        state.waiting.merge(WaitingMessage { place, opened: false, deleted: false }, 100, |_, _| {});
        state
    }

    #[test]
    fn each_waiting_time_is_raised_once() {
        let policy = DuePolicy::default();
        let mut state = waiting(1_000);
        let at = |s: i64| Millis(s * 1000);
        assert_eq!(next(&state, &policy, FRESH, at(1_001)), Some(at(1_120)));
        assert!(fire(&mut state, &policy, FRESH, at(1_119)).is_empty());
        let fired = fire(&mut state, &policy, FRESH, at(1_121));
        assert_eq!(fired, [Due { reason: "awaiting_2m".into(), at: at(1_120), since: at(1_000) }]);
        assert!(fire(&mut state, &policy, FRESH, at(1_122)).is_empty());
        assert_eq!(next(&state, &policy, FRESH, at(1_122)), Some(at(1_300)));
        // Two at once, after a pause: only the last.
        let fired = fire(&mut state, &policy, FRESH, at(2_300));
        assert_eq!(fired.iter().map(|due| due.reason.as_str()).collect::<Vec<_>>(), ["awaiting_20m"]);
        assert_eq!(next(&state, &policy, FRESH, at(2_300)), None);
    }

    #[test]
    fn what_fell_due_long_ago_is_passed_over() {
        let policy = DuePolicy::default();
        let mut state = waiting(0);
        let now = Millis(86_400_000);
        assert_eq!(next(&state, &policy, FRESH, now), None);
        assert!(fire(&mut state, &policy, FRESH, now).is_empty());
    }

    #[test]
    fn a_subscription_that_renews_is_no_timer() {
        let policy = DuePolicy::default();
        let mut state = ConversationState::default();
        let stamp = Stamp::default();
        let end = Millis(200_000_000);
        state.subscription.expires_at = Some(Register { stamp, value: end });
        assert_eq!(next(&state, &policy, FRESH, Millis(0)), Some(end.plus(-86_400_000)));
        let fired = fire(&mut state, &policy, FRESH, end.plus(-86_400_000));
        assert_eq!(fired[0].reason, "subscription_expiring");
        assert_eq!(fire(&mut state, &policy, FRESH, end)[0].reason, "subscription_expired");
        state.subscription.auto_renew = Some(Register { stamp, value: true });
        assert_eq!(next(&state, &policy, FRESH, Millis(0)), None);
    }
}
