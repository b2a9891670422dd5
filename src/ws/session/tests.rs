//! The table of the session, row by row, and the promise that nothing gets it stuck.

use super::*;
use crate::schema::event::EventKind;
use crate::ws::silence::Kinds;
use proptest::prelude::*;

/// Heartbeats every 20 s answered within 5 s, waits of exactly 1 s: jitter has its own test.
fn timing() -> Timing {
    Timing {
        connected_timeout: 10_000,
        heartbeat: 20_000,
        heartbeat_timeout: 5_000,
        backoff_min: 1_000,
        backoff_max: 1_000,
        backoff_reset: 60_000,
        backoff_slow: 300_000,
        silence_min: 60_000,
        silence_factor: 10,
    }
}

pub(super) fn session() -> Session {
    Session::new(timing(), fastrand::Rng::with_seed(1), 0)
}

/// The time of day runs one day ahead of the monotonic clock, so that neither can be taken for the other.
pub(super) fn at(mono_ms: u64) -> Moment {
    Moment { mono_ms, wall: wall(mono_ms) }
}

pub(super) fn wall(mono_ms: u64) -> Millis {
    Millis(86_400_000 + i64::try_from(mono_ms).unwrap())
}

pub(super) const READY: Input = ready(1);

pub(super) const fn ready(generation: u64) -> Input {
    Input::Artifact { generation, status: ArtifactStatus::Ready, life: None }
}

pub(super) const fn closed(reason: Reason) -> Action {
    Action::Emit(Signal::Closed { reason, close_code: None })
}

const fn auth(status: ArtifactStatus) -> Action {
    Action::Emit(Signal::AuthChanged { status })
}

pub(super) fn gap(from: Option<u64>, to: u64, reason: Reason) -> Action {
    Action::Emit(Signal::Gap { from: from.map(wall), to: wall(to), reason })
}

const MISSED: Action = Action::Emit(Signal::Missed);
pub(super) const OPENED: Action = Action::Emit(Signal::Opened);
pub(super) const RESET: Input = Input::Lost(Which::Main, Failure::retry(Reason::Reset));
pub(super) const NO_CONNECT: Input = Input::ConnectFailed(Failure::retry(Reason::Connect));
pub(super) const REFUSED: Input = Input::ConnectFailed(Failure::refused(Reason::AuthRefused));

pub(super) type Step = (u64, Input, Vec<Action>);

/// Runs the steps and compares what each asks for; ends with the deadline.
pub(super) fn check(name: &str, steps: Vec<Step>, deadline: Option<u64>) {
    let mut session = session();
    for (n, (time, input, expected)) in steps.into_iter().enumerate() {
        assert_eq!(session.on(input, at(time)), expected, "{name}, step {n}: {input:?} at {time}");
    }
    assert_eq!(session.deadline(), deadline, "{name}: {:?}", session.state);
}

/// The way to a live session at time 0.
pub(super) fn live(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        (0, READY, vec![Action::Connect]),
        (0, Input::Opened, vec![Action::SendConnect]),
        (0, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(None, 0, Reason::Start)]),
    ];
    steps.extend(more);
    steps
}

#[test]
fn an_account_goes_live() {
    check("first start is a gap without a beginning", live(vec![]), Some(20_000));
    check("the same artifact again changes nothing", live(vec![(5, READY, vec![])]), Some(20_000));
    check(
        "an artifact that is not ready waits for people",
        vec![(0, Input::Artifact { generation: 1, status: ArtifactStatus::NeedsOtp, life: None }, vec![auth(ArtifactStatus::NeedsOtp)])],
        None,
    );
    check(
        "no connection: backoff, then again",
        vec![
            (0, READY, vec![Action::Connect]),
            (7, NO_CONNECT, vec![]),
            (1_006, Input::Tick, vec![]),
            (1_007, Input::Tick, vec![Action::Connect]),
        ],
        None,
    );
    check(
        "connected has to come in time",
        vec![
            (0, READY, vec![Action::Connect]),
            (0, Input::Opened, vec![Action::SendConnect]),
            (9_999, Input::Tick, vec![]),
            (10_000, Input::Tick, vec![Action::Close(Which::Main, Reason::NotConnected)]),
        ],
        Some(11_000),
    );
    check(
        "connected has to come first",
        vec![
            (0, READY, vec![Action::Connect]),
            (0, Input::Opened, vec![Action::SendConnect]),
            (1, Input::Heard(Which::Main, Heard::Data), vec![Action::Close(Which::Main, Reason::NotConnected)]),
        ],
        Some(1_001),
    );
}

