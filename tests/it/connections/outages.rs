//! An hour in which the platform goes away again and again, for 200 accounts; and a thousand that start. Time is paused, and what happens is drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convpipe::config::IngestConfig;
use convpipe::runtime::clock::{Clock, Moment};
use convpipe::schema::event::EventKind;
use convpipe::schema::time::Millis;
use convpipe::ws::socket::{Dial, Wire};
use convpipe::ws::{Failure, Reason};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use super::faults::NOON;
use crate::ingest::{World, start_in};
use crate::support::scripted::CONNECTED;
use crate::ws::artifact;

const HOUR_MS: u64 = 3_600_000;
const SEED: u64 = 4;

/// How an outage looks to those who are connected, and to those who try while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Connections break off; nobody listens.
    Reset,
    /// They are closed; the handshake is answered with 503.
    Closed,
    /// They say nothing any more, and new ones never get an answer.
    Mute,
    /// They break off; new ones are opened, and `connected` does not come.
    Greetless,
}

/// One account's side of the platform.
struct Seat {
    account: u64,
    /// What goes wrong now.
    outage: watch::Sender<Option<Outage>>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// Numbers of the messages that were sent on a connection that was live.
    sent: Vec<i64>,
    next: i64,
    /// When the account was live: from its `connected` to the outage.
    live: Vec<(Millis, Option<Millis>)>,
    /// When a connection was asked for.
    dialled: Vec<u64>,
}

struct Platform {
    clock: Clock,
    seats: BTreeMap<String, Arc<Seat>>,
}

impl Platform {
    fn new(accounts: u64) -> Arc<Self> {
        let seat = |account| {
            let seat = Seat { account, outage: watch::Sender::new(None), log: Mutex::default() };
            // Its port is what tells an account's connections from others.
            (format!("ws://127.0.0.1:{account}"), Arc::new(seat))
        };
        Arc::new(Self { clock: Clock::simulated(NOON), seats: (1..=accounts).map(seat).collect() })
    }

    fn dial(self: &Arc<Self>) -> Dial {
        let platform = self.clone();
        Arc::new(move |endpoint| {
            let (seat, clock) = (platform.seats[&endpoint.to_string()].clone(), platform.clock);
            Box::pin(async move {
                seat.log.lock().unwrap().dialled.push(clock.moment().mono_ms);
                let outage = *seat.outage.borrow();
                match outage {
                    Some(Outage::Reset) => return Err(Failure::retry(Reason::Connect)),
                    Some(Outage::Mute) => std::future::pending::<()>().await,
                    _ => {}
                }
                let (ours, theirs) = tokio::io::duplex(16 << 10);
                tokio::spawn(async move { serve(&seat, clock, theirs, outage).await });
                Ok(Box::new(ours) as Box<dyn Wire>)
            })
        })
    }

    fn artifacts(&self) -> Vec<convpipe::schema::artifact::Artifact> {
        self.seats.iter().map(|(url, seat)| artifact(&seat.account.to_string(), 1, url)).collect()
    }
}

