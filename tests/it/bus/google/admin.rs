//! The administrator: what it plans, what it does on Google's emulator, and that doing it twice is doing it once.

use convpipe::bus::google::admin::{Action, Admin, Change, Resource};
use convpipe::config::{BusBackend, BusConfig, GoogleBusConfig};
use serde_json::json;

use super::super::{messages, numbers, take, within};
use super::{bus, config, project};
use crate::support::pubsub::PubSub;

async fn place() -> Option<(PubSub, BusConfig)> {
    let emulator = PubSub::open().await?;
    let google = GoogleBusConfig { lease_s: 30, ..config(&project(), emulator.address()) };
    Some((emulator, BusConfig { backend: BusBackend::Google, google, ..BusConfig::default() }))
}

async fn admin(config: &BusConfig) -> Admin {
    Admin::open(config).await.unwrap()
}

/// `topic convpipe-events: Same`, …
fn told(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|Change { resource, action }| format!("{resource}: {action:?}")).collect()
}

const ALL: [&str; 7] = [
    "topic convpipe-events",
    "topic convpipe-quarantine",
    "topic convpipe-dead-letter",
    "subscription convpipe-views",
    "subscription convpipe-documents",
    "subscription convpipe-quarantine",
    "subscription convpipe-dead-letter",
];

fn all(action: &str) -> Vec<String> {
    ALL.iter().map(|resource| format!("{resource}: {action}")).collect()
}

#[tokio::test]
async fn what_is_missing_is_made_once() {
    let Some((emulator, config)) = place().await else { return };
    let admin = admin(&config).await;
    assert_eq!(told(&admin.plan().await.unwrap()), all("Create"));
    assert_eq!(told(&admin.plan().await.unwrap()), all("Create"), "looking changes nothing");
    assert_eq!(told(&admin.apply().await.unwrap()), all("Create"));
    assert_eq!(told(&admin.plan().await.unwrap()), all("Same"));
    assert_eq!(told(&admin.apply().await.unwrap()), all("Same"));

    let project = config.google.project.as_deref().unwrap();
    let views = emulator.call("GET", &format!("projects/{project}/subscriptions/convpipe-views"), &serde_json::Value::Null);
    assert_eq!(views["topic"], format!("projects/{project}/topics/convpipe-events"));
    assert_eq!(views["messageRetentionDuration"], "604800s");
    assert_eq!((&views["enableMessageOrdering"], &views["ackDeadlineSeconds"]), (&json!(true), &json!(30)));
    assert_eq!(views["expirationPolicy"], json!({}), "present without a time: it never expires");
    let backstop = json!({"deadLetterTopic": format!("projects/{project}/topics/convpipe-dead-letter"), "maxDeliveryAttempts": 100});
    assert_eq!(views["deadLetterPolicy"], backstop);
    let events = emulator.call("GET", &format!("projects/{project}/topics/convpipe-events"), &serde_json::Value::Null);
    assert_eq!(events["messageRetentionDuration"], "604800s");

    // And that is what the services need.
    let bus = bus(&config.google).await;
    let mut subscribers = Vec::new();
    for subscription in [&config.views_subscription, &config.documents_subscription] {
        subscribers.push(bus.subscriber(&config.topic, subscription).await.unwrap());
    }
    within(bus.publisher(&config.topic).unwrap().publish(messages(0..3))).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(numbers(&take(subscriber, 3).await), [0, 1, 2]);
    }
}

#[tokio::test]
async fn drift_is_told_and_taken_back() {
    let Some((_, config)) = place().await else { return };
    admin(&config).await.apply().await.unwrap();
    let google = GoogleBusConfig { retention_s: 86_400, lease_s: 60, dead_letter_attempts_max: 50, ..config.google.clone() };
    let other = BusConfig { google, ..config.clone() };
    let admin = admin(&other).await;
    let planned = told(&admin.plan().await.unwrap());
    for expected in [
        r#"topic convpipe-events: Update { field: "messageRetentionDuration", from: "604800 s", to: "86400 s" }"#,
        r#"subscription convpipe-views: Update { field: "ackDeadlineSeconds", from: "30 s", to: "60 s" }"#,
        r#"subscription convpipe-views: Update { field: "messageRetentionDuration", from: "604800 s", to: "86400 s" }"#,
        r#"subscription convpipe-documents: Update { field: "deadLetterPolicy", from: "convpipe-dead-letter after 100", to: "convpipe-dead-letter after 50" }"#,
    ] {
        assert!(planned.iter().any(|told| told == expected), "{expected} is not in\n{}", planned.join("\n"));
    }
    assert_eq!(told(&admin.apply().await.unwrap()), planned);
    assert_eq!(told(&admin.plan().await.unwrap()), all("Same"));
}

#[tokio::test]
async fn what_the_emulator_cannot_change_is_told_and_the_rest_goes_on() {
    let Some((emulator, config)) = place().await else { return };
    let project = config.google.project.as_deref().unwrap();
    let (topic, views) = (format!("projects/{project}/topics/convpipe-events"), format!("projects/{project}/subscriptions/convpipe-views"));
    emulator.call("PUT", &topic, &json!({}));
    emulator.call("PUT", &views, &json!({"topic": topic, "enableMessageOrdering": true, "expirationPolicy": {"ttl": "86400s"}}));
    let admin = admin(&config).await;
    let planned = admin.plan().await.unwrap();
    let views = Resource::Subscription("convpipe-views".into());
    let expected = Action::Update { field: "expirationPolicy", from: "86400 s".into(), to: "never".into() };
    assert!(planned.contains(&Change { resource: views.clone(), action: expected }), "{planned:?}");
    let done = admin.apply().await.unwrap();
    let left = admin.plan().await.unwrap();
    assert_eq!((done.len(), left.len()), (planned.len(), ALL.len()), "{done:?} {left:?}");
    let unsupported = |change: &&Change| matches!(&change.action, Action::Unsupported(why) if why.contains("expirationPolicy is 86400 s, wanted is never"));
    assert_eq!(done.iter().filter(unsupported).count(), 1, "{done:?}");
    assert!(done.iter().all(|change| change.resource != views || change.action != Action::Same));
    let rest: Vec<&Change> = left.iter().filter(|change| change.action != Action::Same).collect();
    assert!(matches!(&rest[..], [Change { action: Action::Update { field: "expirationPolicy", .. }, .. }]), "{rest:?}");
}

#[tokio::test]
async fn what_can_never_be_changed_is_told_and_left() {
    let Some((_, config)) = place().await else { return };
    admin(&config).await.apply().await.unwrap();
    let unordered = BusConfig { google: GoogleBusConfig { ordering: false, ..config.google.clone() }, ..config.clone() };
    let admin = admin(&unordered).await;
    for changes in [admin.plan().await.unwrap(), admin.apply().await.unwrap(), admin.plan().await.unwrap()] {
        let unsupported: Vec<String> = told(&changes).into_iter().filter(|told| !told.ends_with(": Same")).collect();
        assert_eq!(unsupported.len(), 2, "{unsupported:?}");
        assert!(
            unsupported.iter().all(|told| told.contains("enableMessageOrdering is on, wanted is off; it cannot be changed")),
            "{unsupported:?}"
        );
    }
}