#[test]
fn heartbeats() {
    let beat = |time| (time, Input::Tick, vec![Action::SendHeartbeat]);
    check("answered", live(vec![beat(20_000), (20_100, Input::Heard(Which::Main, Heard::Online), vec![])]), Some(40_000));
    check(
        "one missed is forgiven",
        live(vec![
            beat(20_000),
            (25_000, Input::Tick, vec![MISSED]),
            beat(40_000),
            (40_001, Input::Heard(Which::Main, Heard::Online), vec![]),
            beat(60_000),
            (65_000, Input::Tick, vec![MISSED]),
        ]),
        Some(80_000),
    );
    check(
        "two missed in a row are death, whatever data came",
        live(vec![
            beat(20_000),
            (25_000, Input::Tick, vec![MISSED]),
            (30_000, Input::Heard(Which::Main, Heard::Data), vec![]),
            beat(40_000),
            (45_000, Input::Tick, vec![MISSED, Action::Close(Which::Main, Reason::Heartbeat), closed(Reason::Heartbeat)]),
            (46_000, Input::Tick, vec![Action::Connect]),
            (46_000, Input::Opened, vec![Action::SendConnect]),
            (46_100, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(30_000), 46_100, Reason::Heartbeat)]),
        ]),
        Some(66_100),
    );
    check(
        "while nobody reads, questions go out and no answer is missed",
        live(vec![
            (19_000, Input::Paused, vec![]),
            beat(20_000),
            beat(40_000),
            beat(60_000),
            (61_000, Input::Resumed, vec![]),
            (61_001, Input::Heard(Which::Main, Heard::Online), vec![]),
        ]),
        Some(80_000),
    );
    check(
        "after a pause the answer has its full time again",
        live(vec![(19_000, Input::Paused, vec![]), beat(20_000), (30_000, Input::Resumed, vec![]), (35_000, Input::Tick, vec![MISSED])]),
        Some(40_000),
    );
}

#[test]
fn losses_and_their_reasons() {
    check(
        "a reset is a gap from the last frame",
        live(vec![
            (500, Input::Heard(Which::Main, Heard::Data), vec![]),
            (900, RESET, vec![closed(Reason::Reset)]),
            (1_900, Input::Tick, vec![Action::Connect]),
            (1_901, NO_CONNECT, vec![]),
            (2_901, Input::Tick, vec![Action::Connect]),
            (2_902, Input::Opened, vec![Action::SendConnect]),
            (2_903, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(500), 2_903, Reason::Reset)]),
        ]),
        Some(22_903),
    );
    check(
        "death while nobody reads",
        live(vec![(10, Input::Paused, vec![]), (20, RESET, vec![closed(Reason::Backpressure)])]),
        Some(1_020),
    );
    check(
        "death found soon after a long pause",
        live(vec![(10, Input::Paused, vec![]), (5_010, Input::Resumed, vec![]), (5_020, RESET, vec![closed(Reason::Backpressure)])]),
        Some(6_020),
    );
    check(
        "a short pause is no excuse",
        live(vec![(10, Input::Paused, vec![]), (20, Input::Resumed, vec![]), (30, RESET, vec![closed(Reason::Reset)])]),
        Some(1_030),
    );
    let close = Failure { close_code: Some(1001), ..Failure::retry(Reason::ServerClosed) };
    check(
        "the close code is told",
        live(vec![(
            1,
            Input::Lost(Which::Main, close),
            vec![Action::Emit(Signal::Closed { reason: Reason::ServerClosed, close_code: Some(1001) })],
        )]),
        Some(1_001),
    );
}

