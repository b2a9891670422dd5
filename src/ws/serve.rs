//! The platform's side of the socket: a WebSocket server that speaks its handshake and plays frames to whoever connects. `replay --serve`,
//! the tests and the end-to-end benchmark stand on it.
//!
//! Owns: the listener's connections. Does not own: what is played and how fast (that is whoever holds the [`Player`]). Invariants: an account
//! plays to its newest connection alone; a slow client slows its account's player down and nobody else; every frame that was played is
//! counted as sent or as lost.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

use crate::runtime::shutdown::Shutdown;

/// Longest wait for a client's handshake, and then for its `connect` frame.
const CONNECT_MS: u64 = 10_000;
/// Most clients at once; more wait in the listener's backlog.
const CLIENTS_MAX: usize = 4_096;
/// Frames of one account that wait for its client.
const QUEUE_FRAMES_MAX: usize = 4_096;
/// Frames written before the next look at what the client says.
const BATCH_MAX: usize = 512;
/// Largest frame that a client may send; it has nothing to say but a token and heartbeats.
const CLIENT_FRAME_MAX: usize = 64 << 10;
const CLOSE_MS: u64 = 1_000;

const CONNECTED: &str = r#"{"connected":true,"v":"5.4.0"}"#;
const REFUSED: &str = r#"{"error":1}"#;

/// The token that opens an account's socket on this server.
#[must_use]
pub fn token_of(account: &str) -> String {
    format!("replay-{account}")
}

/// The accounts of a server: a [`Player`] that feeds them, and what [`serve`] takes.
///
/// `online` are the ids with which every heartbeat is answered.
#[must_use]
pub fn stage<'a>(accounts: impl IntoIterator<Item = &'a str>, online: &[u64]) -> (Player, Source) {
    let counts = Arc::new(Counts::default());
    let (mut senders, mut seats) = (BTreeMap::new(), BTreeMap::new());
    for account in accounts {
        let (sender, receiver) = mpsc::channel(QUEUE_FRAMES_MAX);
        senders.insert(account.to_owned(), sender);
        seats.insert(token_of(account), Arc::new(Seat { frames: Mutex::new(receiver), turn: watch::Sender::new(0) }));
    }
    let online = Utf8Bytes::from(serde_json::json!({ "online": online }).to_string());
    (Player { senders, counts: counts.clone() }, Source { stage: Arc::new(Stage { seats, online, counts }) })
}

/// Feeds the accounts' sockets. Dropped, it ends the frames but not the connections, which go on answering heartbeats.
#[derive(Debug)]
pub struct Player {
    senders: BTreeMap<String, mpsc::Sender<Utf8Bytes>>,
    counts: Arc<Counts>,
}

/// What [`serve`] plays: the other end of a [`Player`].
#[derive(Debug)]
pub struct Source {
    stage: Arc<Stage>,
}

/// A frame for an account that the stage does not have, or whose server is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The stage was set without this account.
    #[error("account {0:?} is not on the stage")]
    Account(String),
    /// The server has ended.
    #[error("the server has ended")]
    Ended,
}

#[derive(Debug)]
struct Stage {
    seats: BTreeMap<String, Arc<Seat>>,
    online: Utf8Bytes,
    counts: Arc<Counts>,
}

/// One account. Whoever connects takes the next turn, which ends the turn before it.
#[derive(Debug)]
struct Seat {
    frames: Mutex<mpsc::Receiver<Utf8Bytes>>,
    turn: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Counts {
    played: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    clients: watch::Sender<usize>,
    moved: Notify,
}

impl Counts {
    fn add(&self, sent: u64, lost: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.moved.notify_waiters();
    }
}

impl Player {
    /// Hands a frame to an account; waits while its queue is full, that is while its client does not read or there is none.
    ///
    /// # Errors
    /// [`PlayError`]; the frame was not taken.
    pub async fn play(&self, account: &str, frame: impl Into<Utf8Bytes>) -> Result<(), PlayError> {
        let sender = self.senders.get(account).ok_or_else(|| PlayError::Account(account.to_owned()))?;
        let permit = sender.reserve().await.map_err(|_| PlayError::Ended)?;
        self.counts.played.fetch_add(1, Ordering::Relaxed);
        permit.send(frame.into());
        Ok(())
    }

    /// Frames that were handed to the system for a client.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Frames that a broken connection took with it, as far as the server can know.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Waits until every frame that was played is sent or lost.
    pub async fn drained(&self) {
        loop {
            let mut moved = pin!(self.counts.moved.notified());
            moved.as_mut().enable();
            if self.sent() + self.lost() >= self.counts.played.load(Ordering::Relaxed) {
                return;
            }
            moved.await;
        }
    }

    /// Waits until at least `clients` connections have passed the platform's handshake and are open.
    pub async fn connected(&self, clients: usize) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.counts.clients.subscribe().wait_for(|&now| now >= clients).await;
    }
}

