//! From the peer's bytes to its messages. Sans I/O: bytes go in, messages and control frames come out.
//!
//! Owns the reading side of RFC 6455 and the limits on a message. The WebSocket library reads messages too, but it throws away the bytes of one that
//! is too large or not UTF-8, and the connection with them; a quarantine wants the bytes, and the stream has to go on. Does not own what a message
//! means: a text that is none is for the normalizer to refuse. Invariant: memory stays within the limits whatever the peer announces; where
//! the frames are cut by reads makes no difference.

use std::io::Cursor;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::transform::normalize::QUARANTINE_CUT_BYTES;

const TEXT: OpCode = OpCode::Data(Data::Text);

/// One message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Whether the peer called it text. Then it may still not be UTF-8; binary messages are read like the others.
    pub is_text: bool,
    /// The bytes as they came; of a message over the limits, the first 64 KiB, or what the limits let pass where that is less.
    pub bytes: Bytes,
    /// How long the message was.
    pub length: u64,
}

impl Payload {
    /// Whether the message was over the limits, so that its end is missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.length > self.bytes.len() as u64
    }
}

/// What the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message(Payload),
    Ping(Bytes),
    Pong,
    Close(Option<CloseFrame>),
}

/// The peer broke the WebSocket protocol: no telling where its next frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Puts messages together.
#[derive(Debug)]
pub(super) struct Assembler {
    frame_max: u64,
    message_max: u64,
    /// Bytes that are kept of a message over the limits.
    keep: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The message whose frames are being read. Control frames may come between them.
    message: Option<Partial>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// Bytes of the payload that are not read yet.
    left: u64,
}

/// A message that comes in several frames, or that is over the limits.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
    length: u64,
    is_over: bool,
}

impl Assembler {
    pub(super) fn new(frame_max: usize, message_max: usize) -> Self {
        let keep = frame_max.min(message_max).min(QUARANTINE_CUT_BYTES);
        Self { frame_max: frame_max as u64, message_max: message_max as u64, keep, frame: None, message: None }
    }

    /// Takes the next message or control frame out of `read`; `None` where more has to be read first.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Option<Received>, Broken> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.header(read)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let is_whole = frame.left <= read.len() as u64;
            let received = match (frame.opcode, &mut self.message) {
                // Of a message over the limits only the beginning is kept, so its frames need not be in memory at once.
                (OpCode::Data(_), Some(message)) if message.is_over => {
                    let left = message.skim(read, frame.left, self.keep);
                    if left > 0 {
                        self.frame = Some(Frame { left, ..frame });
                        return Ok(None);
                    }
                    self.finish(frame.is_final)
                }
                _ if !is_whole => {
                    self.frame = Some(frame);
                    return Ok(None);
                }
                (OpCode::Data(_), Some(message)) => {
                    message.bytes.extend_from_slice(&take(read, frame.left));
                    self.finish(frame.is_final)
                }
                (OpCode::Data(_), None) => {
                    let bytes = take(read, frame.left);
                    Some(Received::Message(Payload { is_text: frame.opcode == TEXT, length: bytes.len() as u64, bytes }))
                }
                (OpCode::Control(control), _) => Some(control_frame(control, take(read, frame.left))?),
            };
            if received.is_some() {
                return Ok(received);
            }
        }
    }

    /// Takes a frame's header out of `read`, and sees whether such a frame may come now.
    fn header(&mut self, read: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        let mut cursor = Cursor::new(&read[..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Broken)? else { return Ok(None) };
        let FrameHeader { is_final, opcode, .. } = header;
        let size = usize::try_from(cursor.position()).map_err(|_| Broken)?;
        read.advance(size);
        // No extension was agreed on; only a client masks.
        if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_some() || length > i64::MAX as u64 {
            return Err(Broken);
        }
        match (opcode, &self.message) {
            (OpCode::Control(_), _) if !is_final || length > 125 => return Err(Broken),
            (OpCode::Control(_), _) => {}
            (OpCode::Data(Data::Continue), None) => return Err(Broken),
            (OpCode::Data(Data::Continue), Some(_)) => self.announced(length),
            (OpCode::Data(_), Some(_)) => return Err(Broken),
            // The common case: a message in one frame, which is taken out of what was read without a copy.
            (OpCode::Data(_), None) if is_final && length <= self.frame_max.min(self.message_max) => {}
            (OpCode::Data(_), None) => {
                self.message = Some(Partial { is_text: opcode == TEXT, bytes: Vec::new(), length: 0, is_over: false });
                self.announced(length);
            }
        }
        Ok(Some(Frame { opcode, is_final, left: length }))
    }

    /// Another frame of the message has this length.
    fn announced(&mut self, length: u64) {
        if let Some(message) = &mut self.message {
            message.length = message.length.saturating_add(length);
            if length > self.frame_max || message.length > self.message_max {
                message.is_over = true;
                message.bytes.truncate(self.keep);
            }
        }
    }

    fn finish(&mut self, is_final: bool) -> Option<Received> {
        let message = self.message.take_if(|_| is_final)?;
        Some(Received::Message(Payload { is_text: message.is_text, bytes: message.bytes.into(), length: message.length }))
    }
}

