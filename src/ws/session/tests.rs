//! The table of the session, row by row, and the promise that nothing gets it stuck.

use super::*;
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
    }
}

fn session() -> Session {
    Session::new(timing(), fastrand::Rng::with_seed(1))
}

/// The time of day runs one day ahead of the monotonic clock, so that neither can be taken for the other.
fn at(mono_ms: u64) -> Moment {
    Moment { mono_ms, wall: wall(mono_ms) }
}

fn wall(mono_ms: u64) -> Millis {
    Millis(86_400_000 + i64::try_from(mono_ms).unwrap())
}

const READY: Input = ready(1);

const fn ready(generation: u64) -> Input {
    Input::Artifact { generation, status: ArtifactStatus::Ready }
}

const fn closed(reason: Reason) -> Action {
    Action::Emit(Signal::Closed { reason, close_code: None })
}

const fn auth(status: ArtifactStatus) -> Action {
    Action::Emit(Signal::AuthChanged { status })
}

fn gap(from: Option<u64>, to: u64, reason: Reason) -> Action {
    Action::Emit(Signal::Gap { from: from.map(wall), to: wall(to), reason })
}

const OPENED: Action = Action::Emit(Signal::Opened);
const RESET: Input = Input::Lost(Failure::retry(Reason::Reset));
const REFUSED: Input = Input::Lost(Failure::refused(Reason::AuthRefused));

type Step = (u64, Input, Vec<Action>);

/// Runs the steps and compares what each asks for; ends with the deadline.
fn check(name: &str, steps: Vec<Step>, deadline: Option<u64>) {
    let mut session = session();
    for (n, (time, input, expected)) in steps.into_iter().enumerate() {
        assert_eq!(session.on(input, at(time)), expected, "{name}, step {n}: {input:?} at {time}");
    }
    assert_eq!(session.deadline(), deadline, "{name}: {:?}", session.state);
}

/// The way to a live session at time 0.
fn live(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        (0, READY, vec![Action::Connect]),
        (0, Input::Opened, vec![Action::SendConnect]),
        (0, Input::Heard(Heard::Connected), vec![OPENED, gap(None, 0, Reason::Start)]),
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
        vec![(0, Input::Artifact { generation: 1, status: ArtifactStatus::NeedsOtp }, vec![auth(ArtifactStatus::NeedsOtp)])],
        None,
    );
    check(
        "no connection: backoff, then again",
        vec![
            (0, READY, vec![Action::Connect]),
            (7, Input::Lost(Failure::retry(Reason::Connect)), vec![]),
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
            (10_000, Input::Tick, vec![Action::Close(Reason::NotConnected)]),
        ],
        Some(11_000),
    );
    check(
        "connected has to come first",
        vec![
            (0, READY, vec![Action::Connect]),
            (0, Input::Opened, vec![Action::SendConnect]),
            (1, Input::Heard(Heard::Data), vec![Action::Close(Reason::NotConnected)]),
        ],
        Some(1_001),
    );
}

#[test]
fn heartbeats() {
    let beat = |time| (time, Input::Tick, vec![Action::SendHeartbeat]);
    check("answered", live(vec![beat(20_000), (20_100, Input::Heard(Heard::Online), vec![])]), Some(40_000));
    check(
        "one missed is forgiven",
        live(vec![
            beat(20_000),
            (25_000, Input::Tick, vec![]),
            beat(40_000),
            (40_001, Input::Heard(Heard::Online), vec![]),
            beat(60_000),
            (65_000, Input::Tick, vec![]),
        ]),
        Some(80_000),
    );
    check(
        "two missed in a row are death, whatever data came",
        live(vec![
            beat(20_000),
            (25_000, Input::Tick, vec![]),
            (30_000, Input::Heard(Heard::Data), vec![]),
            beat(40_000),
            (45_000, Input::Tick, vec![Action::Close(Reason::Heartbeat), closed(Reason::Heartbeat)]),
            (46_000, Input::Tick, vec![Action::Connect]),
            (46_000, Input::Opened, vec![Action::SendConnect]),
            (46_100, Input::Heard(Heard::Connected), vec![OPENED, gap(Some(30_000), 46_100, Reason::Heartbeat)]),
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
            (61_001, Input::Heard(Heard::Online), vec![]),
        ]),
        Some(80_000),
    );
    check(
        "after a pause the answer has its full time again",
        live(vec![(19_000, Input::Paused, vec![]), beat(20_000), (30_000, Input::Resumed, vec![]), (35_000, Input::Tick, vec![])]),
        Some(40_000),
    );
}