#[test]
fn error_frames_that_blame_the_artifact() {
    for (value, expected) in
        [("1", Heard::Error), ("", Heard::Error), ("Wrong user", Heard::Refused), ("Please refresh the page.", Heard::Refused)]
    {
        assert_eq!(Heard::error(value), expected, "{value:?}");
    }
}

#[test]
fn refusals_do_not_loop() {
    let rejected = Action::Emit(Signal::Refused);
    check("at the handshake", vec![(0, READY, vec![Action::Connect]), (1, REFUSED, vec![rejected]), (2, Input::Tick, vec![])], None);
    check(
        "in a frame, and a new artifact leads on",
        live(vec![
            (
                10,
                Input::Heard(Which::Main, Heard::Refused),
                vec![Action::Close(Which::Main, Reason::AuthRefused), closed(Reason::AuthRefused), rejected],
            ),
            (20, READY, vec![]),
            (30, ready(2), vec![Action::Connect]),
            (31, Input::Opened, vec![Action::SendConnect]),
            (32, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(0), 32, Reason::AuthRefused)]),
        ]),
        Some(20_032),
    );
    let attempt = |time, last: Vec<Action>| {
        let mut actions = vec![Action::Close(Which::Main, Reason::ErrorFrame)];
        actions.extend(last);
        [(time, Input::Opened, vec![Action::SendConnect]), (time, Input::Heard(Which::Main, Heard::Error), actions)]
    };
    let mut steps: Vec<Step> = vec![(0, READY, vec![Action::Connect])];
    steps.extend(attempt(0, vec![]));
    steps.push((1_000, Input::Tick, vec![Action::Connect]));
    steps.extend(attempt(1_000, vec![]));
    steps.push((2_000, Input::Tick, vec![Action::Connect]));
    steps.extend(attempt(2_000, vec![rejected]));
    check("the third error frame", steps, None);
}

#[test]
fn new_artifacts() {
    check("cut a wait short", vec![(0, READY, vec![Action::Connect]), (1, NO_CONNECT, vec![]), (2, ready(2), vec![Action::Connect])], None);
    check(
        "replace a connect under way",
        vec![(0, READY, vec![Action::Connect]), (1, ready(2), vec![Action::Abort, Action::Connect])],
        None,
    );
    check(
        "that are not ready leave a live connection alone, and end what is not live",
        live(vec![
            (10, OTP, vec![auth(ArtifactStatus::NeedsOtp)]),
            (500, Input::Heard(Which::Main, Heard::Data), vec![]),
            (900, RESET, vec![closed(Reason::Reset)]),
            (9_000, Input::Tick, vec![]),
            (9_001, ready(3), vec![Action::Connect]),
        ]),
        None,
    );
    let mut session = Session::new(timing(), fastrand::Rng::with_seed(1), 700);
    assert_eq!((session.on(READY, at(0)), session.deadline()), (vec![], Some(700)), "accounts that start together spread");
    assert_eq!(session.on(Input::Tick, at(700)), [Action::Connect]);
}

const OTP: Input = Input::Artifact { generation: 2, status: ArtifactStatus::NeedsOtp, life: None };
pub(super) const CONNECTED_OTHER: Input = Input::Heard(Which::Other, Heard::Connected);

/// From a live session to the new socket that has its token.
fn turning(more: Vec<Step>) -> Vec<Step> {
    let mut steps = live(vec![(10, ready(2), vec![Action::Connect]), (20, Input::Opened, vec![Action::SendConnect])]);
    steps.extend(more);
    steps
}

