//! A stream that the WebSocket library may do the handshake on without taking any of the frames behind it.
//!
//! The library reads as much as there is, and what it read beyond the HTTP answer would stay in it. Invariant: of the answer's head every byte goes to
//! the library, of what follows none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream during the handshake.
#[derive(Debug)]
pub(super) struct Upgrade<S> {
    stream: S,
    /// Line ends in a row; with the second one the head ends.
    line_ends: u8,
    behind: BytesMut,
}

impl<S> Upgrade<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, line_ends: 0, behind: BytesMut::new() }
    }

    /// The stream, and what was read of the frames already.
    pub(super) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.behind)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upgrade<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.line_ends == 2 {
            return Poll::Ready(Err(io::Error::other("the answer to the handshake has ended")));
        }
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        for at in before..buffer.filled().len() {
            match buffer.filled()[at] {
                b'\n' => this.line_ends += 1,
                b'\r' => {}
                _ => this.line_ends = 0,
            }
            if this.line_ends == 2 {
                this.behind.extend_from_slice(&buffer.filled()[at + 1..]);
                buffer.set_filled(at + 1);
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upgrade<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_head_goes_to_the_library_and_what_follows_to_us() {
        for (head, behind) in [
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n", "\u{1}\u{2}frames"),
            ("HTTP/1.1 101\r\n\r\n", ""),
            ("HTTP/1.1 101\n\n", "\r\n\r\n"),
        ] {
            let answer = [head, behind].concat();
            for size in [1, 3, answer.len()] {
                let mut upgrade = Upgrade::new(answer.as_bytes());
                let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
                while let Ok(count @ 1..) = upgrade.read(&mut buffer).await {
                    read.extend_from_slice(&buffer[..count]);
                }
                let (rest, over) = upgrade.into_parts();
                assert_eq!((&read[..], [&over[..], rest].concat()), (head.as_bytes(), behind.as_bytes().to_vec()), "{head:?} by {size}");
            }
        }
    }
}
