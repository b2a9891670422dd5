//! The normalizer against the fixtures.
//!
//! Every file of `fixtures/frames` is a frame as it comes off the socket, every file of `fixtures/frames/malformed` one that is malformed in one way; what
//! has to come of it stands beside it in `<name>.expected.json`. After a wanted change write those files anew and read the difference:
//!
//! ```text
//! CONVPIPE_UPDATE_FIXTURES=1 cargo test --test it normalize::
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Basis, Direction, Event, EventKind};
use convpipe::schema::time::Millis;
use convpipe::transform::normalize::{Control, DEPTH_MAX, FrameContext, Normalized, Reason, normalize};
use proptest::prelude::*;
use serde_json::{Value, json};

const ACCOUNT: &str = "200000001";

const CONTEXT: FrameContext<'static> = FrameContext {
    account_id: ACCOUNT,
    connection: "0000019f8ef2e3ab",
    frame_no: 7,
    // 2026-07-23T12:00:01.250Z
    received_at: Millis(1_784_808_001_250),
    raw: true,
    depth_max: 64,
};

struct Fixture {
    path: PathBuf,
    frame: Vec<u8>,
}

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(|| {
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frames");
    let mut fixtures = Vec::new();
    for folder in [frames.clone(), frames.join("malformed")] {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_frame = path.is_file() && !path.to_string_lossy().ends_with(".expected.json");
            if is_frame {
                fixtures.push(Fixture { frame: fs::read(&path).unwrap(), path });
            }
        }
    }
    fixtures.sort_by(|a, b| a.path.cmp(&b.path));
    fixtures
});

