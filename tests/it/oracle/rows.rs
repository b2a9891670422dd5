//! Small histories worked by hand from `docs/fold.md`: what happened, and what one field has to be.
//!
//! Owns: the examples. They are data, so that the model, the fold and the stores are held to the very same ones (`check_rows`).
//! Times are seconds from [`NOW`]; the account is [`ACCOUNT`] and the fan `1` where a row does not say otherwise.

use convpipe::schema::policy::Policy;
use serde_json::{Value, json};

use super::generate::NOW;
use super::say::{at, bulk, deleted, inbound, of_account, of_fan, opened, outbound, priced, said, second, unlocked, usd, with};

/// The account of all rows.
pub(crate) const ACCOUNT: &str = "2";

/// One example.
pub(crate) struct Row {
    /// What it shows.
    pub(crate) name: &'static str,
    /// JSON of the events, in the order in which they arrive.
    pub(crate) events: Vec<Vec<u8>>,
    /// JSON pointer to the field: `/<conversation>/snapshot/…`, also `summary`, `history`, `fan_events`, `index`; `/account/view/…`, `/account/priority`.
    pub(crate) field: &'static str,
    /// What it has to be; null where it has to be absent.
    pub(crate) value: Value,
    /// The policy of [`policy`].
    pub(crate) policy: Policy,
}

/// The default policy; `vip` is a list of high-value fans and fan `77` is listed by id.
pub(crate) fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.high_value.lists = vec!["vip".to_owned()];
    policy.high_value.fans = vec!["77".to_owned()];
    policy
}

/// All examples.
pub(crate) fn rows() -> Vec<Row> {
    [order(), waiting(), messages(), money(), value(), registers(), lifetimes(), feeds(), account()].into_iter().flatten().collect()
}

fn order() -> Vec<Row> {
    let named = |name: &str, connection: &str, frame: u64, item: u32| {
        let place = json!({ "connection": connection, "frame_no": frame, "item_no": item, "id": name, "fan": { "name": name } });
        with(said("notification.received", -10, json!({})), place)
    };
    let (old, new) = ("0198a0000000000a", "0198b00000000001");
    vec![
        row(
            "in one second the later connection wins",
            [named("late", new, 1, 0), named("early", old, 9, 9)],
            "/1/snapshot/fan/name",
            "late",
        ),
        row(
            "in one connection the later frame wins",
            [named("late", new, 2, 0), named("early", new, 1, 9)],
            "/1/snapshot/fan/name",
            "late",
        ),
        row("in one frame the later item wins", [named("late", new, 2, 1), named("early", new, 2, 0)], "/1/snapshot/fan/name", "late"),
        row(
            "time comes before all of these",
            [with(named("past", new, 9, 9), at(-11)), named("now", old, 1, 0)],
            "/1/snapshot/event_id",
            "now",
        ),
        row(
            "a time too far ahead is the time it was read",
            [with(inbound("10", -30), json!({ "occurred_at": NOW.plus(3_600_000) }))],
            "/1/snapshot/last_inbound_at",
            json!(second(-30)),
        ),
        row(
            "a clock five minutes ahead is believed",
            [with(inbound("10", -300), json!({ "occurred_at": NOW }))],
            "/1/snapshot/last_inbound_at",
            json!(NOW),
        ),
        row(
            "what is older than the horizon changes nothing",
            [inbound("10", -30 * 86_400 - 1), inbound("11", -5)],
            "/1/snapshot/unread",
            1,
        ),
        row("what is as old as the horizon counts", [inbound("10", -30 * 86_400), inbound("11", -5)], "/1/snapshot/unread", 2),
        row(
            "what is unknown changes nothing",
            [inbound("10", -9), with(said("unknown", -5, json!({})), json!({ "id": "u" }))],
            "/1/snapshot/first_seen_at",
            json!(second(-9)),
        ),
    ]
}

