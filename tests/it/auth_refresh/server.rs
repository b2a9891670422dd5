//! A small HTTP server, with or without TLS, that answers as a test says and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::tls;

/// What came in: the request line, the headers and the body, as they were sent.
pub(super) type Requests = Arc<Mutex<Vec<String>>>;
/// From a request to the bytes to answer with; `None` leaves it without an answer.
type Answer = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

pub(super) struct Server {
    port: u16,
    pub(super) requests: Requests,
    /// Most requests that were answered at the same time.
    pub(super) at_once: Arc<AtomicUsize>,
    /// The certificate to trust, PEM.
    pub(super) certificate: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(answer), None, String::new())
    }

    /// With TLS, as `localhost`, with a certificate of its own.
    pub(super) fn start_tls(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (config, certificate) = tls::server(&["localhost"]);
        Self::serve(Arc::new(answer), Some(config), certificate)
    }

    fn serve(answer: Answer, tls: Option<Arc<rustls::ServerConfig>>, certificate: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, stop) = (Requests::default(), Arc::new(AtomicBool::new(false)));
        let (now, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (requests, stop, at_once) = (requests.clone(), stop.clone(), at_once.clone());
            move || {
                for tcp in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (requests, answer, tls) = (requests.clone(), answer.clone(), tls.clone());
                    let (now, at_once) = (now.clone(), at_once.clone());
                    std::thread::spawn(move || {
                        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                        at_once.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        match tls {
                            None => converse(tcp, &requests, &*answer),
                            Some(tls) => {
                                let connection = rustls::ServerConnection::new(tls).unwrap();
                                converse(rustls::StreamOwned::new(connection, tcp), &requests, &*answer);
                            }
                        }
                        now.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { port, requests, at_once, certificate, stop, thread: Some(thread) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_empty() { "http" } else { "https" };
        format!("{scheme}://localhost:{}{path}", self.port)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request, one answer. A peer that goes away in between is what some tests want.
fn converse(mut stream: impl Read + Write, requests: &Requests, answer: &(dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync)) {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                requests.lock().unwrap().push(text.clone());
                match answer(&text) {
                    Some(bytes) => _ = stream.write_all(&bytes).and_then(|()| stream.flush()),
                    // Waits until the other side has had enough.
                    None => _ = stream.read(&mut chunk),
                }
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&chunk[..read]),
        }
    }
}

/// An answer with a status, further headers (each with its line end) and a body.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes())
}
