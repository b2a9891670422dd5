//! The page as people see it.

use super::chromium::Chromium;
use super::*;
use crate::support::process::Process;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_live_inert_and_works_by_keyboard() {
    let Some(mut page) = Chromium::start().await else { return };
    let server = RedisServer::start();
    put(&server, "1", 1, |snapshot| snapshot["spend"]["observed"]["tips"] = 500.into());
    put(&server, "2", 1, |snapshot| (snapshot["unread"], snapshot["fan"]["name"]) = (2.into(), HOSTILE.into()));
    raise(&server, "2", "urgent");
    let served = Served::start(&server.url(), |_| ()).await;
    page.open(&served.url("/")).await;
    page.wait("document.querySelectorAll('.listed #rows .row').length === 2").await;
    page.wait("document.getElementById('live').dataset.state === 'live'").await;

    // Live: what is written shows without anybody asking.
    put(&server, "3", 1, |snapshot| snapshot["last_message"]["preview"] = "just now".into());
    page.wait("document.querySelector('#rows').innerText.includes('just now')").await;

    // Tabs.
    for (tab, count) in [("tips", 1), ("unread", 1), ("priority", 1), ("awaiting", 0), ("all", 3)] {
        page.value(&format!("document.querySelector('#tabs a[data-tab={tab}]').click()")).await;
        page.wait(&format!("document.querySelectorAll('#rows .row').length === {count}")).await;
    }

    // By keyboard: down, open, close.
    page.press("j").await;
    page.press("j").await;
    page.wait("document.activeElement.classList.contains('row')").await;
    page.press("Enter").await;
    page.wait("location.pathname.startsWith('/accounts/') && document.querySelector('#panel .spend') !== null").await;
    page.press("Escape").await;
    page.wait("location.pathname === '/' && document.querySelector('#panel .spend') === null").await;

    // What strangers wrote is text: no element, no script, no request, no complaint.
    page.wait("document.querySelector('#entries').innerText.includes('<img src=') && document.querySelector('#rows').innerText.includes('<script>')")
        .await;
    assert_eq!(page.value("document.querySelectorAll('main img, main script').length").await, 0);
    assert_eq!(page.value("document.title").await, "Inbox · convpipe");
    let own = format!("http://{}/", served.address);
    let foreign: Vec<&String> = page.requests.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(foreign.is_empty() && page.complaints.is_empty(), "{foreign:?} {:?}", page.complaints);

    // On a phone: one column, nothing wider than the screen.
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    page.call("Emulation.setDeviceMetricsOverride", phone).await;
    page.wait("document.documentElement.scrollWidth <= 390 && getComputedStyle(document.querySelector('#panel')).display === 'none'").await;

    // The server goes and comes back at the same place.
    let address = served.address;
    served.stop().await;
    page.wait("document.getElementById('live').dataset.state === 'away'").await;
    let served = Served::start(&server.url(), |config| config.dashboard.listen = address.to_string()).await;
    put(&server, "4", 1, |_| ());
    page.wait("document.querySelector('#rows').innerText.includes('Fan 4')").await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_conversations_are_a_screenful_of_elements() {
    let Some(mut page) = Chromium::start().await else { return };
    let server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let keys = Keys::new(&Config::default().redis).unwrap();
    let snapshot: String = server.run(&["HGET", &keys.conversation(A, "1"), "snapshot"]);
    let mut pipeline = redis::pipe();
    for id in 2..=10_000_u32 {
        let (id, score) = (id.to_string(), clock::now().0);
        let own =
            snapshot.replace("Fan 1", &format!("Fan {id}")).replace("\"conversation_id\":\"1\"", &format!("\"conversation_id\":\"{id}\""));
        pipeline.cmd("HSET").arg(keys.conversation(A, &id)).arg("snapshot").arg(own).arg("rev").arg(1).ignore();
        pipeline.cmd("ZADD").arg(keys.inbox(A)).arg(score).arg(&id).ignore();
    }
    pipeline.query::<()>(&mut server.connection()).unwrap();
    let served = Served::start(&server.url(), |config| config.dashboard.refresh_ms = 400).await;
    page.open(&served.url("/")).await;
    page.wait(
        "document.getElementById('count').innerText === '10,000 conversations' && document.getElementById('live').dataset.state === 'live'",
    )
    .await;
    page.value("document.getElementById('list').scrollTop = 5000 * 72").await;
    page.wait("[...document.querySelectorAll('#rows li')].some((row) => Math.abs(row.dataset.index - 5000) < 3)").await;
    assert!(page.value("document.querySelectorAll('#rows li').length").await.as_u64().unwrap() < 60);
    served.stop().await;
}

/// Takes the pictures of `docs/`, of a running `dev`: `cargo test --test it -- --ignored pictures`.
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
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        page.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        page.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        page.open(&format!("{}{path}", url.trim_end_matches('/'))).await;
        page.wait("document.getElementById('live') && document.getElementById('live').dataset.state === 'live'").await;
        if name != "dashboard-pipeline.png" && width > 500 {
            page.wait("[...document.querySelectorAll('#rows .row')].some((row) => row.querySelector('.high-value'))").await;
            page.value("[...document.querySelectorAll('#rows .row')].find((row) => row.querySelector('.high-value')).click()").await;
            page.wait("document.querySelector('#panel .spend') !== null").await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let picture = page.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        std::fs::write(docs.join(name), base64(picture["data"].as_str().unwrap())).unwrap();
    }
    process.terminate(LIMIT);
}

/// The bytes behind base64.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
