//! The hot path, function by function: nanoseconds a frame or an event, and megabytes a second.
//!
//! `cargo bench --bench hot_path` runs all of it, `cargo bench --bench hot_path normalize` what has that in its name.

use std::fs;
use std::path::Path;

use convpipe::schema::envelope::Envelope;
use convpipe::schema::time::Millis;
use convpipe::transform::normalize::{FrameContext, normalize};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// One frame of each weight, from `fixtures/frames`; `chat_500` is the measure of the targets.
const FRAMES: [&str; 11] = [
    "chat_500",
    "chat_message_full",
    "chat_message_bare_sender",
    "chat_message_tip",
    "notification_tip",
    "subscribed",
    "typing",
    "counters_chat",
    "message_deleted",
    "several_keys",
    "unknown_key",
];

/// An ordinary chat message of 500 bytes: a bare sender and a line of HTML.
const CHAT_500: &str = r#"{"api2_chat_message":{"id":6400000000001,"responseType":"message","text":"<p>Hey you, I loved the last set, is there more?</p>","giphyId":null,"lockedText":false,"isFree":true,"price":0,"isMediaReady":true,"mediaCount":0,"media":[],"previews":[],"isTip":false,"tipAmount":null,"queueId":0,"fromUser":{"id":100000001},"isFromQueue":false,"isOpened":false,"isNew":true,"createdAt":"2026-07-23T12:00:00+00:00","changedAt":"2026-07-23T12:00:00+00:00","cancelSeconds":0,"isLiked":false,"canReport":true}}"#;

fn frame(name: &str) -> Vec<u8> {
    if name == "chat_500" {
        return CHAT_500.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frames").join(name).with_extension("json");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const CONTEXT: FrameContext<'static> = FrameContext {
    account_id: "200000001",
    connection: "0000019f8ef2e3ab",
    frame_no: 7,
    received_at: Millis(1_784_808_001_250),
    raw: true,
    depth_max: 64,
};

/// A frame to events.
#[divan::bench(name = "normalize", args = FRAMES)]
fn normalize_alone(bencher: Bencher<'_, '_>, name: &str) {
    let frame = frame(name);
    bencher.counter(BytesCount::of_slice(&frame)).bench_local(|| normalize(black_box(&frame), &CONTEXT).events.len());
}

/// A frame to envelopes, ready to be published.
#[divan::bench(args = FRAMES)]
fn normalize_and_encode(bencher: Bencher<'_, '_>, name: &str) {
    let frame = frame(name);
    bencher.counter(BytesCount::of_slice(&frame)).bench_local(|| {
        let answer = normalize(black_box(&frame), &CONTEXT);
        answer.events.iter().map(|event| Envelope::of_event(event).map_or(0, |envelope| envelope.size())).sum::<usize>()
    });
}

/// An envelope back to its event, as each subscription does.
#[divan::bench(args = FRAMES)]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let frame = frame(name);
    let answer = normalize(&frame, &CONTEXT);
    let envelopes: Vec<Envelope> = answer.events.iter().filter_map(|event| Envelope::of_event(event).ok()).collect();
    let bytes: usize = envelopes.iter().map(|envelope| envelope.data().len()).sum();
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| black_box(&envelopes).iter().filter(|envelope| envelope.event().is_ok()).count());
}
