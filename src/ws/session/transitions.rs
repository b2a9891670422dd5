//! The table of `docs/connections.md`, made out of the code.

use super::tests::{CONNECTED_OTHER, NO_CONNECT, READY, REFUSED, at, ready, session};
use super::*;
use crate::schema::event::EventKind;
use crate::ws::silence::Kinds;

/// Every state, and the inputs that lead to it.
fn states() -> Vec<(&'static str, Vec<Input>)> {
    let live = [READY, Input::Opened, Input::Heard(Which::Main, Heard::Connected)];
    let after = |more: &[Input]| live.iter().chain(more).copied().collect::<Vec<_>>();
    vec![
        ("waiting", vec![]),
        ("connecting", vec![READY]),
        ("authenticating", vec![READY, Input::Opened]),
        ("live", after(&[])),
        ("rotating, connecting", after(&[ready(2)])),
        ("rotating, authenticating", after(&[ready(2), Input::Opened])),
        ("rotating, overlap", after(&[ready(2), Input::Opened, CONNECTED_OTHER])),
        ("backoff", vec![READY, NO_CONNECT]),
        ("refused", vec![READY, REFUSED]),
        ("draining", after(&[Input::Drain])),
        ("stopped", vec![Input::Drain]),
    ]
}

fn name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Connecting => "connecting",
        State::Authenticating { .. } => "authenticating",
        State::Live(_) => "live",
        State::Rotating(_, Turn::Connecting) => "rotating, connecting",
        State::Rotating(_, Turn::Authenticating { .. }) => "rotating, authenticating",
        State::Rotating(_, Turn::Overlap { .. }) => "rotating, overlap",
        State::Backoff { .. } => "backoff",
        State::Refused => "refused",
        State::Draining { .. } => "draining",
        State::Stopped => "stopped",
    }
}

fn told(action: Action) -> &'static str {
    match action {
        Action::Connect => "connect",
        Action::Abort => "abort the connect",
        Action::SendConnect => "send the token",
        Action::SendHeartbeat => "send a heartbeat",
        Action::Close(Which::Main, _) => "close",
        Action::Close(Which::Other, _) => "close the other",
        Action::Promote => "the other becomes the main one",
        Action::Look => "look for another artifact",
        Action::Emit(Signal::Missed) => "count the miss",
        Action::Emit(Signal::Late) => "warn",
        Action::Emit(Signal::Expired) => "`auth_changed` (expired)",
        Action::Emit(Signal::Opened) => "`opened`",
        Action::Emit(Signal::Closed { .. }) => "`closed`",
        Action::Emit(Signal::Gap { .. }) => "`gap`",
        Action::Emit(Signal::Silent { .. }) => "`silent`",
        Action::Emit(Signal::AuthChanged { .. }) => "`auth_changed`",
        Action::Emit(Signal::Refused) => "`auth_changed` (rejected), ask for another artifact",
    }
}