#[test]
fn every_fixture_gives_what_stands_beside_it() {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone, not of the program")]
    let update = std::env::var_os("CONVPIPE_UPDATE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for Fixture { path, frame } in FIXTURES.iter() {
        let actual = rendered(&normalize(frame, &CONTEXT));
        let expected_path = path.with_extension("expected.json");
        if update {
            fs::write(&expected_path, &actual).unwrap();
        } else if fs::read_to_string(&expected_path).unwrap_or_default() != actual {
            wrong.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} fixtures give something else:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn there_is_a_fixture_for_every_kind_and_every_reason() {
    let own_making = ["connection.", "account.", "repair."];
    let answers: Vec<Normalized<'_>> = FIXTURES.iter().map(|fixture| normalize(&fixture.frame, &CONTEXT)).collect();
    for &kind in EventKind::ALL {
        let is_own = own_making.iter().any(|prefix| kind.name().starts_with(prefix));
        // No frame that announces a renewal was ever seen.
        let expected = !is_own && kind != EventKind::SubscriptionRenewed;
        let found = answers.iter().flat_map(|answer| &answer.events).any(|event| event.kind == kind);
        assert_eq!(found, expected, "a fixture for {kind}");
    }
    for reason in Reason::ALL {
        let found = answers.iter().flat_map(|answer| &answer.rejected).any(|rejected| rejected.reason == reason);
        assert_eq!(found, reason != Reason::TooManyItems, "a fixture for {reason}");
    }
}

/// Events, rejections and control answer as the fixtures keep them.
fn rendered(answer: &Normalized<'_>) -> String {
    let rejected: Vec<Value> = answer
        .rejected
        .iter()
        .map(|rejected| {
            json!({
                "reason": rejected.reason.name(),
                "key": rejected.key.as_ref().map(|key| key.raw()),
                "detail": rejected.detail,
                "bytes": String::from_utf8_lossy(rejected.bytes),
            })
        })
        .collect();
    let control = answer.control.as_ref().map(|control| match control {
        Control::Connected => json!("connected"),
        Control::Online => json!("online"),
        Control::Error(code) => json!({ "error": code.raw() }),
    });
    // Not through a tree: the order of an event's fields is part of what is kept.
    let events = serde_json::to_string_pretty(&answer.events).unwrap();
    let rejected = serde_json::to_string_pretty(&rejected).unwrap();
    format!("{{\n\"events\": {events},\n\"rejected\": {rejected},\n\"control\": {}\n}}\n", control.unwrap_or_default())
}

/// The only event of a frame that gives nothing else.
#[track_caller]
fn only_event(frame: &str) -> Event<'_> {
    let answer = normalize(frame.as_bytes(), &CONTEXT);
    assert_eq!((answer.events.len(), &answer.rejected), (1, &Vec::new()), "{frame}");
    answer.events.into_iter().next().unwrap()
}

fn chat(members: &str) -> String {
    format!(r#"{{"api2_chat_message":{{"id":6400000000001{members}}}}}"#)
}

#[test]
fn direction_follows_the_ids() {
    use Direction::{In, Out};
    for (members, expected) in [
        (r#""fromUser":{"id":1}"#, Ok((In, "1"))),
        (r#""fromUser":1"#, Ok((In, "1"))),
        (r#""fromUser":"1","toUser":null"#, Ok((In, "1"))),
        (r#""fromUser":{"id":"1"},"toUser":{"id":200000001}"#, Ok((In, "1"))),
        (r#""fromUser":{"id":200000001},"toUser":{"id":1}"#, Ok((Out, "1"))),
        (r#""fromUser":{"id":"200000001"},"toUser":"1""#, Ok((Out, "1"))),
        (r#""toUser":{"id":1}"#, Ok((Out, "1"))),
        (r#""fromUser":{"id":200000001}"#, Err(Reason::NoCounterparty)),
        (r#""fromUser":{"id":200000001},"toUser":{"id":200000001}"#, Err(Reason::NoCounterparty)),
        (r#""fromUser":{"id":200000001},"toUser":{"id":0}"#, Err(Reason::NoCounterparty)),
        (r#""fromUser":{"id":1},"toUser":{}"#, Err(Reason::NoCounterparty)),
        (r#""fromUser":[]"#, Err(Reason::NoCounterparty)),
        (r#""text":"hi""#, Err(Reason::NoCounterparty)),
        (r#""fromUser":[1]"#, Err(Reason::WrongType)),
        (r#""fromUser":1.5"#, Err(Reason::WrongType)),
    ] {
        let frame = chat(&format!(",{members}"));
        let answer = normalize(frame.as_bytes(), &CONTEXT);
        let actual = match answer.events.first() {
            Some(event) => Ok((event.direction, event.conversation_id.as_ref().unwrap().raw())),
            None => Err(answer.rejected[0].reason),
        };
        assert_eq!(actual, expected, "{members}");
    }
}

#[test]
fn ids_are_the_sources_own() {
    for (frame, expected) in [
        (chat(r#","fromUser":{"id":1}"#), "msg:6400000000001:received"),
        (chat(r#","toUser":{"id":1}"#), "msg:6400000000001:sent"),
        (r#"{"chat_message_delete":"6400000000001"}"#.into(), "msg:6400000000001:deleted"),
        (r#"{"chat_message_delete":{"id":6400000000001}}"#.into(), "msg:6400000000001:deleted"),
        (r#"{"chat_message_like":{"id":9,"message_id":5}}"#.into(), "msg:5:liked"),
        (r#"{"chat_message_unlike":5}"#.into(), "msg:5:unliked"),
        (r#"{"new_message":{"id":"7001","type":"x"}}"#.into(), "note:7001"),
        (r#"{"new_message":{"id":7001,"type":"x"}}"#.into(), "note:7001"),
        (r#"{"toasts":{"id":1234}}"#.into(), "toast:1234"),
        (r#"{"subscribed":{"user":{"id":1},"timestamp":1784808000}}"#.into(), "sub:1:1784808000"),
        (r#"{"subscribed":{"user":1,"timestamp":"2026-07-23T12:00:00+00:00"}}"#.into(), "sub:1:1784808000"),
        (r#"{"post_published":{"id":"492000001"}}"#.into(), "post:492000001:published"),
        (r#"{"post_expire":492000001}"#.into(), "post:492000001:expired"),
        (r#"{"stories":[{"id":1}]}"#.into(), "story:1:published"),
        (r#"{"story_tips":{"id":123,"from_user":{"id":1}}}"#.into(), "story_tip:123"),
        (r#"{"stream_tips":{"id":123,"from_user":{"id":1}}}"#.into(), "stream_tip:123"),
        (r#"{"stream_start":{"stream_id":"1234"}}"#.into(), "stream:1234:started"),
        (r#"{"stream_stop":{"stream_id":1234}}"#.into(), "stream:1234:stopped"),
        (r#"{"chat_queue_update":{"id":1,"isDone":true}}"#.into(), "queue:1:finished"),
        // An id that would not be told from its neighbours is hashed.
        (r#"{"chat_message_delete":"1:sent"}"#.into(), "msg:x~eabe801fb9f4bcdbb05c684b987fcfdf:deleted"),
    ] {
        let event = only_event(&frame);
        assert_eq!((event.id.raw(), event.weak_id), (format!("onlyfans:{ACCOUNT}:{expected}").as_str(), false), "{frame}");
    }
}

#[test]
fn what_has_no_id_is_known_by_its_payload_and_second() {
    let frame = r#"{"new_message":{"id":"0","type":"tip","amountNet":5,"user":{"id":1}}}"#;
    let id = |frame: &str, received_at: i64, connection: &str| {
        let context = FrameContext { received_at: Millis(received_at), connection, ..CONTEXT };
        let answer = normalize(frame.as_bytes(), &context);
        assert!(answer.events[0].weak_id);
        answer.events[0].id.raw().to_owned()
    };
    let first = id(frame, 1000, "a");
    assert!(first.starts_with("onlyfans:200000001:note:") && first.len() == "onlyfans:200000001:note:".len() + 32, "{first}");
    assert_eq!(first, id(frame, 1999, "b"), "another connection, the same second");
    assert_ne!(first, id(frame, 2000, "a"), "the next second");
    assert_ne!(first, id(&frame.replace('5', "6"), 1000, "a"), "another payload");
    for frame in [
        r#"{"typing":{"id":1}}"#,
        r#"{"new_message":{"type":"tip","user":{"id":1}}}"#,
        r#"{"toasts":[{"id":null}]}"#,
        r#"{"api2_chat_message":{"id":"0","fromUser":{"id":1}}}"#,
        r#"{"post_updated":"5"}"#,
        r#"{"brand_new":1}"#,
        r#"{"messages":1}"#,
    ] {
        assert!(only_event(frame).weak_id, "{frame}");
    }
}

#[test]
fn states_of_one_thing_are_told_apart() {
    let id = |pending: u32| only_event(&format!(r#"{{"chat_queue_update":{{"id":1,"pending":{pending}}}}}"#)).id.raw().to_owned();
    assert_ne!(id(10), id(9));
    assert_eq!(id(10), id(10));
}

#[test]
fn money_is_what_the_fan_paid_and_no_more_is_said_of_it_than_is_known() {
    use Basis::{Gross, Net, Unknown};
    let note = |members: &str| format!(r#"{{"new_message":{{"id":"1","user":{{"id":1}},{members}}}}}"#);
    let tip = |members: &str| chat(&format!(r#","fromUser":{{"id":1}},"isTip":true,{members}"#));
    for (frame, expected) in [
        (note(r#""type":"tip","amountGross":25,"amountNet":20"#), Some((2500, Gross, Some(2000)))),
        (note(r#""type":"tip","amountGross":"25.00""#), Some((2500, Gross, None))),
        (note(r#""type":"tip","amountNet":20"#), Some((2000, Net, None))),
        (note(r#""type":"tip""#), None),
        (note(r#""type":"paided_message","replacePairs":{"{AMOUNT}":"$1,234.50"}"#), Some((123_450, Unknown, None))),
        (note(r#""type":"paided_message","amountGross":5"#), None),
        (note(r#""subType":"new_subscriber","replacePairs":{"{PRICE}":9.99}"#), Some((999, Unknown, None))),
        (note(r#""subType":"new_subscriber","replacePairs":[]"#), None),
        (note(r#""subType":"subscribe_was_expired","replacePairs":{"{PRICE}":"$9.99"}"#), None),
        (note(r#""type":"price_changed","newPrice":5,"amountGross":7"#), None),
        (tip(r#""tipAmount":25,"price":3"#), Some((2500, Unknown, None))),
        (tip(r#""tipAmount":"0","price":3.99"#), Some((399, Unknown, None))),
        (tip(r#""tipAmount":null,"price":0"#), None),
        (tip(r#""tipAmount":0.29,"price":0"#), Some((29, Unknown, None))),
        (chat(r#","fromUser":{"id":1},"price":3.99"#), None),
        (chat(r#","toUser":{"id":1},"isTip":true,"tipAmount":25"#), None),
    ] {
        let money = only_event(&frame).money.map(|money| (money.minor, money.basis, money.net_minor));
        assert_eq!(money, expected, "{frame}");
    }
    let tip = tip(r#""price":5"#);
    let message = only_event(&tip).message.unwrap();
    assert_eq!((message.price, message.is_tip), (None, Some(true)), "a tip is not for sale");
}

#[test]
fn notifications_mean_what_their_sub_type_says_else_their_type() {
    use EventKind as Kind;
    for (kind, sub_kind, expected) in [
        ("tip", "new_tips", Kind::TipReceived),
        ("tip", "tips_of_next_year", Kind::TipReceived),
        ("message", "new_tips", Kind::TipReceived),
        ("paided_message", "subscriber_pay_for_chat_message", Kind::PpvUnlocked),
        ("paided_message", "", Kind::PpvUnlocked),
        ("paided_post", "your_post_purchased", Kind::PostPurchased),
        ("subscribed", "new_subscriber", Kind::SubscriptionStarted),
        ("subscribed", "returning_subscriber", Kind::SubscriptionReturned),
        ("subscribed", "subscribe_was_expired", Kind::SubscriptionExpired),
        ("subscribed", "subscription_renewed", Kind::SubscriptionRenewed),
        ("subscribed", "by_gift", Kind::SubscriptionStarted),
        ("price_changed", "new_discount_for_subscriber", Kind::NotificationReceived),
        ("message", "promoreg_for_expired", Kind::NotificationReceived),
        ("brand_new", "", Kind::NotificationReceived),
    ] {
        let frame =
            format!(r#"{{"new_message":{{"id":"1","type":"{kind}","subType":"{sub_kind}","user_id":"{ACCOUNT}","user":{{"id":1}}}}}}"#);
        let event = only_event(&frame);
        assert_eq!(event.kind, expected, "{kind}/{sub_kind}");
        assert_eq!(event.fan_id.unwrap().raw(), "1", "the actor is user.id, never user_id");
    }
}

#[test]
fn links_name_what_was_bought() {
    for (url, expected) in [
        ("/492000001/u200000001", Some("492000001")),
        ("https://onlyfans.com/492000001", Some("492000001")),
        ("https://onlyfans.com/492000001?x=1", Some("492000001")),
        ("https://onlyfans.com/posts", None),
        ("", None),
    ] {
        let frame =
            format!(r#"{{"new_message":{{"id":"1","type":"paided_post","user":{{"id":1}},"replacePairs":{{"{{POST_URL}}":"{url}"}}}}}}"#);
        let target = only_event(&frame).target.unwrap();
        assert_eq!((&*target.kind, target.id.as_ref().map(|id| id.raw())), ("post", expected), "{url}");
    }
    for (link, expected) in [
        ("/my/chats/chat/1?firstId=640", Some("640")),
        ("/my/chats/chat/1?a=b&firstId=640&c=d", Some("640")),
        ("/my/chats/chat/1?firstId=", None),
        ("/my/chats/chat/1", None),
    ] {
        let frame = format!(
            r#"{{"new_message":{{"id":"1","type":"paided_message","user":{{"id":1}},"replacePairs":{{"{{MESSAGE_LINK}}":"{link}"}}}}}}"#
        );
        assert_eq!(only_event(&frame).message_id(), expected, "{link}");
    }
}

#[test]
fn raw_is_the_item_within_its_bounds() {
    let frame = |text: &str| chat(&format!(r#","fromUser":{{"id":1}}, "text":"{text}", "u":"https:\/\/x""#));
    let small = frame("see https://x");
    let raw = only_event(&small).raw.unwrap();
    assert_eq!(raw.get(), r#"{"id":6400000000001,"fromUser":{"id":1}, "text":"see https://x", "u":null}"#);
    let large = frame(&"x".repeat(64 * 1024));
    let event = only_event(&large);
    assert!(event.raw.is_none() && event.raw_omitted);
    let answer = normalize(small.as_bytes(), &FrameContext { raw: false, ..CONTEXT });
    assert!(answer.events[0].raw.is_none() && !answer.events[0].raw_omitted);
}

#[test]
fn frames_of_countless_items_stay_small() {
    let list = |element: &str| format!("[{}]", vec![element; 5000].join(","));
    for (frame, events) in [
        (format!(r#"{{"stories":{}}}"#, list("{}")), 0),
        (format!(r#"{{"toasts":{}}}"#, list("1")), 0),
        (format!("{{{}}}", vec![r#""a":1"#; 5000].join(",")), 1024),
        (format!("{{{}}}", vec![r#""stories":[1,1,1,1]"#; 1000].join(",")), 1024),
        (format!(r#"{{"api2_chat_message":{{"id":1,"fromUser":{{"id":1}},"media":{}}}}}"#, list("{}")), 0),
    ] {
        let answer = normalize(frame.as_bytes(), &CONTEXT);
        assert_eq!(answer.events.len(), events);
        assert_eq!(answer.rejected.last().unwrap().reason, Reason::TooManyItems);
        assert!(answer.rejected.len() <= 2);
    }
}

#[test]
fn the_depth_limit_is_the_configs_up_to_a_fixed_one() {
    let frame = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    for (depth_max, depth, refused) in [
        (4, 4, false),
        (4, 5, true),
        (64, 64, false),
        (64, 65, true),
        (100_000, DEPTH_MAX, false),
        (100_000, DEPTH_MAX + 1, true),
        (0, 1, true),
    ] {
        let frame = frame(depth);
        let context = FrameContext { depth_max, ..CONTEXT };
        let answer = normalize(frame.as_bytes(), &context);
        let reasons: Vec<Reason> = answer.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(reasons, if refused { vec![Reason::TooDeep] } else { vec![] }, "{depth} of {depth_max}");
        for event in &answer.events {
            let json = serde_json::to_string(event).unwrap();
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "readers can parse it into a tree");
        }
    }
}

/// Everything that holds for any bytes whatever.
fn check_invariants(frame: &[u8]) -> Result<(), TestCaseError> {
    let answer = normalize(frame, &CONTEXT);
    prop_assert!(answer.control.is_some() || !answer.events.is_empty() || !answer.rejected.is_empty(), "nothing came of it");
    prop_assert_eq!(format!("{answer:?}"), format!("{:?}", normalize(frame, &CONTEXT)), "another answer to the same frame");
    for (item_no, event) in answer.events.iter().enumerate() {
        prop_assert_eq!(event.item_no as usize, item_no);
        prop_assert!(event.id.raw().starts_with("onlyfans:200000001:"));
        prop_assert!(event.raw.as_ref().is_none_or(|raw| raw.get().len() <= 64 * 1024));
        let envelope = Envelope::of_event(event).expect("events serialize");
        let read_back = envelope.event().expect("its own event");
        prop_assert_eq!(serde_json::to_vec(&read_back).expect("events serialize"), envelope.data(), "not what was written");
        prop_assert_eq!(envelope.attribute("ce-type"), Some(event.kind.cloud_event_type()));
        prop_assert_eq!(
            envelope.attribute("ce-subject"),
            event.conversation_id.as_ref().map(|id| id.raw()).filter(|id| id.len() <= 1024).or(envelope.attribute("ce-subject"))
        );
    }
    for rejected in &answer.rejected {
        prop_assert!(rejected.bytes.len() <= frame.len() && rejected.detail.len() <= 256);
        let envelope = rejected.envelope(&CONTEXT, "normalize");
        prop_assert_eq!(envelope.attribute("reason"), Some(rejected.reason.name()));
    }
    Ok(())
}

/// One way to damage a frame.
#[derive(Debug, Clone)]
enum Mutation {
    Flip { at: usize, bit: u8 },
    Put { at: usize, byte: u8 },
    Truncate { at: usize },
    Cut { from: usize, len: usize },
    Repeat { from: usize, len: usize },
    Splice { other: usize, from: usize, len: usize, at: usize },
    Replace { what: usize, with: usize },
    Nest { at: usize, depth: usize },
}

const TOKENS: [&str; 20] = [
    "null",
    "true",
    "{}",
    "[]",
    "0",
    "-1",
    "\"\"",
    "1e999",
    "\"0\"",
    "\"\\ud800\"",
    "id",
    "fromUser",
    "toUser",
    "text",
    "200000001",
    ":",
    ",",
    "{",
    "\"//x\"",
    "3.999",
];

impl Mutation {
    fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let len = frame.len();
        if len == 0 {
            return frame;
        }
        match *self {
            Self::Flip { at, bit } => frame[at % len] ^= 1 << (bit % 8),
            Self::Put { at, byte } => frame[at % len] = byte,
            Self::Truncate { at } => frame.truncate(at % len),
            Self::Cut { from, len: cut } => {
                let from = from % len;
                frame.drain(from..(from + cut % 40).min(len));
            }
            Self::Repeat { from, len: repeated } => {
                let from = from % len;
                let part = frame[from..(from + repeated % 200).min(len)].to_vec();
                frame.splice(from..from, part);
            }
            Self::Splice { other, from, len: taken, at } => {
                let other = &FIXTURES[other % FIXTURES.len()].frame;
                let from = from % (other.len() + 1);
                let part = other[from..(from + taken % 200).min(other.len())].to_vec();
                frame.splice(at % len..at % len, part);
            }
            Self::Replace { what, with } => {
                let (what, with) = (TOKENS[what % TOKENS.len()], TOKENS[with % TOKENS.len()]);
                frame = String::from_utf8_lossy(&frame).replacen(what, with, 1).into_bytes();
            }
            Self::Nest { at, depth } => {
                let part = [b"[".repeat(depth % 100), b"]".repeat(depth % 100)].concat();
                frame.splice(at % len..at % len, part);
            }
        }
        frame
    }
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let n = any::<u16>().prop_map(usize::from);
    prop_oneof![
        (n.clone(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        (n.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Put { at, byte }),
        n.clone().prop_map(|at| Mutation::Truncate { at }),
        (n.clone(), n.clone()).prop_map(|(from, len)| Mutation::Cut { from, len }),
        (n.clone(), n.clone()).prop_map(|(from, len)| Mutation::Repeat { from, len }),
        (n.clone(), n.clone(), n.clone(), n.clone()).prop_map(|(other, from, len, at)| Mutation::Splice { other, from, len, at }),
        (n.clone(), n.clone()).prop_map(|(what, with)| Mutation::Replace { what, with }),
        (n.clone(), n).prop_map(|(at, depth)| Mutation::Nest { at, depth }),
    ]
}

/// A JSON value of any type, often one that fits.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(200_000_001)),
        Just(json!("200000001")),
        Just(json!("2026-07-23T12:00:00+00:00")),
        Just(json!("<p>a &amp; b")),
        "\\PC{0,6}".prop_map(Value::String),
    ];
    let key =
        "(id|text|type|subType|user|fromUser|toUser|from_user|price|isTip|tipAmount|amount|media|files|full|replacePairs|createdAt|data)";
    leaf.prop_recursive(3, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn damaged_fixtures_are_answered(fixture in any::<prop::sample::Index>(), mutations in prop::collection::vec(mutations(), 0..5)) {
        let frame = mutations.iter().fold(fixture.get(&FIXTURES).frame.clone(), |frame, mutation| mutation.apply(frame));
        check_invariants(&frame)?;
    }

    #[test]
    fn any_value_under_any_known_key_is_answered(fixture in any::<prop::sample::Index>(), value in values()) {
        let Ok(Value::Object(mut frame)) = serde_json::from_slice(&fixture.get(&FIXTURES).frame) else { return Ok(()) };
        for member in frame.values_mut() {
            *member = value.clone();
        }
        check_invariants(Value::Object(frame).to_string().as_bytes())?;
    }

    #[test]
    fn any_bytes_are_answered(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        check_invariants(&frame)?;
    }
}
