//! The leases against a naive model: every message on its own, in a plain vector.
//!
//! What the model checks after every step: a message is granted only when nobody holds it and it is due, with the right attempt; with room for
//! everything, everything due is granted; and what the files have unacked and waiting is what the model has.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::cursor::{Cursor, GiveBack, Grant, Outlook, Turn, unacked};
use super::leases::Held;
use super::log::{Log, Room, SegmentCache};
use super::segment::Encoder;
use crate::config::Durability;
use crate::schema::envelope::Envelope;
use crate::schema::time::Millis;

const LEASE: Duration = Duration::from_millis(1_000);
const WORKERS: usize = 2;

#[derive(Debug, Clone)]
enum Op {
    Publish(Vec<usize>),
    Turn {
        worker: usize,
        room: Option<i64>,
        extend: bool,
    },
    Answer {
        worker: usize,
        which: usize,
        many: usize,
        nack_ms: Option<u64>,
    },
    Advance(i64),
    Reclaim(usize),
    /// The process is killed and another one starts.
    Kill(usize),
    /// The process stops in order and another one starts.
    Release(usize, GiveBack),
}

fn op() -> impl Strategy<Value = Op> {
    let worker = 0..WORKERS;
    prop_oneof![
        3 => prop::collection::vec(1usize..300, 1..3).prop_map(Op::Publish),
        8 => (worker.clone(), prop::option::weighted(0.8, prop_oneof![1i64..40, Just(100_000)]), any::<bool>())
            .prop_map(|(worker, room, extend)| Op::Turn { worker, room, extend }),
        8 => (worker.clone(), any::<usize>(), 1usize..200, prop::option::weighted(0.3, 0u64..1_500))
            .prop_map(|(worker, which, many, nack_ms)| Op::Answer { worker, which, many, nack_ms }),
        3 => (1i64..1_500).prop_map(Op::Advance),
        3 => worker.clone().prop_map(Op::Reclaim),
        1 => worker.clone().prop_map(Op::Kill),
        1 => (worker, prop_oneof![Just(GiveBack::Unseen), Just(GiveBack::Seen)]).prop_map(|(worker, as_what)| Op::Release(worker, as_what)),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    New,
    Waiting(Millis),
    Held { owner: usize, lease: i64, until: Millis },
    Acked,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    state: State,
    attempt: u32,
}

/// A subscriber: its files, what it holds, and what it was told but has not written.
struct Worker {
    owner: usize,
    cursor: Cursor,
    held: Held,
    /// Delivered and unanswered: offset, lease, index.
    delivered: Vec<(i64, i64, u32)>,
    answers: Vec<(i64, i64, Option<Duration>)>,
}

struct World {
    dir: TempDir,
    log: Log,
    now: Millis,
    owners: usize,
    dead: HashSet<usize>,
    workers: Vec<Worker>,
    messages: Vec<Message>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log.db"), Durability::Normal).unwrap();
        let mut world =
            Self { dir, log, now: Millis(1_000_000), owners: 0, dead: HashSet::new(), workers: Vec::new(), messages: Vec::new() };
        for _ in 0..WORKERS {
            let worker = world.start();
            world.workers.push(worker);
        }
        world
    }

    fn start(&mut self) -> Worker {
        self.owners += 1;
        let path = self.dir.path().join("sub.db");
        let cursor = Cursor::open(&path, &self.log, self.owners.to_string(), LEASE, Durability::Normal).unwrap();
        Worker { owner: self.owners, cursor, held: Held::default(), delivered: Vec::new(), answers: Vec::new() }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Publish(counts) => self.publish(counts),
            Op::Turn { worker, room, extend } => self.turn(*worker, *room, *extend),
            Op::Answer { worker, which, many, nack_ms } => {
                for _ in 0..*many {
                    self.answer(*worker, *which, nack_ms.map(Duration::from_millis));
                }
            }
            Op::Advance(ms) => self.now = self.now.plus(*ms),
            Op::Reclaim(worker) => self.reclaim(*worker),
            Op::Kill(worker) => {
                self.dead.insert(self.workers[*worker].owner);
                self.workers[*worker] = self.start();
            }
            Op::Release(worker, as_what) => self.release(*worker, *as_what),
        }
        let unacked = unacked(self.workers[0].cursor.path(), &self.log).unwrap();
        let expected: Vec<i64> = (0i64..).zip(&self.messages).filter(|(_, m)| m.state != State::Acked).map(|(at, _)| at).collect();
        assert_eq!((unacked.messages, unacked.oldest), (expected.len() as i64, expected.first().copied()));
        let waiting = self.messages.iter().filter_map(|message| if let State::Waiting(at) = message.state { Some(at) } else { None });
        let new = self.messages.iter().filter(|message| message.state == State::New).count();
        let expected = Outlook { next: (self.messages.len() - new) as i64, waiting_at: waiting.min() };
        assert_eq!(self.workers[0].cursor.outlook().unwrap(), expected);
    }

    fn publish(&mut self, counts: &[usize]) {
        for &count in counts {
            let batch: Vec<Envelope> = (0..count).map(|_| Envelope::new(0, &[], self.messages.len().to_string().as_bytes())).collect();
            self.log.append(&Encoder::default().encode(&batch), self.now).unwrap();
            self.messages.extend(std::iter::repeat_n(Message { state: State::New, attempt: 0 }, count));
        }
    }

    fn turn(&mut self, worker: usize, room: Option<i64>, extend: bool) {
        let alone = self.workers[worker].held.messages() == 0;
        let settlements = self.workers[worker].held.settle();
        let turn = Turn { now: self.now, room: room.map(|messages| Room { messages, bytes: 1 << 40 }), alone, extend };
        let granted = self.workers[worker].cursor.turn(&settlements, turn, &self.log).unwrap();
        assert_eq!(granted.lost, 0);
        self.write_answers(worker);
        let owner = self.workers[worker].owner;
        let until = self.now.plus(LEASE.as_millis() as i64);
        if extend {
            self.held_by(owner, |message| {
                if let State::Held { until: extended, .. } = &mut message.state {
                    *extended = until;
                }
            });
        }
        let mut taken = 0;
        for grant in &granted.grants {
            taken += self.take(worker, grant, until);
        }
        if let Some(room) = room {
            assert!(taken <= room || alone && granted.grants.len() == 1, "{taken} messages granted into a room of {room}");
            if room >= self.messages.len() as i64 {
                assert!(!self.messages.iter().any(|m| is_due(m, self.now)), "something due was left");
            }
        }
    }

    fn take(&mut self, worker: usize, grant: &Grant, until: Millis) -> i64 {
        let Worker { owner, held, delivered, .. } = &mut self.workers[worker];
        let reading = self.log.read(grant.first, grant.count, &mut SegmentCache::default()).unwrap();
        assert_eq!(reading.messages.len() as i64, grant.count);
        held.grant(grant.lease, grant.done, vec![1; grant.count as usize].into());
        let mut taken = 0;
        for (offset, index) in (grant.first..grant.first + grant.count).zip(0u32..).filter(|(_, index)| !grant.done.contains(*index)) {
            let message = &mut self.messages[offset as usize];
            assert!(is_due(message, self.now), "{offset} was granted while {:?}", message.state);
            assert_eq!(grant.attempt, message.attempt + 1, "attempt of {offset}");
            *message = Message { state: State::Held { owner: *owner, lease: grant.lease, until }, attempt: grant.attempt };
            delivered.push((offset, grant.lease, index));
            taken += 1;
        }
        taken
    }

    fn answer(&mut self, worker: usize, which: usize, nack: Option<Duration>) {
        let worker = &mut self.workers[worker];
        if worker.delivered.is_empty() {
            return;
        }
        let (offset, lease, index) = worker.delivered.swap_remove(which % worker.delivered.len());
        let answered = match nack {
            Some(delay) => worker.held.nack(lease, index, delay),
            None => worker.held.ack(lease, index),
        };
        assert!(answered && !worker.held.ack(lease, index), "only the first answer counts");
        worker.answers.push((offset, lease, nack));
    }

    fn write_answers(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        for (offset, answered, nack) in worker.answers.drain(..) {
            let message = &mut self.messages[offset as usize];
            if matches!(message.state, State::Held { owner, lease, .. } if (owner, lease) == (worker.owner, answered)) {
                message.state = nack.map_or(State::Acked, |delay| State::Waiting(self.now.plus(delay.as_millis() as i64)));
            }
        }
    }

    fn reclaim(&mut self, worker: usize) {
        let me = self.workers[worker].owner;
        let (now, dead) = (self.now, &self.dead);
        self.workers[worker].cursor.reclaim(now, |owner| dead.contains(&owner.parse().unwrap())).unwrap();
        for message in &mut self.messages {
            if matches!(message.state, State::Held { owner, until, .. } if owner != me && (until <= now || dead.contains(&owner))) {
                message.state = State::Waiting(now);
            }
        }
    }

    fn release(&mut self, worker: usize, as_what: GiveBack) {
        let settlements = self.workers[worker].held.settle();
        self.workers[worker].cursor.release(&settlements, as_what, self.now).unwrap();
        self.write_answers(worker);
        let (owner, now) = (self.workers[worker].owner, self.now);
        let unseen = u32::from(as_what == GiveBack::Unseen);
        self.held_by(owner, |message| *message = Message { state: State::Waiting(now), attempt: message.attempt - unseen });
        self.workers[worker] = self.start();
    }

    fn held_by(&mut self, owner: usize, change: impl Fn(&mut Message)) {
        let held = |message: &&mut Message| matches!(message.state, State::Held { owner: by, .. } if by == owner);
        self.messages.iter_mut().filter(held).for_each(change);
    }

    /// Kills one worker; the other one acks all there is.
    fn drain(&mut self) {
        self.apply(&Op::Kill(1));
        let write = Op::Turn { worker: 0, room: None, extend: true };
        self.apply(&write);
        self.apply(&Op::Advance(10_000));
        self.apply(&Op::Reclaim(0));
        self.apply(&Op::Turn { worker: 0, room: Some(1 << 40), extend: true });
        self.apply(&Op::Answer { worker: 0, which: 0, many: self.workers[0].delivered.len(), nack_ms: None });
        self.apply(&write);
        assert!(self.messages.iter().all(|message| message.state == State::Acked));
        assert!(self.workers[0].held.is_empty());
        assert_eq!((self.workers[0].held.messages(), self.workers[0].held.bytes()), (0, 0));
    }
}

fn is_due(message: &Message, now: Millis) -> bool {
    match message.state {
        State::New => true,
        State::Waiting(at) => at <= now,
        State::Held { .. } | State::Acked => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn leases_are_as_the_naive_model_has_them(ops in prop::collection::vec(op(), 1..50)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.drain();
    }
}
