//! The other person: what an item says of a fan, their subscription and their spend.
//!
//! The platform names the two sides of a following by prefix. `subscribedOn…` is the *fan's* subscription to the account: the one that
//! [`Subscription`] is about. `subscribedBy…` is the *account's* subscription to a creator; of it only the fact is kept (`we_follow`), so
//! `subscribedByExpireDate` and `subscribedByAutoprolong` never end up as the fan's expiry or renewal.

use serde::Deserialize;

use super::item::Failure;
use super::wire::{BareOr, Bounded, Object, OrEmpty, Scalar, Stated};
use crate::schema::event::{Basis, Event, FanProfile, ReportedSpend, Subscription, SubscriptionState};
use crate::schema::text::Untrusted;
use crate::schema::time::Millis;

/// Most lists of a user.
const LISTS_MAX: usize = 1024;

/// A user, as an object or as a bare id.
pub(super) type UserOrId<'f> = BareOr<User<'f>>;

/// A user as items name one. Four of five hold the id alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    name: Option<Untrusted<'f>>,
    #[serde(borrow)]
    username: Option<Untrusted<'f>>,
    #[serde(borrow)]
    display_name: Option<Untrusted<'f>>,
    #[serde(borrow)]
    notice: Option<Untrusted<'f>>,
    subscribed_by: Option<bool>,
    subscribed_on: Option<bool>,
    subscribed_on_expired_now: Option<bool>,
    #[serde(borrow)]
    subscribed_on_data: Option<OrEmpty<SubscribedOnData<'f>>>,
    #[serde(borrow)]
    lists_states: Option<Bounded<Object<ListState<'f>>, LISTS_MAX>>,
}

impl<'f> From<Scalar<'f>> for User<'f> {
    fn from(id: Scalar<'f>) -> Self {
        Self { id: Some(id), ..Self::default() }
    }
}

/// \[I\] The platform's user object has this on its other interfaces; it was not seen on the socket. Read where it appears, promised nowhere.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubscribedOnData<'f> {
    #[serde(borrow)]
    expired_at: Option<Scalar<'f>>,
    #[serde(borrow)]
    total_summ: Option<Scalar<'f>>,
    #[serde(borrow)]
    messages_summ: Option<Scalar<'f>>,
    #[serde(borrow)]
    tips_summ: Option<Scalar<'f>>,
    #[serde(borrow)]
    subscribes_summ: Option<Scalar<'f>>,
    #[serde(borrow)]
    posts_summ: Option<Scalar<'f>>,
    #[serde(borrow)]
    streams_summ: Option<Scalar<'f>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListState<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    name: Option<Untrusted<'f>>,
    has_user: Option<bool>,
}

impl<'f> User<'f> {
    /// Takes the id out; `None` where it identifies nobody.
    pub(super) fn take_id(&mut self, path: &'static str) -> Result<Option<Untrusted<'f>>, Failure> {
        self.id.take().id(path)
    }

    /// Puts what is said of the user into the event. Blank fields count as not stated.
    pub(super) fn describe(self, event: &mut Event<'f>) -> Result<(), Failure> {
        let stated = |text: Option<Untrusted<'f>>| text.filter(|text| !text.is_blank());
        let mut subscription = Subscription { is_fan: self.subscribed_on, we_follow: self.subscribed_by, ..Subscription::default() };
        subscription.state = match (self.subscribed_on, self.subscribed_on_expired_now) {
            (_, Some(true)) => Some(SubscriptionState::Expired),
            (Some(true), _) => Some(SubscriptionState::Active),
            _ => None,
        };
        if let Some(OrEmpty(data)) = self.subscribed_on_data {
            subscription.expires_at = data.expired_at.time("subscribedOnData.expiredAt")?;
            event.spend = data.spend(event.at())?;
        }
        let lists = match self.lists_states {
            Some(Bounded(states)) => Some(lists(states, &mut subscription)?),
            None => None,
        };
        let fan = FanProfile {
            name: stated(self.name),
            username: stated(self.username),
            display_name: stated(self.display_name),
            notice: stated(self.notice),
            lists,
        };
        let is_empty =
            fan.name.is_none() && fan.username.is_none() && fan.display_name.is_none() && fan.notice.is_none() && fan.lists.is_none();
        event.fan = (!is_empty).then_some(fan);
        event.subscription = (subscription != Subscription::default()).then_some(subscription);
        Ok(())
    }
}

impl SubscribedOnData<'_> {
    fn spend(&self, as_of: Millis) -> Result<Option<ReportedSpend>, Failure> {
        let spend = ReportedSpend {
            total: self.total_summ.cents("subscribedOnData.totalSumm")?,
            messages: self.messages_summ.cents("subscribedOnData.messagesSumm")?,
            tips: self.tips_summ.cents("subscribedOnData.tipsSumm")?,
            subscriptions: self.subscribes_summ.cents("subscribedOnData.subscribesSumm")?,
            posts: self.posts_summ.cents("subscribedOnData.postsSumm")?,
            streams: self.streams_summ.cents("subscribedOnData.streamsSumm")?,
            basis: Basis::Unknown,
            as_of,
        };
        let parts = [spend.total, spend.messages, spend.tips, spend.subscriptions, spend.posts, spend.streams];
        Ok(parts.iter().any(Option::is_some).then_some(spend))
    }
}

/// The lists the fan stands in, by id, and by name too where one is stated, since an operator's policy may name either.
///
/// \[I\] The platform's own lists `rebill_on` and `rebill_off` say whether the fan's subscription renews.
fn lists<'f>(states: Vec<Object<ListState<'f>>>, subscription: &mut Subscription) -> Result<Vec<Untrusted<'f>>, Failure> {
    let mut lists = Vec::with_capacity(states.len());
    for Object(state) in states {
        if state.has_user != Some(true) {
            continue;
        }
        let id = state.id.id("listsStates.id")?;
        match id.as_ref().map(Untrusted::raw) {
            Some("rebill_on") => subscription.auto_renew = Some(true),
            Some("rebill_off") => subscription.auto_renew = Some(false),
            _ => {}
        }
        let name = state.name.filter(|name| !name.is_blank() && Some(name) != id.as_ref());
        lists.extend(id.into_iter().chain(name));
    }
    Ok(lists)
}
