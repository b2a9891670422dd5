//! The hot path, function by function: nanoseconds a frame or an event, and megabytes a second.
//!
//! `cargo bench --bench hot_path` runs all of it, `cargo bench --bench hot_path normalize` what has that in its name.

use std::fs;
use std::path::Path;

use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::Event;
use convpipe::schema::state::ConversationState;
use convpipe::schema::time::Millis;
use convpipe::transform::fold::{self, Depth, new_conversation};
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

/// Events to fold: into a conversation that has been going on for long, so that its memories are full, or into none.
const FOLDED: [(&str, &str); 4] = [("chat_known", "chat_500"), ("chat_new", "chat_500"), ("typing", "typing"), ("tip", "notification_tip")];
const HORIZON_MS: i64 = 30 * 86_400_000;

/// One new event after another, each ten seconds later, all of one fan.
struct Events {
    event: Event<'static>,
    count: u64,
}

impl Events {
    fn of(name: &str) -> Self {
        let event = normalize(frame(name).leak(), &CONTEXT).events.swap_remove(0);
        Self { event, count: 0 }
    }

    fn next(&mut self) -> Event<'static> {
        self.count += 1;
        let mut event = self.event.clone();
        let id = (6_400_000_000_000 + self.count).to_string();
        event.id = format!("onlyfans:200000001:bench:{id}").into();
        event.frame_no = self.count;
        event.received_at = Millis(CONTEXT.received_at.0 + 10_000 * self.count.cast_signed());
        event.occurred_at = Some(event.received_at);
        if let Some(message) = &mut event.message {
            message.id = Some(id.into());
        }
        event
    }
}

fn fold_into(state: &mut ConversationState, event: &Event<'_>) -> bool {
    fold::apply(state, event, event.at(), HORIZON_MS, Depth::VIEWS).is_new()
}

/// An event into the state of its conversation.
#[divan::bench(args = FOLDED.map(|(what, _)| what))]
fn fold(bencher: Bencher<'_, '_>, what: &str) {
    let name = FOLDED.iter().find(|(one, _)| *one == what).map_or("", |(_, name)| name);
    let mut events = Events::of(name);
    let mut state = new_conversation("200000001", "100000001");
    if what == "chat_new" {
        let fresh = state;
        bencher.with_inputs(|| (fresh.clone(), events.next())).bench_local_refs(|(state, event)| fold_into(state, black_box(event)));
        return;
    }
    for _ in 0..1_000 {
        assert!(fold_into(&mut state, &events.next()), "each is new");
    }
    bencher.with_inputs(|| events.next()).bench_local_refs(|event| fold_into(&mut state, black_box(event)));
}
