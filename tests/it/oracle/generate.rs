//! Histories that are realistic but nasty: few distinct times, several connections, everything told twice and in disagreement.
//!
//! Owns: what may happen. Does not own: the order, number and batches in which it arrives (that is `deliver`). A history is made
//! of [`Step`]s, so that a failing one shrinks to the few that matter. Kept out, because the specification leaves it open: messages
//! without an id, two versions of a message with one `changed_at`, and payments beyond the money memory.

use std::fmt;
use std::ops::RangeInclusive;

use convpipe::schema::event::{Basis, Counters, EventKind, ReportedSpend, Subscription, SubscriptionState};
use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use proptest::prelude::*;
use proptest::sample::select;

use super::script::{Act, CROWD_SLOT, Moment, Profile, SLOTS, Script, Stated, Step, fan_id};

/// The consumer's clock in every generated history.
pub(crate) const NOW: Millis = Millis(1_784_808_000_000);

pub(super) const DAY_MS: i64 = 86_400_000;
pub(super) const HORIZON_MS: i64 = 30 * DAY_MS;

/// Everything that happened, in no particular order, each thing once.
#[derive(Clone)]
pub(crate) struct History {
    /// JSON of the events.
    pub(crate) events: Vec<Vec<u8>>,
    /// The default policy, where the first fan of each account is listed by id and `vip` is a list.
    pub(crate) policy: Policy,
}

/// Up to 80 steps, mostly; now and then 300, or a crowd of messages that nobody answers.
pub(crate) fn histories() -> impl Strategy<Value = History> {
    prop_oneof![6 => history(1..=12, false), 6 => history(1..=80, false), 1 => history(100..=300, false), 1 => history(1..=40, true)]
}

fn history(steps: RangeInclusive<usize>, crowded: bool) -> impl Strategy<Value = History> {
    let crowd = if crowded { prop::collection::vec((step(), 60..=140_usize), 1..=2).boxed() } else { Just(Vec::new()).boxed() };
    (prop::collection::vec(moment(), 1..=12), prop::collection::vec(step(), steps), crowd, 1..=2_usize, 1..=4_usize).prop_map(
        |(moments, mut steps, crowd, accounts, fans)| {
            for (like, count) in crowd {
                steps.extend((0..count).map(|number| Step { act: Act::Crowd { number }, ..like.clone() }));
            }
            let script = Script { moments, accounts, fans };
            script.leave_one_undated(&mut steps);
            let mut policy = Policy::default();
            policy.high_value.fans = (0..accounts).map(|account| fan_id(account, 0)).collect();
            policy.high_value.lists = vec!["vip".to_owned()];
            History { events: steps.iter().enumerate().flat_map(|(index, step)| script.events(index, step)).collect(), policy }
        },
    )
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} events", self.events.len())?;
        self.events.iter().try_for_each(|event| writeln!(f, "  {}", String::from_utf8_lossy(event)))
    }
}

fn moment() -> impl Strategy<Value = Moment> {
    // Few, whole seconds, and the neighbours of every limit: 120 s of a money group, 10 min of freshness, 30 days of horizon.
    let ago_ms = prop_oneof![
        6 => select(vec![0, 1_000, 2_000, 30_000, 60_000]),
        6 => select(vec![100_000, 119_000, 120_000, 121_000, 220_000, 240_000, 241_000]),
        3 => select(vec![599_000, 600_000, 601_000, 3_600_000, DAY_MS, 3 * DAY_MS, 6 * DAY_MS]),
        1 => select(vec![20 * DAY_MS, HORIZON_MS, HORIZON_MS + 1, 40 * DAY_MS]),
    ];
    let stated = prop_oneof![8 => Just(Stated::Yes), 1 => Just(Stated::No), 1 => Just(Stated::Ahead)];
    (ago_ms, stated).prop_map(|(ago_ms, stated)| Moment { ago_ms, stated })
}

const TEXTS: &[&str] = &["", "hi", "hi 🙂", "<b>\u{202e}\u{1b}[31m", "line\nline"];
const AMOUNTS: &[i64] = &[500, 500, 500, 2_500, 9_999, 10_000, 50_000];
/// As ingest writes them, growing with time; and one as it should not be.
const CONNECTIONS: &[&str] = &["0198a0000000000a", "0198a0000000000b", "0198b00000000001", "lab"];

fn step() -> impl Strategy<Value = Step> {
    let place = (0..2_usize, 0..4_usize, moment(), select(vec![0, 250, 1_000, 45_000, -240_000, -300_000]), select(CONNECTIONS), 1..=3_u64);
    let extras = (prop::option::weighted(0.3, profile()), prop::option::weighted(0.1, reported()));
    (place, extras, act()).prop_map(|((account, fan, moment, lag_ms, connection, frame_no), (profile, reported), act)| Step {
        account,
        fan,
        moment,
        lag_ms,
        connection,
        frame_no,
        profile,
        reported,
        act,
    })
}