fn waiting() -> Vec<Row> {
    let many = |count: i64| (0..count).map(|number| inbound(&(1_000 + number).to_string(), number - 900));
    vec![
        row("messages of the fan are unread", [inbound("10", -60), inbound("11", -30)], "/1/snapshot/unread", 2),
        row("seen three times, one is one", [inbound("10", -60), inbound("10", -60), inbound("10", -60)], "/1/snapshot/unread", 1),
        row("an opened one is not unread", [inbound("10", -60), opened("10", -60)], "/1/snapshot/unread", 0),
        row("opened is not taken back", [opened("10", -60), inbound("10", -60)], "/1/snapshot/unread", 0),
        row("opening does not answer", [opened("10", -60)], "/1/snapshot/awaiting_reply_since", json!(second(-60))),
        row("an answer ends the waiting", [inbound("10", -60), outbound("11", -50)], "/1/snapshot/awaiting_reply_since", Value::Null),
        row("whichever comes first", [outbound("11", -50), inbound("10", -60)], "/1/index/awaiting_since", Value::Null),
        row("a bulk message answers nobody", [inbound("10", -60), bulk("11", -50)], "/1/snapshot/awaiting_reply_since", json!(second(-60))),
        row("but was written last", [inbound("10", -60), bulk("11", -50)], "/1/snapshot/last_outbound_at", json!(second(-50))),
        row(
            "in one second the greater id is later",
            [inbound("10", -60), outbound("11", -60), inbound("12", -60)],
            "/1/snapshot/unread",
            1,
        ),
        row("a number is not a text: 9 is before 10", [inbound("9", -60), outbound("10", -60)], "/1/snapshot/unread", 0),
        row("a deleted message is not unread", [inbound("10", -60), inbound("11", -30), deleted("10", -20)], "/1/snapshot/unread", 1),
        row(
            "deleted before it came",
            [deleted("10", -20), inbound("10", -60), inbound("11", -30)],
            "/1/snapshot/awaiting_reply_since",
            json!(second(-30)),
        ),
        row("a deleted answer has answered", [inbound("10", -60), outbound("11", -50), deleted("11", -20)], "/1/snapshot/unread", 0),
        row("a hundred are counted", many(100), "/1/snapshot/unread_more", Value::Null),
        row("of more than a hundred, a hundred", many(101), "/1/snapshot/unread", 100),
        row("and it says so", many(101), "/1/snapshot/unread_more", true),
        row("the hundred newest: those before are forgotten", many(103), "/1/snapshot/awaiting_reply_since", json!(second(-897))),
        row("until an answer comes", many(103).chain([outbound("5000", -891)]), "/1/snapshot/unread", 93),
    ]
}

fn messages() -> Vec<Row> {
    let version = |text: &str, changed: Option<i64>, connection: &str| {
        let mut event = with(inbound("10", -60), json!({ "connection": connection }));
        event["message"]["text"] = json!(text);
        changed.inspect(|&changed| event["message"]["changed_at"] = json!(second(changed)));
        event
    };
    let (old, new) = ("0198a0000000000a", "0198b00000000001");
    let six_deleted_but_first =
        || (10..16).map(|id| inbound(&id.to_string(), id - 60)).chain((11..16).map(|id| deleted(&id.to_string(), -1)));
    vec![
        row(
            "the last message is the latest, not the last to come",
            [inbound("11", -30), inbound("10", -60)],
            "/1/snapshot/last_message/id",
            "11",
        ),
        row(
            "without those that were deleted",
            [inbound("10", -60), inbound("11", -30), deleted("11", -1)],
            "/1/snapshot/last_message/id",
            "10",
        ),
        row("which keep their place: of the newest five none is left", six_deleted_but_first(), "/1/snapshot/last_message", Value::Null),
        row("and of the newest twenty one", six_deleted_but_first(), "/1/summary/recent/0/id", "10"),
        row(
            "the version that was changed last stays",
            [version("new", Some(-20), old), version("old", Some(-30), new)],
            "/1/snapshot/last_message/preview",
            "new",
        ),
        row("over one that does not say", [version("dated", Some(-60), old), version("undated", None, new)], "/1/history/10/text", "dated"),
        row(
            "of those that do not say the later stamp",
            [version("later", None, new), version("earlier", None, old)],
            "/1/snapshot/last_message/preview",
            "later",
        ),
        row("the history keeps what was deleted", [deleted("10", -20), inbound("10", -60)], "/1/history/10/deleted_at", json!(second(-20))),
        row(
            "since it was first said",
            [inbound("10", -60), deleted("10", -20), deleted("10", -19)],
            "/1/history/10/deleted_at",
            json!(second(-20)),
        ),
        row(
            "messages are counted by id",
            [inbound("10", -60), inbound("10", -60), inbound("11", -50), outbound("12", -40)],
            "/1/summary/messages_in",
            2,
        ),
        row("the summary begins with the oldest", [inbound("11", -30), outbound("10", -60)], "/1/summary/recent/0/direction", "out"),
        row(
            "a sent price is a paid message",
            [priced("10", -60, 500)],
            "/1/snapshot/last_ppv",
            json!({ "message_id": "10", "price": 500, "state": "sent", "at": second(-60) }),
        ),
        row(
            "unlocked, whatever came first",
            [unlocked("10", -30), priced("10", -60, 500)],
            "/1/snapshot/last_ppv",
            json!({ "message_id": "10", "price": 500, "state": "unlocked", "at": second(-30) }),
        ),
        row(
            "unlocked since the first time",
            [unlocked("10", -30), with(unlocked("10", -20), json!({ "id": "again" }))],
            "/1/snapshot/last_ppv/at",
            json!(second(-30)),
        ),
        row(
            "the greatest id is the last paid message",
            [priced("11", -90, 700), priced("9", -60, 500), unlocked("9", -30)],
            "/1/snapshot/last_ppv/message_id",
            "11",
        ),
        row("a price of nothing sells nothing", [priced("10", -60, 0)], "/1/snapshot/last_ppv", Value::Null),
    ]
}

