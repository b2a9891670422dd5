//! One fan: what each store says, and what is said where a store says nothing.

use convpipe::schema::document::{FanSummary, MessageDocument};
use convpipe::schema::event::Direction;
use convpipe::schema::time::Millis;
use convpipe::schema::view::{FanView, HighValue, Spend, SpendTotals};
use convpipe::transform::materialize::{SummaryWrite, WriteOutcome};

use super::{A, B, HOSTILE, Site, T0, conversation, json, nothing_disturbs, write};

const FAN: &str = "100000001";
const NEVER: Millis = Millis(4_102_444_800_000);

async fn summary(site: &Site, account: &str) {
    let summary = FanSummary {
        account_id: account.into(),
        conversation_id: FAN.into(),
        fan: FanView { id: FAN.into(), name: Some(HOSTILE.into()), ..FanView::default() },
        tier: "whale".into(),
        high_value: HighValue::default(),
        spend: Spend {
            observed: SpendTotals { total: 7_500, tips: 7_500, payments: 2, largest: 5_000, ..SpendTotals::default() },
            reported: None,
        },
        messages_in: 12,
        messages_out: 4,
        first_seen_at: Some(T0),
        last_seen_at: Some(T0),
        subscription: None,
        last_ppv: None,
        awaiting_reply_since: None,
        recent: Vec::new(),
        rev: 1,
        applied_at: T0,
        expire_at: NEVER,
    };
    let message = |number: i64| MessageDocument {
        message_id: format!("m{number}").as_str().into(),
        direction: if number % 2 == 0 { Direction::In } else { Direction::Out },
        sent_at: T0.plus(number * 1000),
        text: Some(format!("message {number} {HOSTILE}").as_str().into()),
        html: None,
        reply_to: None,
        price: None,
        money: None,
        media: Vec::new(),
        is_tip: false,
        is_bulk: false,
        deleted_at: None,
        changed_at: None,
        event_id: "event".into(),
        expire_at: NEVER,
    };
    let write = SummaryWrite {
        account: account.into(),
        fan: FAN.into(),
        conversation: FAN.into(),
        expected_rev: 0,
        rev: 1,
        summary: serde_json::to_vec(&summary).unwrap(),
        fold: b"fold".to_vec(),
        expire_at: NEVER,
        messages: (0..12).map(message).collect(),
        deletions: Vec::new(),
    };
    assert_eq!(site.documents().await.write(vec![write]).await.unwrap(), [WriteOutcome::Written]);
}

