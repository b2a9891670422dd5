//! A client of the Pub/Sub emulator that shares nothing with ours: JSON over a plain socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::emulator::Emulator;

/// The emulator, spoken to over HTTP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PubSub {
    emulator: &'static Emulator,
}

impl PubSub {
    /// `None` where there is no emulator.
    pub(crate) async fn open() -> Option<Self> {
        let emulator = tokio::task::spawn_blocking(Emulator::pubsub).await.expect("finding it does not panic")?;
        Some(Self { emulator })
    }

    /// `host:port`.
    pub(crate) fn address(self) -> &'static str {
        &self.emulator.address
    }

    /// Makes a topic and its subscriptions, with ordering and a dead-letter topic, so that attempts are counted.
    pub(crate) fn make(self, project: &str, topic: &str, subscriptions: &[&str]) {
        let (path, dead) = (format!("projects/{project}/topics/{topic}"), format!("projects/{project}/topics/{topic}-dead"));
        self.call("PUT", &path, &json!({}));
        self.call("PUT", &dead, &json!({}));
        for subscription in subscriptions {
            let wanted = json!({
                "topic": path,
                "enableMessageOrdering": true,
                "ackDeadlineSeconds": 10,
                "deadLetterPolicy": {"deadLetterTopic": dead, "maxDeliveryAttempts": 100},
            });
            self.call("PUT", &format!("projects/{project}/subscriptions/{subscription}"), &wanted);
        }
    }

    /// What a call answers; it has to succeed.
    pub(crate) fn call(self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body).expect("the emulator answers");
        assert!(status == 200, "{method} {path}: {status} {answer}");
        answer
    }

    /// Status and answer of a call.
    fn ask(self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address(),
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = BufReader::new(stream);
        let (mut status, mut length) = (0, 0);
        for line in answer.by_ref().lines() {
            let line = line?.to_ascii_lowercase();
            match line.split_once(' ') {
                None if line.is_empty() => break,
                Some(("content-length:", said)) => length = said.trim().parse().expect("a length"),
                Some(("http/1.1", said)) => status = said[..3].parse().expect("a status"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}
