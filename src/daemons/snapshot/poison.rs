//! What a delivery that cannot be used becomes in the quarantine. Pure but for the time of it.

use std::borrow::Cow;

use serde::Deserialize;

use crate::runtime::clock;
use crate::schema::envelope::Envelope;

/// Bytes of a payload that are kept whole; of a larger one the first [`BYTES_CUT`] are.
const BYTES_MAX: usize = 1 << 20;
const BYTES_CUT: usize = 64 << 10;

/// Where an event came from, as far as what is no event still says so.
#[derive(Default, Deserialize)]
struct Origin<'a> {
    #[serde(borrow)]
    connection: Option<Cow<'a, str>>,
    frame_no: Option<u64>,
}

/// The quarantine's message about a delivery: its bytes, and why it was set aside at which stage, `decode` or `apply`.
#[must_use]
pub(super) fn envelope(of: &Envelope, reason: &str, detail: &str, stage: &str) -> Envelope {
    let data = of.data();
    let length = data.len().to_string();
    let now = clock::now().to_string();
    let account = of.attribute("ce-accountid").unwrap_or_default();
    let origin: Origin<'_> = serde_json::from_slice(data).unwrap_or_default();
    let frame_no = origin.frame_no.map(|number| number.to_string());
    let mut attributes = vec![
        ("reason", reason),
        ("detail", detail),
        ("stage", stage),
        ("account", account),
        ("received_at", now.as_str()),
        ("normalizer", crate::schema::NORMALIZER),
    ];
    attributes.extend(origin.connection.as_deref().map(|connection| ("connection", connection)));
    attributes.extend(frame_no.as_deref().map(|number| ("frame_no", number)));
    let kept = if data.len() <= BYTES_MAX {
        data
    } else {
        attributes.push(("length", &length));
        &data[..BYTES_CUT]
    };
    Envelope::new(of.ordering_key(), &attributes, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{Event, EventKind};
    use crate::schema::time::Millis;

    #[test]
    fn its_origin_is_told_where_it_can_be_read() {
        let mut event = Event::of_account(EventKind::PostPublished, "id".into(), "1", "0198a0000000000a", Millis(0));
        event.frame_no = 7;
        let event = Envelope::of_event(&event).unwrap();
        let large = format!(r#"{{"frame_no":3,"raw":"{}"}}"#, "x".repeat(BYTES_MAX));
        for (data, connection, frame_no, length) in [
            (event.data(), Some("0198a0000000000a"), Some("7"), None),
            (br#"{"kind":5,"connection":"c\u0031","frame_no":2}"#, Some("c1"), Some("2"), None),
            (br#"{"connection":"c"}"#, Some("c"), None, None),
            (br#"{"connection":5,"frame_no":2}"#, None, None, None),
            (b"{\"connection\":\"\xff\"}", None, None, None),
            (b"", None, None, None),
            (large.as_bytes(), None, Some("3"), Some(large.len().to_string())),
        ] {
            let told = envelope(&Envelope::new(9, &[("ce-accountid", "1")], data), "not_an_event", "why", "decode");
            let attribute = |name| told.attribute(name);
            let found = (attribute("connection"), attribute("frame_no"), attribute("length"));
            assert_eq!(found, (connection, frame_no, length.as_deref()), "{:?}", data.get(..40));
            let rest = ["reason", "detail", "stage", "account"].map(attribute);
            assert_eq!(rest, [Some("not_an_event"), Some("why"), Some("decode"), Some("1")]);
            assert_eq!(told.data(), if length.is_some() { &data[..BYTES_CUT] } else { data });
        }
    }
}
