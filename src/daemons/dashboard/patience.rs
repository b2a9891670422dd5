//! A connection whose client has to read: what it leaves unread for too long ends it.
//!
//! Owns how long a write may wait. Does not own what is written. Invariant: a client that reads anything within the time stays, however slow; one that
//! reads nothing costs memory no longer than that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream with a limit on how long a write may wait.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Since when a write waits, as the end of that time.
    waiting: Option<Pin<Box<Sleep>>>,
    let_go: Arc<AtomicU64>,
}

impl<S> Patient<S> {
    /// `let_go` counts the streams whose time ran out.
    pub(super) const fn new(stream: S, limit: Duration, let_go: Arc<AtomicU64>) -> Self {
        Self { stream, limit, waiting: None, let_go }
    }

    /// What a write comes to, unless it has been waiting for too long.
    fn judge<T>(&mut self, wrote: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.waiting = None;
            return wrote;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        self.let_go.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read what is sent to it")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(wrote, cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(ended, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_stays_and_who_does_not_is_let_go() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let let_go = Arc::new(AtomicU64::new(0));
        let mut ours = Patient::new(ours, Duration::from_secs(10), let_go.clone());
        let writing = tokio::spawn(async move {
            let sent = ours.write_all(&[7; 640]).await.is_ok();
            (sent, ours.write_all(&[7; 640]).await.map_err(|error| error.kind()))
        });
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            theirs.read_exact(&mut [0; 64]).await.unwrap();
        }
        assert_eq!(let_go.load(Ordering::Relaxed), 0);
        assert_eq!(writing.await.unwrap(), (true, Err(io::ErrorKind::TimedOut)));
        assert_eq!(let_go.load(Ordering::Relaxed), 1);
    }
}
