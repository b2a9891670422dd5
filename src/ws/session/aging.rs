//! A token that grows old, and what outlives a session: the rows that need a life or a past.

use super::tests::{CONNECTED_OTHER, NO_CONNECT, OPENED, READY, REFUSED, RESET, Step, at, check, closed, gap, live, ready, session, wall};
use super::*;
use crate::schema::event::EventKind;

/// Prepared at 0, ends after 80 s.
const fn aging(generation: u64, ends_s: i64) -> Input {
    let life = Some(Life { begins: Some(Millis(86_400_000)), ends: Millis(86_400_000 + ends_s * 1_000) });
    Input::Artifact { generation, status: ArtifactStatus::Ready, life }
}

#[test]
fn a_token_that_grows_old() {
    let (late, expired) = (Action::Emit(Signal::Late), Action::Emit(Signal::Expired));
    let beat = |time, more: &[Action]| {
        let mut actions = more.to_vec();
        actions.push(Action::SendHeartbeat);
        [(time, Input::Tick, actions), (time + 1, Input::Heard(Which::Main, Heard::Online), vec![])]
    };
    let live_on = |input, more: Vec<Step>| {
        let mut steps = live(vec![]);
        steps[0].1 = input;
        steps.extend([20_000, 40_000].into_iter().flat_map(|time| beat(time, &[])));
        steps.extend(more);
        steps
    };
    check("is looked after at three quarters", live_on(aging(1, 80), beat(60_000, &[Action::Look]).into()), Some(70_000));
    let to_the_end = |more: Vec<Step>| {
        let mut steps: Vec<Step> = beat(60_000, &[Action::Look]).into();
        steps.push((70_000, Input::Tick, vec![late]));
        steps.extend(beat(80_000, &[expired]));
        steps.extend(more);
        live_on(aging(1, 80), steps)
    };
    check("is told once that it is late and once that it has ended, and what is live lives on", to_the_end(vec![]), Some(100_000));
    check(
        "is not connected with again, and the next one is",
        to_the_end(vec![
            (81_000, RESET, vec![closed(Reason::Reset)]),
            (200_000, Input::Tick, vec![]),
            (200_001, ready(2), vec![Action::Connect]),
            (200_002, Input::Opened, vec![Action::SendConnect]),
            (200_003, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(80_001), 200_003, Reason::Reset)]),
        ]),
        Some(220_003),
    );
    check(
        "gives way to the next one whenever that comes, which has a life of its own",
        live_on(
            aging(1, 80),
            vec![
                (60_000, Input::Tick, vec![Action::Look, Action::SendHeartbeat]),
                (60_001, Input::Heard(Which::Main, Heard::Online), vec![]),
                (65_000, aging(2, 85), vec![Action::Connect]),
                // A quarter of its 85 s is left at 63.75 s, which is over.
                (65_001, Input::Tick, vec![Action::Look]),
                (65_002, Input::Opened, vec![Action::SendConnect]),
                (65_003, CONNECTED_OTHER, vec![closed(Reason::NewArtifact), Action::Promote, OPENED]),
            ],
        ),
        Some(65_003 + OVERLAP_MS),
    );
    check(
        "ends a backoff",
        vec![
            (0, aging(1, 80), vec![Action::Connect]),
            (60_000, Input::Tick, vec![Action::Look]),
            (79_500, NO_CONNECT, vec![]),
            (80_000, Input::Tick, vec![late, expired]),
            (90_000, Input::Tick, vec![]),
        ],
        None,
    );
    check(
        "ends the attempts to rotate to it",
        live(vec![
            (10, aging(2, 8), vec![Action::Connect]),
            (7_500, NO_CONNECT, vec![]),
            (7_600, Input::Tick, vec![Action::Look, late]),
            (8_000, Input::Tick, vec![expired]),
            (9_000, Input::Tick, vec![]),
        ]),
        Some(20_000),
    );
    check(
        "that was refused is of no interest any more",
        vec![(0, aging(1, 80), vec![Action::Connect]), (1, REFUSED, vec![Action::Emit(Signal::Refused)])],
        None,
    );
}

#[test]
fn what_an_earlier_session_heard_begins_the_first_gap() {
    let mark = Mark { heard_at: wall(0), pace: [(EventKind::MessageReceived, 5_000)].into() };
    let mut session = session().remembering(&mark);
    assert_eq!(session.mark(), Some(mark.clone()));
    session.on(READY, at(9_000));
    session.on(Input::Opened, at(9_000));
    let actions = session.on(Input::Heard(Which::Main, Heard::Connected), at(9_001));
    assert_eq!(actions, [OPENED, gap(Some(0), 9_001, Reason::Start)]);
    assert_eq!(session.mark(), Some(Mark { heard_at: wall(9_001), ..mark }));
    assert_eq!(session.baseline.due(), Some(9_001 + 60_000), "silence is known from the first moment");
    assert_eq!(super::tests::session().mark(), None);
}
