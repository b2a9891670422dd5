//! Any bytes as an envelope, and as a batch of them.

#![no_main]

use bytes::Bytes;
use convpipe::schema::envelope::{Envelope, take_framed};
use libfuzzer_sys::fuzz_target;

fn read(envelope: &Envelope) {
    let _ = envelope.event();
    let _ = envelope.class();
    assert!(envelope.attributes().count() <= envelope.size());
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        if let Ok(envelope) = Envelope::from_parts(0, u16::from_le_bytes(*length).into(), Bytes::copy_from_slice(rest)) {
            read(&envelope);
        }
    }
    let mut batch = Bytes::copy_from_slice(bytes);
    while let Some(Ok(envelope)) = take_framed(&mut batch) {
        read(&envelope);
    }
});