fn act() -> impl Strategy<Value = Act> {
    // Mostly the first ones, so that messages have versions and meet their deletes.
    let slot = || prop_oneof![3 => 0..3_usize, 2 => 0..SLOTS];
    let version = || prop::option::weighted(0.8, 0..4_i64);
    let received = (slot(), version(), any::<Option<bool>>(), prop::option::weighted(0.2, select(AMOUNTS)), select(TEXTS));
    let sent = (slot(), version(), prop::option::weighted(0.4, select(AMOUNTS)), 0..3_usize, select(TEXTS));
    // Also what never came, and some of a crowd.
    let deleted = (any::<bool>(), prop_oneof![3 => 0..3_usize, 2 => 0..SLOTS + 2, 1 => CROWD_SLOT..CROWD_SLOT + 40]);
    let tip = (select(vec![None, Some("post"), Some("story"), Some("stream")]), select(AMOUNTS));
    prop_oneof![
        8 => received.prop_map(|(slot, version, is_opened, tip, text)| Act::Received { slot, version, is_opened, tip, text }),
        4 => sent.prop_map(|(slot, version, price, media, text)| Act::Sent { slot, version, price, media, text }),
        3 => deleted.prop_map(|(inbound, slot)| Act::Deleted { inbound, slot }),
        1 => (slot(), any::<bool>()).prop_map(|(slot, back)| Act::Liked { slot, back }),
        6 => tip.prop_map(|(target, minor)| Act::Tip { target, minor }),
        2 => (slot(), prop::option::weighted(0.8, select(AMOUNTS))).prop_map(|(slot, minor)| Act::Unlocked { slot, minor }),
        1 => select(AMOUNTS).prop_map(|minor| Act::PostPurchased { minor }),
        3 => (subscription_kind(), facts(), prop::option::of(select(AMOUNTS))).prop_map(|(kind, facts, minor)| Act::Subscription { kind, facts, minor }),
        1 => prop::option::of(facts()).prop_map(|facts| Act::Notified { facts }),
        2 => Just(Act::Typing),
        1 => select(vec![EventKind::Unknown, EventKind::RepairRequested]).prop_map(|kind| Act::Carried { kind }),
        2 => prop::collection::vec(0..5_usize, 0..4).prop_map(|fans| Act::Online { fans }),
        1 => counters().prop_map(|counters| Act::Counted { counters }),
        2 => (link_kind(), select(vec![None, Some("reset"), Some("heartbeat")])).prop_map(|(kind, reason)| Act::Link { kind, reason }),
        1 => account_kind().prop_map(|kind| Act::OfAccount { kind }),
    ]
}

fn profile() -> impl Strategy<Value = Profile> {
    let text = || select(vec![None, Some(""), Some("  "), Some("Ann"), Some("Bo\u{202e}b")]);
    let lists = select(vec![None, Some(vec![]), Some(vec!["rebill_on"]), Some(vec!["vip"]), Some(vec!["rebill_on", "vip"])]);
    (text(), text(), text(), lists).prop_map(|(name, username, notice, lists)| Profile { name, username, notice, lists })
}

fn reported() -> impl Strategy<Value = ReportedSpend> {
    let amount = || prop::option::of(select(vec![0, 500, 2_500, 60_000]));
    (amount(), amount(), moment()).prop_map(|(total, tips, moment)| ReportedSpend {
        total,
        messages: None,
        tips,
        subscriptions: None,
        posts: None,
        streams: None,
        basis: Basis::Gross,
        as_of: NOW.plus(-moment.ago_ms),
    })
}

fn facts() -> impl Strategy<Value = Subscription> {
    let state = select(vec![None, None, Some(SubscriptionState::Active), Some(SubscriptionState::Expired)]);
    let flag = any::<Option<bool>>;
    (state, prop::option::of(1..4_i64), flag(), flag(), flag()).prop_map(|(state, days, auto_renew, is_fan, we_follow)| Subscription {
        state,
        expires_at: days.map(|days| NOW.plus(days * DAY_MS)),
        auto_renew,
        is_fan,
        we_follow,
    })
}

fn counters() -> impl Strategy<Value = Counters> {
    let count = || prop::option::of(0..3_u64);
    (count(), count(), count(), count(), any::<Option<bool>>()).prop_map(
        |(unread_chats, priority_chats, unread_tips, notifications, has_new_hints)| Counters {
            unread_chats,
            priority_chats,
            unread_tips,
            notifications,
            has_new_hints,
        },
    )
}

fn subscription_kind() -> impl Strategy<Value = EventKind> {
    use EventKind::{SubscriptionExpired, SubscriptionRenewed, SubscriptionReturned, SubscriptionStarted};
    select(vec![SubscriptionStarted, SubscriptionReturned, SubscriptionRenewed, SubscriptionExpired])
}

fn link_kind() -> impl Strategy<Value = EventKind> {
    use EventKind::{AccountAuthChanged, ConnectionClosed, ConnectionGap, ConnectionOpened, ConnectionSilent};
    select(vec![ConnectionOpened, ConnectionClosed, ConnectionSilent, ConnectionGap, AccountAuthChanged])
}

fn account_kind() -> impl Strategy<Value = EventKind> {
    use EventKind::{
        BulkProgressed, NotificationReceived, PostExpired, PostPublished, StoryPublished, StreamLiked, StreamStarted, ToastReceived,
        Unknown,
    };
    select(vec![
        BulkProgressed,
        NotificationReceived,
        PostExpired,
        PostPublished,
        StoryPublished,
        StreamLiked,
        StreamStarted,
        ToastReceived,
        Unknown,
    ])
}