fn money() -> Vec<Row> {
    let message =
        |at, minor| with(inbound("10", at), json!({ "id": format!("m{at}"), "money": usd(minor), "message": { "id": format!("m{at}") } }));
    let told = |at, minor| said("tip.received", at, json!({ "money": usd(minor) }));
    let live =
        |at, minor| said("tip.received", at, json!({ "id": format!("live{at}"), "money": usd(minor), "target": { "type": "stream" } }));
    vec![
        row("a message and its notification are one tip", [message(-60, 500), told(-58, 500)], "/1/snapshot/spend/observed/total", 500),
        row("whichever comes first", [told(-58, 500), message(-60, 500)], "/1/snapshot/spend/observed/payments", 1),
        row("two in one shape are two", [told(-60, 500), told(-58, 500)], "/1/snapshot/spend/observed/total", 1_000),
        row("one told three ways is one", [message(-60, 500), told(-58, 500), live(-56, 500)], "/1/snapshot/spend/observed/total", 500),
        row("and belongs to the stream", [message(-60, 500), told(-58, 500), live(-56, 500)], "/1/snapshot/spend/observed/streams", 500),
        row("120 seconds apart is one", [message(-200, 500), told(-80, 500)], "/1/snapshot/spend/observed/payments", 1),
        row("121 seconds apart is two", [message(-201, 500), told(-80, 500)], "/1/snapshot/spend/observed/payments", 2),
        row("other amounts are others", [message(-60, 500), told(-60, 501)], "/1/snapshot/spend/observed/total", 1_001),
        row(
            "the window is from the first: a third telling after it is another tip",
            [message(-200, 500), told(-100, 500), live(-70, 500)],
            "/1/snapshot/spend/observed/payments",
            2,
        ),
        row(
            "pairs are found in order",
            [told(-90, 500), message(-60, 500), told(-30, 500), message(0, 500)],
            "/1/snapshot/spend/observed/payments",
            2,
        ),
        row(
            "tips pair with tips alone",
            [message(-60, 500), with(unlocked("9", -60), json!({ "money": usd(500) }))],
            "/1/snapshot/spend/observed",
            json!({
                "total": 1_000, "messages": 500, "tips": 500, "subscriptions": 0, "posts": 0, "streams": 0, "payments": 2, "largest": 500, "last_at": second(-60),
            }),
        ),
        row(
            "posts and subscriptions have their own",
            [said("post.purchased", -9, json!({ "money": usd(300) })), said("subscription.renewed", -9, json!({ "money": usd(300) }))],
            "/1/snapshot/spend/observed/posts",
            300,
        ),
        row("one id is one payment", [told(-60, 500), told(-60, 500), told(-60, 500)], "/1/snapshot/spend/observed/payments", 1),
        row("of which the greater stays", [told(-60, 700), told(-60, 500)], "/1/snapshot/spend/observed/total", 700),
        row("a price is not a payment", [priced("10", -60, 500)], "/1/snapshot/spend/observed/total", 0),
    ]
}

