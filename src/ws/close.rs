//! What the numbers mean with which a platform ends a connection or does not let one come about: one table for close codes and HTTP statuses.
//!
//! The platform documents none of them. What stands here is what RFC 6455, the registry of close codes and HTTP say of themselves.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Failure, Reason, Verdict, blames_artifact};

/// What is not in it is [`Verdict::Retry`].
const CODES: [(u16, Verdict); 8] = [
    // HTTP: unauthorized, forbidden.
    (401, Verdict::Refused),
    (403, Verdict::Refused),
    // Too many requests, unavailable for legal reasons.
    (429, Verdict::Slow),
    (451, Verdict::Slow),
    // WebSocket: policy violation, try again later.
    (1008, Verdict::Slow),
    (1013, Verdict::Slow),
    // Registered by others: unauthorized, forbidden.
    (3000, Verdict::Refused),
    (3003, Verdict::Refused),
];

fn verdict(code: u16) -> Verdict {
    CODES.iter().find(|(listed, _)| *listed == code).map_or(Verdict::Retry, |(_, verdict)| *verdict)
}

fn of(code: u16, otherwise: Reason) -> Failure {
    let verdict = verdict(code);
    let reason = if verdict == Verdict::Refused { Reason::AuthRefused } else { otherwise };
    Failure { verdict, close_code: Some(code), ..Failure::retry(reason) }
}

/// What it means that the handshake was answered with this status.
pub(super) fn refused_handshake(status: u16) -> Failure {
    of(status, Reason::Handshake)
}

/// What a close frame means. Its text wins: the platform's words for bad session material are known, its numbers are not.
pub(super) fn closed(close: Option<&CloseFrame>) -> Failure {
    let Some(close) = close else { return Failure::retry(Reason::ServerClosed) };
    let code = u16::from(close.code);
    if blames_artifact(close.reason.as_str()) {
        return Failure { close_code: Some(code), ..Failure::refused(Reason::AuthRefused) };
    }
    of(code, Reason::ServerClosed)
}

/// What a close frame is answered with: itself, as RFC 6455 wants it, but for a number that nobody may send. Such a number still means what it says.
pub(super) fn answer(close: Option<&CloseFrame>) -> Option<CloseFrame> {
    let close = close?;
    if close.code.is_allowed() {
        return Some(close.clone());
    }
    Some(CloseFrame { code: CloseCode::Protocol, reason: "".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_means_what_the_docs_say() {
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/connections.md")).unwrap();
        let (_, docs) = docs.split_once("| what follows |").unwrap();
        for (row, verdict) in [("refused", Verdict::Refused), ("slow lane", Verdict::Slow)] {
            let line = docs.lines().find(|line| line.starts_with(&format!("| {row} |"))).unwrap();
            let told: Vec<u16> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
            let mut listed: Vec<u16> = CODES.iter().filter(|(_, of)| *of == verdict).map(|(code, _)| *code).collect();
            listed.sort_unstable();
            assert_eq!(told, listed, "{line}");
        }
    }

    #[test]
    fn a_close_is_answered_with_itself_where_that_may_be_sent() {
        let close = |code: u16, reason: &'static str| CloseFrame { code: code.into(), reason: reason.into() };
        assert_eq!(answer(None), None);
        for code in [1000, 1008, 1013, 3000, 4999] {
            assert_eq!(answer(Some(&close(code, "why"))), Some(close(code, "why")));
        }
        for code in [0, 401, 999, 1004, 1005, 1006, 1016, 2999, 5000] {
            assert_eq!(answer(Some(&close(code, "why"))), Some(close(1002, "")), "{code}");
        }
    }

    #[test]
    fn close_codes_are_classified() {
        for (code, text, verdict) in [
            (1000, "", Verdict::Retry),
            (1001, "", Verdict::Retry),
            (1006, "", Verdict::Retry),
            (1008, "", Verdict::Slow),
            (1011, "", Verdict::Retry),
            (1012, "", Verdict::Retry),
            (1013, "", Verdict::Slow),
            (3000, "", Verdict::Refused),
            (3003, "", Verdict::Refused),
            (4999, "", Verdict::Retry),
            (1000, "Wrong user", Verdict::Refused),
            (1008, "wrong user", Verdict::Refused),
            (4000, "Please refresh the page", Verdict::Refused),
        ] {
            let failure = closed(Some(&CloseFrame { code: code.into(), reason: text.into() }));
            assert_eq!((failure.verdict, failure.close_code), (verdict, Some(code)), "{code} {text}");
        }
        assert_eq!(closed(None), Failure::retry(Reason::ServerClosed));
    }
}
