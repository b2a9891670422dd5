//! The cases of Autobahn's fuzzing server against the socket's own reading and writing. `scripts/autobahn` starts the server and runs this.
//!
//! What is echoed is what [`Socket::read_chunk`] hands out, so that a case sees what an account's task would. One thing the daemon does otherwise on
//! purpose: a text that is not UTF-8 goes to the quarantine, and the stream goes on. Here it ends the connection, as RFC 6455 wants it and as the
//! cases 6.* ask.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use super::Payload;
use super::socket::{self, Socket};
use crate::config::IngestConfig;
use crate::runtime::trust::Trust;
use crate::schema::artifact::Artifact;

/// The longest case takes some seconds; this is for a case that hangs.
const CASE_MAX: Duration = Duration::from_secs(120);
const AGENT: &str = "convpipe";

#[tokio::test]
#[ignore = "needs Autobahn's fuzzing server: run scripts/autobahn"]
async fn no_case_fails() {
    #[expect(clippy::disallowed_methods, reason = "scripts/autobahn says where its server listens")]
    let server = std::env::var("AUTOBAHN_URL").expect("run scripts/autobahn, which sets AUTOBAHN_URL");
    let count: u32 = ask(&format!("{server}/getCaseCount")).await.parse().expect("a number");
    assert!(count > 200, "only {count} cases");
    let mut failed = BTreeMap::new();
    for case in 1..=count {
        let at = format!("case={case}&agent={AGENT}");
        timeout(CASE_MAX, echo(&format!("{server}/runCase?{at}"))).await.expect("no case hangs");
        let status = ask(&format!("{server}/getCaseStatus?{at}")).await;
        // Non-strict: allowed by the RFC and not as early as could be. Informational: the RFC says nothing of it.
        if !["OK", "NON-STRICT", "INFORMATIONAL"].iter().any(|good| status.contains(&format!("\"{good}\""))) {
            failed.insert(ask(&format!("{server}/getCaseInfo?{at}")).await, status);
        }
    }
    ask(&format!("{server}/updateReports?agent={AGENT}")).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Connects, with limits that let the cases of 16 MiB through.
async fn connect(url: &str) -> Socket {
    let artifact: Artifact = serde_json::from_value(serde_json::json!({
        "schema": "convpipe.artifact.v1", "account_id": "1", "generation": 1, "platform": "onlyfans", "ws_url": url, "token": "t", "status": "ready",
    }))
    .expect("an artifact");
    let config = IngestConfig { message_max_bytes: 32 << 20, frame_max_bytes: 32 << 20, ..IngestConfig::default() };
    socket::connect(&artifact, (&config).into(), &Trust::nobody(), &socket::tcp()).await.expect("the fuzzing server listens")
}

/// Sends each message back until the connection ends.
async fn echo(url: &str) {
    let mut socket = connect(url).await;
    let mut messages: Vec<Payload> = Vec::new();
    while socket.read_chunk(&mut messages).await.is_ok() {
        for Payload { is_text, bytes, .. } in messages.drain(..) {
            if is_text && std::str::from_utf8(&bytes).is_err() {
                let close = CloseFrame { code: CloseCode::Invalid, reason: "".into() };
                socket.queue(Frame::close(Some(close))).expect("it is written to memory");
                return socket.close(Duration::from_secs(1)).await;
            }
            let opcode = OpCode::Data(if is_text { Data::Text } else { Data::Binary });
            socket.queue(Frame::message(bytes, opcode, true)).expect("it is written to memory");
        }
    }
}

/// What the server says there before it closes; empty where it says nothing.
async fn ask(url: &str) -> String {
    let mut socket = connect(url).await;
    let mut messages = Vec::new();
    while timeout(CASE_MAX, socket.read_chunk(&mut messages)).await.expect("an answer in time").is_ok() {}
    let bytes: Bytes = messages.pop().map(|message| message.bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
