//! Any bytes as a frame.

#![no_main]

use convpipe::schema::envelope::Envelope;
use convpipe::schema::time::Millis;
use convpipe::transform::normalize::{FrameContext, normalize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let context = FrameContext {
        account_id: "200000001",
        connection: "0000019f8ef2e3ab",
        frame_no: 7,
        received_at: Millis(1_784_808_001_250),
        raw: true,
        depth_max: 64,
    };
    let answer = normalize(frame, &context);
    assert!(answer.control.is_some() || !answer.events.is_empty() || !answer.rejected.is_empty(), "nothing came of it");
    for event in &answer.events {
        let envelope = Envelope::of_event(event).expect("events serialize");
        let read_back = envelope.event().expect("its own event");
        assert_eq!(serde_json::to_vec(&read_back).expect("events serialize"), envelope.data(), "not what was written");
    }
    for rejected in &answer.rejected {
        let _ = rejected.envelope(&context, "normalize");
    }
});
