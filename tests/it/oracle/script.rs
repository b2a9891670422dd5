//! What the steps of a history mean as events: ids, times, versions and contents, consistent as at the source.

use std::borrow::Cow;
use std::collections::BTreeSet;

use convpipe::schema::event::{
    Basis, Counters, Currency, Direction, Event, EventKind, FanProfile, Link, Media, Message, Money, Presence, ReportedSpend, Subscription,
    Target,
};
use convpipe::schema::text::Untrusted;
use convpipe::schema::time::Millis;

use super::generate::{DAY_MS, HORIZON_MS, NOW};

/// What all steps of a history share. A message's time depends on its id alone, as at the source.
pub(super) struct Script {
    pub(super) moments: Vec<Moment>,
    pub(super) accounts: usize,
    pub(super) fans: usize,
}

/// When something happened, and what the source said of that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) ago_ms: i64,
    pub(super) stated: Stated,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stated {
    /// `occurred_at` is right.
    Yes,
    /// `occurred_at` is absent.
    No,
    /// `occurred_at` lies an hour ahead, beyond any clock skew.
    Ahead,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) account: usize,
    pub(super) fan: usize,
    pub(super) moment: Moment,
    /// How long after it happened it was read; negative where the source's clock is ahead, within the limit.
    pub(super) lag_ms: i64,
    pub(super) connection: &'static str,
    pub(super) frame_no: u64,
    pub(super) profile: Option<Profile>,
    pub(super) reported: Option<ReportedSpend>,
    pub(super) act: Act,
}

#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) name: Option<&'static str>,
    pub(super) username: Option<&'static str>,
    pub(super) notice: Option<&'static str>,
    pub(super) lists: Option<Vec<&'static str>>,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Received {
        slot: usize,
        version: Option<i64>,
        is_opened: Option<bool>,
        tip: Option<i64>,
        text: &'static str,
    },
    Sent {
        slot: usize,
        version: Option<i64>,
        price: Option<i64>,
        media: usize,
        text: &'static str,
    },
    Deleted {
        inbound: bool,
        slot: usize,
    },
    Liked {
        slot: usize,
        back: bool,
    },
    Tip {
        target: Option<&'static str>,
        minor: i64,
    },
    Unlocked {
        slot: usize,
        minor: Option<i64>,
    },
    PostPurchased {
        minor: i64,
    },
    Subscription {
        kind: EventKind,
        facts: Subscription,
        minor: Option<i64>,
    },
    Notified {
        facts: Option<Subscription>,
    },
    Typing,
    /// Something that is carried without changing anything, of a conversation that exists.
    Carried {
        kind: EventKind,
    },
    /// One of many messages that nobody answers.
    Crowd {
        number: usize,
    },
    Online {
        fans: Vec<usize>,
    },
    Counted {
        counters: Counters,
    },
    Link {
        kind: EventKind,
        reason: Option<&'static str>,
    },
    OfAccount {
        kind: EventKind,
    },
}

/// Message slots of a conversation in each direction; slots from here on are never written to, only deleted.
pub(super) const SLOTS: usize = 8;
/// The first slot of a crowd's messages.
pub(super) const CROWD_SLOT: usize = 100;

/// The account's id. The two are of different lengths, so that no prefix of one is the other.
fn account_id(account: usize) -> String {
    format!("{}", if account == 0 { 200_000_001 } else { 31 })
}

/// The fan's id; fans of one number but of different accounts are strangers, some of them with one id.
pub(super) fn fan_id(account: usize, fan: usize) -> String {
    format!("{}", 100_000_000 + fan + if fan == 3 { 0 } else { account * 10 })
}

impl Script {
    /// Of the versions of a message at most one does not say when it was changed.
    pub(super) fn leave_one_undated(&self, steps: &mut [Step]) {
        let mut undated = BTreeSet::new();
        for step in steps {
            let (Act::Received { slot, version, .. } | Act::Sent { slot, version, .. }) = &mut step.act else { continue };
            let key = (step.account % self.accounts, step.fan % self.fans, *slot);
            if version.is_none() && !undated.insert(key) {
                *version = Some(0);
            }
        }
    }

    /// The events of one step: one, or two where something needs a conversation to exist.
    pub(super) fn events(&self, index: usize, step: &Step) -> Vec<Vec<u8>> {
        let (account, fan) = (step.account % self.accounts, step.fan % self.fans);
        let made = |act: &Act| serde_json::to_vec(&self.event(index, account, fan, step, act)).unwrap();
        match &step.act {
            Act::Carried { .. } => vec![made(&Act::Notified { facts: None }), made(&step.act)],
            act => vec![made(act)],
        }
    }

