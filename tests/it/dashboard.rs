//! The dashboard over real sockets, on a private Redis and in a real browser.

mod accessibility;
mod browser;
mod chromium;
mod figures;
mod keyboard;
mod pictures;
mod plain;
mod routes;
mod streams;
mod unreadable;
mod whole;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convpipe::config::Config;
use convpipe::daemons::dashboard::Dashboard;
use convpipe::runtime::clock;
use convpipe::runtime::health::Health;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::schema::time::Millis;
use convpipe::views::Keys;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::process::Process;
use super::support::redis::RedisServer;

const LIMIT: Duration = Duration::from_secs(20);
const A: &str = "200000001";
const TOKEN: &str = "a-token-of-a-test-0123456789";
const HOSTILE: &str = "<img src=http://127.0.0.1:9/x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>\u{202e}";

/// A running dashboard.
struct Served {
    address: SocketAddr,
    stop: Shutdown,
    running: JoinHandle<()>,
}

impl Served {
    async fn start(redis_url: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.redis.url = redis_url.to_owned();
        config.redis.timeout_ms = 500;
        config.dashboard.listen = "127.0.0.1:0".into();
        config.dashboard.refresh_ms = 50;
        change(&mut config);
        let dashboard = Dashboard::bind(&config, clock::now).await.unwrap();
        let (address, stop) = (dashboard.address(), Shutdown::new());
        let ending = stop.clone();
        Self { address, stop, running: tokio::spawn(async move { dashboard.serve(&Health::default(), ending).await }) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn stop(self) {
        self.stop.request();
        self.running.await.unwrap();
    }
}

/// Writes a conversation as the snapshot service would; `change` sets what matters.
fn put(server: &RedisServer, id: &str, rev: u64, change: impl FnOnce(&mut Value)) {
    let (now, config) = (clock::now(), Config::default());
    let mut snapshot = json!({
        "account_id": A, "conversation_id": id, "fan": { "id": id, "name": format!("Fan {id}") }, "tier": "none", "high_value": { "is": false },
        "last_message": { "id": "1", "preview": "hello", "direction": "in", "at": now }, "unread": 0,
        "spend": { "observed": { "total": 0, "messages": 0, "tips": 0, "subscriptions": 0, "posts": 0, "streams": 0, "payments": 0, "largest": 0 } },
        "rev": rev, "received_at": now, "applied_at": now, "event_id": "e",
    });
    change(&mut snapshot);
    let keys = Keys::new(&config.redis).unwrap();
    let (rev, score) = (rev.to_string(), now.0.to_string());
    server.run::<()>(&["HSET", &keys.conversation(A, id), "snapshot", &snapshot.to_string(), "rev", &rev]);
    server.run::<()>(&["ZADD", &keys.inbox(A), &score, id]);
    server.run::<()>(&["ZADD", &keys.accounts(), &score, A]);
}

/// Writes conversations 1 to `count` at once, each with a preview of its own.
fn fill(server: &RedisServer, count: u32, rev: u64, preview: impl Fn(u32) -> String) {
    put(server, "1", rev, |_| ());
    let keys = Keys::new(&Config::default().redis).unwrap();
    let snapshot: String = server.run(&["HGET", &keys.conversation(A, "1"), "snapshot"]);
    let score = clock::now().0;
    let mut pipeline = redis::pipe();
    for number in 1..=count {
        let id = number.to_string();
        let mut own: Value = serde_json::from_str(&snapshot).unwrap();
        (own["conversation_id"], own["fan"]["id"], own["fan"]["name"]) = (id.clone().into(), id.clone().into(), format!("Fan {id}").into());
        own["last_message"]["preview"] = preview(number).into();
        pipeline.cmd("HSET").arg(keys.conversation(A, &id)).arg("snapshot").arg(own.to_string()).arg("rev").arg(rev).ignore();
        pipeline.cmd("ZADD").arg(keys.inbox(A)).arg(score).arg(&id).ignore();
    }
    pipeline.query::<()>(&mut server.connection()).unwrap();
}

/// Starts `convpipe dashboard` as a process, and says where it listens.
fn start_program(folder: &Path, redis_url: &str) -> (Process, SocketAddr) {
    let config = json!({ "redis": { "url": redis_url }, "dashboard": { "listen": "127.0.0.1:0", "refresh_ms": 10 } });
    std::fs::write(folder.join("convpipe.yaml"), config.to_string()).unwrap();
    let process = Process::start(folder, &["dashboard"]);
    let address = address_of(&process);
    (process, address)
}

/// Where a `convpipe dashboard` says that it listens.
fn address_of(process: &Process) -> SocketAddr {
    let line = process.wait_stderr("the dashboard is at http://", LIMIT);
    line.rsplit("http://").next().unwrap().trim_end_matches('/').parse().unwrap()
}

/// A file with the token of a test.
fn token_file(folder: &Path) -> PathBuf {
    let file = folder.join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A client that follows no redirect.
fn client() -> Client {
    // What the program does at its start, where it uses TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Never used: every address of these tests is `http`.
    let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Client::builder().no_proxy().no_gzip().redirect(reqwest::redirect::Policy::none()).tls_backend_preconfigured(tls).build().unwrap()
}

/// Puts an entry into the priority feed.
fn raise(server: &RedisServer, id: &str, level: &str) {
    let now: Millis = clock::now();
    let entry = json!({
        "level": level, "reasons": ["message"], "score": 1, "event": { "id": "e", "kind": "message.received" }, "account_id": A, "conversation_id": id,
        "fan": { "id": id, "name": format!("Fan {id}"), "tier": "none" }, "preview": HOSTILE, "received_at": now, "applied_at": now,
    });
    let key = Keys::new(&Config::default().redis).unwrap().priority(A);
    server.run::<String>(&["XADD", &key, "*", "entry", &entry.to_string()]);
}

/// Asks again until the answer is the wanted one.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
