//! The dashboard over real sockets, on a private Redis and in a real browser.

mod browser;
mod chromium;
mod routes;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use convpipe::config::Config;
use convpipe::daemons::dashboard::Dashboard;
use convpipe::runtime::clock;
use convpipe::runtime::health::Health;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::schema::time::Millis;
use convpipe::views::Keys;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::redis::RedisServer;

const LIMIT: Duration = Duration::from_secs(20);
const A: &str = "200000001";
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
