//! From the socket to Redis, by real processes: throughput, then latency, memory and idle cost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use convpipe::runtime::clock;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::views::Reader;
use convpipe::ws::serve::{Player, serve, stage};
use tokio::net::TcpListener;

use super::frames::{ACCOUNTS, Frame, Frames, account};
use super::stack::{Service, Stack};

const FRAMES: usize = 300_000;
/// Frames a second while latency is measured.
const RATE: u64 = 5_000;
const LATENCY_SECONDS: u64 = 20;
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stack = Stack::start();
        let accounts: BTreeSet<String> = (0..ACCOUNTS).map(account).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        stack.accounts_at(listener.local_addr().unwrap(), &accounts);
        let (player, source) = stage(accounts.iter().map(String::as_str), &[]);
        let stop = Shutdown::new();
        let serving = tokio::spawn(serve(listener, source, stop.clone()));
        let snapshot = stack.spawn(&["snapshot", "--only", "views"]);
        let ingest = stack.spawn(&["ingest"]);
        player.connected(ACCOUNTS).await;
        let mut frames = Frames::new();
        throughput(&stack, &player, &mut frames).await;
        memory("after the throughput run", &ingest, &snapshot);
        latency(&stack, &player, &mut frames).await;
        memory("after the latency run", &ingest, &snapshot);
        idle(&ingest, &snapshot).await;
        drop((ingest, snapshot));
        stop.request();
        serving.await.unwrap().unwrap();
    });
}

async fn throughput(stack: &Stack, player: &Player, frames: &mut Frames) {
    let now = clock::now();
    let load: Vec<Frame> = (0..FRAMES).map(|_| frames.next(now)).collect();
    // Each account's last frame is a mark: once all are readable, everything before them is on the bus.
    let marks: Vec<Frame> = (0..ACCOUNTS).map(|number| frames.of(number, now)).collect();
    let reader = Reader::connect(&stack.config.redis).await.unwrap();
    let began = Instant::now();
    for frame in load {
        player.play(&frame.account, frame.text).await.unwrap();
    }
    for frame in &marks {
        player.play(&frame.account, frame.text.clone()).await.unwrap();
    }
    for frame in &marks {
        while !is_readable(&reader, frame).await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    stack.drained(&stack.bus(), "convpipe-views").await;
    let rate = FRAMES as f64 / began.elapsed().as_secs_f64();
    println!("{:<48} {rate:>10.0}", "socket -> ingest -> bus -> snapshot -> Redis: events/s");
}

async fn is_readable(reader: &Reader, frame: &Frame) -> bool {
    let view = reader.conversation(&frame.account, &frame.fan.to_string()).await.unwrap();
    let last = view.and_then(|view| view.snapshot.last_message).map(|last| last.id.raw().parse::<u64>().unwrap());
    last.is_some_and(|last| last >= frame.message)
}

/// A steady load, and beside it one frame after the other whose way is timed.
async fn latency(stack: &Stack, player: &Player, frames: &mut Frames) {
    let reader = Reader::connect(&stack.config.redis).await.unwrap();
    let began = Instant::now();
    let mut sent = 0u64;
    let mut waiting: Option<(Frame, Instant)> = None;
    let mut taken: Vec<Duration> = Vec::new();
    let mut probe = 0;
    while began.elapsed() < Duration::from_secs(LATENCY_SECONDS) {
        let due = u64::try_from(began.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
        while sent < due {
            let frame = frames.next(clock::now());
            player.play(&frame.account, frame.text).await.unwrap();
            sent += 1;
        }
        match &waiting {
            None => {
                probe = (probe + 1) % 1_000;
                let frame = frames.of(probe, clock::now());
                let at = Instant::now();
                player.play(&frame.account, frame.text.clone()).await.unwrap();
                waiting = Some((frame, at));
            }
            Some((frame, at)) => {
                if is_readable(&reader, frame).await {
                    taken.push(at.elapsed());
                    waiting = None;
                }
            }
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:<48} p50 {:.2} ms   p99 {:.2} ms   max {:.1} ms   ({} frames timed, {:.0}/s sent)",
        "frame sent -> snapshot readable, at 5,000/s",
        at(0.5),
        at(0.99),
        at(1.0),
        taken.len(),
        sent as f64 / began.elapsed().as_secs_f64(),
    );
}

fn memory(when: &str, ingest: &Service, snapshot: &Service) {
    println!("{:<48} ingest {:.0} MB   snapshot {:.0} MB", format!("RSS {when}"), ingest.rss_mb(), snapshot.rss_mb());
}

async fn idle(ingest: &Service, snapshot: &Service) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = (ingest.cpu(), snapshot.cpu());
    tokio::time::sleep(IDLE).await;
    let share = |before: Duration, after: Duration| (after - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("{:<48} ingest {:.1} %   snapshot {:.1} %", "idle CPU", share(before.0, ingest.cpu()), share(before.1, snapshot.cpu()));
}
