//! An envelope as a Pub/Sub message and back. Attributes are attributes, data is data: whoever else reads the topic sees plain CloudEvents.

use bytes::Bytes;
use google_cloud_pubsub::model::Message;

use crate::schema::envelope::Envelope;
use crate::schema::ids;
use crate::schema::time::Millis;

/// Ordering keys there are. The client library keeps a task for every key that it ever saw, so their number bounds its memory.
pub(super) const KEYS: usize = 256;

/// The ordering key of an envelope.
pub(super) fn key(envelope: &Envelope) -> usize {
    usize::from(envelope.ordering_key()) % KEYS
}

/// The message; without a key it is not ordered.
pub(super) fn message(envelope: &Envelope, key: Option<usize>) -> Message {
    let message = Message::new().set_data(envelope.data_bytes()).set_attributes(envelope.attributes());
    match key {
        Some(key) => message.set_ordering_key(key.to_string()),
        None => message,
    }
}

/// The envelope of a message, whoever published it. The service does not keep the order of attributes: they come sorted by name.
pub(super) fn envelope(message: &Message) -> Envelope {
    let mut attributes: Vec<(&str, &str)> = message.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    attributes.sort_unstable();
    Envelope::new(ordering_key(message), &attributes, &message.data)
}

/// When the service took it.
pub(super) fn published_at(message: &Message) -> Millis {
    let at = message.publish_time.as_ref();
    Millis(at.map_or(0, |at| at.seconds().saturating_mul(1_000).saturating_add(i64::from(at.nanos()) / 1_000_000)))
}

/// What the message carries where it is one of ours; else, or where ordering is switched off, what its attributes make of it, so that a
/// conversation's messages still meet in one lane.
fn ordering_key(message: &Message) -> u16 {
    let carried = message.ordering_key.parse().ok().filter(|&key: &u16| usize::from(key) < KEYS);
    carried.unwrap_or_else(|| {
        let account = message.attributes.get("ce-accountid").map_or("", String::as_str);
        ids::ordering_key(account, message.attributes.get("ce-subject").map(String::as_str))
    })
}

/// The bytes that a message takes of a window.
pub(super) fn size(message: &Message) -> usize {
    let data: &Bytes = &message.data;
    message.attributes.iter().fold(data.len(), |size, (key, value)| size + key.len() + value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{Event, EventKind};

    fn event() -> Envelope {
        let mut event = Event::of_account(EventKind::TipReceived, "onlyfans:2:tip:9".into(), "2", "c", Millis(0));
        event.conversation_id = Some("1".into());
        Envelope::of_event(&event).expect("events serialize")
    }

    #[test]
    fn a_message_is_plain_cloud_events() {
        let sent = event();
        let message = message(&sent, Some(key(&sent)));
        assert_eq!(message.attributes["ce-type"], "convpipe.tip.received.v1");
        assert_eq!(message.attributes["Content-Type"], "application/json");
        assert_eq!(message.ordering_key, sent.ordering_key().to_string());
        assert_eq!(&message.data[..], sent.data());
    }

    #[test]
    fn an_envelope_comes_back_with_its_key_in_any_case() {
        let sent = event();
        for (ordered, foreign) in [(true, None), (false, None), (false, Some("")), (false, Some("their-key")), (false, Some("70000"))] {
            let mut message = message(&sent, ordered.then(|| key(&sent)));
            if let Some(foreign) = foreign {
                message.ordering_key = foreign.into();
            }
            let back = envelope(&message);
            assert_eq!(back.ordering_key(), sent.ordering_key(), "{ordered} {foreign:?}");
            assert_eq!(back.data(), sent.data());
            assert_eq!(size(&message) + 3 * message.attributes.len(), back.size(), "but for the lengths that an envelope stores");
            let mut attributes: Vec<_> = sent.attributes().collect();
            attributes.sort_unstable();
            assert_eq!(back.attributes().collect::<Vec<_>>(), attributes);
        }
    }

    #[test]
    fn there_are_256_keys_whatever_an_envelope_says() {
        let keys: std::collections::BTreeSet<usize> = (0..=u16::MAX).map(|key| super::key(&Envelope::new(key, &[], b""))).collect();
        assert_eq!(keys.len(), KEYS);
    }

    #[test]
    fn times_are_whole_milliseconds() {
        let at = google_cloud_wkt::Timestamp::clamp(1_784_808_000, 123_999_999);
        assert_eq!(published_at(&Message::new().set_publish_time(at)), Millis(1_784_808_000_123));
        assert_eq!(published_at(&Message::new()), Millis(0));
    }
}