#[test]
fn losses_and_their_reasons() {
    check(
        "a reset is a gap from the last frame",
        live(vec![
            (500, Input::Heard(Heard::Data), vec![]),
            (900, RESET, vec![closed(Reason::Reset)]),
            (1_900, Input::Tick, vec![Action::Connect]),
            (1_901, Input::Lost(Failure::retry(Reason::Connect)), vec![]),
            (2_901, Input::Tick, vec![Action::Connect]),
            (2_902, Input::Opened, vec![Action::SendConnect]),
            (2_903, Input::Heard(Heard::Connected), vec![OPENED, gap(Some(500), 2_903, Reason::Reset)]),
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
        live(vec![(1, Input::Lost(close), vec![Action::Emit(Signal::Closed { reason: Reason::ServerClosed, close_code: Some(1001) })])]),
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
    let rejected = auth(ArtifactStatus::Rejected);
    check("at the handshake", vec![(0, READY, vec![Action::Connect]), (1, REFUSED, vec![rejected]), (2, Input::Tick, vec![])], None);
    check(
        "in a frame, and a new artifact leads on",
        live(vec![
            (10, Input::Heard(Heard::Refused), vec![Action::Close(Reason::AuthRefused), closed(Reason::AuthRefused), rejected]),
            (20, READY, vec![]),
            (30, ready(2), vec![Action::Connect]),
            (31, Input::Opened, vec![Action::SendConnect]),
            (32, Input::Heard(Heard::Connected), vec![OPENED, gap(Some(0), 32, Reason::AuthRefused)]),
        ]),
        Some(20_032),
    );
    let attempt = |time, last: Vec<Action>| {
        let mut actions = vec![Action::Close(Reason::ErrorFrame)];
        actions.extend(last);
        [(time, Input::Opened, vec![Action::SendConnect]), (time, Input::Heard(Heard::Error), actions)]
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
    check(
        "replace a live connection",
        live(vec![(10, ready(2), vec![Action::Close(Reason::NewArtifact), closed(Reason::NewArtifact), Action::Connect])]),
        None,
    );
    check("cut a wait short", vec![(0, READY, vec![Action::Connect]), (1, RESET, vec![]), (2, ready(2), vec![Action::Connect])], None);
    check(
        "replace a connect under way",
        vec![(0, READY, vec![Action::Connect]), (1, ready(2), vec![Action::Abort, Action::Connect])],
        None,
    );
    let otp = Input::Artifact { generation: 2, status: ArtifactStatus::NeedsOtp };
    check(
        "that are not ready end the session",
        live(vec![(10, otp, vec![Action::Close(Reason::NewArtifact), closed(Reason::NewArtifact), auth(ArtifactStatus::NeedsOtp)])]),
        None,
    );
}

#[test]
fn drains() {
    check("without an artifact", vec![(0, Input::Drain, vec![]), (1, READY, vec![])], None);
    check(
        "while connecting",
        vec![(0, READY, vec![Action::Connect]), (1, Input::Drain, vec![Action::Abort]), (2, Input::Opened, vec![])],
        None,
    );
    let drain = || (10, Input::Drain, vec![Action::Close(Reason::Shutdown), closed(Reason::Shutdown)]);
    check("waits for the close", live(vec![drain()]), Some(10 + CLOSE_MS));
    check("ends with the close", live(vec![drain(), (20, RESET, vec![])]), None);
    check("ends without one", live(vec![drain(), (10 + CLOSE_MS, Input::Tick, vec![]), (9_999, READY, vec![])]), None);
}

#[test]
fn the_backoff_starts_over_only_after_a_connection_that_lasted() {
    for (lasted, expected) in [(59_999, 2), (60_000, 1)] {
        let mut session = Session::new(Timing { backoff_max: 60_000, ..timing() }, fastrand::Rng::with_seed(1));
        session.on(READY, at(0));
        session.on(RESET, at(0));
        let start = session.deadline().unwrap();
        for input in [Input::Tick, Input::Opened, Input::Heard(Heard::Connected)] {
            session.on(input, at(start));
        }
        session.on(RESET, at(start + lasted));
        assert_eq!(session.backoff.failures(), expected, "after {lasted} ms");
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let status = prop_oneof![Just(ArtifactStatus::Ready), Just(ArtifactStatus::NeedsOtp), Just(ArtifactStatus::Rejected)];
    let verdict = prop_oneof![Just(Verdict::Retry), Just(Verdict::Suspect), Just(Verdict::Refused)];
    let heard = prop_oneof![Just(Heard::Connected), Just(Heard::Online), Just(Heard::Error), Just(Heard::Refused), Just(Heard::Data)];
    prop_oneof![
        (0u64..4, status).prop_map(|(generation, status)| Input::Artifact { generation, status }),
        Just(Input::Opened),
        verdict.prop_map(|verdict| Input::Lost(Failure { verdict, ..Failure::retry(Reason::Reset) })),
        heard.prop_map(Input::Heard),
        Just(Input::Paused),
        Just(Input::Resumed),
        Just(Input::Tick),
        Just(Input::Tick),
    ]
}

proptest! {
    #[test]
    fn there_is_always_a_way_out(inputs in prop::collection::vec((any_input(), prop_oneof![0u64..100, 0u64..70_000, Just(u64::MAX / 64)]), 0..60)) {
        let mut session = session();
        let (mut mono, mut open, mut opened) = (0u64, 0i32, false);
        for (input, wait) in inputs {
            mono = mono.saturating_add(wait);
            let now = Moment { mono_ms: mono, wall: Millis(i64::try_from(mono).unwrap_or(i64::MAX)) };
            for action in session.on(input, now) {
                // Opened and closed come in turns.
                match action {
                    Action::Emit(Signal::Opened) => { prop_assert!(!opened); opened = true; open += 1; }
                    Action::Emit(Signal::Closed { .. }) => { prop_assert!(opened); opened = false; open -= 1; }
                    _ => {}
                }
            }
            prop_assert_eq!(open == 1, session.is_live());
        }
        // A new artifact, the answers of a sound peer and the session's own timers lead to a live session, whatever happened before.
        let now = |mono| Moment { mono_ms: mono, wall: Millis(0) };
        if session.artifact != Some((99, ArtifactStatus::Ready)) {
            session.on(ready(99), now(mono));
        }
        session.on(Input::Opened, now(mono));
        session.on(Input::Heard(Heard::Connected), now(mono));
        prop_assert!(session.is_live());
        // And a drain always ends.
        session.on(Input::Drain, now(mono));
        let end = session.deadline().unwrap();
        session.on(Input::Tick, now(end));
        prop_assert!(session.is_stopped());
    }
}
