//! Redis as it is: what stands in it after a write, and what happens when it goes away.

mod access;
mod faults;
mod follow;
mod resolve;
mod write;

use std::time::Duration;

use convpipe::config::RedisConfig;
use convpipe::schema::text::OwnedText;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{ConversationSnapshot, FanView, HighValue, Spend};
use convpipe::transform::materialize::ConversationWrite;
use convpipe::transform::resolve::Claims;
use convpipe::views::{Follow, FollowItem, Followed, Follower, Reader, Start, Writer};

use super::support::redis::RedisServer;

const ACCOUNT: &str = "200000001";
const T0: i64 = 1_784_808_000_000;

fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig { url: server.url(), ..RedisConfig::default() }
}

async fn start() -> (RedisServer, RedisConfig, Writer, Reader) {
    let server = RedisServer::start();
    let config = config(&server);
    let (writer, reader) = (Writer::connect(&config).await.unwrap(), Reader::connect(&config).await.unwrap());
    (server, config, writer, reader)
}

fn snapshot(account: &str, conversation: &str, rev: u64, received_at: i64) -> ConversationSnapshot {
    ConversationSnapshot {
        account_id: account.into(),
        conversation_id: conversation.into(),
        fan: FanView { id: conversation.into(), ..FanView::default() },
        tier: "none".into(),
        high_value: HighValue::default(),
        last_message: None,
        last_inbound_at: None,
        last_outbound_at: None,
        unread: 0,
        unread_more: false,
        awaiting_reply_since: None,
        last_ppv: None,
        spend: Spend::default(),
        subscription: None,
        typing_until: None,
        presence: None,
        first_seen_at: None,
        stale: None,
        rev,
        received_at: Millis(received_at),
        applied_at: Millis(received_at),
        event_id: OwnedText::from("event"),
    }
}

fn write_of(account: &str, conversation: &str, expected_rev: u64) -> ConversationWrite {
    let rev = expected_rev + 1;
    ConversationWrite {
        account: account.into(),
        conversation: conversation.into(),
        expected_rev,
        rev,
        snapshot: serde_json::to_vec(&snapshot(account, conversation, rev, T0)).unwrap(),
        fold: format!("fold {rev}").into_bytes(),
        active_at: Millis(T0),
        awaiting_since: None,
        due_at: None,
        fan_events: Vec::new(),
        priority: Vec::new(),
    }
}

fn write(conversation: &str, expected_rev: u64) -> ConversationWrite {
    write_of(ACCOUNT, conversation, expected_rev)
}

fn entry(text: &str) -> Vec<u8> {
    format!("{{\"n\":\"{text}\"}}").into_bytes()
}

fn claims(messages: &[(&str, &str)], deletes: &[(&str, i64)]) -> Claims {
    Claims {
        account: ACCOUNT.into(),
        messages: messages.iter().map(|&(id, conversation)| (id.to_owned(), conversation.to_owned())).collect(),
        deletes: deletes.iter().map(|&(id, at)| (id.to_owned(), Millis(at))).collect(),
    }
}

fn follow(start: Start, retry: bool) -> Follow {
    Follow { what: Followed::Priority, accounts: Vec::new(), start, retry }
}

async fn next(follower: &mut Follower) -> FollowItem {
    tokio::time::timeout(Duration::from_secs(15), follower.next()).await.expect("an item in time").unwrap()
}

fn entry_of(item: FollowItem) -> String {
    match item {
        FollowItem::Entry { json, .. } => json,
        other => panic!("an entry, not {other:?}"),
    }
}