fn value() -> Vec<Row> {
    let reported = |at, total, as_of| {
        said("notification.received", at, json!({ "spend": { "total": total, "basis": "gross", "as_of": second(as_of) } }))
    };
    let tip = |at, minor| said("tip.received", at, json!({ "money": usd(minor) }));
    let lists = |lists: Value| said("notification.received", -5, json!({ "fan": { "lists": lists } }));
    vec![
        row("nothing spent is a tier, too", [inbound("10", -5)], "/1/snapshot/tier", "none"),
        row("a tier begins at its threshold", [tip(-5, 2_500)], "/1/snapshot/tier", "regular"),
        row("not before", [tip(-5, 2_499)], "/1/snapshot/tier", "low"),
        row("what the source reports counts, if it is more", [tip(-5, 2_500), reported(-4, 25_000, -4)], "/1/snapshot/tier", "high"),
        row("never both together", [tip(-5, 20_000), reported(-4, 20_000, -4)], "/1/snapshot/tier", "regular"),
        row(
            "the newest report is the one with the latest date",
            [reported(-9, 7, -1), reported(-4, 5, -2)],
            "/1/snapshot/spend/reported/total",
            7,
        ),
        row(
            "why, in the policy's order",
            [tip(-5, 50_000), lists(json!(["x", "vip"]))],
            "/1/snapshot/high_value/why",
            json!(["spend_minor >= 50000", "payment_minor >= 10000", "list:vip"]),
        ),
        row(
            "many small payments",
            [1, 2, 3, 4, 5, 6].map(|n| tip(-n, 9_999)),
            "/1/snapshot/high_value/why",
            json!(["spend_minor >= 50000"]),
        ),
        row("an ordinary fan", [tip(-5, 9_999)], "/1/snapshot/high_value", json!({ "is": false })),
        row("listed by id", [of_fan("77", inbound("10", -5))], "/77/summary/high_value/why", json!(["listed by id"])),
    ]
}

fn registers() -> Vec<Row> {
    let fan = |at, fan: Value| said("notification.received", at, json!({ "fan": fan }));
    let subscription = |kind, at, facts: Value| said(kind, at, json!({ "subscription": facts }));
    vec![
        row("a blank name is none", [fan(-9, json!({ "name": "Ann" })), fan(-5, json!({ "name": "  " }))], "/1/snapshot/fan/name", "Ann"),
        row(
            "each field is its own",
            [fan(-9, json!({ "name": "Ann" })), fan(-5, json!({ "username": "u1" }))],
            "/1/snapshot/fan",
            json!({ "id": "1", "name": "Ann", "username": "u1" }),
        ),
        row(
            "no list is a value",
            [fan(-9, json!({ "lists": ["vip"] })), fan(-5, json!({ "lists": [] }))],
            "/1/snapshot/high_value",
            json!({ "is": false }),
        ),
        row(
            "the kind tells the state",
            [subscription("subscription.expired", -5, json!({})), subscription("subscription.started", -9, json!({}))],
            "/1/snapshot/subscription/state",
            "expired",
        ),
        row(
            "unless the event does",
            [subscription("subscription.renewed", -5, json!({ "state": "expired" }))],
            "/1/snapshot/subscription/state",
            "expired",
        ),
        row(
            "what was said before holds",
            [subscription("message.received", -9, json!({ "auto_renew": false })), subscription("subscription.started", -5, json!({}))],
            "/1/snapshot/subscription",
            json!({ "state": "active", "auto_renew": false }),
        ),
        row("nothing said is nothing known", [inbound("10", -5)], "/1/snapshot/subscription", Value::Null),
    ]
}

