//! Google's Pub/Sub emulator, one for all tests of a process, and a client for it that shares nothing with ours: JSON over a plain socket.
//!
//! `CONVPIPE_TEST_PUBSUB_EMULATOR=host:port` names one that runs already, as `scripts/test` does. Else the one that the Google Cloud CLI brings is
//! started; without one the tests that need it are left out, loudly, and with `CI=true` they fail.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A Java virtual machine on a busy machine takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running emulator.
#[derive(Debug)]
pub(crate) struct Emulator {
    address: String,
    /// Ends with its standard input, and that with this process, however it ends.
    _guard: Option<Child>,
}

/// The emulator of this process; `None` where there is none to be had.
pub(crate) fn emulator() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(find).as_ref()
}

#[expect(clippy::disallowed_methods, reason = "the variables are for tests alone")]
fn find() -> Option<Emulator> {
    if let Ok(address) = std::env::var("CONVPIPE_TEST_PUBSUB_EMULATOR") {
        return Some(Emulator { address, _guard: None });
    }
    let Some(program) = std::env::var_os("PATH").and_then(|path| std::env::split_paths(&path).find_map(|folder| program(&folder))) else {
        let missing = "the Pub/Sub emulator is missing: install google-cloud-cli-pubsub-emulator and Java 17, or run `gcloud components install pubsub-emulator`";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        // Not the macro: the harness would keep it to itself.
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {missing}");
        return None;
    };
    for _ in 0..5 {
        if let Some(emulator) = start(&program) {
            return Some(emulator);
        }
    }
    panic!("{} does not start", program.display());
}

/// The emulator next to the `gcloud` of a folder: `gcloud` is a link into the installation.
fn program(folder: &Path) -> Option<PathBuf> {
    let root = folder.join("gcloud").canonicalize().ok()?.parent()?.parent()?.to_owned();
    let program = root.join("platform/pubsub-emulator/bin/cloud-pubsub-emulator");
    program.is_file().then_some(program)
}

fn start(program: &Path) -> Option<Emulator> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    // The shell waits for its standard input to end, and then ends the emulator, by its id.
    let script = r#""$0" --host=127.0.0.1 --port="$1" >/dev/null 2>&1 & emulator=$!; read -r _; kill "$emulator"; wait"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program).arg(port.to_string()).env("JAVA_OPTS", "-Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC");
    let guard = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is a shell");
    let emulator = Emulator { address: format!("127.0.0.1:{port}"), _guard: Some(guard) };
    let begun = Instant::now();
    while begun.elapsed() < START_TIMEOUT {
        if emulator.ask("GET", "projects/none/topics", &Value::Null).is_some() {
            return Some(emulator);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

impl Emulator {
    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes a topic and its subscriptions, with ordering and a dead-letter topic, so that attempts are counted.
    pub(crate) fn make(&self, project: &str, topic: &str, subscriptions: &[&str]) {
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
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body).expect("the emulator answers");
        assert!(status == 200, "{method} {path}: {status} {answer}");
        answer
    }

    /// Status and answer of a call; `None` where nobody speaks HTTP there.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
        let mut answer = BufReader::new(stream);
        let (mut status, mut length) = (None, 0);
        for line in answer.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            match line.to_ascii_lowercase().strip_prefix("content-length:") {
                Some(said) => length = said.trim().parse().ok()?,
                None if status.is_none() => status = line.split(' ').nth(1).and_then(|code| code.parse().ok()),
                None => {}
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).ok()?;
        Some((status?, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}