#[test]
fn rotation() {
    let promoted = || vec![closed(Reason::NewArtifact), Action::Promote, OPENED];
    let turned = |more: Vec<Step>| {
        let mut steps = turning(vec![(30, CONNECTED_OTHER, promoted())]);
        steps.extend(more);
        steps
    };
    let close = |reason| Action::Close(Which::Other, reason);
    check("is live on the new before the old is closed, without a gap", turned(vec![]), Some(30 + OVERLAP_MS));
    check(
        "the old one is read for a while, then closed",
        turned(vec![
            (50, Input::Heard(Which::Other, Heard::Data), vec![]),
            (30 + OVERLAP_MS, Input::Tick, vec![close(Reason::NewArtifact)]),
        ]),
        Some(20_030),
    );
    check(
        "the old one may go by itself",
        turned(vec![(50, Input::Lost(Which::Other, Failure::retry(Reason::Reset)), vec![])]),
        Some(20_030),
    );
    check(
        "and may say that it was superseded",
        turned(vec![(50, Input::Heard(Which::Other, Heard::Refused), vec![close(Reason::NewArtifact)])]),
        Some(20_030),
    );
    check(
        "the old one beats on meanwhile",
        live(vec![(10, ready(2), vec![Action::Connect]), (20_000, Input::Tick, vec![Action::SendHeartbeat])]),
        Some(25_000),
    );
    check(
        "a new one that does not come about is tried again, and nothing is lost",
        live(vec![
            (10, ready(2), vec![Action::Connect]),
            (20, NO_CONNECT, vec![]),
            (1_020, Input::Tick, vec![Action::Connect]),
            (1_021, Input::Opened, vec![Action::SendConnect]),
            (1_022, CONNECTED_OTHER, promoted()),
        ]),
        Some(1_022 + OVERLAP_MS),
    );
    check("one that says nothing, too", turning(vec![(10_020, Input::Tick, vec![close(Reason::NotConnected)])]), Some(11_020));
    check(
        "a refused one is told, and the old one lives until it ends",
        turning(vec![
            (30, Input::Heard(Which::Other, Heard::Refused), vec![close(Reason::AuthRefused), Action::Emit(Signal::Refused)]),
            (500, Input::Heard(Which::Main, Heard::Data), vec![]),
            (900, RESET, vec![closed(Reason::Reset)]),
            (99_000, Input::Tick, vec![]),
        ]),
        None,
    );
    check(
        "the old one is lost while the new one connects: that is the next attempt",
        live(vec![
            (10, ready(2), vec![Action::Connect]),
            (11, RESET, vec![closed(Reason::Reset)]),
            (20, Input::Opened, vec![Action::SendConnect]),
            (30, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(0), 30, Reason::Reset)]),
        ]),
        Some(20_030),
    );
    check(
        "the old one is lost while the new one waits for its connected",
        turning(vec![
            (25, RESET, vec![closed(Reason::Reset), Action::Promote]),
            (30, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(0), 30, Reason::Reset)]),
        ]),
        Some(20_030),
    );
    check(
        "the new one is lost while both are there",
        turned(vec![(40, RESET, vec![closed(Reason::Reset), close(Reason::NewArtifact)])]),
        Some(1_040),
    );
    check(
        "a newer artifact starts it over",
        turning(vec![(30, ready(3), vec![close(Reason::NewArtifact), Action::Connect])]),
        Some(20_000),
    );
    check(
        "one that is not ready ends it",
        turning(vec![(30, OTP, vec![close(Reason::NewArtifact), auth(ArtifactStatus::NeedsOtp)])]),
        Some(20_000),
    );
    check(
        "a drain closes both",
        turned(vec![(
            40,
            Input::Drain,
            vec![close(Reason::NewArtifact), Action::Close(Which::Main, Reason::Shutdown), closed(Reason::Shutdown)],
        )]),
        Some(40 + CLOSE_MS),
    );
}