    fn event(&self, index: usize, account: usize, fan: usize, step: &Step, act: &Act) -> Event<'static> {
        let told = Told { index, account, fan, step };
        match *act {
            Act::Received { slot, version, is_opened, tip, text } => {
                let mut event = self.message(&told, true, slot, version, text);
                let amount = tip.filter(|_| may_hold_money(event.at())).map(money);
                event.money = amount;
                edit(&mut event, |message| (message.is_opened, message.is_tip) = (is_opened, amount.map(|_| true)));
                event
            }
            Act::Sent { slot, version, price, media, text } => {
                let mut event = self.message(&told, false, slot, version, text);
                edit(&mut event, |message| {
                    message.price = price;
                    message.is_bulk = slot.is_multiple_of(3).then_some(true);
                    message.media = (0..media).map(|number| photo(slot * 10 + number)).collect();
                });
                event
            }
            Act::Crowd { number } => {
                let mut event = self.message(&told, true, CROWD_SLOT + number, None, "me!");
                // Four share each second.
                event.occurred_at = Some(NOW.plus(-500_000 + i64::try_from(number / 4).unwrap() * 1_000));
                event.received_at = NOW;
                event
            }
            Act::Deleted { inbound, slot } => {
                let id = message_id(account, fan, inbound, slot);
                let mut event = told.of_account(EventKind::MessageDeleted, &format!("msg:{id}:deleted"));
                event.occurred_at = None;
                event.received_at = NOW.plus(-step.moment.ago_ms);
                event.message = Some(Message { id: Some(id.into()), ..Message::default() });
                event
            }
            Act::Liked { slot, back } => {
                let kind = if back { EventKind::MessageUnliked } else { EventKind::MessageLiked };
                let id = Some(message_id(account, fan, false, slot).into());
                Event { message: Some(Message { id, ..Message::default() }), ..told.of_fan(kind, Direction::In) }
            }
            Act::Tip { target, minor } => paid(told.of_fan(EventKind::TipReceived, Direction::In), target, Some(minor)),
            Act::PostPurchased { minor } => paid(told.of_fan(EventKind::PostPurchased, Direction::In), Some("post"), Some(minor)),
            Act::Unlocked { slot, minor } => {
                let id = Some(message_id(account, fan, false, slot).into());
                let event =
                    Event { message: Some(Message { id, ..Message::default() }), ..told.of_fan(EventKind::PpvUnlocked, Direction::In) };
                paid(event, None, minor)
            }
            Act::Subscription { kind, ref facts, minor } => {
                paid(Event { subscription: Some(facts.clone()), ..told.of_fan(kind, Direction::In) }, None, minor)
            }
            Act::Notified { ref facts } => {
                Event { subscription: facts.clone(), ..told.of_fan(EventKind::NotificationReceived, Direction::System) }
            }
            Act::Typing => untimed(told.of_fan(EventKind::TypingStarted, Direction::In)),
            Act::Carried { kind } => told.of_fan(kind, Direction::System),
            Act::Online { ref fans } => {
                let online = fans.iter().map(|&fan| fan_id(account, fan).into()).collect();
                untimed(Event {
                    presence: Some(Presence { online }),
                    ..told.of_account(EventKind::PresenceSnapshot, &format!("online:{index}"))
                })
            }
            Act::Counted { counters } => {
                untimed(Event { counters: Some(counters), ..told.of_account(EventKind::CountersUpdated, &format!("counters:{index}")) })
            }
            Act::Link { kind, reason } => {
                let mut event = untimed(told.of_account(kind, &format!("link:{index}")));
                // The index makes each end of a gap another one: which of two that end together stays is open.
                let to = Millis(event.received_at.0 / 1_000 * 1_000 + i64::try_from(index).unwrap());
                let reason = reason.map(Cow::Borrowed);
                event.link = Some(match kind {
                    EventKind::ConnectionOpened => Link::default(),
                    EventKind::ConnectionGap => Link { from: Some(to.plus(-60_000)), to: Some(to), reason, ..Link::default() },
                    EventKind::AccountAuthChanged => Link {
                        auth_status: Some(Cow::Borrowed(if index.is_multiple_of(2) { "ready" } else { "needs_otp" })),
                        ..Link::default()
                    },
                    _ => Link { reason, ..Link::default() },
                });
                event
            }
            Act::OfAccount { kind } => told.of_account(kind, &format!("item:{index}")),
        }
    }

    /// A version of a chat message. Whatever the version, one id has one time.
    fn message(&self, told: &Told<'_>, inbound: bool, slot: usize, version: Option<i64>, text: &str) -> Event<'static> {
        let (kind, direction) =
            if inbound { (EventKind::MessageReceived, Direction::In) } else { (EventKind::MessageSent, Direction::Out) };
        let id = message_id(told.account, told.fan, inbound, slot);
        let moment = self.moments[(slot + told.fan * 3 + usize::from(inbound)) % self.moments.len()];
        let mut event = told.of_fan(kind, direction);
        event.id = format!("onlyfans:{}:msg:{id}:{}", account_id(told.account), if inbound { "received" } else { "sent" }).into();
        (event.occurred_at, event.received_at) = times(moment, told.step.lag_ms);
        event.message = Some(Message {
            id: Some(id.into()),
            html: Some(format!("<p>{text}</p>").into()),
            text: (!text.is_empty()).then(|| text.to_owned().into()),
            // The index makes each version another one, in an order that is not that of the stamps.
            changed_at: version.map(|version| event.at().plus(version * 1_000 + i64::try_from(told.index).unwrap())),
            ..Message::default()
        });
        event
    }
}

