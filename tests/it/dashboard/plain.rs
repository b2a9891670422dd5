//! The page in a browser that runs no script: all of it can be read, and every link and form leads on.

use super::chromium::Chromium;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_script_everything_can_be_read_and_reached() {
    let Some(mut page) = Chromium::start().await else { return };
    let server = RedisServer::start();
    fill(&server, 120, 1, |id| format!("hello from {id}"));
    put(&server, "7", 2, |snapshot| {
        snapshot["unread"] = 3.into();
        snapshot["fan"]["name"] = HOSTILE.into();
        snapshot["awaiting_reply_since"] = json!(Millis(clock::now().0 - 90_000));
        snapshot["spend"]["observed"]["total"] = 123_456.into();
    });
    raise(&server, "7", "urgent");
    raise(&server, "8", "due");
    let served = Served::start(&server.url(), |_| ()).await;
    page.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    page.open(&served.url("/")).await;
    page.wait("document.querySelectorAll('#rows .row').length === 100").await;
    assert_eq!(page.value("document.documentElement.classList.contains('scripted')").await, false);
    page.wait("document.body.innerText.includes('this page loads itself anew')").await;
    assert_eq!(page.value("document.querySelector('meta[http-equiv=refresh]').content").await, "10");
    // The lists do not end at the edge of the screen.
    assert_eq!(page.value("document.documentElement.scrollHeight > 2000").await, true);

    // The second page of the inbox, and back.
    page.click("#pages a").await;
    page.wait("location.search.includes('offset=100') && document.querySelectorAll('#rows .row').length === 20").await;
    page.click("#pages a").await;
    page.wait("document.querySelectorAll('#rows .row').length === 100").await;

    // A tab, a conversation, back to the tab.
    page.click("#tabs a[data-tab=unread]").await;
    page.wait("location.search === '?tab=unread' && document.querySelectorAll('#rows .row').length === 1").await;
    page.wait("/1:[34]\\d/.test(document.querySelector('#rows .wait').innerText)").await;
    page.click("#rows .row").await;
    page.wait("location.pathname === '/accounts/200000001/conversations/7' && document.querySelector('#panel .spend') !== null").await;
    page.wait("document.querySelector('#panel').innerText.includes('$1,234.56') && document.querySelector('#panel').innerText.includes('<script>')")
        .await;
    page.click("#panel .back").await;
    page.wait("document.querySelector('#panel .spend') === null && document.querySelectorAll('#rows .row').length > 0").await;

    // The feed by level, a form; from there to the conversation.
    page.click("nav a[href='/priority']").await;
    page.wait("location.pathname === '/priority' && document.querySelectorAll('.entry').length === 2").await;
    page.value("document.getElementById('level').value = 'urgent'").await;
    page.click(".levels button").await;
    page.wait("location.search === '?level=urgent' && document.querySelectorAll('.entry').length === 1").await;
    page.click(".entry a").await;
    page.wait("location.pathname.endsWith('/conversations/7')").await;

    // One account, and the pipeline.
    page.value("document.getElementById('account').value = '200000001'").await;
    page.click(".account button").await;
    page.wait("location.search.includes('account=200000001') && document.querySelectorAll('#rows .row').length === 100").await;
    page.click("nav a[href='/pipeline']").await;
    page.wait("location.pathname === '/pipeline' && document.querySelector('.whole .strip').innerText.includes('120 conversations')").await;
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
    served.stop().await;
}
