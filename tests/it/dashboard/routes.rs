//! Every address: who is let in, what is answered, and what happens while Redis is away.

use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Who is asked for the token, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A page sends its reader to where the token is asked for.
    Page,
    /// A program is told.
    Answer,
    /// Nothing in it is secret.
    Open,
}

/// Every address that there is.
const ROUTES: [(&str, Kind); 15] = [
    ("/", Kind::Page),
    ("/accounts/200000001/conversations/1", Kind::Page),
    ("/priority", Kind::Page),
    ("/pipeline", Kind::Page),
    ("/login", Kind::Open),
    ("/assets/dashboard.js", Kind::Open),
    ("/assets/dashboard.css", Kind::Open),
    ("/api/v1/openapi.json", Kind::Answer),
    ("/api/v1/status", Kind::Answer),
    ("/api/v1/accounts", Kind::Answer),
    ("/api/v1/conversations", Kind::Answer),
    ("/api/v1/accounts/200000001/conversations/1", Kind::Answer),
    ("/api/v1/accounts/200000001/conversations/1/events", Kind::Answer),
    ("/api/v1/accounts/200000001/conversations/1/events/1-1", Kind::Answer),
    ("/api/v1/priority", Kind::Answer),
];
/// And the one whose answer does not end.
const STREAM: (&str, Kind) = ("/api/v1/stream", Kind::Answer);