impl Partial {
    /// Takes up to `left` bytes out of `read`, of which those are kept that belong to the message's first `keep`. Returns how many are still to come.
    fn skim(&mut self, read: &mut BytesMut, left: u64, keep: usize) -> u64 {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
        let kept = keep.saturating_sub(self.bytes.len()).min(here);
        self.bytes.extend_from_slice(&read[..kept]);
        read.advance(here);
        left - here as u64
    }
}

/// The first `length` bytes, all of which are there.
fn take(read: &mut BytesMut, length: u64) -> Bytes {
    read.split_to(usize::try_from(length).unwrap_or(usize::MAX).min(read.len())).freeze()
}

fn control_frame(control: Control, payload: Bytes) -> Result<Received, Broken> {
    match control {
        Control::Ping => Ok(Received::Ping(payload)),
        Control::Pong => Ok(Received::Pong),
        Control::Close => match &payload[..] {
            [] => Ok(Received::Close(None)),
            [high, low, reason @ ..] => {
                let reason = std::str::from_utf8(reason).map_err(|_| Broken)?;
                Ok(Received::Close(Some(CloseFrame { code: u16::from_be_bytes([*high, *low]).into(), reason: reason.into() })))
            }
            [_] => Err(Broken),
        },
        Control::Reserved(_) => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Written;

    use super::*;

    /// Feeds the bytes in pieces of these sizes, over and over, and says what came out.
    fn assemble(bytes: &[u8], pieces: &[usize], frame_max: usize, message_max: usize) -> Result<Vec<Received>, Broken> {
        let mut assembler = Assembler::new(frame_max, message_max);
        let (mut read, mut received) = (BytesMut::new(), Vec::new());
        let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
        loop {
            while let Some(next) = assembler.next(&mut read)? {
                received.push(next);
            }
            assert!(read.len() <= frame_max.max(125) + 14, "more is kept than a frame");
            if rest.is_empty() {
                return Ok(received);
            }
            let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            read.extend_from_slice(piece);
            rest = later;
        }
    }

    fn message(bytes: &[u8], length: u64) -> Received {
        Received::Message(Payload { is_text: true, bytes: Bytes::copy_from_slice(bytes), length })
    }

    fn written(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Written::message(payload.to_vec(), opcode, is_final).format(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_message_over_the_limits_is_cut_and_the_next_one_is_whole() {
        const MORE: OpCode = OpCode::Data(Data::Continue);
        let ping = || b"\x89\x01p".to_vec();
        let pinged = || Received::Ping(Bytes::from_static(b"p"));
        for (frames, expected) in [
            (vec![written(TEXT, true, b"12345678")], vec![message(b"12345678", 8)]),
            (vec![written(TEXT, true, b"123456789")], vec![message(b"12345678", 9)]),
            (vec![written(TEXT, true, b"\xff\xfe")], vec![message(b"\xff\xfe", 2)]),
            (vec![written(TEXT, true, b"")], vec![message(b"", 0)]),
            (
                vec![written(TEXT, false, b"1234"), ping(), written(MORE, false, b"5678"), written(MORE, true, b"9abc")],
                vec![pinged(), message(b"123456789abc", 12)],
            ),
            (
                vec![written(TEXT, false, b"1234"), written(MORE, false, b"56789abc"), ping(), written(MORE, true, b"defg")],
                vec![pinged(), message(b"12345678", 16)],
            ),
            (vec![written(TEXT, false, b"123"), written(MORE, true, b"456789abcde")], vec![message(b"12345678", 14)]),
            (vec![written(TEXT, false, b"123456789"), written(MORE, true, b"")], vec![message(b"12345678", 9)]),
        ] {
            let stream = [frames.concat(), written(TEXT, true, b"after")].concat();
            let expected: Vec<Received> = expected.into_iter().chain([message(b"after", 5)]).collect();
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(assemble(&stream, &[piece], 8, 12).as_ref(), Ok(&expected), "{frames:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_no_message() {
        for bytes in [
            &b"\x83\x00"[..],                            // a reserved opcode
            b"\x8b\x00",                                 // the same of a control frame
            b"\xc1\x00",                                 // a reserved bit
            b"\x81\x81abcdx",                            // masked
            b"\x80\x00",                                 // a continuation of nothing
            b"\x01\x01a\x81\x01b",                       // a message inside of another
            b"\x09\x00",                                 // a control frame in pieces
            b"\x89\x7e\x00\x7e",                         // one that is too long
            b"\x88\x01\x03",                             // half a close code
            b"\x88\x03\x03\xe8\xff",                     // a close reason that is no text
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", // a length that is none
        ] {
            assert_eq!(assemble(bytes, &[1_000], 1_000, 1_000), Err(Broken), "{bytes:?}");
        }
    }

    #[test]
    fn a_message_is_what_its_first_frame_calls_it() {
        const BINARY: OpCode = OpCode::Data(Data::Binary);
        const MORE: OpCode = OpCode::Data(Data::Continue);
        for (frames, is_text) in [
            (vec![written(TEXT, true, b"a")], true),
            (vec![written(BINARY, true, b"a")], false),
            (vec![written(TEXT, false, b"a"), written(MORE, true, b"b")], true),
            (vec![written(BINARY, false, b"a"), written(MORE, true, b"b")], false),
            (vec![written(BINARY, true, b"too long")], false),
        ] {
            let received = assemble(&frames.concat(), &[1], 4, 4).unwrap();
            let [Received::Message(payload)] = &received[..] else { panic!("{received:?}") };
            assert_eq!(payload.is_text, is_text, "{frames:?}");
        }
    }

    #[test]
    fn a_close_carries_its_code() {
        let close = |code: u16, reason: &str| Received::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
        for (bytes, expected) in
            [(&b"\x88\x00"[..], Received::Close(None)), (b"\x88\x02\x03\xe8", close(1000, "")), (b"\x88\x04\x0b\xb8no", close(3000, "no"))]
        {
            assert_eq!(assemble(bytes, &[1], 10, 10), Ok(vec![expected]), "{bytes:?}");
        }
    }

    #[test]
    fn a_giant_frame_is_never_in_memory() {
        let mut assembler = Assembler::new(1 << 20, 4 << 20);
        let mut read = BytesMut::from(&b"\x81\x7f\0\0\0\0\x04\0\0\0"[..]);
        for _ in 0..1 << 10 {
            assert_eq!(assembler.next(&mut read), Ok(None));
            assert!(read.is_empty() && assembler.message.as_ref().unwrap().bytes.len() <= QUARANTINE_CUT_BYTES);
            read.resize(1 << 16, b'x');
        }
        let Ok(Some(Received::Message(cut))) = assembler.next(&mut read) else { panic!("no message") };
        assert_eq!((cut.bytes.len(), cut.length), (QUARANTINE_CUT_BYTES, 1 << 26));
    }

    proptest! {
        #[test]
        fn where_reads_cut_the_stream_makes_no_difference(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 1..6),
            pieces in prop::collection::vec(1usize..400, 1..8),
            limits in (1usize..400, 1usize..800),
        ) {
            let (frame_max, message_max) = limits;
            let keep = frame_max.min(message_max);
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for frames in &messages {
                for (n, frame) in frames.iter().enumerate() {
                    let opcode = OpCode::Data(if n == 0 { Data::Text } else { Data::Continue });
                    stream.extend(written(opcode, n + 1 == frames.len(), frame));
                }
                let whole = frames.concat();
                let is_over = whole.len() > message_max || frames.iter().any(|frame| frame.len() > frame_max);
                let kept = if is_over { keep.min(whole.len()) } else { whole.len() };
                expected.push(message(&whole[..kept], whole.len() as u64));
            }
            prop_assert_eq!(assemble(&stream, &pieces, frame_max, message_max), Ok(expected));
        }

        #[test]
        fn any_bytes_are_messages_or_a_broken_protocol(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            let _ = assemble(&bytes, &[piece], 100, 200);
        }
    }
}
