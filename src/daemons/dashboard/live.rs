//! The live stream: server-sent events of what changed.
//!
//! Owns one viewer's place in the changes. Does not own the changes ([`super::board`]). Invariants: a viewer costs a place in a shared ring, however slow
//! it is; one that fell behind is told to load everything anew, one that does not read at all is let go ([`super::patience`]); all streams end with
//! the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::Rooms;
use super::answer::{Answer, events, failure, set};
use super::board::event;
use crate::runtime::shutdown::Shutdown;

/// Something is said that often, so that both ends notice a dead connection.
const BEAT: Duration = Duration::from_secs(15);

struct Viewer {
    changes: Receiver<Bytes>,
    first: Option<Bytes>,
    shutdown: Shutdown,
    /// Its place among the streams, given back with it.
    _permit: OwnedSemaphorePermit,
}

/// A stream, or that there are too many. Who asks for the head alone takes no place.
pub(super) fn stream(rooms: &Arc<Rooms>, method: &Method) -> Answer {
    if method == Method::HEAD {
        return events(stream::empty());
    }
    let permit = match rooms.streams.clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
            rooms.refused.fetch_add(1, Ordering::Relaxed);
            let mut answer =
                failure(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "dashboard.streams_max live pages are open already");
            set(&mut answer, http::header::RETRY_AFTER, "10");
            return answer;
        }
    };
    // Changes first, then what version they come after: nothing falls in between.
    let changes = rooms.board.changes();
    let hello = event("hello", &rooms.board.picture().version);
    // The time after which a browser comes back when the stream breaks.
    let first = [b"retry: 1000\n", &hello[..]].concat().into();
    let viewer = Viewer { changes, first: Some(first), shutdown: rooms.shutdown.clone(), _permit: permit };
    events(stream::unfold(viewer, |mut viewer| async move {
        let bytes = next(&mut viewer).await?;
        Some((bytes, viewer))
    }))
}

async fn next(viewer: &mut Viewer) -> Option<Bytes> {
    if let Some(first) = viewer.first.take() {
        return Some(first);
    }
    tokio::select! {
        change = viewer.changes.recv() => match change {
            Ok(bytes) => Some(bytes),
            Err(RecvError::Lagged(_)) => Some(event("reload", &())),
            Err(RecvError::Closed) => None,
        },
        () = tokio::time::sleep(BEAT) => Some(Bytes::from_static(b":\n\n")),
        () = viewer.shutdown.requested() => None,
    }
}
