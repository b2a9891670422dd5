//! What the listener answers, whatever the daemon.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use convpipe::runtime::exposition::{Expose, Page};
use convpipe::runtime::health::{Health, Listener};
use convpipe::runtime::shutdown::Shutdown;

use super::scrape::{Scrape, ask, get, wait_for};

struct One;

impl Expose for One {
    fn expose(&self, page: &mut Page<'_>) {
        page.gauge("one", "One.", 1u64);
    }
}

async fn serve(health: &Health, shutdown: &Shutdown) -> (String, convpipe::runtime::health::Serving) {
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    (listener.address().to_string(), listener.serve(health.clone(), Arc::new(One), shutdown.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_whether_it_lives_and_whether_it_is_ready() {
    let (health, shutdown) = (Health::new(Duration::from_millis(1)), Shutdown::new());
    let (at, _serving) = serve(&health, &shutdown).await;
    assert_eq!(get(&at, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(&at, "/readyz"), (503, "daemon: starting\n".to_owned()));
    let (redis, lane) = (health.condition("redis"), health.pulse("lane"));
    health.started();
    assert_eq!(get(&at, "/readyz"), (503, "redis: not there yet\n".to_owned()));
    redis.meet();
    assert_eq!(get(&at, "/readyz"), (200, "ok\n".to_owned()));

    lane.begin();
    wait_for(&at, "/livez", 503);
    assert_eq!(get(&at, "/livez").1, "lane has been at one step for 0 s\n");
    lane.rest();
    assert_eq!(get(&at, "/livez").0, 200);

    shutdown.request();
    assert_eq!(get(&at, "/readyz"), (503, "daemon: stopping\n".to_owned()));
    assert_eq!(get(&at, "/livez").0, 200, "a stop is progress");
    assert_eq!(Scrape::of(&at).value("convpipe_one"), 1, "and its numbers are still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_nothing_else_and_nobody_else() {
    let (at, _serving) = serve(&Health::default(), &Shutdown::new()).await;
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
        ("GET /metrics/../livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(ask(&at, request).0, expected, "{request:?}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(ask(&at, &long).0, 431);
}
