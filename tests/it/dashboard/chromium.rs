//! A headless Chromium, driven over its own protocol; it ends with the value.

use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::emulator::left_out;

const LIMIT: Duration = Duration::from_secs(30);

/// One page in a browser of its own.
pub(super) struct Chromium {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    number: u64,
    /// Addresses that were asked for.
    pub(super) requests: Vec<String>,
    /// What the page or the browser complained about.
    pub(super) complaints: Vec<String>,
    _child: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts one; `None` where none is installed, said loudly, and a failure in continuous integration.
    pub(super) async fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update \
                     --disable-sync --remote-debugging-port=0 --window-size=1400,900";
        let mut command = Command::new("chromium");
        command.args(flags.split_whitespace()).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                left_out(&format!("chromium is missing ({error}), so the page is not tested in a browser: apt-get install chromium"));
                return None;
            }
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().expect("chromium says where it listens");
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let (requests, complaints) = (Vec::new(), Vec::new());
        let mut page = Self { socket, session: None, number: 0, requests, complaints, _child: child, _profile: profile };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].clone();
        let session = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        page.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        Some(page)
    }

    /// Calls a method of the protocol.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut call = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let message = tokio::time::timeout(LIMIT, self.socket.next()).await.unwrap_or_else(|_| panic!("no answer to {method}"));
            let said: Value = serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap();
            if said["id"] == self.number {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            match said["method"].as_str() {
                Some("Network.requestWillBeSent") => self.requests.extend(said["params"]["request"]["url"].as_str().map(str::to_owned)),
                Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
                Some("Log.entryAdded") if said["params"]["entry"]["source"] != "network" => {
                    self.complaints.push(said["params"].to_string())
                }
                _ => {}
            }
        }
    }

    /// Opens an address.
    pub(super) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    /// The value of an expression.
    pub(super) async fn value(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true })).await["result"]["value"].clone()
    }

    /// What the promise of an expression comes to.
    pub(super) async fn promise(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// As large as a window or a phone, light or dark.
    pub(super) async fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Clicks with the mouse in the middle of the first element of that selector.
    pub(super) async fn click(&mut self, selector: &str) {
        let found = format!("document.querySelector({selector:?})");
        self.wait(&format!("{found} !== null")).await;
        self.value(&format!("{found}.scrollIntoView({{ block: 'nearest' }})")).await;
        let place =
            self.value(&format!("(({{ x, y, width, height }}) => [x + width / 2, y + height / 2])({found}.getBoundingClientRect())")).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// A PNG of what is on the screen.
    pub(super) async fn picture(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        base64(picture["data"].as_str().unwrap())
    }

    /// Waits until an expression is true.
    pub(super) async fn wait(&mut self, expression: &str) {
        let end = std::time::Instant::now() + LIMIT;
        while self.value(expression).await != true {
            if std::time::Instant::now() > end {
                let text = self.value("document.body.innerText").await;
                panic!("not within {LIMIT:?}: {expression}\n{text}\n{:?}", self.complaints);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses a key.
    pub(super) async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            "Tab" => (9, None),
            "ArrowUp" => (38, None),
            "ArrowDown" => (40, None),
            key => (i64::from(key.to_ascii_uppercase().as_bytes()[0]), Some(key)),
        };
        let mut down = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if let Some(text) = text {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", down).await;
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code })).await;
    }
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