/// One connection. Ends with the client, or with an outage.
async fn serve(seat: &Seat, clock: Clock, mut wire: DuplexStream, outage: Option<Outage>) -> Option<()> {
    if outage == Some(Outage::Closed) {
        return wire.write_all(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n").await.ok();
    }
    let mut outages = seat.outage.subscribe();
    let mut peer = tokio_tungstenite::accept_async(wire).await.ok()?;
    peer.next().await?.ok()?;
    if outage == Some(Outage::Greetless) {
        while peer.next().await.is_some_and(|message| message.is_ok()) {}
        return None;
    }
    peer.send(Message::text(CONNECTED)).await.ok()?;
    seat.log.lock().unwrap().live.push((clock.moment().wall, None));
    let ended = play(seat, &mut peer, &mut outages).await;
    if let Some(interval) = seat.log.lock().unwrap().live.last_mut() {
        interval.1 = Some(clock.moment().wall);
    }
    match ended? {
        Outage::Closed => {
            let _ = peer.close(Some(CloseFrame { code: 1012.into(), reason: "".into() })).await;
        }
        // Held open, and never read: the client has to find out.
        Outage::Mute => tokio::time::sleep(Duration::from_secs(120)).await,
        Outage::Reset | Outage::Greetless => {}
    }
    Some(())
}

/// Sends messages at random times and answers heartbeats, until something goes wrong.
async fn play(seat: &Seat, peer: &mut WebSocketStream<DuplexStream>, outages: &mut watch::Receiver<Option<Outage>>) -> Option<Outage> {
    let mut rng = fastrand::Rng::with_seed(SEED ^ seat.account ^ (seat.log.lock().unwrap().next.unsigned_abs() << 20));
    let mut next = tokio::time::Instant::now() + Duration::from_millis(rng.u64(0..5_000));
    loop {
        tokio::select! {
            biased;
            outage = async { outages.wait_for(Option::is_some).await.ok().and_then(|outage| *outage) } => return outage,
            said = peer.next() => {
                if matches!(said?.ok()?, Message::Text(text) if text.contains("get_onlines")) {
                    peer.send(Message::text(r#"{"online":[]}"#)).await.ok()?;
                }
            }
            () = tokio::time::sleep_until(next) => {
                let number = {
                    let mut log = seat.log.lock().unwrap();
                    log.next += 1;
                    i64::try_from(seat.account).unwrap() * 1_000_000 + log.next
                };
                peer.send(Message::text(number.to_string())).await.ok()?;
                seat.log.lock().unwrap().sent.push(number);
                next += Duration::from_millis(rng.u64(100..40_000));
            }
        }
    }
}

/// Most of the times that fall into any window of this length.
fn crowd(times: &[u64], window_ms: u64) -> usize {
    let mut times = times.to_vec();
    times.sort_unstable();
    (0..times.len()).map(|n| times.partition_point(|at| *at < times[n] + window_ms) - n).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_outages_loses_nothing_that_was_sent_and_hides_no_hole() {
    const ACCOUNTS: u64 = 200;
    /// When all of them lose their connections at once, and until when nobody comes back.
    const BLACKOUT_MS: (u64, u64) = (HOUR_MS / 2, HOUR_MS / 2 + 20_000);
    let platform = Platform::new(ACCOUNTS);
    let world = World { dial: platform.dial(), clock: platform.clock, scan_every: Duration::from_secs(86_400), ..World::real() };
    let running = start_in(world, IngestConfig::default(), platform.artifacts());

    for seat in platform.seats.values().cloned() {
        let clock = platform.clock;
        tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(SEED.wrapping_mul(31) ^ seat.account);
            let until = async |at| tokio::time::sleep_until(clock.instant(at)).await;
            // Outages of its own before and after the one that all have.
            for (from, to) in [(10_000, BLACKOUT_MS.0 - 400_000), (BLACKOUT_MS.1 + 60_000, HOUR_MS - 400_000)] {
                let mut at = from;
                loop {
                    at += rng.u64(20_000..600_000);
                    if at >= to {
                        break;
                    }
                    until(at).await;
                    let outage = *rng.choice(&[Outage::Reset, Outage::Closed, Outage::Mute, Outage::Greetless]).unwrap();
                    seat.outage.send_replace(Some(outage));
                    at += rng.u64(500..90_000);
                    until(at).await;
                    seat.outage.send_replace(None);
                }
                if from < BLACKOUT_MS.0 {
                    until(BLACKOUT_MS.0).await;
                    seat.outage.send_replace(Some(Outage::Reset));
                    until(BLACKOUT_MS.1).await;
                    seat.outage.send_replace(None);
                }
            }
        });
    }
    tokio::time::sleep_until(platform.clock.instant(HOUR_MS)).await;
    let (events, counters) = (running.events.clone(), running.counters.clone());
    assert_eq!(counters.read().live, ACCOUNTS, "all are back at the end: {:?}", counters.read());
    let counts = running.stop().await.unwrap();

    // What was sent is there, once for each id, and nothing else is.
    let (mut received, mut gaps) = (BTreeMap::<String, BTreeSet<i64>>::new(), BTreeMap::<String, Vec<(Option<Millis>, Millis)>>::new());
    for envelope in events.messages.borrow().iter() {
        let event = envelope.event().unwrap();
        let account = event.account_id.raw().to_owned();
        match event.kind {
            EventKind::MessageReceived => {
                let number = event.message_id().unwrap().to_string().parse().unwrap();
                assert!(received.entry(account).or_default().insert(number), "{number} is there twice");
            }
            EventKind::ConnectionGap => {
                let link = event.link.unwrap();
                gaps.entry(account).or_default().push((link.from, link.to.unwrap()));
            }
            _ => {}
        }
    }
    let (mut sent, mut holes) = (0, 0);
    for seat in platform.seats.values() {
        let (log, account) = (seat.log.lock().unwrap(), seat.account.to_string());
        assert_eq!(received[&account], log.sent.iter().copied().collect::<BTreeSet<_>>(), "account {account}");
        sent += log.sent.len();
        // Every hole between two times that it was live lies in a gap, and there is no other gap but the one of the start.
        let gaps = &gaps[&account];
        assert_eq!(gaps.len(), log.live.len(), "account {account}: {gaps:?} for {:?}", log.live);
        for (pair, (from, to)) in log.live.windows(2).zip(&gaps[1..]) {
            let (ended, began) = (pair[0].1.unwrap(), pair[1].0);
            assert!(from.unwrap() <= ended && *to >= began, "account {account}: {ended} to {began} is not in {from:?} to {to}");
            holes += 1;
        }
        assert_eq!(gaps[0].0, None);
    }
    assert!(sent > 20_000 && holes > 1_000, "{sent} messages, {holes} holes");
    assert_eq!(counts.gaps, holes + ACCOUNTS);
    assert_eq!((counts.gaps_by.of(Reason::Start), counts.rejected, counts.refusals), (ACCOUNTS, 0, 0));
    assert_eq!(Reason::ALL.iter().map(|reason| counts.gaps_by.of(*reason)).sum::<u64>(), counts.gaps);
    for reason in [Reason::Reset, Reason::ServerClosed, Reason::Heartbeat] {
        assert!(counts.gaps_by.of(reason) > 100, "{reason}: {counts:?}");
    }

    // After the moment that ended all of their connections they came back each in its own time.
    let first_after = |seat: &Arc<Seat>| seat.log.lock().unwrap().dialled.iter().copied().find(|at| *at >= BLACKOUT_MS.1);
    let back: Vec<u64> = platform.seats.values().filter_map(first_after).collect();
    assert_eq!(back.len() as u64, ACCOUNTS);
    assert!(crowd(&back, 1_000) < 40, "{} of {ACCOUNTS} in one second", crowd(&back, 1_000));
    let Moment { mono_ms, .. } = platform.clock.moment();
    assert!(back.iter().all(|at| *at <= BLACKOUT_MS.1 + 60_000) && mono_ms >= HOUR_MS);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_accounts_take_ten_seconds_to_start() {
    const ACCOUNTS: u64 = 1_000;
    let platform = Platform::new(ACCOUNTS);
    let world = World { dial: platform.dial(), clock: platform.clock, scan_every: Duration::from_secs(86_400), ..World::real() };
    let running = start_in(world, IngestConfig::default(), platform.artifacts());
    tokio::time::sleep_until(platform.clock.instant(11_000)).await;
    assert_eq!(running.counters.read().live, ACCOUNTS);
    let dialled: Vec<u64> = platform.seats.values().flat_map(|seat| seat.log.lock().unwrap().dialled.clone()).collect();
    assert_eq!(dialled.len() as u64, ACCOUNTS, "each connects once");
    // A hundred a second, drawn evenly.
    assert!(crowd(&dialled, 1_000) < 200 && crowd(&dialled, 100) < 40, "{} and {}", crowd(&dialled, 1_000), crowd(&dialled, 100));
    running.stop().await.unwrap();
}
