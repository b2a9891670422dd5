//! From a frame that the platform sends to the screen of a browser, through every process between the two.

use convpipe::ws::serve::{self, Player};
use tokio::net::TcpListener;

use super::chromium::Chromium;
use super::*;
use crate::pipeline::place::Place;
use crate::ws::artifact;

/// The platform, the three services, and a page that is live.
pub(super) struct Whole {
    player: Player,
    pub(super) page: Chromium,
    number: u64,
    stop: Shutdown,
    _processes: [Process; 3],
    _place: Place,
    _redis: RedisServer,
}

impl Whole {
    /// `None` where there is no browser.
    pub(super) async fn start() -> Option<Self> {
        let mut page = Chromium::start().await?;
        let redis = RedisServer::start();
        let mut place = Place::new(&redis.url(), "convpipe");
        place.config.dashboard.listen = "127.0.0.1:0".into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        place.write_artifacts([artifact(A, 1, &url)]);
        let ((player, source), stop) = (serve::stage([A], &[]), Shutdown::new());
        tokio::spawn(serve::serve(listener, source, stop.clone()));
        let processes = [place.start(&["snapshot"]), place.start(&["ingest"]), place.start(&["dashboard"])];
        player.connected(1).await;
        let address = address_of(&processes[2]);
        page.open(&format!("http://{address}/")).await;
        page.wait("document.getElementById('live') !== null && document.getElementById('live').dataset.state === 'live'").await;
        Some(Self { player, page, number: 0, stop, _processes: processes, _place: place, _redis: redis })
    }

    /// Sends a chat message, and waits until it is on the screen. How long that took, by the page's own clock.
    pub(super) async fn send(&mut self) -> Duration {
        self.number += 1;
        let text = format!("message number {}", self.number);
        // The moment when it is drawn, not when somebody asks.
        self.page
            .value(&format!(
                "window.seen = null; new MutationObserver((_, own) => {{
                     if (document.getElementById('rows').innerText.includes({text:?})) requestAnimationFrame(() => (window.seen = Date.now())), own.disconnect();
                 }}).observe(document.getElementById('rows'), {{ childList: true, subtree: true }})"
            ))
            .await;
        let now = clock::now();
        let frame = json!({ "api2_chat_message": {
            "id": 6_400_000_000_000_u64 + self.number, "text": format!("<p>{text}</p>"), "price": 0, "media": [],
            "fromUser": { "id": 100_000_001, "name": "Fan" }, "createdAt": now,
        } });
        self.player.play(A, frame.to_string()).await.unwrap();
        self.page.wait("window.seen !== null").await;
        let seen = self.page.value("window.seen").await.as_i64().unwrap();
        Duration::from_millis(u64::try_from(seen - now.0).unwrap_or(0))
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.stop.request();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_on_the_screen() {
    let Some(mut whole) = Box::pin(Whole::start()).await else { return };
    for _ in 0..3 {
        whole.send().await;
    }
    whole
        .page
        .wait("document.querySelectorAll('#rows .row').length === 1 && document.querySelector('#rows .unread').innerText === '3'")
        .await;
    whole.page.wait("document.querySelector('#rows .wait') !== null && document.querySelectorAll('.entry').length > 0").await;
    whole.page.wait("document.querySelector('.strip').dataset.state === 'opened'").await;
    assert!(whole.page.complaints.is_empty(), "{:?}", whole.page.complaints);
}
