//! The embedded bus: events a second published and consumed, alone and at once, and the time from a publish to its delivery.

use std::time::{Duration, Instant};

use convpipe::bus::embedded::EmbeddedBus;
use convpipe::bus::{Bus, Subscriber};
use convpipe::config::EmbeddedBusConfig;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind, Message};
use convpipe::schema::time::Millis;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const EVENTS: usize = 1_000_000;
const BATCHES: [usize; 3] = [256, 1_024, 2_048];
const SINGLES: u32 = 5_000;

pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let envelopes = envelopes();
    let bytes: usize = envelopes.iter().map(Envelope::size).sum();
    println!("bus, embedded: envelopes of {} bytes, {EVENTS} a run", bytes / envelopes.len());
    for batch in BATCHES {
        let (_dir, bus) = open();
        let publish = runtime.block_on(timed(publish(&bus, &envelopes, batch)));
        let consume = runtime.block_on(timed(consume(&bus, "alone")));
        println!("  batches of {batch:4}: published {} events/s, consumed {} events/s", rate(publish), rate(consume));
    }
    for batch in BATCHES {
        let (_dir, bus) = open();
        let both = async {
            let (consumer, publisher) = (bus.clone(), bus.clone());
            let consumed = tokio::spawn(async move { consume(&consumer, "beside").await });
            let envelopes = envelopes.clone();
            let published = tokio::spawn(async move { publish(&publisher, &envelopes, batch).await });
            (published.await.unwrap(), consumed.await.unwrap())
        };
        println!("  batches of {batch:4}: published and consumed at once {} events/s", rate(runtime.block_on(timed(both))));
    }
    latency(&runtime, &envelopes);
}

fn open() -> (TempDir, Bus) {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedBusConfig { dir: dir.path().join("bus"), ..EmbeddedBusConfig::default() };
    let bus = Bus::Embedded(EmbeddedBus::open(&config).unwrap());
    (dir, bus)
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

fn rate(elapsed: Duration) -> u64 {
    (EVENTS as f64 / elapsed.as_secs_f64()) as u64
}

/// Publishes all events, with two batches on their way, as a daemon does that fills one while the other is committed.
async fn publish(bus: &Bus, envelopes: &[Envelope], batch: usize) {
    let publisher = bus.publisher("t").unwrap();
    let mut on_its_way: Option<tokio::task::JoinHandle<()>> = None;
    for start in (0..EVENTS).step_by(batch) {
        let batch: Vec<Envelope> = (start..(start + batch).min(EVENTS)).map(|n| envelopes[n % envelopes.len()].clone()).collect();
        let publisher = publisher.clone();
        let next = tokio::spawn(async move { publisher.publish(batch).await.unwrap() });
        if let Some(previous) = on_its_way.replace(next) {
            previous.await.unwrap();
        }
    }
    on_its_way.unwrap().await.unwrap();
}

async fn consume(bus: &Bus, subscription: &str) {
    let mut subscriber = bus.subscriber("t", subscription).await.unwrap();
    let mut left = EVENTS;
    while left > 0 {
        left -= receive(&mut subscriber).await;
    }
    subscriber.close(Duration::from_secs(10)).await;
}

async fn receive(subscriber: &mut Subscriber) -> usize {
    let ids: Vec<_> = subscriber.next().await.unwrap().iter().map(|delivery| delivery.ack).collect();
    subscriber.acker().ack(&ids);
    ids.len()
}

/// One message at a time, each after the one before has arrived.
fn latency(runtime: &Runtime, envelopes: &[Envelope]) {
    let (_dir, bus) = open();
    let mut times: Vec<Duration> = runtime.block_on(async {
        let publisher = bus.publisher("t").unwrap();
        let mut subscriber = bus.subscriber("t", "s").await.unwrap();
        let mut times = Vec::new();
        for n in 0..SINGLES {
            let start = Instant::now();
            let (published, _) = tokio::join!(publisher.publish(vec![envelopes[n as usize % envelopes.len()].clone()]), async {
                receive(&mut subscriber).await;
                times.push(start.elapsed());
            });
            published.unwrap();
        }
        times
    });
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!("  one message, publish to delivery: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(0.9999));
}

/// Messages as the normalizer makes them of frames of about 500 bytes.
fn envelopes() -> Vec<Envelope> {
    fastrand::seed(7);
    let words: Vec<String> = (0..2_000).map(|_| (0..fastrand::usize(2..9)).map(|_| fastrand::lowercase()).collect()).collect();
    (0..20_000).map(|n| envelope(n, &words)).collect()
}

fn envelope(n: u64, words: &[String]) -> Envelope {
    const ACCOUNTS: [&str; 5] = ["200000001", "200000002", "200000003", "200000004", "200000005"];
    let (id, fan) = (6_400_000_000_000 + n, (100_000_000 + fastrand::u64(..10_000)).to_string());
    let text = (0..16).map(|_| words[fastrand::usize(..words.len())].as_str()).collect::<Vec<_>>().join(" ");
    let html = format!("<p>{text}</p>");
    let raw = format!(
        r#"{{"id":{id},"text":"{html}","fromUser":{{"id":{fan},"name":"fan {fan}","username":"u{fan}","_view":"s"}},"isTip":false,"price":0,"isFree":true,"isOpened":false,"isNew":true,"mediaCount":0,"media":[],"previews":[],"createdAt":"2026-07-23T12:00:00+00:00","changedAt":"2026-07-23T12:00:00+00:00","responseType":"message","cancelSeconds":86400}}"#
    );
    let account = ACCOUNTS[(n % 5) as usize];
    let mut event = Event::of_account(
        EventKind::MessageReceived,
        format!("onlyfans:{account}:msg:{id}:received"),
        account,
        "c",
        Millis(1_784_808_000_000),
    );
    event.conversation_id = Some(fan.as_str().into());
    event.fan_id = Some(fan.as_str().into());
    event.occurred_at = Some(Millis(1_784_808_000_000 + n.cast_signed()));
    event.frame_no = n;
    event.message = Some(Message {
        id: Some(id.to_string().into()),
        html: Some(html.as_str().into()),
        text: Some(text.as_str().into()),
        ..Message::default()
    });
    event.raw = Some(std::borrow::Cow::Owned(RawValue::from_string(raw).unwrap()));
    Envelope::of_event(&event).unwrap()
}