/// Who and where of a step.
struct Told<'s> {
    index: usize,
    account: usize,
    fan: usize,
    step: &'s Step,
}

impl Told<'_> {
    fn of_account(&self, kind: EventKind, id: &str) -> Event<'static> {
        let (occurred_at, received_at) = times(self.step.moment, self.step.lag_ms);
        let mut event =
            Event::of_account(kind, format!("onlyfans:{}:{id}", account_id(self.account)), "", self.step.connection, received_at);
        event.account_id = account_id(self.account).into();
        event.occurred_at = occurred_at;
        event.frame_no = self.step.frame_no;
        // Two steps share a place, so that now and then only the hash of the id tells their order; two versions of one message never do.
        let is_message = matches!(kind, EventKind::MessageReceived | EventKind::MessageSent);
        event.item_no = u32::try_from(if is_message { self.index } else { self.index & !1 }).unwrap();
        event
    }

    fn of_fan(&self, kind: EventKind, direction: Direction) -> Event<'static> {
        let mut event = self.of_account(kind, &format!("{kind}:{}", self.index));
        let fan = fan_id(self.account, self.fan);
        event.conversation_id = Some(fan.clone().into());
        event.fan_id = Some(fan.into());
        event.direction = direction;
        let text = |text: Option<&'static str>| text.map(Untrusted::borrowed);
        event.fan = self.step.profile.as_ref().map(|profile| FanProfile {
            name: text(profile.name),
            username: text(profile.username),
            display_name: None,
            notice: text(profile.notice),
            lists: profile.lists.as_ref().map(|lists| lists.iter().map(|&list| Untrusted::borrowed(list)).collect()),
        });
        event.spend = self.step.reported;
        event
    }
}

/// `occurred_at` and `received_at`. The lag never changes when it happened, as [`Event::at`] has it.
fn times(moment: Moment, lag_ms: i64) -> (Option<Millis>, Millis) {
    let at = NOW.plus(-moment.ago_ms);
    match moment.stated {
        Stated::Yes => (Some(at), at.plus(lag_ms).min(NOW)),
        Stated::No => (None, at),
        Stated::Ahead => (Some(at.plus(3_600_000)), at),
    }
}

/// What the source never dates.
fn untimed(event: Event<'static>) -> Event<'static> {
    Event { occurred_at: None, ..event }
}

fn paid(mut event: Event<'static>, target: Option<&'static str>, minor: Option<i64>) -> Event<'static> {
    event.money = minor.filter(|_| may_hold_money(event.at())).map(money);
    event.target = target.map(|kind| Target { kind: Cow::Borrowed(kind), id: Some("9".into()), code: None });
    event
}

fn money(minor: i64) -> Money {
    Money { minor, currency: Currency::Usd, basis: Basis::Gross, net_minor: None }
}

/// Within the money memory, or stale.
fn may_hold_money(at: Millis) -> bool {
    let ago_ms = NOW.since(at);
    ago_ms <= 6 * DAY_MS || ago_ms > HORIZON_MS
}

fn photo(id: usize) -> Media<'static> {
    Media {
        id: Some(id.to_string().into()),
        kind: Some("photo".into()),
        can_view: Some(false),
        duration_s: None,
        width: Some(1_080),
        height: None,
    }
}

/// The platform's ids are numbers; the last slot's is not.
fn message_id(account: usize, fan: usize, inbound: bool, slot: usize) -> String {
    let number = 6_400_000_000_000 + account * 100_000 + fan * 10_000 + usize::from(inbound) * 1_000 + slot;
    if slot == SLOTS - 1 { format!("m-{number}") } else { number.to_string() }
}

fn edit(event: &mut Event<'static>, change: impl FnOnce(&mut Message<'static>)) {
    if let Some(message) = event.message.as_mut() {
        change(message);
    }
}
