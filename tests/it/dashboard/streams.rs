//! Live pages: how many, what they cost, and what becomes of one that does not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

/// Live pages of the test.
const PAGES: usize = 500;
/// What a page may add to the server's memory while changes go by, bytes: less than a handful of changes that somebody kept for it.
const GROWTH_MAX: u64 = 8 << 10;

/// How many clients Redis has, this question's own left out.
fn connections(server: &RedisServer) -> usize {
    server.run::<String>(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client|list")).count()
}

/// The resident memory of a process, bytes.
fn rss(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn ask_for_changes(stream: &mut TcpStream, address: SocketAddr) {
    stream.write_all(format!("GET /api/v1/stream HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
}

/// Live pages that read; each keeps the number of the last change that it was told.
async fn watchers(address: SocketAddr, count: usize) -> Vec<Arc<AtomicU64>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask_for_changes(&mut stream, address).await;
        let (told, mut lines, mut line) = (Arc::new(AtomicU64::new(0)), BufReader::new(stream), String::new());
        while line.trim_end() != "event: hello" {
            line.clear();
            assert!(lines.read_line(&mut line).await.unwrap() > 0, "the stream ended");
        }
        let own = told.clone();
        tokio::spawn(async move {
            loop {
                line.clear();
                // The end of the test is the end of the server.
                if lines.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                let number = line.split_once("change number ").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
                number.into_iter().for_each(|number| own.store(number, Ordering::Relaxed));
            }
        });
        all.push(told);
    }
    all
}

/// Makes changes one after the other, each once everybody was told of the one before.
async fn change(server: &RedisServer, watchers: &[Arc<AtomicU64>], numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        put(server, "1", number, |snapshot| snapshot["last_message"]["preview"] = format!("change number {number}").into());
        let end = Instant::now() + LIMIT;
        while watchers.iter().any(|told| told.load(Ordering::Relaxed) < number) {
            assert!(Instant::now() < end, "not everybody was told of change {number}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Tells `changes` to 500 live pages, and how the memory went: before, after, and what each page added.
async fn cost(changes: u64) -> (u64, u64, u64) {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    put(&server, "1", 1, |_| ());
    let (process, address) = start_program(folder.path(), &server.url());
    let watchers = watchers(address, PAGES).await;
    assert_eq!(connections(&server), 1, "one reader for all of them");
    // What the ring, the allocator and the connections' buffers take at first.
    change(&server, &watchers, 2..=80).await;
    let before = rss(&process);
    change(&server, &watchers, 81..=80 + changes).await;
    let after = rss(&process);
    assert_eq!(connections(&server), 1, "one reader for all of them");
    process.terminate(LIMIT);
    (before, after, after.saturating_sub(before) / PAGES as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_live_pages_are_one_reader_in_flat_memory() {
    let (before, after, growth) = cost(80).await;
    assert!(growth < GROWTH_MAX, "{growth} bytes a page: from {before} to {after}");
}

/// For `docs/performance.md`: `scripts/bench dashboard`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; it prints a figure"]
#[expect(clippy::print_stderr, reason = "what it prints is what it is for")]
async fn figures_of_five_hundred_live_pages() {
    let began = Instant::now();
    let (before, after, growth) = cost(4_000).await;
    let took = began.elapsed().as_secs_f64();
    eprintln!(
        "500 live pages, 4,000 changes each, in {took:.0} s: RSS {:.1} MB before, {:.1} MB after",
        before as f64 / 1e6,
        after as f64 / 1e6
    );
    assert!(growth < GROWTH_MAX, "{growth} bytes a page: from {before} to {after}");
}

#[tokio::test]
async fn a_page_that_does_not_read_is_let_go() {
    let server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let served = Served::start(&server.url(), |config| config.dashboard.write_timeout_ms = 200).await;
    // Its own buffer is small, so that it is full soon.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stalled = socket.connect(served.address).await.unwrap();
    ask_for_changes(&mut stalled, served.address).await;
    let reading = watchers(served.address, 1).await;
    let (client, url) = (client(), served.url("/api/v1/status"));
    let streams = || async { client.get(&url).send().await.unwrap().text().await.unwrap() };
    let is = |status: &str, open: u64, let_go: u64| {
        let status: Value = serde_json::from_str(status).unwrap();
        status["streams"]["open"] == open && status["streams"]["let_go"] == let_go
    };
    assert!(is(&streams().await, 2, 0));
    let mut rev = 1;
    until("it is let go, and its place is free", || {
        // Each of these changes is larger than all that lies between the two.
        rev += 1;
        fill(&server, 400, rev, |_| "x".repeat(280));
        async { is(&streams().await, 1, 1).then_some(()) }
    })
    .await;
    // Nobody else noticed.
    change(&server, &reading, rev + 1..=rev + 2).await;
    assert!(is(&streams().await, 1, 1));
    // What had been sent is there, and then the end: no part of it waits anywhere.
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(rest.len() < 4 << 20, "{} bytes lay between the two", rest.len());
    served.stop().await;
}

#[tokio::test]
async fn too_many_live_pages_are_told_so() {
    let server = RedisServer::start();
    let served = Served::start(&server.url(), |config| config.dashboard.streams_max = 1).await;
    let client = client();
    let first = client.get(served.url("/api/v1/stream")).send().await.unwrap();
    let second = client.get(served.url("/api/v1/stream")).send().await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16(), second.headers()["retry-after"].to_str().unwrap()), (200, 503, "10"));
    drop(first);
    until("the place is free again", || async {
        (client.get(served.url("/api/v1/stream")).send().await.unwrap().status() == 200).then_some(())
    })
    .await;
    served.stop().await;
}