/// The table of the docs is what the code does: every state, every input that does something in it.
#[test]
fn the_docs_have_every_transition() {
    let (retry, refusal) = (Failure::retry(Reason::Reset), Failure::refused(Reason::AuthRefused));
    let inputs = [
        ("artifact, ready", ready(9), 5),
        ("artifact, not ready", Input::Artifact { generation: 9, status: ArtifactStatus::NeedsOtp, life: None }, 5),
        ("opened", Input::Opened, 5),
        ("connect failed", Input::ConnectFailed(retry), 5),
        ("connect refused", Input::ConnectFailed(refusal), 5),
        ("lost", Input::Lost(Which::Main, retry), 5),
        ("lost, refused", Input::Lost(Which::Main, refusal), 5),
        ("lost the other", Input::Lost(Which::Other, retry), 5),
        ("lost the other, refused", Input::Lost(Which::Other, refusal), 5),
        ("`connected`", Input::Heard(Which::Main, Heard::Connected), 5),
        ("`error`, once", Input::Heard(Which::Main, Heard::Error), 5),
        ("a refusal", Input::Heard(Which::Main, Heard::Refused), 5),
        ("any other frame", Input::Heard(Which::Main, Heard::Data), 5),
        ("`connected` on the other", CONNECTED_OTHER, 5),
        ("`error`, once, on the other", Input::Heard(Which::Other, Heard::Error), 5),
        ("a refusal on the other", Input::Heard(Which::Other, Heard::Refused), 5),
        ("any other frame on the other", Input::Heard(Which::Other, Heard::Data), 5),
        ("its time is over", Input::Tick, 19_999),
        ("drain", Input::Drain, 5),
    ];
    let mut table = String::from("| state | input | next | what is done |\n|---|---|---|---|\n");
    for (before, way) in states() {
        for (what, input, time) in inputs {
            let mut session = session();
            way.iter().for_each(|input| _ = session.on(*input, at(0)));
            assert_eq!(name(session.state), before);
            let actions = session.on(input, at(time));
            let next = name(session.state);
            if !actions.is_empty() || next != before {
                let done: Vec<&str> = actions.into_iter().map(told).collect();
                table.push_str(&format!("| {before} | {what} | {next} | {} |\n", done.join(", ")));
            }
        }
    }
    for (what, misses, silent) in [("heartbeat is due", 0, false), ("two heartbeats are unanswered", 2, false), ("too silent", 0, true)] {
        let mut session = session();
        states()[3].1.iter().for_each(|input| _ = session.on(*input, at(0)));
        let mut kinds = Kinds::NONE;
        kinds.add(EventKind::MessageReceived);
        (0..20).for_each(|_| _ = session.on(Input::Seen(if silent { kinds } else { Kinds::NONE }), at(0)));
        let ticks: &[u64] = if misses > 0 {
            &[20_000, 25_000, 40_000, 45_000]
        } else if silent {
            &[60_000]
        } else {
            &[20_000]
        };
        let mut actions = Vec::new();
        for tick in ticks {
            if silent {
                // A heartbeat that was answered in time is no part of it.
                if let State::Live(live) = &mut session.state {
                    live.heartbeat_at = u64::MAX;
                }
            }
            actions = session.on(Input::Tick, at(*tick));
        }
        let done: Vec<&str> = actions.into_iter().map(told).collect();
        table.push_str(&format!("| live | {what} | {} | {} |\n", name(session.state), done.join(", ")));
    }
    // The age of the artifact, of which one second has to pass for each eighth of its life; the heartbeat and what else runs is far away.
    let life = Some(Life { begins: Some(at(0).wall), ends: at(8_000).wall });
    for (before, way) in states() {
        for (what, time) in
            [("three quarters of the token's life are over", 6_000), ("seven eighths are over", 7_000), ("it has ended", 8_000)]
        {
            let mut session = session();
            session.backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(9));
            for input in &way {
                let input = match *input {
                    Input::Artifact { generation, status, .. } => Input::Artifact { generation, status, life },
                    other => other,
                };
                session.on(input, at(0));
            }
            if let State::Rotating(_, Turn::Overlap { until }) = &mut session.state {
                *until = u64::MAX;
            }
            (6..time / 1_000).for_each(|s| _ = session.on(Input::Tick, at(s * 1_000)));
            let actions = session.on(Input::Tick, at(time));
            let next = name(session.state);
            if before != "draining" && (!actions.is_empty() || next != before) {
                let done: Vec<&str> = actions.into_iter().map(told).collect();
                table.push_str(&format!("| {before} | {what} | {next} | {} |\n", done.join(", ")));
            }
        }
    }

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/connections.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let begin = docs.find("| state | input | next |").expect("the table in docs/connections.md");
    let end = docs[begin..].find("\n\n").map_or(docs.len(), |end| begin + end + 1);
    if docs[begin..end] != table {
        let wanted = [&docs[..begin], &table, &docs[end..]].concat();
        if is_update() {
            std::fs::write(path, wanted).unwrap();
        } else {
            panic!("docs/connections.md differs from the code; UPDATE_GOLDEN=1 writes this:\n{table}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is no configuration of the program")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}
