//! Pictures of the page: those of the documentation, and of what rarely happens, to look at.

use super::chromium::Chromium;
use super::*;

/// Takes the pictures of `docs/`, of a running `dev`: `cargo test --test it -- --ignored pictures_of_the_documentation`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes into docs/, and needs a minute of a recording to show something"]
async fn pictures_of_the_documentation() {
    let Some(mut page) = Chromium::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["dev", "--speed", "4x"]);
    let line = process.wait_stderr("in a browser: http://", LIMIT);
    let url = line.split_whitespace().last().unwrap().to_owned();
    tokio::time::sleep(Duration::from_secs(70)).await;
    for (name, width, height, scheme, path) in [
        ("dashboard.png", 1440, 900, "light", "/?tab=unread"),
        ("dashboard-dark.png", 1440, 900, "dark", "/?tab=high-value"),
        ("dashboard-phone.png", 390, 844, "light", "/?tab=unread"),
        ("dashboard-pipeline.png", 1100, 420, "light", "/pipeline"),
    ] {
        page.look(width, height, scheme).await;
        page.open(&format!("{}{path}", url.trim_end_matches('/'))).await;
        page.wait("document.getElementById('live') && document.getElementById('live').dataset.state === 'live'").await;
        if name != "dashboard-pipeline.png" && width > 500 {
            page.wait("[...document.querySelectorAll('#rows .row')].some((row) => row.querySelector('.high-value'))").await;
            page.value("[...document.querySelectorAll('#rows .row')].find((row) => row.querySelector('.high-value')).click()").await;
            page.wait("document.querySelector('#panel .spend') !== null").await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        std::fs::write(docs.join(name), page.picture().await).unwrap();
    }
    process.terminate(LIMIT);
}

/// Long names, right-to-left text, large amounts, trouble, Redis away.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_makes_the_page_wider_than_the_screen() {
    walk(&["inbox", "conversation", "pipeline", "redis-away"], &[(800, "dark"), (390, "light")], false).await;
}

/// The same everywhere, with pictures in `target/pictures`: `cargo test --test it -- --ignored pictures_to_look_at`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "its pictures are for people to look at"]
async fn pictures_to_look_at() {
    let names = PAGES.map(|(name, ..)| name);
    walk(&names, &[(1440, "light"), (1440, "dark"), (800, "light"), (800, "dark"), (390, "light"), (390, "dark")], true).await;
}

const LIVE: &str = "document.getElementById('live') !== null && document.getElementById('live').dataset.state === 'live'";
const AWAY: &str = "document.getElementById('live') !== null && document.getElementById('live').dataset.state === 'away'";
/// Name, path, and when it is there.
const PAGES: [(&str, &str, &str); 9] = [
    ("inbox", "/", LIVE),
    ("awaiting", "/?tab=awaiting", LIVE),
    ("tips", "/?tab=tips", LIVE),
    ("conversation", "/accounts/200000001/conversations/3", "document.querySelector('#panel .spend') !== null"),
    ("unreadable", "/accounts/200000001/conversations/8", "document.querySelector('#panel .hint') !== null"),
    ("priority", "/priority", LIVE),
    ("pipeline", "/pipeline", LIVE),
    ("nothing", "/nothing", "document.querySelector('.notice') !== null"),
    ("redis-away", "/", AWAY),
];

async fn walk(names: &[&str], looks: &[(u32, &str)], takes_pictures: bool) {
    let Some(mut page) = Chromium::start().await else { return };
    let mut server = RedisServer::start();
    extremes(&server);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    std::fs::create_dir_all(&folder).unwrap();
    let served = Served::start(&server.url(), |_| ()).await;
    for (name, path, ready) in PAGES.into_iter().filter(|(name, ..)| names.contains(name)) {
        if ready == AWAY {
            server.stop();
        }
        for (width, scheme) in looks {
            page.look(*width, 900, scheme).await;
            page.open(&served.url(path)).await;
            page.wait(ready).await;
            page.wait(&format!("document.documentElement.scrollWidth <= {width}")).await;
            if takes_pictures {
                std::fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), page.picture().await).unwrap();
            }
        }
    }
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
    served.stop().await;
}

fn extremes(server: &RedisServer) {
    let now = clock::now();
    let (long, rtl) = ("A name that goes on and on ".repeat(8), "محمد العربي ‏— مرحبا بك، هل أنت متصل الآن؟ ".repeat(4));
    let word = "Donaudampfschifffahrtsgesellschaft".repeat(8);
    for (at, (name, preview)) in
        [("Ann", "hello"), (&long, &long), (&rtl, &rtl), (&word, &word), (HOSTILE, HOSTILE), ("李小龍", "你好，今天怎麼樣？"), ("Bea", "")]
            .into_iter()
            .enumerate()
    {
        let (id, step) = ((at + 1).to_string(), i64::try_from(at).unwrap());
        put(server, &id, 1, |snapshot| {
            (snapshot["fan"]["name"], snapshot["last_message"]["preview"]) = (name.into(), preview.into());
            (snapshot["fan"]["username"], snapshot["fan"]["notice"]) = (word.as_str().into(), rtl.as_str().into());
            snapshot["last_message"]["direction"] = if at % 3 == 2 { "out" } else { "in" }.into();
            (snapshot["unread"], snapshot["unread_more"]) = ((at * 17).into(), (at == 6).into());
            snapshot["tier"] = ["none", "gold", "platinum"][at % 3].into();
            snapshot["high_value"] = json!({ "is": at % 2 == 0, "why": ["spend_minor >= 50000", "list:vip"] });
            snapshot["awaiting_reply_since"] = json!(Millis(now.0 - step * step * 150_000));
            snapshot["spend"]["observed"]["total"] = 10_i64.pow(u32::try_from(at).unwrap() + 2).into();
            snapshot["last_ppv"] = json!({ "message_id": "1", "price": 123_456, "state": "sent", "at": now });
            snapshot["presence"] = json!({ "state": "online", "as_of": now });
        });
        raise(server, &id, ["urgent", "high", "due", "low"][at % 4]);
    }
    let keys = Keys::new(&Config::default().redis).unwrap();
    server.run::<()>(&["HSET", &keys.conversation(A, "8"), "snapshot", "{}", "rev", "1"]);
    server.run::<()>(&["ZADD", &keys.inbox(A), &now.0.to_string(), "8"]);
    for number in 1..=12_i64 {
        let account = (200_000_000 + number).to_string();
        let state = ["opened", "opened", "opened", "closed", "opened", "silent"][usize::try_from(number).unwrap() % 6];
        let connection = json!({ "state": state, "id": "1", "as_of": now });
        let gap = json!({ "to": Millis(now.0 - number * 700_000), "reason": if number % 2 == 0 { "start" } else { "reset" } });
        server.run::<()>(&["HSET", &keys.account(&account), "connection", &connection.to_string(), "gap", &gap.to_string()]);
        server.run::<()>(&["ZADD", &keys.accounts(), &now.0.to_string(), &account]);
    }
}
