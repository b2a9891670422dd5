//! The page as people see it.

use super::chromium::Chromium;
use super::*;

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
    page.look(390, 844, "light").await;
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
    fill(&server, 10_000, 1, |id| format!("hello from {id}"));
    let served = Served::start(&server.url(), |config| config.dashboard.refresh_ms = 400).await;
    page.open(&served.url("/")).await;
    page.wait(
        "document.getElementById('count').innerText === '10,000 conversations' && document.getElementById('live').dataset.state === 'live'",
    )
    .await;
    page.value("document.getElementById('list').scrollTop = 5000 * 54").await;
    page.wait("[...document.querySelectorAll('#rows li')].some((row) => Math.abs(row.dataset.index - 5000) < 3)").await;
    assert!(page.value("document.querySelectorAll('#rows li').length").await.as_u64().unwrap() < 60);
    served.stop().await;
}
