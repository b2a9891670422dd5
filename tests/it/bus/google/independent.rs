//! The same topic through another client: JSON over HTTP to Google's emulator, which shares no code with ours.

use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind};
use convpipe::schema::time::Millis;
use serde_json::{Value, json};

use super::super::{take, within};
use super::{bus, config, project};
use crate::support::pubsub::PubSub;

async fn place() -> Option<(PubSub, String)> {
    let emulator = PubSub::open().await?;
    let project = project();
    emulator.make(&project, "events", &["first", "theirs"]);
    Some((emulator, project))
}

#[tokio::test]
async fn others_read_plain_cloud_events() {
    let Some((emulator, project)) = place().await else { return };
    let mut event =
        Event::of_account(EventKind::TipReceived, "onlyfans:200000001:tip:9".into(), "200000001", "c", Millis(1_784_808_000_000));
    event.conversation_id = Some("100000001".into());
    event.fan_id = Some("100000001".into());
    let sent = Envelope::of_event(&event).unwrap();
    let bus = bus(&config(&project, emulator.address())).await;
    within(bus.publisher("events").unwrap().publish(vec![sent.clone()])).await.unwrap();

    let path = format!("projects/{project}/subscriptions/theirs");
    let pulled = emulator.call("POST", &format!("{path}:pull"), &json!({"maxMessages": 10}));
    let message = &pulled["receivedMessages"][0]["message"];
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "onlyfans:200000001:tip:9"),
        ("ce-type", "convpipe.tip.received.v1"),
        ("ce-source", "//convpipe/onlyfans/200000001"),
        ("ce-subject", "100000001"),
        ("ce-class", "A"),
        ("ce-accountid", "200000001"),
        ("ce-fanid", "100000001"),
    ] {
        assert_eq!(message["attributes"][name], value, "{name}");
    }
    assert_eq!(message["orderingKey"], sent.ordering_key().to_string());
    assert_eq!(decode(message["data"].as_str().unwrap()), sent.data());
    let data: Value = serde_json::from_slice(sent.data()).unwrap();
    assert_eq!((&data["schema"], &data["kind"]), (&json!("convpipe.event.v1"), &json!("tip.received")));
}

#[tokio::test]
async fn what_others_publish_is_read_whatever_it_carries() {
    let Some((emulator, project)) = place().await else { return };
    let bus = bus(&config(&project, emulator.address())).await;
    let mut subscriber = bus.subscriber("events", "first").await.unwrap();
    let messages = json!({"messages": [
        {"data": "eyJhIjoxfQ==", "attributes": {"ce-id": "x", "ce-accountid": "2", "ce-subject": "1"}, "orderingKey": "their own"},
        {"data": "/w==", "orderingKey": "their own"},
        {"attributes": {"name": "ünïcode 🦀", "empty": ""}, "orderingKey": "their own"},
    ]});
    emulator.call("POST", &format!("projects/{project}/topics/events:publish"), &messages);
    let taken = take(&mut subscriber, 3).await;
    assert_eq!(taken[0].envelope.data(), br#"{"a":1}"#);
    assert_eq!(taken[0].envelope.ordering_key(), convpipe::schema::ids::ordering_key("2", Some("1")));
    assert_eq!(taken[1].envelope.data(), [0xff]);
    assert_eq!(taken[2].envelope.attributes().collect::<Vec<_>>(), [("empty", ""), ("name", "ünïcode 🦀")]);
    assert!(taken.iter().all(|delivery| delivery.attempt == 1 && delivery.published_at.0 > 1_700_000_000_000));
}

/// Base64, the standard alphabet with padding.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| ALPHABET.iter().position(|&known| known == byte).unwrap() as u32;
    let digits: Vec<u32> = text.bytes().filter(|&byte| byte != b'=').map(digit).collect();
    digits
        .chunks(4)
        .flat_map(|chunk| {
            let bits = chunk.iter().enumerate().fold(0, |bits, (at, digit)| bits | digit << (18 - 6 * at));
            bits.to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}
