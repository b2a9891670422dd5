//! A platform that misbehaves by script: over sockets, and over pipes in memory where time is paused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convpipe::runtime::trust::Trust;
use convpipe::ws::socket::{Dial, Wire};
use convpipe::ws::{Failure, Reason};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

pub(crate) const CONNECTED: &str = r#"{"connected":true,"v":"5.4.0"}"#;

/// What the platform does next on a connection. After the last step it answers heartbeats, until the client goes.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The attempt to connect is never answered. Only in memory.
    NoTcp,
    /// It is refused. Only in memory.
    NoPort,
    /// Reads and says nothing, below everything else.
    Nothing,
    /// Shakes hands of TLS, after so many milliseconds.
    Tls(u64),
    /// Answers the handshake with an HTTP status.
    Status(u16),
    /// Says this instead of a handshake.
    Garbage(&'static [u8]),
    /// Shakes hands, and waits for the token.
    Upgrade,
    /// Sends a text frame.
    Text(String),
    /// Sends these bytes below the WebSocket layer.
    Raw(Vec<u8>),
    /// Waits until all of it was read.
    Sync,
    /// Closes with a code and a text.
    Close(u16, &'static str),
    /// Breaks off.
    Reset,
    /// Reads and answers nothing any more.
    Mute,
}

/// The platform. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Scripted {
    /// One script a connection; later connections play the last one.
    scripts: Arc<Vec<Vec<Step>>>,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Scripted {
    pub(crate) fn new(scripts: Vec<Vec<Step>>, tls: Option<&Tls>) -> Self {
        let tls = tls.map(|tls| tls.acceptor.clone());
        Self { scripts: Arc::new(scripts), heard: Arc::default(), connections: Arc::default(), tls }
    }

    /// What the client did, by connection: `1 token`, `1 heartbeat`, `1 close`, `1 gone`; what it did again and again is there once.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn next(&self) -> (usize, Vec<Step>) {
        let mut connections = self.connections.lock().unwrap();
        *connections += 1;
        (*connections, self.scripts[(*connections - 1).min(self.scripts.len() - 1)].clone())
    }

    /// Connections are pipes.
    pub(crate) fn in_memory(&self) -> Dial {
        let platform = self.clone();
        Arc::new(move |_| {
            let platform = platform.clone();
            Box::pin(async move {
                let (n, script) = platform.next();
                match script.first() {
                    Some(Step::NoTcp) => std::future::pending().await,
                    Some(Step::NoPort) => Err(Failure::retry(Reason::Connect)),
                    _ => {
                        let (ours, theirs) = tokio::io::duplex(64 << 10);
                        tokio::spawn(async move { platform.play(n, &script, Box::new(theirs)).await });
                        Ok(Box::new(ours) as Box<dyn Wire>)
                    }
                }
            })
        })
    }

    /// Connections are sockets, on this port of the loopback.
    pub(crate) async fn listen(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let platform = self.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (n, script) = platform.next();
                if matches!(script.last(), Some(Step::Reset)) {
                    tcp.set_zero_linger().unwrap();
                }
                let platform = platform.clone();
                tokio::spawn(async move { platform.play(n, &script, Box::new(tcp)).await });
            }
        });
        port
    }

    fn hear(&self, n: usize, what: &str) {
        let said = format!("{n} {what}");
        let mut heard = self.heard.lock().unwrap();
        if !heard.contains(&said) {
            heard.push(said);
        }
    }

    /// A client that goes in the middle of it ends the script.
    async fn play(&self, n: usize, script: &[Step], wire: Box<dyn Wire>) -> Option<()> {
        let (mut wire, mut steps) = (wire, script.iter());
        let mut peer = loop {
            match steps.next()? {
                Step::Nothing => return self.drain(n, wire).await,
                Step::Garbage(bytes) => {
                    wire.write_all(bytes).await.ok()?;
                    return self.drain(n, wire).await;
                }
                Step::Status(status) => {
                    let answer = format!("HTTP/1.1 {status} Canary\r\ncontent-length: 6\r\n\r\ncanary");
                    wire.write_all(answer.as_bytes()).await.ok()?;
                    return self.drain(n, wire).await;
                }
                Step::Tls(after_ms) => {
                    tokio::time::sleep(Duration::from_millis(*after_ms)).await;
                    wire = Box::new(self.tls.clone()?.accept(wire).await.ok()?);
                }
                Step::Upgrade => break tokio_tungstenite::accept_async(wire).await.ok()?,
                other => panic!("{other:?} before the handshake"),
            }
        };
        let hello = peer.next().await?.ok()?;
        assert!(hello.to_text().unwrap().starts_with(r#"{"act":"connect","token":"replay-"#), "{hello:?}");
        self.hear(n, "token");
        for step in steps {
            match step {
                Step::Text(text) => peer.send(Message::text(text)).await.ok()?,
                Step::Raw(bytes) => {
                    peer.get_mut().write_all(bytes).await.ok()?;
                    peer.get_mut().flush().await.ok()?;
                }
                Step::Sync => {
                    peer.send(Message::Ping("sync".into())).await.ok()?;
                    while !matches!(peer.next().await?.ok()?, Message::Pong(_)) {}
                }
                Step::Close(code, text) => {
                    let _ = peer.close(Some(CloseFrame { code: (*code).into(), reason: (*text).into() })).await;
                }
                Step::Reset => return None,
                Step::Mute => return self.drain(n, peer.into_inner()).await,
                other => panic!("{other:?} after the handshake"),
            }
        }
        self.answer(n, peer).await
    }

    /// Reads and says nothing.
    async fn drain(&self, n: usize, mut wire: Box<dyn Wire>) -> Option<()> {
        let mut sink = [0; 1024];
        while wire.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        self.hear(n, "gone");
        Some(())
    }

    async fn answer(&self, n: usize, mut peer: WebSocketStream<Box<dyn Wire>>) -> Option<()> {
        while let Some(Ok(message)) = peer.next().await {
            match message {
                Message::Text(text) if text.contains("get_onlines") => {
                    self.hear(n, "heartbeat");
                    peer.send(Message::text(r#"{"online":[]}"#)).await.ok()?;
                }
                Message::Close(_) => self.hear(n, "close"),
                _ => {}
            }
        }
        self.hear(n, "gone");
        Some(())
    }
}

/// A certificate of an authority of our own.
pub(crate) struct Tls {
    acceptor: tokio_rustls::TlsAcceptor,
    /// Whoever trusts it.
    pub(crate) trust: Trust,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let (config, certificate) = super::tls::server(&["localhost"]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, certificate).unwrap();
        let trust = Trust::new(Some(&file)).unwrap();
        Self { acceptor: tokio_rustls::TlsAcceptor::from(config), trust }
    }
}
