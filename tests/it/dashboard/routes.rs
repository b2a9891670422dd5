//! Every address: who is let in, what is answered, and what happens while Redis is away.

use std::os::unix::fs::PermissionsExt as _;

use futures_util::future;
use reqwest::{Client, Method, Response, StatusCode};

use super::*;

const PAGES: [&str; 4] = ["/", "/accounts/200000001/conversations/1", "/priority", "/pipeline"];
const ANSWERS: [&str; 6] = [
    "/api/v1/openapi.json",
    "/api/v1/status",
    "/api/v1/accounts",
    "/api/v1/conversations",
    "/api/v1/accounts/200000001/conversations/1",
    "/api/v1/priority",
];
const TOKEN: &str = "a-token-of-a-test-0123456789";

fn client() -> Client {
    // What the program does at its start, where it uses TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).tls_backend_preconfigured(tls()).build().unwrap()
}

/// Never used: every address of these tests is `http`.
fn tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_address_keeps_its_rules() {
    let server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let (served, client) = (Served::start(&server.url(), |_| ()).await, client());
    for path in PAGES.into_iter().chain(ANSWERS).chain(["/assets/dashboard.js", "/assets/dashboard.css"]) {
        let url = served.url(path);
        let good = client.get(&url).send().await.unwrap();
        assert_eq!(good.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&good, "cache-control"), "no-store", "{path}");
        assert_eq!(header(&good, "x-content-type-options"), "nosniff", "{path}");
        assert!(header(&good, "content-security-policy").starts_with("default-src 'none'"), "{path}");
        for (request, status) in [
            (client.get(&url).header("host", "evil.example"), 421),
            (client.get(&url).header("host", "localhost"), 421),
            (client.request(Method::POST, &url), 405),
            (client.request(Method::HEAD, &url), 405),
            (client.request(Method::DELETE, &url).header("host", "evil.example"), 421),
            (client.get(&url).header("origin", "http://evil.example"), 403),
            (client.get(&url).header("sec-fetch-site", "cross-site"), 403),
            (client.get(&url).body("x"), 400),
        ] {
            assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{path}");
        }
        if let Some(tag) = good.headers().get("etag").cloned().filter(|_| path != "/api/v1/status" && path != "/api/v1/accounts") {
            let again = client.get(&url).header("if-none-match", tag).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
    }
    for (path, status) in [
        ("/nothing", 404),
        ("/api/v1/nothing", 404),
        ("/api/v1/accounts/200000001/conversations/2", 404),
        ("/accounts/200000001/conversations/2", 404),
        ("/api/v1/accounts/%00/conversations/2", 400),
        ("/api/v1/accounts/a%2Fb/conversations/%7B%7D", 404),
        ("/api/v1/accounts/200000001/conversations/1/events/9-9", 404),
        ("/api/v1/accounts/200000001/conversations/1/events/x", 400),
        ("/api/v1/conversations?limit=100000", 400),
        ("/?tab=x", 400),
    ] {
        assert_eq!(client.get(served.url(path)).send().await.unwrap().status().as_u16(), status, "{path}");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_token_is_asked_for_everywhere() {
    let server = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (served, client) = (Served::start(&server.url(), |config| config.dashboard.token_file = Some(file)).await, client());
    for path in ANSWERS.into_iter().chain(["/api/v1/stream"]) {
        let without = client.get(served.url(path)).send().await.unwrap();
        assert_eq!((without.status().as_u16(), header(&without, "www-authenticate").is_empty()), (401, false), "{path}");
        let wrong = client.get(served.url(path)).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status().as_u16(), 401, "{path}");
    }
    for path in PAGES {
        let page = client.get(served.url(path)).send().await.unwrap();
        assert_eq!((page.status().as_u16(), header(&page, "location")), (303, "/login"), "{path}");
    }
    let wrong = client.get(served.url("/login?token=wrong")).send().await.unwrap();
    assert!(wrong.status() == 401 && wrong.headers().get("set-cookie").is_none());
    let right = client.get(served.url("/login")).bearer_auth(TOKEN).send().await.unwrap();
    let cookie = header(&right, "set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let page = client.get(served.url("/")).header("cookie", cookie.split(';').next().unwrap()).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    served.stop().await;
}

#[tokio::test]
async fn beyond_the_loopback_nothing_without_a_token() {
    let mut config = Config::default();
    config.dashboard.listen = "0.0.0.0:0".into();
    let error = Dashboard::bind(&config, clock::now).await.err().unwrap().to_string();
    assert!(error.contains("token_file is needed"), "{error}");
}

#[tokio::test]
async fn redis_goes_and_comes_back() {
    let mut server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let (served, client) = (Served::start(&server.url(), |_| ()).await, client());
    let get = |path: &str| client.get(served.url(path)).send();
    assert!(get("/").await.unwrap().text().await.unwrap().contains("Fan 1"));
    server.stop();
    until("the page says that Redis is away", || async {
        let page = get("/").await.unwrap();
        let status = page.status();
        let text = page.text().await.unwrap();
        (status == 503 && text.contains("Redis cannot be read since") && text.contains("Fan 1")).then_some(())
    })
    .await;
    assert_eq!(get("/api/v1/conversations").await.unwrap().status(), 503);
    assert_eq!(get("/api/v1/status").await.unwrap().status(), 200);
    server.restart();
    put(&server, "2", 1, |_| ());
    until("the page is of the new Redis", || async {
        let page = get("/").await.unwrap();
        let status = page.status();
        let text = page.text().await.unwrap();
        (status == 200 && text.contains("Fan 2") && !text.contains("Fan 1")).then_some(())
    })
    .await;
    served.stop().await;
}

/// How many clients Redis has, this question's own left out.
fn connections(server: &RedisServer) -> usize {
    server.run::<String>(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client|list")).count()
}

#[tokio::test]
async fn five_hundred_live_pages_are_one_reader() {
    let server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let served = Served::start(&server.url(), |_| ()).await;
    let client = client();
    let streams = future::join_all((0..500).map(|_| client.get(served.url("/api/v1/stream")).send())).await;
    let mut streams: Vec<Response> = streams.into_iter().map(Result::unwrap).collect();
    for stream in &mut streams {
        assert!(stream.chunk().await.unwrap().unwrap().starts_with(b"retry: 1000"));
    }
    assert_eq!(connections(&server), 1);
    put(&server, "1", 2, |snapshot| snapshot["last_message"]["preview"] = "told to all".into());
    let all = future::join_all(streams.iter_mut().map(|stream| async {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("told to all") {
            said.extend_from_slice(&stream.chunk().await.unwrap().unwrap());
        }
    }));
    tokio::time::timeout(LIMIT, all).await.expect("everybody is told");
    assert_eq!(connections(&server), 1);
    served.stop().await;
}

#[tokio::test]
async fn too_many_live_pages_are_told_so() {
    let server = RedisServer::start();
    let served = Served::start(&server.url(), |config| config.dashboard.streams_max = 1).await;
    let client = client();
    let first = client.get(served.url("/api/v1/stream")).send().await.unwrap();
    let second = client.get(served.url("/api/v1/stream")).send().await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16(), header(&second, "retry-after")), (200, 503, "10"));
    drop(first);
    until("the place is free again", || async {
        (client.get(served.url("/api/v1/stream")).send().await.unwrap().status() == 200).then_some(())
    })
    .await;
    served.stop().await;
}
