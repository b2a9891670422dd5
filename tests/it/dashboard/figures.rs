//! The dashboard's figures of `docs/performance.md`: `scripts/bench dashboard` prints them. No time is asserted.

#![expect(clippy::print_stderr, reason = "what it prints is what it is for")]

use super::chromium::Chromium;
use super::whole::Whole;
use super::*;

const LIVE: &str = "document.getElementById('live') !== null && document.getElementById('live').dataset.state === 'live'";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it prints figures"]
async fn figures_of_a_frame_to_the_screen() {
    let Some(mut whole) = Box::pin(Whole::start()).await else { return };
    let mut taken = Vec::new();
    for _ in 0..60 {
        taken.push(whole.send().await);
        // Not in step with the looks at Redis.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..450))).await;
    }
    taken.sort_unstable();
    let at = |share: usize| taken[(taken.len() - 1) * share / 100].as_millis();
    eprintln!("frame sent -> drawn on the screen: p50 {} ms, p90 {} ms, max {} ms, of {}", at(50), at(90), at(100), taken.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it prints figures"]
async fn figures_of_many_conversations() {
    for count in [1_000, 10_000] {
        let Some(mut page) = Chromium::start().await else { return };
        let server = RedisServer::start();
        fill(&server, count, 1, |id| format!("hello from {id}, and a line as long as people write them"));
        let served = Served::start(&server.url(), |config| config.dashboard.refresh_ms = 400).await;
        let whole = number(count);
        page.open(&served.url("/")).await;
        page.wait(&format!("{LIVE} && document.getElementById('count').innerText === '{whole} conversations'")).await;
        let loaded = page.value("Math.round(performance.now())").await;
        let painted = page.value("Math.round(performance.getEntriesByName('first-contentful-paint')[0].startTime)").await;
        let sizes = page
            .value(
                "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce(
                     ([sent, whole], entry) => [sent + entry.transferSize, whole + entry.decodedBodySize], [0, 0])",
            )
            .await;
        let heap = page.call("Runtime.getHeapUsage", json!({})).await["usedSize"].as_f64().unwrap() / 1e6;
        eprintln!(
            "{whole} conversations: first paint {painted} ms, all of them there {loaded} ms, {} bytes sent of {}, {heap:.1} MB of the page's heap",
            sizes[0], sizes[1]
        );

        // Scrolls through the list for four seconds while conversations are written all the time.
        let server = std::sync::Arc::new(server);
        let (writing, stop) = (server.clone(), Shutdown::new());
        let stopped = stop.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let mut rev = 2;
            while !stopped.is_requested() {
                put(&writing, &fastrand::u32(1..=count).to_string(), rev, |_| ());
                rev += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let frames = page
            .promise(
                "new Promise((done) => {
                     const list = document.getElementById('list'), gaps = [];
                     let last = performance.now(), down = 1;
                     const end = last + 4000;
                     const step = (now) => {
                         gaps.push(now - last);
                         last = now;
                         if (list.scrollTop + list.clientHeight >= list.scrollHeight - 2) down = -1;
                         if (list.scrollTop <= 0) down = 1;
                         list.scrollTop += down * 400;
                         if (now < end) requestAnimationFrame(step);
                         else gaps.sort((a, b) => a - b), done([0.5, 0.95, 0.99, 1].map((share) => Math.round(gaps[Math.floor((gaps.length - 1) * share)])).concat(gaps.length));
                     };
                     requestAnimationFrame(step);
                 })",
            )
            .await;
        stop.request();
        writer.await.unwrap();
        let elements = page.value("document.querySelectorAll('#rows li').length").await;
        eprintln!(
            "{whole} conversations, scrolled through while 40 a second change: time between two frames p50 {} ms, p95 {} ms, p99 {} ms, max {} ms, of {}; {elements} rows are elements",
            frames[0], frames[1], frames[2], frames[3], frames[4]
        );
        served.stop().await;
    }
}

fn number(count: u32) -> String {
    format!("{},{:03}", count / 1_000, count % 1_000)
}
