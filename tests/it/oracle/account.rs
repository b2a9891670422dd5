//! What an account has come to, beyond its conversations.

use convpipe::schema::event::{Counters, EventKind};
use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{AccountPresence, AccountView, AuthView, ConnectionView, CountersView, GapView};
use serde_json::Value;

use super::feeds::{self, Feed};
use super::model::{Model, Seen, is_carried, register, stamp};

/// At most so many ids are kept of those who were online.
const ONLINE_MAX: usize = 500;

/// What one account has come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectedAccount {
    /// An `AccountView`.
    pub(crate) view: Value,
    /// Events without a conversation in the priority feed.
    pub(crate) priority: Feed,
}

impl Model<'_> {
    /// What an account has come to.
    pub(crate) fn account(&self, account: &str, policy: &Policy) -> ExpectedAccount {
        let mut live = self.live(account, policy);
        live.retain(|(event, _)| event.conversation_id.is_none() && !is_carried(event));
        let told: Vec<Seen<'_>> = live.iter().map(|(event, _)| *event).collect();
        let of_kind = |kind: EventKind| -> Vec<Seen<'_>> { told.iter().copied().filter(|event| event.kind == kind).collect() };
        let view = AccountView {
            counters: counters(&told),
            presence: register(&of_kind(EventKind::PresenceSnapshot), |event| {
                let online = event.presence.as_ref()?.online.iter().take(ONLINE_MAX).map(|id| id.raw().into()).collect();
                Some(AccountPresence { online, as_of: event.at() })
            }),
            connection: register(&told, connection),
            gap: gap(&of_kind(EventKind::ConnectionGap)),
            auth: register(&told, |event| {
                let status = match event.kind {
                    EventKind::ConnectionOpened => "ready".to_owned(),
                    EventKind::AccountAuthChanged => event.link.as_ref()?.auth_status.as_ref()?.clone().into_owned(),
                    _ => return None,
                };
                Some(AuthView { status, as_of: event.at() })
            }),
        };
        ExpectedAccount { view: serde_json::to_value(view).unwrap(), priority: feeds::account_priority(policy, &live) }
    }
}

/// A register for each counter; `as_of` is when the newest of them was said.
fn counters(told: &[Seen<'_>]) -> Option<CountersView> {
    let said: Vec<Seen<'_>> = told.iter().copied().filter(|event| event.counters.is_some()).collect();
    let counters = Counters {
        unread_chats: register(&said, |event| event.counters?.unread_chats),
        priority_chats: register(&said, |event| event.counters?.priority_chats),
        unread_tips: register(&said, |event| event.counters?.unread_tips),
        notifications: register(&said, |event| event.counters?.notifications),
        has_new_hints: register(&said, |event| event.counters?.has_new_hints),
    };
    let says_any = |event: &&Seen<'_>| event.counters.is_some_and(|counters| counters != Counters::default());
    let as_of: Option<Millis> = said.iter().filter(says_any).map(|event| event.at()).max();
    as_of.map(|as_of| CountersView { counters, as_of })
}

fn connection(event: Seen<'_>) -> Option<ConnectionView> {
    let state = match event.kind {
        EventKind::ConnectionOpened => "opened",
        EventKind::ConnectionClosed => "closed",
        EventKind::ConnectionSilent => "silent",
        _ => return None,
    };
    let reason = event.link.as_ref().and_then(|link| link.reason.as_ref()).map(|reason| reason.clone().into_owned());
    let reason = reason.filter(|_| event.kind != EventKind::ConnectionOpened);
    Some(ConnectionView { state: state.to_owned(), id: event.connection.raw().into(), reason, as_of: event.at() })
}

/// The gap that ended last.
fn gap(gaps: &[Seen<'_>]) -> Option<GapView> {
    let ended = gaps.iter().filter_map(|event| Some((event.link.as_ref()?.to?, stamp(event), event.link.as_ref()?)));
    let (to, _, link) = ended.max_by_key(|(to, stamp, _)| (*to, *stamp))?;
    Some(GapView { from: link.from, to, reason: link.reason.as_ref().map(|reason| reason.clone().into_owned()) })
}