#[test]
fn silence_of_a_kind_that_used_to_come_ends_the_connection() {
    let mut kinds = Kinds::NONE;
    kinds.add(EventKind::MessageReceived);
    let mut steps = live((1..=20).map(|n| (n * 100, Input::Seen(kinds), vec![])).collect());
    let answered = |time| [(time, Input::Tick, vec![Action::SendHeartbeat]), (time + 1, Input::Heard(Which::Main, Heard::Online), vec![])];
    steps.extend([20_000, 40_000, 60_000].into_iter().flat_map(answered));
    let silent = Signal::Silent { kind: EventKind::MessageReceived, from: wall(2_000), to: wall(62_000) };
    steps.push((62_000, Input::Tick, vec![Action::Emit(silent), Action::Close(Which::Main, Reason::Silent), closed(Reason::Silent)]));
    steps.extend([
        (63_000, Input::Tick, vec![Action::Connect]),
        (63_000, Input::Opened, vec![Action::SendConnect]),
        (63_001, Input::Heard(Which::Main, Heard::Connected), vec![OPENED, gap(Some(2_000), 63_001, Reason::Silent)]),
    ]);
    check("what it may have missed began with the silence", steps, Some(83_001));
    let mut paused = live((1..=20).map(|n| (n * 100, Input::Seen(kinds), vec![])).collect());
    paused.extend([(3_000, Input::Paused, vec![]), (20_000, Input::Tick, vec![Action::SendHeartbeat])]);
    paused.extend([(40_000, Input::Tick, vec![Action::SendHeartbeat]), (60_000, Input::Tick, vec![Action::SendHeartbeat])]);
    paused.push((70_000, Input::Tick, vec![]));
    check("while nobody reads, nothing is silent", paused, Some(80_000));
}

#[test]
fn waits_stay_within_their_bounds() {
    for seed in 0..50 {
        let timing = Timing { backoff_max: 60_000, ..timing() };
        let mut session = Session::new(timing, fastrand::Rng::with_seed(seed), 0);
        session.on(READY, at(0));
        let mut now = 0;
        for (verdict, bounds) in [(Verdict::Retry, 1_000..=60_000), (Verdict::Slow, 150_000..=300_000)].into_iter().cycle().take(40) {
            session.on(Input::ConnectFailed(Failure { verdict, ..Failure::retry(Reason::Connect) }), at(now));
            let due = session.deadline().unwrap();
            assert!(bounds.contains(&(due - now)), "{verdict:?}: {} ms", due - now);
            now = due;
            assert_eq!(session.on(Input::Tick, at(now)), [Action::Connect]);
        }
    }
}

#[test]
fn drains() {
    check("without an artifact", vec![(0, Input::Drain, vec![]), (1, READY, vec![])], None);
    check(
        "while connecting",
        vec![(0, READY, vec![Action::Connect]), (1, Input::Drain, vec![Action::Abort]), (2, Input::Opened, vec![])],
        None,
    );
    let drain = || (10, Input::Drain, vec![Action::Close(Which::Main, Reason::Shutdown), closed(Reason::Shutdown)]);
    check("waits for the close", live(vec![drain()]), Some(10 + CLOSE_MS));
    check("ends with the close", live(vec![drain(), (20, RESET, vec![])]), None);
    check("ends without one", live(vec![drain(), (10 + CLOSE_MS, Input::Tick, vec![]), (9_999, READY, vec![])]), None);
}

