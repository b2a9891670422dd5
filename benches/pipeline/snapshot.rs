//! Events a second from the bus into Redis and into the documents, by the real `convpipe snapshot`.

use std::time::Instant;

use convpipe::schema::envelope::Envelope;
use convpipe::schema::time::Millis;
use convpipe::transform::normalize::{FrameContext, normalize};

use super::frames::Frames;
use super::stack::Stack;

/// Into Redis.
pub(crate) fn views() {
    run("views", "convpipe-views", 600_000);
}

/// Into the documents, which take longer.
pub(crate) fn documents() {
    run("documents", "convpipe-documents", 150_000);
}

fn run(only: &str, subscription: &str, events: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stack = Stack::start();
    runtime.block_on(publish(&stack, events));
    let bus = stack.bus();
    let began = Instant::now();
    let service = stack.spawn(&["snapshot", "--only", only]);
    runtime.block_on(async {
        bus.subscriber(&stack.config.bus.topic, subscription).await.unwrap().close(std::time::Duration::from_secs(1)).await;
        stack.drained(&bus, subscription).await;
    });
    let seconds = began.elapsed().as_secs_f64();
    let redis =
        if only == "views" { format!(", Redis' CPU {:.1} us each", redis_cpu(&stack) / events as f64 * 1e6) } else { String::new() };
    println!(
        "{:<48} {:>10.0}   start included; its CPU {:.1} us each{redis}; RSS {:.0} MB",
        format!("snapshot --only {only}: events/s"),
        events as f64 / seconds,
        service.cpu().as_secs_f64() / events as f64 * 1e6,
        service.rss_mb(),
    );
}

fn redis_cpu(stack: &Stack) -> f64 {
    let info: String = stack.redis.run(&["INFO", "cpu"]);
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<f64>().unwrap();
    value("used_cpu_user:") + value("used_cpu_sys:")
}

/// Puts normalized frames on the bus.
pub(crate) async fn publish(stack: &Stack, events: usize) {
    let publisher = stack.bus().publisher(&stack.config.bus.topic).unwrap();
    let mut frames = Frames::new();
    let mut left = events;
    while left > 0 {
        let count = left.min(2_048);
        let now = convpipe::runtime::clock::now();
        let batch = (0..count).map(|_| envelope(&mut frames, now)).collect();
        publisher.publish(batch).await.unwrap();
        left -= count;
    }
}

fn envelope(frames: &mut Frames, now: Millis) -> Envelope {
    let frame = frames.next(now);
    let context = FrameContext {
        account_id: &frame.account,
        connection: "0000000000000001",
        frame_no: frame.message,
        received_at: now,
        raw: true,
        depth_max: 64,
    };
    let normalized = normalize(frame.text.as_bytes(), &context);
    Envelope::of_event(&normalized.events[0]).unwrap()
}
