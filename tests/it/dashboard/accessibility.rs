//! What axe-core finds on every page, light and dark, at a desk and on a phone: `scripts/check-accessibility`.

#![expect(clippy::print_stderr, reason = "people read the findings")]

use super::chromium::Chromium;
use super::*;

/// Where axe-core lies; `scripts/check-accessibility` fetches it and sets this.
const AXE: &str = "CONVPIPE_TEST_AXE";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs axe-core, which is not in this repository: scripts/check-accessibility"]
async fn no_page_keeps_anybody_out() {
    #[expect(clippy::disallowed_methods, reason = "the variable is for this test alone")]
    let axe = std::env::var(AXE).unwrap_or_else(|_| panic!("{AXE} is not set: start scripts/check-accessibility"));
    let axe = std::fs::read_to_string(&axe).unwrap_or_else(|error| panic!("{axe}: {error}"));
    let Some(mut page) = Chromium::start().await else { return };
    let (mut server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    everything(&server);
    let file = token_file(folder.path());
    let served = Served::start(&server.url(), |_| ()).await;
    let closed = Served::start(&server.url(), |config| config.dashboard.token_file = Some(file)).await;
    let mut found = Vec::new();
    let live = "document.getElementById('live') !== null && document.getElementById('live').dataset.state === 'live'";
    let pages = [
        (served.url("/"), live),
        (served.url("/?tab=awaiting"), live),
        (served.url("/?tab=priority"), live),
        (served.url("/accounts/200000001/conversations/1"), "document.querySelector('#panel .spend') !== null"),
        (served.url("/accounts/200000001/conversations/nobody"), "document.querySelector('#panel .hint') !== null"),
        (served.url("/priority"), live),
        (served.url("/pipeline"), live),
        (served.url("/nothing"), "document.querySelector('.notice') !== null"),
        (closed.url("/login"), "document.getElementById('token') !== null"),
    ];
    for (url, ready) in &pages {
        found.extend(findings(&mut page, &axe, url, ready).await);
    }
    server.stop();
    let away = "document.getElementById('fault') !== null && !document.getElementById('fault').hidden";
    found.extend(findings(&mut page, &axe, &served.url("/"), away).await);
    found.sort();
    found.dedup();
    found.iter().for_each(|finding| eprintln!("{finding}"));
    let grave = found.iter().filter(|finding| finding.starts_with("serious") || finding.starts_with("critical")).count();
    assert_eq!(grave, 0, "of {} findings", found.len());
    served.stop().await;
    closed.stop().await;
}

/// Something of all that a page can show.
fn everything(server: &RedisServer) {
    let now = clock::now();
    for (id, waiting_ms) in [("1", 10_000), ("2", 200_000), ("3", 900_000), ("4", 9_000_000)] {
        put(server, id, 1, |snapshot| {
            (snapshot["unread"], snapshot["tier"], snapshot["high_value"]) =
                (2.into(), "gold".into(), json!({ "is": true, "why": ["list:vip"] }));
            snapshot["awaiting_reply_since"] = json!(Millis(now.0 - waiting_ms));
            snapshot["spend"]["observed"]["total"] = 5_000.into();
            snapshot["last_ppv"] =
                json!({ "message_id": "1", "price": 2_500, "state": if id == "1" { "unlocked" } else { "sent" }, "at": now });
            snapshot["typing_until"] = json!(if id == "2" { now.plus(3_600_000) } else { now });
            snapshot["presence"] = json!({ "state": "online", "as_of": now });
            (snapshot["fan"]["username"], snapshot["fan"]["notice"]) = ("u1".into(), "birthday in May".into());
        });
    }
    for (id, level) in [("1", "urgent"), ("2", "high"), ("3", "due"), ("4", "low")] {
        raise(server, id, level);
    }
    let keys = Keys::new(&Config::default().redis).unwrap();
    server.run::<()>(&["HSET", &keys.conversation(A, "5"), "snapshot", "{}", "rev", "1"]);
    server.run::<()>(&["ZADD", &keys.inbox(A), &now.0.to_string(), "5"]);
    let event = json!({ "kind": "message.received", "direction": "in", "received_at": now, "message": { "text": "hello" }, "money": { "minor": 500 } });
    server.run::<String>(&["XADD", &keys.fan_events(A, "1"), "*", "event", &event.to_string()]);
    let gap = json!({ "from": Millis(now.0 - 60_000), "to": Millis(now.0 - 30_000), "reason": "connect" });
    let connection = json!({ "state": "closed", "id": "1", "reason": "reset", "as_of": now });
    server.run::<()>(&["HSET", &keys.account(A), "gap", &gap.to_string(), "connection", &connection.to_string()]);
}

/// What axe finds on a page: how grave, which rule, where.
async fn findings(page: &mut Chromium, axe: &str, url: &str, ready: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (width, scheme) in [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")] {
        page.look(width, 900, scheme).await;
        page.open(url).await;
        page.wait(ready).await;
        page.value(&format!("{axe}; 0")).await;
        let run = "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.passes.length < 10 ? ['critical | the page was not looked at'] : result.violations.flatMap((rule) =>
            rule.nodes.map((node) => [rule.impact, rule.id, node.target.join(' '), (node.any[0] || {}).message || rule.help].join(' | '))))";
        let path = url.splitn(4, '/').last().unwrap_or_default();
        let lines = page.promise(run).await;
        let lines = lines.as_array().unwrap().iter().filter_map(Value::as_str);
        found.extend(lines.map(|line| format!("{line} | /{path} {scheme} {width}")));
    }
    found
}