#[test]
fn the_backoff_starts_over_only_after_a_connection_that_lasted() {
    for (lasted, expected) in [(59_999, 2), (60_000, 1)] {
        let mut session = Session::new(Timing { backoff_max: 60_000, ..timing() }, fastrand::Rng::with_seed(1), 0);
        session.on(READY, at(0));
        session.on(NO_CONNECT, at(0));
        let start = session.deadline().unwrap();
        for input in [Input::Tick, Input::Opened, Input::Heard(Which::Main, Heard::Connected)] {
            session.on(input, at(start));
        }
        session.on(RESET, at(start + lasted));
        assert_eq!(session.backoff.failures(), expected, "after {lasted} ms");
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let status = prop_oneof![Just(ArtifactStatus::Ready), Just(ArtifactStatus::NeedsOtp), Just(ArtifactStatus::Rejected)];
    let verdict = || prop_oneof![Just(Verdict::Retry), Just(Verdict::Slow), Just(Verdict::Suspect), Just(Verdict::Refused)];
    let failure = move || verdict().prop_map(|verdict| Failure { verdict, ..Failure::retry(Reason::Reset) });
    let heard = prop_oneof![
        4 => Just(Heard::Connected), 1 => Just(Heard::Online), 1 => Just(Heard::Error), 1 => Just(Heard::Refused), 1 => Just(Heard::Data)
    ];
    let which = || prop_oneof![Just(Which::Main), Just(Which::Other)];
    let mut kinds = Kinds::NONE;
    kinds.add(EventKind::MessageReceived);
    prop_oneof![
        3 => (0u64..4, status, prop::option::of((0i64..100_000, 0i64..200_000))).prop_map(|(generation, status, life)| {
            let life = life.map(|(begins, ends)| Life { begins: Some(Millis(begins)), ends: Millis(ends) });
            Input::Artifact { generation, status, life }
        }),
        4 => Just(Input::Opened),
        1 => failure().prop_map(Input::ConnectFailed),
        1 => (which(), failure()).prop_map(|(which, failure)| Input::Lost(which, failure)),
        5 => (which(), heard).prop_map(|(which, heard)| Input::Heard(which, heard)),
        2 => Just(Input::Seen(kinds)),
        1 => Just(Input::Paused),
        1 => Just(Input::Resumed),
        3 => Just(Input::Tick),
    ]
}

proptest! {
    #[test]
    fn there_is_always_a_way_out(inputs in prop::collection::vec((any_input(), prop_oneof![0u64..100, 0u64..70_000, Just(u64::MAX / 64)]), 0..80)) {
        let mut session = session();
        let (mut mono, mut opened, mut connecting) = (0u64, false, false);
        for (input, wait) in inputs {
            mono = mono.saturating_add(wait);
            let now = Moment { mono_ms: mono, wall: Millis(i64::try_from(mono).unwrap_or(i64::MAX)) };
            if matches!(input, Input::Opened | Input::ConnectFailed(_)) {
                // No such answer comes where nobody asked.
                if !std::mem::take(&mut connecting) { continue; }
            }
            let ended = session.age.is_over();
            let promoted = session.on(input, now);
            let swaps = promoted.contains(&Action::Promote);
            for (n, action) in promoted.iter().enumerate() {
                match action {
                    Action::Connect => {
                        prop_assert!(!connecting, "one connect at a time");
                        prop_assert!(!(ended && session.age.is_over()), "none with a token that has ended");
                        connecting = true;
                    }
                    Action::Abort => { prop_assert!(connecting); connecting = false; }
                    // Opened and closed come in turns.
                    Action::Emit(Signal::Opened) => { prop_assert!(!opened); opened = true; }
                    Action::Emit(Signal::Closed { .. }) => { prop_assert!(opened); opened = false; }
                    // Every way into a live session but a rotation says what may have been missed.
                    Action::Emit(Signal::Gap { from, to, .. }) => {
                        prop_assert!(n > 0 && promoted[n - 1] == OPENED && !swaps);
                        prop_assert!(from.is_none_or(|from| from <= *to));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(opened, session.is_live());
            // A timer runs, or something else is under way that ends by itself, or an artifact is waited for.
            let waits = matches!(session.state, State::Waiting | State::Refused);
            prop_assert!(session.deadline().is_some() || connecting || waits, "stuck: {:?}", session.state);
        }
        // A new artifact, the answers of a sound peer and the session's own timers lead to a live session, whatever happened before.
        let now = |mono| Moment { mono_ms: mono, wall: Millis(0) };
        session.on(ready(99), now(mono));
        let which = session.arriving();
        session.on(Input::Opened, now(mono));
        session.on(Input::Heard(which, Heard::Connected), now(mono));
        prop_assert!(session.is_live() && session.is_greeted(Which::Main));
        // And a drain always ends.
        session.on(Input::Drain, now(mono));
        let end = session.deadline().unwrap();
        session.on(Input::Tick, now(end));
        prop_assert!(session.is_stopped());
    }
}