fn lifetimes() -> Vec<Row> {
    let online = |at, fans: Value| of_account("presence.snapshot", at, json!({ "presence": { "online": fans } }));
    let typing = |at| said("typing.started", at, json!({}));
    vec![
        row("typing holds for five seconds", [typing(-7), typing(-9)], "/1/snapshot/typing_until", json!(second(-2))),
        row(
            "seen online",
            [inbound("10", -60), online(-5, json!(["9", "1"]))],
            "/1/snapshot/presence",
            json!({ "state": "online", "as_of": second(-5) }),
        ),
        row(
            "not being listed says nothing",
            [inbound("10", -60), online(-9, json!(["1"])), online(-5, json!([]))],
            "/1/snapshot/presence/as_of",
            json!(second(-9)),
        ),
        row("online is seen", [inbound("10", -60), online(-5, json!(["1"]))], "/1/summary/last_seen_at", json!(second(-5))),
        row("an answer is not", [inbound("10", -60), outbound("11", -5)], "/1/summary/last_seen_at", json!(second(-60))),
        row("first seen", [inbound("10", -30), outbound("9", -60)], "/1/summary/first_seen_at", json!(second(-60))),
        row("typing is no activity", [inbound("10", -30), typing(-5)], "/1/index/active_at", json!(second(-30))),
        row("unless there is nothing else", [typing(-5), typing(-9)], "/1/index/active_at", json!(second(-9))),
        row(
            "received at, the latest",
            [inbound("10", -30), with(inbound("9", -60), json!({ "received_at": second(-3) }))],
            "/1/snapshot/received_at",
            json!(second(-3)),
        ),
    ]
}

fn feeds() -> Vec<Row> {
    let vip = |event| of_fan("77", event);
    vec![
        row(
            "a fan listed by id has a stream, each event in it once, what is merely carried not at all",
            [
                vip(inbound("10", -5)),
                vip(inbound("10", -5)),
                vip(said("unknown", -4, json!({}))),
                vip(said("toast.received", -4, json!({}))),
            ],
            "/77/fan_events",
            json!(["received:10", "toast.received@-4"]),
        ),
        row("another fan has none", [inbound("10", -5)], "/1/fan_events", json!([])),
        row(
            "an entry for each event that a rule names",
            [inbound("10", -9), outbound("11", -8), said("tip.received", -7, json!({})), inbound("10", -9)],
            "/account/priority",
            json!(["received:10", "tip.received@-7"]),
        ),
        row("none past the freshness limit", [inbound("10", -601), inbound("11", -600)], "/account/priority", json!(["received:11"])),
        row(
            "events of no conversation have entries",
            [of_account("story.published", -5, json!({})), of_account("stream.liked", -5, json!({}))],
            "/account/priority",
            json!(["story.published@-5"]),
        ),
    ]
}

fn account() -> Vec<Row> {
    let counted = |at, counters: Value| of_account("counters.updated", at, json!({ "counters": counters }));
    let link = |kind, at, link: Value| of_account(kind, at, json!({ "link": link }));
    vec![
        row(
            "each counter is its own",
            [counted(-5, json!({ "unread_tips": 1 })), counted(-9, json!({ "unread_tips": 4, "unread_chats": 3 }))],
            "/account/view/counters",
            json!({ "unread_chats": 3, "unread_tips": 1, "as_of": second(-5) }),
        ),
        row(
            "the connection is what was said last",
            [link("connection.silent", -5, json!({ "reason": "heartbeat" })), link("connection.opened", -9, json!({}))],
            "/account/view/connection",
            json!({ "state": "silent", "id": "0198a0000000000a", "reason": "heartbeat", "as_of": second(-5) }),
        ),
        row(
            "the gap that ended last",
            [link("connection.gap", -9, json!({ "to": second(-10) })), link("connection.gap", -5, json!({ "to": second(-20) }))],
            "/account/view/gap/to",
            json!(second(-10)),
        ),
        row(
            "who was online last",
            [
                of_account("presence.snapshot", -5, json!({ "presence": { "online": [] } })),
                of_account("presence.snapshot", -9, json!({ "presence": { "online": ["1"] } })),
            ],
            "/account/view/presence",
            json!({ "online": [], "as_of": second(-5) }),
        ),
        row(
            "the session material",
            [
                link("account.auth_changed", -5, json!({ "auth_status": "needs_otp" })),
                link("account.auth_changed", -9, json!({ "auth_status": "ready" })),
            ],
            "/account/view/auth/status",
            "needs_otp",
        ),
        row(
            "a connection that was accepted since",
            [link("account.auth_changed", -9, json!({ "auth_status": "rejected" })), link("connection.opened", -5, json!({}))],
            "/account/view/auth/status",
            "ready",
        ),
    ]
}

fn row(name: &'static str, events: impl IntoIterator<Item = Value>, field: &'static str, value: impl Into<Value>) -> Row {
    let events = events.into_iter().map(|event| serde_json::to_vec(&event).unwrap()).collect();
    Row { name, events, field, value: value.into(), policy: policy() }
}
