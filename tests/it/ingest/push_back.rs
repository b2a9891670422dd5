//! A topic that takes nothing: what is shed, what waits, and that in the end it is the platform that waits.

use std::collections::BTreeMap;
use std::io;

use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::*;

const BUFFER: usize = 60_000;
/// What the platform would write if nobody stopped it: far more than the system buffers on both sides of a connection.
const FLOOD: usize = 96 << 20;
/// A frame that says little and weighs much; a number with spaces around it is that number.
const PADDING: usize = 60_000;

/// A message, as bytes on the wire.
fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::message(text.to_owned(), OpCode::Data(Data::Text), true).format(&mut bytes).unwrap();
    bytes
}

/// What a peer that only ever writes could write: whole messages in order, and the one that was cut short.
struct Writer {
    next: i64,
    cut: Vec<u8>,
    accepted: usize,
}

impl Writer {
    /// Writes until the system takes no more for as long as a heartbeat lasts several times over, or until it took `FLOOD` bytes.
    async fn flood(&mut self, tcp: &TcpStream) {
        loop {
            if self.cut.is_empty() {
                self.cut = wire(&format!("{:PADDING$}", self.next));
                self.next += 1;
            }
            match tcp.try_write(&self.cut) {
                Ok(written) => {
                    self.cut.drain(..written);
                    self.accepted += written;
                    if self.accepted > FLOOD {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if timeout(Duration::from_millis(200), tcp.writable()).await.is_err() {
                        return;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn when_the_buffer_is_full_the_platform_s_own_writes_block_until_the_topic_is_back() {
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { buffer_max_bytes: BUFFER, heartbeat_ms: 20, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap start").await;
    running.events.down.store(true, Ordering::SeqCst);

    // Messages until the buffer is full: the reader stops.
    let mut writer = Writer { next: 1, cut: Vec::new(), accepted: 0 };
    writer.flood(peer.get_ref()).await;
    assert!(writer.accepted < FLOOD, "the platform could write all of it");
    let stopped = running.counters.read();
    assert!(stopped.waits_a > 0 && stopped.buffer_bytes <= BUFFER as u64, "{stopped:?}");
    let read = stopped.frames;
    assert!(read < writer.next as u64, "{read} of {} messages were read", writer.next);

    // Nothing more goes in, and nothing more is read, for as long as the topic is down; but the heart beats on.
    for _ in 0..5 {
        let message = timeout(LIMIT, peer.next()).await.unwrap().unwrap().unwrap();
        assert!(message.to_text().unwrap().starts_with(r#"{"act":"get_onlines""#), "{message:?}");
    }
    let accepted = writer.accepted;
    writer.flood(peer.get_ref()).await;
    let counts = running.counters.read();
    assert!(writer.accepted - accepted < 2 * PADDING, "{} bytes more", writer.accepted - accepted);
    assert_eq!((counts.frames, counts.live, counts.failures, counts.published), (read, 1, 0, stopped.published));

    // The topic is back: the platform writes on, and all of it comes, in order, over the same connection.
    running.events.down.store(false, Ordering::SeqCst);
    peer.get_mut().write_all(&writer.cut).await.unwrap();
    let last = format!("message.received {}", writer.next);
    peer.get_mut().write_all(&wire(&writer.next.to_string())).await.unwrap();
    let said = running.events.wait_for(&last).await;
    let messages = said.iter().filter(|said| said.starts_with("message"));
    assert!(messages.cloned().eq((1..=writer.next).map(|n| format!("message.received {n}"))), "all, in order");
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.connects, counts.failures, counts.gaps, counts.buffer_bytes), (1, 0, 1, 0));
}

#[tokio::test]
async fn what_is_shed_is_shed_by_class_and_counted() {
    const KEYS: u64 = 7;
    let (mut peers, url) = scripted().await;
    let running = start(IngestConfig { buffer_max_bytes: BUFFER, ..config() }, vec![artifact("1", 1, &url)]);
    let mut peer = accept(&mut peers, &[CONNECTED]).await;
    running.events.wait_for("connection.gap start").await;
    running.events.down.store(true, Ordering::SeqCst);

    // All three classes at once, until nothing has a place any more and the reader stops; then more, which waits on the way.
    let (mut sent, mut after_full) = (0u64, 0);
    while after_full < 50 {
        sent += 1;
        for text in [sent.to_string(), format!("-{sent}"), format!("counters {sent} of {}", sent % KEYS)] {
            timeout(LIMIT, peer.send(Message::text(text))).await.expect("the system's own buffers are larger than this").unwrap();
        }
        // Lets ingest run, which shares this thread.
        tokio::task::yield_now().await;
        after_full += u64::from(running.counters.read().waits_a > 0);
        assert!(sent < 5_000, "the buffer is never full: {:?}", running.counters.read());
    }
    let counts = running.counters.read();
    assert!(counts.dropped_c > 0 && counts.coalesced_b > 0 && counts.buffer_bytes <= BUFFER as u64, "{counts:?}");

    running.events.down.store(false, Ordering::SeqCst);
    running.events.wait("everything", |said| said.contains(&format!("message.received {sent}"))).await;
    running.counted("an empty buffer", |counts| counts.buffer_bytes == 0 && counts.frames == 3 * sent + 1).await;
    let (events, counts) = (running.events.messages.borrow().clone(), running.counters.read());
    let of = |kind: EventKind| events.iter().filter(move |envelope| envelope.event().unwrap().kind == kind);

    let messages = of(EventKind::MessageReceived).map(say);
    assert!(messages.eq((1..=sent).map(|n| format!("message.received {n}"))), "A: all, in order");
    let typed = of(EventKind::TypingStarted).count() as u64;
    assert_eq!(typed + counts.dropped_c, sent, "C: what did not come was dropped, and counted");
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut counted = 0;
    for envelope in of(EventKind::CountersUpdated) {
        let event = envelope.event().unwrap();
        let number: u64 = event.id.raw().parse().unwrap();
        // An older value may be on its way already when a newer one takes a place: it never comes after it.
        let before = newest.insert(event.conversation_id.unwrap().raw().to_owned(), number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        counted += 1;
    }
    assert_eq!(counted + counts.coalesced_b, sent, "B: what did not come was replaced by something newer, and counted");
    for (key, number) in &newest {
        assert!(number + KEYS > sent, "the newest of {key} is {number} of {sent}");
    }
    assert_eq!(newest.len() as u64, KEYS);
    let counts = running.stop().await.unwrap();
    assert_eq!((counts.connects, counts.failures), (1, 0));
}