/// What a right request to an address is answered with, where nobody is asked for a token.
fn right(path: &str) -> u16 {
    // Without a token there is nothing to sign in to.
    if path == "/login" { 303 } else { 200 }
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// A conversation, and one event of its fan.
fn one_conversation(server: &RedisServer) {
    put(server, "1", 1, |_| ());
    let key = Keys::new(&Config::default().redis).unwrap().fan_events(A, "1");
    let event = json!({ "kind": "message.received", "received_at": clock::now(), "raw": { "id": 1 } });
    server.run::<String>(&["XADD", &key, "1-1", "event", &event.to_string()]);
}

/// Method, headers, body; and the status.
type Wrong = (&'static str, &'static [(&'static str, &'static str)], &'static str, u16);

/// What is wrong with a request, and what that is answered with on every address.
const WRONG: [Wrong; 16] = [
    ("GET", &[("host", "evil.example")], "", 421),
    ("GET", &[("host", "localhost")], "", 421),
    ("GET", &[("host", "127.0.0.1:1")], "", 421),
    ("HEAD", &[("host", "evil.example")], "", 421),
    ("DELETE", &[("host", "evil.example")], "", 421),
    ("POST", &[], "", 405),
    ("PUT", &[], "", 405),
    ("PATCH", &[], "", 405),
    ("DELETE", &[], "", 405),
    ("OPTIONS", &[], "", 405),
    ("GET", &[("origin", "http://evil.example")], "", 403),
    ("GET", &[("origin", "null")], "", 403),
    ("HEAD", &[("origin", "http://evil.example")], "", 403),
    ("GET", &[("sec-fetch-site", "cross-site")], "", 403),
    ("GET", &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], "", 403),
    ("GET", &[], "a body", 400),
];

#[tokio::test]
async fn every_address_keeps_its_rules() {
    let server = RedisServer::start();
    one_conversation(&server);
    let (served, client) = (Served::start(&server.url(), |_| ()).await, client());
    for (path, _) in ROUTES.into_iter().chain([STREAM]) {
        let url = served.url(path);
        let good = client.get(&url).send().await.unwrap();
        assert_eq!(good.status(), right(path), "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(header(&good, name), value, "{path}");
        }
        assert!(header(&good, "content-security-policy").starts_with("default-src 'none'"), "{path}");
        for (method, headers, body, status) in WRONG {
            let mut request = client.request(method.parse().unwrap(), &url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if !body.is_empty() {
                request = request.body(body);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}: {method} {headers:?}");
            assert_eq!(header(&answer, "allow"), if status == 405 { "GET, HEAD" } else { "" }, "{path}: {method}");
        }
        if let Some(tag) = good.headers().get("etag").cloned().filter(|_| path != "/api/v1/status" && path != "/api/v1/accounts") {
            let again = client.get(&url).header("if-none-match", tag).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = RedisServer::start();
    one_conversation(&server);
    let (served, client) = (Served::start(&server.url(), |config| config.dashboard.streams_max = 1).await, client());
    // Told alike: what changes from one answer to the next is left out.
    let told = |answer: &Response| {
        let same = |name: &&str| !matches!(*name, "content-security-policy" | "date" | "etag" | "content-length");
        let names = answer.headers().keys().map(|name| name.as_str()).filter(same);
        names.map(|name| format!("{name}: {}", header(answer, name))).collect::<Vec<_>>()
    };
    for (path, _) in ROUTES {
        for coding in ["identity", "gzip"] {
            let ask = |method: Method| client.request(method, served.url(path)).header("accept-encoding", coding).send();
            let (get, head) = (ask(Method::GET).await.unwrap(), ask(Method::HEAD).await.unwrap());
            assert_eq!((get.status(), told(&get)), (head.status(), told(&head)), "{path}");
            let (length, body) = (header(&head, "content-length").to_owned(), get.bytes().await.unwrap().len());
            // These three change from one moment to the next, or have no body.
            if !["/api/v1/status", "/api/v1/accounts", "/login"].contains(&path) && coding == "identity" {
                assert_eq!(length, body.to_string(), "{path}");
            }
            assert!(head.bytes().await.unwrap().is_empty(), "{path}");
        }
    }
    // It takes no place among the streams: the one that there is stays free.
    for _ in 0..3 {
        let head = client.head(served.url(STREAM.0)).send().await.unwrap();
        assert_eq!((head.status().as_u16(), header(&head, "content-type")), (200, "text/event-stream"));
    }
    assert_eq!(client.get(served.url(STREAM.0)).send().await.unwrap().status(), 200);
    assert_eq!(client.head(served.url("/nothing")).send().await.unwrap().status(), 404);
    served.stop().await;
}

#[tokio::test]
async fn large_answers_are_sent_as_gzip_to_who_takes_it() {
    let server = RedisServer::start();
    fill(&server, 50, 1, |id| format!("hello from {id}"));
    let (served, client) = (Served::start(&server.url(), |_| ()).await, client());
    for (path, is_smaller) in [
        ("/", true),
        ("/api/v1/conversations", true),
        ("/assets/dashboard.js", true),
        ("/api/v1/status", false),
        ("/login", false),
        (STREAM.0, false),
    ] {
        let ask = |coding| client.get(served.url(path)).header("accept-encoding", coding).send();
        let coded = ask("gzip, br").await.unwrap();
        assert_eq!(header(&coded, "content-encoding"), if is_smaller { "gzip" } else { "" }, "{path}");
        assert_eq!(header(&ask("br").await.unwrap(), "content-encoding"), "", "{path}");
        if is_smaller {
            assert!(header(&coded, "vary").contains("Accept-Encoding"), "{path}");
            let (coded, plain) = (coded.bytes().await.unwrap(), ask("identity").await.unwrap().bytes().await.unwrap());
            let mut unpacked = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&coded[..]), &mut unpacked).unwrap();
            assert!(coded.len() * 2 < plain.len(), "{path}: {} of {} bytes", coded.len(), plain.len());
            assert_eq!(unpacked.len(), plain.len(), "{path}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn ids_that_are_none_and_ids_of_nobody() {
    let server = RedisServer::start();
    one_conversation(&server);
    let (served, client) = (Served::start(&server.url(), |_| ()).await, client());
    let long = "x".repeat(201);
    let none = ["", "%00", "%0a", "%7F", "%ff", "%zz", "%2", &long];
    let nobodys = ["2", "nobody", "..%2F..", "%7B%7D", "%2A", "1%20", "__x__", "%C3%A9", "%F0%9F%92%8C"];
    for (template, of_nobody) in [
        ("/accounts/{a}/conversations/{c}", 404),
        ("/api/v1/accounts/{a}/conversations/{c}", 404),
        ("/api/v1/accounts/{a}/conversations/{c}/events", 200),
        ("/api/v1/accounts/{a}/conversations/{c}/events/1-1", 404),
    ] {
        let cases = none.iter().map(|id| (*id, 400)).chain(nobodys.iter().map(|id| (*id, of_nobody)));
        for (id, status) in cases {
            for (account, conversation) in [(id, "1"), (A, id)] {
                let path = template.replace("{a}", account).replace("{c}", conversation);
                assert_eq!(client.get(served.url(&path)).send().await.unwrap().status(), status, "{path}");
            }
        }
    }
    for (path, status) in [
        ("/nothing", 404),
        ("/api/v1/nothing", 404),
        ("/api/v1/stream/", 404),
        ("/assets/nothing.js", 404),
        ("/api/v1/accounts/200000001/conversations/1/events/9-9", 404),
        ("/api/v1/accounts/200000001/conversations/1/events/x", 400),
        ("/api/v1/accounts/200000001/conversations/1/events/-1", 400),
        ("/api/v1/accounts/200000001/conversations/1/events?limit=0", 400),
        ("/api/v1/conversations?limit=100000", 400),
        ("/api/v1/conversations?offset=-1", 400),
        ("/api/v1/conversations?offset=18446744073709551615", 200),
        ("/api/v1/conversations?account=%00", 400),
        ("/api/v1/priority?level=x", 400),
        ("/priority?level=x", 400),
        ("/?tab=x", 400),
    ] {
        let answer = client.get(served.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status >= 400 && path.starts_with("/api/") {
            assert!(answer.text().await.unwrap().starts_with(r#"{"error":{"code":""#), "{path}");
        }
    }
    served.stop().await;
}

/// Requests that no decent client sends.
#[tokio::test]
async fn requests_without_a_host_or_with_two() {
    let server = RedisServer::start();
    let served = Served::start(&server.url(), |_| ()).await;
    let host = format!("host: {}\r\n", served.address);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\n"), "200"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "421"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "421"),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "421"),
        (format!("GET http://evil.example/ HTTP/1.1\r\n{host}\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("GET /?{} HTTP/1.1\r\n{host}\r\n", "x".repeat(5_000)), "414"),
        (format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "x".repeat(20_000)), "431"),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(std::str::from_utf8(&first[9..]).unwrap(), status, "{:.60}", request);
    }
    served.stop().await;
}

#[tokio::test]
async fn the_token_is_asked_for_everywhere() {
    let server = RedisServer::start();
    one_conversation(&server);
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path());
    let (served, client) = (Served::start(&server.url(), |config| config.dashboard.token_file = Some(file)).await, client());
    let signed_in = client.get(served.url("/login")).bearer_auth(TOKEN).send().await.unwrap();
    let cookie = header(&signed_in, "set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    let shown = [
        (None, false),
        (Some(("authorization", "Bearer wrong".to_owned())), false),
        (Some(("authorization", format!("Basic {TOKEN}"))), false),
        (Some(("authorization", format!("Bearer {TOKEN}x"))), false),
        (Some(("cookie", format!("convpipe={TOKEN}"))), false),
        (Some(("cookie", "convpipe=".to_owned())), false),
        (Some(("cookie", session.replace("convpipe=", "other="))), false),
        (Some(("authorization", format!("Bearer {TOKEN}"))), true),
        (Some(("cookie", session)), true),
    ];
    for (path, kind) in ROUTES.into_iter().chain([STREAM]) {
        for method in [Method::GET, Method::HEAD] {
            for (header_shown, opens) in &shown {
                let mut request = client.request(method.clone(), served.url(path));
                if let Some((name, value)) = header_shown {
                    request = request.header(*name, value);
                }
                let answer = request.send().await.unwrap();
                let said = (answer.status().as_u16(), header(&answer, "location"), header(&answer, "www-authenticate").is_empty());
                let expected = match kind {
                    // This page is for who has no token, and takes a right one; a wrong one it refuses.
                    _ if path == "/login" => {
                        let bearer = header_shown.as_ref().filter(|(name, _)| *name == "authorization");
                        let status = bearer.map_or(200, |_| if *opens { 303 } else { 401 });
                        (status, if status == 303 { "/" } else { "" }, true)
                    }
                    Kind::Open => (200, "", true),
                    _ if *opens => (200, "", true),
                    Kind::Page => (303, "/login", true),
                    Kind::Answer => (401, "", false),
                };
                assert_eq!(said, expected, "{method} {path}: {header_shown:?}");
            }
        }
    }
    let wrong = client.get(served.url("/login?token=wrong")).send().await.unwrap();
    assert!(wrong.status() == 401 && wrong.headers().get("set-cookie").is_none());
    let right = client.get(served.url(&format!("/login?token={TOKEN}"))).send().await.unwrap();
    assert!(right.status() == 303 && right.headers().contains_key("set-cookie"));
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