/// The fan in both stores, of one account.
async fn known() -> Site {
    let site = Site::new();
    let event = |n: u32| format!(r#"{{"id":"e{n}","text":"\u001b[2J"}}"#).into_bytes();
    let events = vec![event(1).into(), event(2).into()];
    write(&site.writer().await, super::ConversationWrite { fan_events: events, ..conversation(A, FAN) }).await;
    summary(&site, A).await;
    site
}

fn states(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    report["sources"].as_array().unwrap().iter().map(|source| (text(&source["name"]), text(&source["state"]))).collect()
}

#[tokio::test]
async fn every_section_says_where_it_comes_from() {
    let site = known().await;
    let page = site.run("inspect-fan 100000001");
    assert_eq!(page.status.code(), Some(0), "{page:#?}");
    nothing_disturbs(&page.stdout);
    let text = page.stdout.join("\n");
    for part in [
        "account 200000001 · fan 100000001",
        "snapshot   redis  rev 1  ",
        r"  name        \u{1b}[2Jevil\u{202e}\u{e0041}\nname\u{9b} · @ann",
        "  tier        whale, high-value: spend >= 50000",
        ", since 2026-07-23T12:00:00.000Z",
        "  unread      3",
        "← hello there",
        "  presence    unknown",
        "summary    documents  rev 1  ",
        "  messages    12 from the fan, 4 from the account",
        "  observed    $75.00 (tips $75.00)",
        "messages   documents  ",
        r"  2026-07-23 12:00:10  ← message 10 \u{1b}[2J",
        "events     redis  ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("message 1 "), "the newest ten of twelve");

    let report = json(&site.run("inspect-fan 100000001 -o json --last 3").stdout.join("\n"));
    assert_eq!((report["account_id"].as_str(), report["fan_id"].as_str()), (Some(A), Some(FAN)));
    assert_eq!(
        (&report["snapshot"]["unread"], &report["snapshot"]["stale"], &report["summary"]["rev"]),
        (&3.into(), &false.into(), &1.into())
    );
    assert_eq!((report["messages"].as_array().unwrap().len(), report["messages"][2]["message_id"].as_str()), (3, Some("m11")));
    assert_eq!(report["events"][1]["id"], "e2");
    assert!(states(&report).iter().all(|(_, state)| state == "ok"), "{report:#}");
    assert!(report["sources"][0]["age_ms"].as_i64().unwrap() > 0 && report["sources"][0]["rev"] == 1);
}

#[tokio::test]
async fn a_section_alone_is_printed_item_by_item() {
    let site = known().await;
    let events = site.run("inspect-fan 100000001 --events --last 1 -o jsonl").stdout;
    assert_eq!((events.len(), json(&events[0])["id"].as_str(), json(&events[0]).get("stream_id").is_some()), (1, Some("e2"), true));
    let history = site.run("inspect-fan 100000001 --history --last 2 -o jsonl").stdout;
    nothing_disturbs(&history);
    assert_eq!(history.iter().map(|line| json(line)["message_id"].clone()).collect::<Vec<_>>(), ["m10", "m11"]);
    site.check("inspect-fan 100000001 --history --events", 2, "cannot be used with");
    site.check("inspect-fan 100000001 --last 0", 2, "--last");
}

#[tokio::test]
async fn one_store_down_leaves_what_the_other_knows() {
    let mut site = known().await;
    site.redis.stop();
    let output = site.check("inspect-fan 100000001 -o json", 69, "hint: start Redis");
    let report = json(&output.stdout.join("\n"));
    assert_eq!(
        states(&report).iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(),
        ["unreachable", "ok", "ok", "unreachable"],
        "{report:#}"
    );
    assert!(report["snapshot"].is_null() && report["summary"]["messages_in"] == 12);
    let page = site.check("inspect-fan 100000001", 69, "cannot be reached");
    assert!(page.stdout.join("\n").contains("snapshot   redis  unreachable  Redis at "), "{page:#?}");
    assert!(site.check("inspect-fan 5", 69, "looked in Redis (no answer) and the documents").stdout.is_empty());
    // The documents alone are asked for.
    site.check("inspect-fan 100000001 --history", 0, "");
}

#[tokio::test]
async fn documents_that_do_not_exist_yet_are_absent_and_broken_ones_an_error() {
    let site = Site::new();
    write(&site.writer().await, conversation(A, FAN)).await;
    let page = site.check("inspect-fan 100000001", 0, "");
    let text = page.stdout.join("\n");
    assert!(text.contains("summary    documents  absent  ") && text.contains("does not exist yet"), "{text}");
    assert!(text.contains("events     redis  absent  no events are kept"), "{text}");
    assert!(!site.folder().join("store").exists(), "reading makes no file");

    std::fs::create_dir(site.folder().join("store")).unwrap();
    std::fs::write(site.folder().join("store/documents.db"), "something else").unwrap();
    let page = site.check("inspect-fan 100000001", 69, "is no");
    assert!(page.stdout.join("\n").contains("  unread      3"), "{page:#?}");
}

#[tokio::test]
async fn a_fan_of_several_accounts_is_shown_for_each() {
    let site = known().await;
    summary(&site, B).await;
    let text = site.check("inspect-fan 100000001", 0, "").stdout.join("\n");
    assert!(text.contains("account 200000001 · fan") && text.contains("account 200000002 · fan"), "{text}");
    let reports = json(&site.run("inspect-fan 100000001 -o json").stdout.join("\n"));
    assert_eq!((reports[0]["account_id"].as_str(), reports[1]["account_id"].as_str()), (Some(A), Some(B)));
    assert!(reports[1]["snapshot"].is_null() && states(&reports[1])[0].1 == "absent");
    let only = json(&site.run(&format!("inspect-fan 100000001 --account {B} -o json")).stdout.join("\n"));
    assert_eq!(only["account_id"], B);
}

#[tokio::test]
async fn a_fan_whom_nobody_knows_is_a_finding() {
    let site = known().await;
    let says = "nothing is known of fan 5 of any account; looked in Redis and the documents";
    assert!(site.check("inspect-fan 5", 1, says).stdout.is_empty());
    site.check("inspect-fan 100000001 --account 7", 1, "of account 7; looked in");
    site.redis.run::<()>(&["CONFIG", "SET", "requirepass", "right"]);
    let output = site.check("inspect-fan 100000001 -o json", 77, "error: ");
    assert_eq!(json(&output.stdout.join("\n"))["summary"]["rev"], 1);
}