/// Serves until a stop is asked for; then every connection is closed with a close frame. A connection's errors end that connection alone.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(listener: TcpListener, source: Source, shutdown: Shutdown) -> io::Result<()> {
    let mut clients = JoinSet::new();
    let mut stop = pin!(shutdown.requested());
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((tcp, _)) => {
                    clients.spawn(client(tcp, source.stage.clone(), shutdown.clone()));
                }
                Err(error) if is_transient(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            },
        }
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// A client that went away before it was accepted, or no file descriptors for now.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let codes = [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| codes.iter().any(|errno| errno.raw_os_error() == code))
}

type Client = WebSocketStream<TcpStream>;

async fn client(tcp: TcpStream, stage: Arc<Stage>, shutdown: Shutdown) {
    let cap = Duration::from_millis(CONNECT_MS);
    let _ = tcp.set_nodelay(true);
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .max_message_size(Some(CLIENT_FRAME_MAX))
        .max_frame_size(Some(CLIENT_FRAME_MAX));
    let handshake = Box::pin(accept_async_with_config(tcp, Some(config)));
    let Ok(Ok(mut client)) = timeout(cap, handshake).await else { return };

    let greeted = tokio::select! {
        () = shutdown.requested() => return close(client).await,
        greeted = timeout(cap, greet(&mut client, &stage)) => greeted,
    };
    let Ok(Ok(Some(seat))) = greeted else { return close(client).await };

    stage.counts.clients.send_modify(|clients| *clients += 1);
    // Boxed: the batch buffers would make every client's task large.
    let played = Box::pin(play(&mut client, &seat, &stage, &shutdown)).await;
    stage.counts.clients.send_modify(|clients| *clients -= 1);
    if played.is_ok() {
        close(client).await;
    }
}

async fn close(mut client: Client) {
    let _ = timeout(Duration::from_millis(CLOSE_MS), client.close(None)).await;
}

/// What a client says.
#[derive(Deserialize)]
struct Said {
    act: String,
    #[serde(default)]
    token: Option<String>,
}

/// The platform's handshake: the account that the client's token opens, or `None` where it opens none.
async fn greet(client: &mut Client, stage: &Stage) -> Result<Option<Arc<Seat>>, Error> {
    let said = loop {
        match client.next().await.ok_or(Error::ConnectionClosed)?? {
            Message::Text(text) => break serde_json::from_str::<Said>(&text).ok(),
            Message::Ping(_) | Message::Pong(_) => client.flush().await?,
            Message::Binary(_) | Message::Close(_) | Message::Frame(_) => break None,
        }
    };
    let token = said.filter(|said| said.act == "connect").and_then(|said| said.token);
    let seat = token.and_then(|token| stage.seats.get(&token).cloned());
    client.send(Message::text(if seat.is_some() { CONNECTED } else { REFUSED })).await?;
    Ok(seat)
}

/// Plays an account's frames until a newer connection takes over, the client leaves or a stop is asked for.
async fn play(client: &mut Client, seat: &Seat, stage: &Stage, shutdown: &Shutdown) -> Result<(), Error> {
    let mut turns = seat.turn.subscribe();
    seat.turn.send_modify(|turn| *turn += 1);
    let mine = *turns.borrow_and_update();
    let mut overtaken = pin!(async move { turns.wait_for(|&turn| turn != mine).await.is_ok() });
    let mut stop = pin!(shutdown.requested());
    let mut frames = tokio::select! {
        frames = seat.frames.lock() => frames,
        _ = &mut overtaken => return Ok(()),
        () = &mut stop => return Ok(()),
    };

    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut ended = false;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            _ = &mut overtaken => return Ok(()),
            said = client.next() => match said.ok_or(Error::ConnectionClosed)?? {
                Message::Text(text) => {
                    if serde_json::from_str::<Said>(&text).is_ok_and(|said| said.act == "get_onlines") {
                        client.send(Message::Text(stage.online.clone())).await?;
                    }
                }
                Message::Ping(_) => client.flush().await?,
                Message::Close(_) => return Ok(()),
                Message::Binary(_) | Message::Pong(_) | Message::Frame(_) => {}
            },
            taken = frames.recv_many(&mut batch, BATCH_MAX), if !ended => {
                ended = taken == 0;
                let mut left = Unsent { counts: &stage.counts, frames: taken as u64 };
                let written = tokio::select! {
                    written = write(client, &mut batch, frames.is_empty()) => written,
                    _ = &mut overtaken => return Ok(()),
                    () = &mut stop => return Ok(()),
                };
                written?;
                left.sent();
            }
        }
    }
}

/// Writes a batch; flushes only where nothing more is waiting, so that a fast player fills whole buffers.
async fn write(client: &mut Client, batch: &mut Vec<Utf8Bytes>, flush: bool) -> Result<(), Error> {
    for frame in batch.drain(..) {
        client.feed(Message::Text(frame)).await?;
    }
    if flush { client.flush().await } else { Ok(()) }
}

/// Frames that left the queue: lost, unless said to be sent.
struct Unsent<'a> {
    counts: &'a Counts,
    frames: u64,
}

impl Unsent<'_> {
    fn sent(&mut self) {
        self.counts.add(std::mem::take(&mut self.frames), 0);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if self.frames > 0 {
            self.counts.add(0, self.frames);
        }
    }
}
