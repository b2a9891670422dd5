//! The page by keyboard alone.

use super::chromium::Chromium;
use super::*;

const FOCUSED: &str = "document.activeElement.id || document.activeElement.className || document.activeElement.innerText";

async fn focused(page: &mut Chromium) -> String {
    page.value(FOCUSED).await.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_focus_goes_in_order_and_never_gets_lost() {
    let Some(mut page) = Chromium::start().await else { return };
    let server = RedisServer::start();
    for id in ["1", "2", "3", "4"] {
        put(&server, id, 1, |_| ());
    }
    let served = Served::start(&server.url(), |_| ()).await;
    page.open(&served.url("/")).await;
    page.wait("document.querySelectorAll('.listed #rows .row').length === 4 && document.getElementById('live').dataset.state === 'live'")
        .await;

    // Tab goes through the page as it is read.
    let mut order = Vec::new();
    for _ in 0..15 {
        page.press("Tab").await;
        order.push(focused(&mut page).await);
    }
    let expected = ["skip", "brand", "Inbox", "Priority feed", "Pipeline", "account", "strip"];
    assert_eq!(order[..7], expected, "{order:?}");
    assert_eq!(order[7..13], ["All", "Priority", "Unread", "Awaiting", "With tips", "High-value"], "{order:?}");
    assert_eq!(order[13..], ["row", "row"], "{order:?}");

    // Arrows go on from there, and stop at the ends.
    let index = "document.activeElement.closest('li').dataset.index";
    for (key, at) in [("ArrowDown", "2"), ("ArrowDown", "3"), ("ArrowDown", "3"), ("ArrowUp", "2"), ("k", "1"), ("j", "2")] {
        page.press(key).await;
        page.wait(&format!("{index} === '{at}'")).await;
    }

    // The focus stays with the conversation while others pass it.
    let name = "document.activeElement.querySelector('.name').innerText";
    let chosen = page.value(name).await;
    put(&server, "9", 1, |_| ());
    page.wait(&format!("document.querySelectorAll('#rows .row').length === 5 && {index} === '3'")).await;
    assert_eq!(page.value(name).await, chosen);

    // Open and close: the focus comes back to where it was.
    page.press("Enter").await;
    page.wait("document.querySelector('#panel .spend') !== null").await;
    page.press("Escape").await;
    page.wait(&format!("document.querySelector('#panel .spend') === null && {index} === '3'")).await;

    // On a phone the list makes place for the conversation, and the focus goes there too.
    page.look(390, 844, "light").await;
    page.wait("getComputedStyle(document.getElementById('panel')).display === 'none'").await;
    page.press("j").await;
    page.press("Enter").await;
    page.wait("document.activeElement.id === 'panel' && document.querySelector('#panel .spend') !== null").await;
    page.press("Escape").await;
    page.wait("document.activeElement.classList.contains('row')").await;

    // The skip link leads to the conversations.
    page.value("document.querySelector('.skip').focus()").await;
    page.press("Enter").await;
    page.wait("document.activeElement.id === 'main'").await;
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_paused_and_the_tabs_are_chosen() {
    let Some(mut page) = Chromium::start().await else { return };
    let server = RedisServer::start();
    put(&server, "1", 1, |snapshot| snapshot["unread"] = 2.into());
    put(&server, "2", 1, |_| ());
    raise(&server, "1", "high");
    let served = Served::start(&server.url(), |_| ()).await;
    page.open(&served.url("/")).await;
    page.wait("document.querySelectorAll('.entry').length === 1 && document.getElementById('live').dataset.state === 'live'").await;
    page.press("p").await;
    page.wait("document.getElementById('pause').getAttribute('aria-pressed') === 'true'").await;
    raise(&server, "2", "urgent");
    // The row shows that the entry has come; the feed stands still.
    page.wait("document.querySelector('#rows .level-urgent') !== null").await;
    assert_eq!(page.value("document.querySelectorAll('.entry').length").await, 1);
    page.press("p").await;
    page.wait("document.querySelectorAll('.entry').length === 2").await;
    for (key, tab, count) in [("3", "unread", 1), ("2", "priority", 2), ("4", "awaiting", 0), ("1", "all", 2)] {
        page.press(key).await;
        page.wait(&format!("location.search === '?tab={tab}' && document.querySelectorAll('#rows .row').length === {count}")).await;
        page.wait(&format!("document.getElementById('none').hidden === {}", count > 0)).await;
    }
    // Keys that are typed into something are no commands.
    page.value("document.getElementById('account').focus()").await;
    page.press("p").await;
    assert_eq!(page.value("document.getElementById('pause').getAttribute('aria-pressed')").await, "false");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_typed_in_and_remembered() {
    let Some(mut page) = Chromium::start().await else { return };
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    put(&server, "1", 1, |_| ());
    let file = token_file(folder.path());
    let served = Served::start(&server.url(), |config| config.dashboard.token_file = Some(file)).await;
    page.open(&served.url("/pipeline")).await;
    page.wait("location.pathname === '/login' && document.activeElement.id === 'token'").await;
    for (token, then) in [
        ("wrong-token-0123456789", "document.getElementById('wrong').innerText === 'That is not the token.'"),
        (TOKEN, "location.pathname === '/'"),
    ] {
        page.value("document.getElementById('token').value = ''").await;
        page.call("Input.insertText", json!({ "text": token })).await;
        page.press("Enter").await;
        page.wait(then).await;
    }
    page.wait("document.getElementById('live').dataset.state === 'live' && document.querySelectorAll('#rows .row').length === 1").await;
    assert_eq!(page.value("document.cookie").await, "", "no script sees the cookie");
    page.open(&served.url("/pipeline")).await;
    page.wait("location.pathname === '/pipeline' && document.querySelectorAll('.strip').length === 1").await;
    let shown: Vec<&String> = page.requests.iter().filter(|url| url.contains(TOKEN)).collect();
    assert!(shown.is_empty() && page.complaints.is_empty(), "{shown:?} {:?}", page.complaints);
    served.stop().await;
}
