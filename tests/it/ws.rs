//! The client socket and the platform's server, over real sockets: each other, and peers that misbehave.

use std::time::Duration;

use bytes::Bytes;
use convpipe::config::IngestConfig;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::runtime::trust::Trust;
use convpipe::schema::artifact::Artifact;
use convpipe::ws::serve::{self, Player, token_of};
use convpipe::ws::socket::{self, Socket};
use convpipe::ws::{Failure, Payload, Reason, Verdict};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn artifact(account: &str, generation: u64, url: &str) -> Artifact {
    serde_json::from_value(serde_json::json!({
        "schema": "convpipe.artifact.v1", "account_id": account, "generation": generation, "platform": "onlyfans", "ws_url": url,
        "token": token_of(account), "status": "ready",
    }))
    .unwrap()
}

/// A platform with two accounts, and the task that serves it.
async fn platform(shutdown: &Shutdown) -> (Player, String, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/ws3/30?secret=canary", listener.local_addr().unwrap());
    let (player, source) = serve::stage(["1", "2"], &[100_000_001]);
    (player, url, tokio::spawn(serve::serve(listener, source, shutdown.clone())))
}

fn trust() -> Trust {
    Trust::new(None).unwrap()
}

async fn open(account: &str, url: &str) -> Socket {
    let mut socket =
        socket::connect(&artifact(account, 1, url), (&IngestConfig::default()).into(), &trust(), &socket::tcp()).await.unwrap();
    socket.send(format!(r#"{{"act":"connect","token":"{}"}}"#, token_of(account))).unwrap();
    socket
}

/// The next frames, at least `count`.
async fn read_payloads(socket: &mut Socket, count: usize) -> Result<Vec<Payload>, Failure> {
    let mut frames = Vec::new();
    while frames.len() < count {
        timeout(LIMIT, socket.read_chunk(&mut frames)).await.expect("a frame in time")?;
    }
    Ok(frames)
}

/// The same of frames that are whole.
async fn read(socket: &mut Socket, count: usize) -> Result<Vec<Bytes>, Failure> {
    let frames = read_payloads(socket, count).await?;
    assert!(!frames.iter().any(Payload::is_cut));
    Ok(frames.into_iter().map(|frame| frame.bytes).collect())
}

async fn read_end(socket: &mut Socket) -> Failure {
    loop {
        if let Err(failure) = read(socket, 1).await {
            return failure;
        }
    }
}

#[tokio::test]
async fn frames_arrive_in_order_between_heartbeats() {
    let shutdown = Shutdown::new();
    let (player, url, served) = platform(&shutdown).await;
    let mut socket = open("1", &url).await;
    assert_eq!(read(&mut socket, 1).await.unwrap(), [r#"{"connected":true,"v":"5.4.0"}"#]);
    player.connected(1).await;

    let playing = tokio::spawn(async move {
        for n in 0..20_000 {
            player.play("1", format!(r#"{{"n":{n}}}"#)).await.unwrap();
        }
        player.drained().await;
        player
    });
    socket.send(r#"{"act":"get_onlines","ids":[]}"#).unwrap();
    let frames = read(&mut socket, 20_001).await.unwrap();
    let (online, data): (Vec<&Bytes>, Vec<&Bytes>) = frames.iter().partition(|frame| frame.starts_with(b"{\"online\""));
    assert_eq!(online, [r#"{"online":[100000001]}"#]);
    assert!(data.iter().enumerate().all(|(n, frame)| **frame == format!(r#"{{"n":{n}}}"#)), "in order");
    let player = playing.await.unwrap();
    assert_eq!((player.sent(), player.lost()), (20_000, 0));

    assert_eq!(player.play("3", "{}").await.unwrap_err().to_string(), r#"account "3" is not on the stage"#);
    shutdown.request();
    assert_eq!(read_end(&mut socket).await.reason, Reason::ServerClosed);
    timeout(LIMIT, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn strangers_are_refused() {
    let shutdown = Shutdown::new();
    let (_player, url, _served) = platform(&shutdown).await;
    for said in [r#"{"act":"connect","token":"replay-3"}"#, r#"{"act":"get_onlines","ids":[]}"#, "no JSON", r#"{"act":"connect"}"#] {
        let mut socket =
            socket::connect(&artifact("1", 1, &url), (&IngestConfig::default()).into(), &trust(), &socket::tcp()).await.unwrap();
        socket.send(said).unwrap();
        assert_eq!(read(&mut socket, 1).await.unwrap(), [r#"{"error":1}"#], "{said}");
        assert_eq!(read_end(&mut socket).await.reason, Reason::ServerClosed, "{said}");
    }
}

#[tokio::test]
async fn the_newest_connection_of_an_account_takes_over() {
    let shutdown = Shutdown::new();
    let (player, url, _served) = platform(&shutdown).await;
    let mut old = open("1", &url).await;
    player.play("1", "before").await.unwrap();
    assert_eq!(read(&mut old, 2).await.unwrap()[1], "before");
    let mut new = open("1", &url).await;
    assert_eq!(read(&mut new, 1).await.unwrap(), [r#"{"connected":true,"v":"5.4.0"}"#]);
    assert_eq!(read_end(&mut old).await.reason, Reason::ServerClosed);
    player.play("1", "after").await.unwrap();
    assert_eq!(read(&mut new, 1).await.unwrap(), ["after"]);
}

/// How a scripted peer behaves, and what the client makes of it.
#[derive(Debug, Clone, Copy)]
enum Peer {
    /// Accepts and says nothing.
    Silent,
    /// Answers the handshake with this HTTP status.
    Status(u16),
    /// Speaks no HTTP at all.
    Garbage,
    /// Closes with this code and text.
    Close(u16, &'static str),
    /// Breaks off with a reset.
    Reset,
    /// Ends the stream without a closing handshake.
    Eof,
    /// Sends these bytes below the WebSocket layer.
    Raw(&'static [u8]),
}

/// Serves one connection, and holds it open until the client has gone.
async fn peer(listener: TcpListener, peer: Peer) {
    let (mut tcp, _) = listener.accept().await.unwrap();
    match peer {
        Peer::Silent => hold(tcp).await,
        Peer::Status(status) => {
            let answer = format!("HTTP/1.1 {status} Canary\r\ncontent-length: 6\r\n\r\ncanary");
            tcp.write_all(answer.as_bytes()).await.unwrap();
            hold(tcp).await;
        }
        Peer::Garbage => {
            tcp.write_all(b"220 canary ESMTP\r\n\r\n").await.unwrap();
            hold(tcp).await;
        }
        Peer::Close(code, text) => {
            let mut ws = accept(tcp).await;
            ws.close(Some(CloseFrame { code: code.into(), reason: text.into() })).await.unwrap();
            while ws.next().await.is_some() {}
        }
        Peer::Reset => {
            let ws = accept(tcp).await;
            ws.get_ref().set_zero_linger().unwrap();
        }
        Peer::Eof => drop(accept(tcp).await),
        Peer::Raw(bytes) => {
            let mut ws = accept(tcp).await;
            ws.send(Message::text("first")).await.unwrap();
            ws.get_mut().write_all(bytes).await.unwrap();
            hold(ws.into_inner()).await;
        }
    }
}

async fn accept(tcp: TcpStream) -> WebSocketStream<TcpStream> {
    tokio_tungstenite::accept_async(tcp).await.unwrap()
}

async fn hold(mut tcp: TcpStream) {
    let mut sink = [0; 1024];
    while tcp.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn peers_that_misbehave_are_classified() {
    let retry = Failure::retry;
    let code = |code, failure| Failure { close_code: Some(code), ..failure };
    let refused = Failure::refused(Reason::AuthRefused);
    let slow = Failure { verdict: Verdict::Slow, ..retry(Reason::ServerClosed) };
    for (behaviour, scheme, expected) in [
        (Peer::Silent, "ws", Failure::timeout(Reason::Handshake)),
        (Peer::Silent, "wss", Failure::timeout(Reason::Tls)),
        (Peer::Garbage, "wss", retry(Reason::Tls)),
        (Peer::Garbage, "ws", retry(Reason::Handshake)),
        (Peer::Status(401), "ws", code(401, refused)),
        (Peer::Status(403), "ws", code(403, refused)),
        (Peer::Status(502), "ws", code(502, retry(Reason::Handshake))),
        (Peer::Close(1001, ""), "ws", code(1001, retry(Reason::ServerClosed))),
        (Peer::Close(1008, ""), "ws", code(1008, slow)),
        (Peer::Close(4000, "Wrong user"), "ws", code(4000, refused)),
        // A number that nobody may send.
        (Peer::Raw(b"\x88\x02\x03\xe7"), "ws", code(999, retry(Reason::ServerClosed))),
        (Peer::Reset, "ws", retry(Reason::Reset)),
        (Peer::Eof, "ws", retry(Reason::Reset)),
        // A reserved opcode; a masked frame; a continuation of nothing.
        (Peer::Raw(b"\x83\x00"), "ws", retry(Reason::Protocol)),
        (Peer::Raw(b"\x81\x81abcdx"), "ws", retry(Reason::Protocol)),
        (Peer::Raw(b"\x80\x06canary"), "ws", retry(Reason::Protocol)),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("{scheme}://{}/?secret=canary", listener.local_addr().unwrap());
        let serving = tokio::spawn(peer(listener, behaviour));
        let config = IngestConfig { connect_timeout_ms: 100, ..IngestConfig::default() };
        let failure = match timeout(LIMIT, socket::connect(&artifact("1", 1, &url), (&config).into(), &trust(), &socket::tcp()))
            .await
            .unwrap()
        {
            Err(failure) => failure,
            Ok(mut socket) => {
                if matches!(behaviour, Peer::Raw(_)) {
                    assert_eq!(read(&mut socket, 1).await.unwrap()[0], "first", "what came before the end is handed out: {behaviour:?}");
                }
                read_end(&mut socket).await
            }
        };
        assert_eq!(failure, expected, "{behaviour:?} over {scheme}");
        assert!(!format!("{failure} {failure:?}").contains("anary"), "{failure:?}");
        timeout(LIMIT, serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_handed_out_and_the_stream_goes_on() {
    const GIANT: usize = 300_000;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut ws = accept(listener.accept().await.unwrap().0).await;
        // A text frame that is not UTF-8, one that is so only once its fragments are together, one too large, two fragments that are together.
        ws.get_mut().write_all(b"\x81\x03a\xff\xfe").await.unwrap();
        ws.get_mut().write_all(b"\x01\x01\xc3\x80\x01\xa9").await.unwrap();
        ws.send(Message::text("x".repeat(GIANT))).await.unwrap();
        let fragment = [&b"\x01\x7f\0\0\0\0\0\x01\x86\xa0"[..], &vec![b'y'; 100_000]].concat();
        ws.get_mut().write_all(&fragment).await.unwrap();
        ws.get_mut().write_all(&[b"\x80", &fragment[1..]].concat()).await.unwrap();
        ws.send(Message::text("after")).await.unwrap();
        for ping in ["p", "q", "r"] {
            ws.feed(Message::Ping(ping.into())).await.unwrap();
        }
        ws.flush().await.unwrap();
        for pong in ["p", "q", "r"] {
            let answer = timeout(LIMIT, ws.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(answer, Message::Pong(pong.into()));
        }
        ws.close(None).await.unwrap();
        assert_eq!(timeout(LIMIT, ws.next()).await.unwrap().unwrap().unwrap(), Message::Close(None), "the close is answered");
    });
    let config = IngestConfig { message_max_bytes: 150_000, frame_max_bytes: 120_000, ..IngestConfig::default() };
    let mut socket = socket::connect(&artifact("1", 1, &url), (&config).into(), &trust(), &socket::tcp()).await.unwrap();
    let frames = read_payloads(&mut socket, 5).await.unwrap();
    let told: Vec<(usize, u64, u8)> = frames.iter().map(|frame| (frame.bytes.len(), frame.length, frame.bytes[0])).collect();
    let kept = 64 << 10;
    assert_eq!(told, [(3, 3, b'a'), (2, 2, 0xc3), (kept, GIANT as u64, b'x'), (kept, 200_000, b'y'), (5, 5, b'a')]);
    assert_eq!((&frames[0].bytes[..], &frames[1].bytes[..], &frames[4].bytes[..]), (&b"a\xff\xfe"[..], "é".as_bytes(), &b"after"[..]));
    assert_eq!(read_end(&mut socket).await, Failure::retry(Reason::ServerClosed));
    timeout(LIMIT, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let failure = socket::connect(&artifact("1", 1, &url), (&IngestConfig::default()).into(), &trust(), &socket::tcp()).await.unwrap_err();
    assert_eq!(failure, Failure::retry(Reason::Connect));
}

/// A TLS server of one connection, and the file of the authority to trust.
async fn tls_server(names: &[&str]) -> (TcpListener, tokio_rustls::TlsAcceptor, String) {
    let (config, certificate) = crate::support::tls::server(names);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    (listener, tokio_rustls::TlsAcceptor::from(config), certificate)
}

#[tokio::test]
async fn over_tls_frames_are_read_as_they_are_in_the_clear() {
    let (listener, acceptor, certificate) = tls_server(&["localhost"]).await;
    let url = format!("wss://localhost:{}/ws3/30?secret=canary", listener.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();

    let serving = tokio::spawn(async move {
        // Whoever does not know the authority goes away in the handshake.
        let (tcp, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(tcp).await.is_err());
        let (tcp, _) = listener.accept().await.unwrap();
        let tls = acceptor.accept(tcp).await.unwrap();
        let mut ws = tokio_tungstenite::accept_async(tls).await.unwrap();
        assert_eq!(ws.next().await.unwrap().unwrap(), Message::text("hello"));
        for n in 0..1_000 {
            ws.feed(Message::text(n.to_string())).await.unwrap();
        }
        ws.feed(Message::Ping("p".into())).await.unwrap();
        ws.feed(Message::text("x".repeat(300_000))).await.unwrap();
        ws.flush().await.unwrap();
        assert_eq!(ws.next().await.unwrap().unwrap(), Message::Pong("p".into()));
        ws.close(None).await.unwrap();
        while ws.next().await.is_some() {}
    });
    let limits = (&IngestConfig::default()).into();
    let failure = socket::connect(&artifact("1", 1, &url), limits, &trust(), &socket::tcp()).await.unwrap_err();
    assert_eq!(failure, Failure::retry(Reason::Tls));
    let mut socket = socket::connect(&artifact("1", 1, &url), limits, &Trust::new(Some(&file)).unwrap(), &socket::tcp()).await.unwrap();
    socket.send("hello").unwrap();
    let frames = read(&mut socket, 1_001).await.unwrap();
    assert!(frames[..1_000].iter().enumerate().all(|(n, frame)| **frame == *n.to_string().as_bytes()), "in order");
    assert_eq!(frames[1_000].len(), 300_000);
    assert_eq!(read_end(&mut socket).await, Failure::retry(Reason::ServerClosed));
    timeout(LIMIT, serving).await.unwrap().unwrap();
}
