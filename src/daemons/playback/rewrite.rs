//! Makes a recording happen now: moves the times in its frames, and renumbers what must not be seen twice.

use serde_json::Value;

use crate::schema::time::Millis;

/// Moves every RFC 3339 time and every `"timestamp"` of a frame by whole seconds, in place; nothing else of the text changes.
pub(super) fn shift_times(frame: &mut String, by_ms: i64) {
    let by_ms = by_ms.div_euclid(1000) * 1000;
    let mut bytes = std::mem::take(frame).into_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'T', &bytes[at..]) {
        let t = at + found;
        at = t + 1;
        // `2026-07-23` stands before the T, `12:00:00` after it.
        if t < 10 || bytes.len() < t + 9 {
            continue;
        }
        let (start, end) = (t - 10, t + 9);
        let Some(text) = std::str::from_utf8(&bytes[start..end]).ok() else { continue };
        if let Some(time) = Millis::parse(&format!("{text}Z")) {
            let moved = time.plus(by_ms).to_string();
            bytes[start..end].copy_from_slice(&moved.as_bytes()[..19]);
        }
    }
    shift_timestamps(&mut bytes, by_ms / 1000);
    // Only ASCII was put in the place of ASCII.
    *frame = String::from_utf8(bytes).unwrap_or_default();
}

fn shift_timestamps(bytes: &mut [u8], by_s: i64) {
    const KEY: &[u8] = b"\"timestamp\":";
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, KEY).map(|place| place + KEY.len()).collect();
    for start in places {
        let Some(digits) = bytes.get_mut(start..start + 10) else { continue };
        let Some(seconds) = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<i64>().ok()) else { continue };
        let moved = (seconds + by_s).to_string();
        if moved.len() == 10 {
            digits.copy_from_slice(moved.as_bytes());
        }
    }
}

/// Gives the things in a frame new ids for another round, so that they are new and not seen again: messages, notifications, toasts, tips,
/// queues. Accounts and fans stay. A frame that is no JSON object stays as it is.
#[must_use]
pub(super) fn renumber(frame: String, round: u64) -> String {
    if round == 0 {
        return frame;
    }
    let Ok(Value::Object(mut items)) = serde_json::from_str::<Value>(&frame) else { return frame };
    for (key, item) in &mut items {
        match key.as_str() {
            "api2_chat_message" => {
                bump_all(item.get_mut("id"), round);
                bump_all(item.pointer_mut("/replyToMessage/id"), round);
            }
            "chat_message_delete" => bump(item, round),
            "new_message" => {
                bump_all(item.get_mut("id"), round);
                if let Some(Value::String(link)) = item.pointer_mut("/replacePairs/{MESSAGE_LINK}") {
                    bump_link(link, round);
                }
            }
            "story_tips" | "stream_tips" | "chat_queue_update" | "chat_message_like" | "chat_message_unlike" => {
                bump_all(item.get_mut("id"), round)
            }
            "toasts" => {
                bump_all(item.as_array_mut().into_iter().flatten().filter_map(|toast| toast.get_mut("id")), round);
            }
            _ => {}
        }
    }
    serde_json::to_string(&items).unwrap_or(frame)
}

/// Ids of a round lie a billion above those of the round before: below that no recording repeats, above it 13 digits stay 13.
const ROUND: u64 = 1_000_000_000;

fn bump_all<'v>(ids: impl IntoIterator<Item = &'v mut Value>, round: u64) {
    ids.into_iter().for_each(|id| bump(id, round));
}

fn bump(id: &mut Value, round: u64) {
    match id {
        Value::Number(number) => {
            if let Some(value) = number.as_u64().filter(|&value| value > 0) {
                *number = value.saturating_add(round.saturating_mul(ROUND)).into();
            }
        }
        Value::String(text) => {
            if let Some(value) = text.parse::<u64>().ok().filter(|&value| value > 0) {
                *text = value.saturating_add(round.saturating_mul(ROUND)).to_string();
            }
        }
        _ => {}
    }
}

fn bump_link(link: &mut String, round: u64) {
    const KEY: &str = "firstId=";
    let Some(start) = link.find(KEY).map(|place| place + KEY.len()) else { return };
    let digits = link[start..].bytes().take_while(u8::is_ascii_digit).count();
    if let Ok(value) = link[start..start + digits].parse::<u64>() {
        let moved = value.saturating_add(round.saturating_mul(ROUND)).to_string();
        link.replace_range(start..start + digits, &moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_and_nothing_else_does() {
        for (frame, by_ms, expected) in [
            (
                r#"{"createdAt":"2026-07-23T12:00:00+00:00","text":"at 12:00 T"}"#,
                61_500,
                r#"{"createdAt":"2026-07-23T12:01:01+00:00","text":"at 12:00 T"}"#,
            ),
            (r#"{"subscribed":{"timestamp":1784808000}}"#, -1_000, r#"{"subscribed":{"timestamp":1784807999}}"#),
            (r#"{"a":"2026-99-23T12:00:00Z","b":"éT"}"#, 1_000, r#"{"a":"2026-99-23T12:00:00Z","b":"éT"}"#),
            ("T", 1_000, "T"),
            ("", 1_000, ""),
        ] {
            let mut text = frame.to_owned();
            shift_times(&mut text, by_ms);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn another_round_has_other_messages_and_the_same_fans() {
        for (frame, expected) in [
            (
                r#"{"api2_chat_message":{"fromUser":{"id":100000001},"id":6400000000001}}"#,
                r#"{"api2_chat_message":{"fromUser":{"id":100000001},"id":6402000000001}}"#,
            ),
            (r#"{"chat_message_delete":"6400000000001"}"#, r#"{"chat_message_delete":"6402000000001"}"#),
            (
                r#"{"new_message":{"id":"7001","replacePairs":{"{MESSAGE_LINK}":"/my/chats/chat/1?firstId=64&x=1"}}}"#,
                r#"{"new_message":{"id":"2000007001","replacePairs":{"{MESSAGE_LINK}":"/my/chats/chat/1?firstId=2000000064&x=1"}}}"#,
            ),
            (r#"{"new_message":{"id":"0"}}"#, r#"{"new_message":{"id":"0"}}"#),
            ("[1", "[1"),
        ] {
            assert_eq!(renumber(frame.to_owned(), 2), expected);
            assert_eq!(renumber(frame.to_owned(), 0), frame);
        }
    }
}
