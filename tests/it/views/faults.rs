//! Redis flushed, restarted, full, silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use convpipe::config::RedisConfig;
use convpipe::transform::materialize::{ConversationWrite, WriteOutcome};
use convpipe::views::{Reader, StreamRange, ViewsError, Writer};
use redis::Commands;
use tokio::net::{TcpListener, TcpStream};

use super::super::support::redis::RedisServer;
use super::{ACCOUNT, config, entry, start, write};

#[tokio::test]
async fn scripts_come_back_after_a_flush_and_a_restart() {
    let (mut server, _, writer, _) = start().await;
    for rev in 0..3 {
        assert_eq!(writer.write_conversations(&[write("1", rev)]).await.unwrap(), [WriteOutcome::Written]);
        server.run::<()>(&["SCRIPT", "FLUSH"]);
    }
    server.restart();
    // The first call finds the old connection broken; nothing of it was written, since the new Redis is empty.
    let retry = async {
        loop {
            match writer.write_conversations(&[write("1", 0)]).await {
                Err(error) => assert!(error.is_transient(), "{error}"),
                Ok(outcomes) => return outcomes,
            }
        }
    };
    let outcomes = tokio::time::timeout(Duration::from_secs(10), retry).await.unwrap();
    assert_eq!(outcomes, [WriteOutcome::Written]);
}

#[tokio::test]
async fn a_full_redis_says_so_and_writes_nothing_in_part() {
    let server = RedisServer::start_with(&["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]);
    let writer = Writer::connect(&config(&server)).await.unwrap();
    let mut written = 0;
    let error = loop {
        let batch: Vec<ConversationWrite> = (0..100)
            .map(|number| {
                let mut write = write(&format!("{}", written + number), 0);
                write.fold = vec![0; 4000];
                write
            })
            .collect();
        match writer.write_conversations(&batch).await {
            Ok(_) => written += 100,
            Err(error) => break error,
        }
        assert!(written < 10_000, "Redis should be full by now");
    };
    assert!(matches!(error, ViewsError::OutOfMemory) && error.is_transient(), "{error:?}");
    // Each conversation that has a hash stands in the inbox and the other way round: no script stopped half-way.
    let inbox: Vec<String> = server.run(&["ZRANGE", "convpipe:{200000001}:inbox", "0", "-1"]);
    let hashes: Vec<String> = server.connection().keys("convpipe:{*}:conversation:*").unwrap();
    assert_eq!(inbox.len(), hashes.len());
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(writer.write_conversations(&[write("new", 0)]).await.unwrap(), [WriteOutcome::Written]);
}

/// A TCP proxy that can fall silent as a middlebox does: connections stay open and nothing passes. New ones pass.
struct Proxy {
    url: String,
    swallow: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
}

impl Proxy {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (swallow, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (shared_swallow, shared_accepted) = (Arc::clone(&swallow), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let number = shared_accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let swallow = Arc::clone(&shared_swallow);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let (mut from_client, mut to_client) = client.split();
                    let (mut from_server, mut to_server) = server.split();
                    let up = async {
                        let mut buffer = vec![0; 65_536];
                        while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read(&mut from_client, &mut buffer).await {
                            // Only the first connection is the broken one.
                            if number == 1 && swallow.load(Ordering::SeqCst) {
                                continue;
                            }
                            tokio::io::AsyncWriteExt::write_all(&mut to_server, &buffer[..read]).await.unwrap();
                        }
                    };
                    tokio::join!(up, async { tokio::io::copy(&mut from_server, &mut to_client).await.map(drop) }).1.unwrap_or_default();
                });
            }
        });
        Self { url, swallow, accepted }
    }
}

#[tokio::test]
async fn a_black_holed_connection_is_rebuilt_after_three_timeouts() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let config = RedisConfig { url: proxy.url.clone(), timeout_ms: 300, ..RedisConfig::default() };
    let writer = Writer::connect(&config).await.unwrap();
    let clone = writer.clone();
    assert_eq!(writer.write_conversations(&[write("1", 0)]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(proxy.accepted.load(Ordering::SeqCst), 1);
    proxy.swallow.store(true, Ordering::SeqCst);
    for attempt in 1..=3 {
        let error = writer.epoch().await.unwrap_err();
        assert!(matches!(error, ViewsError::Timeout { after_ms: 300, .. }), "attempt {attempt}: {error:?}");
        assert_eq!(proxy.accepted.load(Ordering::SeqCst), 1, "attempt {attempt}");
    }
    assert_eq!(writer.write_conversations(&[write("1", 1)]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(clone.write_conversations(&[write("1", 2)]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(proxy.accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_conflicts_when_repeated() {
    let server = RedisServer::start();
    let config = RedisConfig { timeout_ms: 300, ..config(&server) };
    let writer = Writer::connect(&config).await.unwrap();
    let mut first = write("1", 0);
    first.priority = vec![entry("once")];
    writer.write_conversations(&[write("0", 0)]).await.unwrap();
    // Redis keeps everything waiting, so the answer comes too late; the write itself still happens.
    server.run::<()>(&["CLIENT", "PAUSE", "600", "ALL"]);
    let error = writer.write_conversations(std::slice::from_ref(&first)).await.unwrap_err();
    assert!(matches!(error, ViewsError::Timeout { .. }), "{error:?}");
    let again = async {
        loop {
            match writer.write_conversations(std::slice::from_ref(&first)).await {
                Err(error) => assert!(error.is_transient(), "{error:?}"),
                Ok(outcomes) => return outcomes,
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), again).await.unwrap(), [WriteOutcome::Conflict]);
    let reader = Reader::connect(&config).await.unwrap();
    assert_eq!(reader.priority(ACCOUNT, StreamRange::Last(10)).await.unwrap().len(), 1);
}
