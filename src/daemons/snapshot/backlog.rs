//! What a lane was given and has not taken up yet, put together by conversation.
//!
//! Owns the order in which conversations have their turn: whoever waits longest comes first, and takes along all that came for it meanwhile. So the more
//! there is to do, the more events one write holds. Invariant: it takes no more once it [is full](Backlog::is_full).

use std::collections::{HashMap, VecDeque};

use crate::schema::ids::hash64;

use super::gather::Work;

/// Pieces of work after which a lane takes no more until some are done. Deliveries are bounded by the subscription's window, less as a rule; a refill of
/// an emptied Redis brings any number of conversations.
const WORKS_MAX: usize = 65_536;

/// The waiting work of one lane.
#[derive(Default)]
pub(super) struct Backlog {
    /// The longest waiting first.
    groups: VecDeque<Group>,
    /// Which group is a conversation's, counted from the first that ever was.
    numbers: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// Groups that have had their turn.
    taken: u64,
    works: usize,
}

struct Group {
    /// Absent where others must not join it.
    key: Option<u64>,
    works: Vec<Work>,
}

impl Backlog {
    /// Whether nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether what comes next has to wait.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.works >= WORKS_MAX
    }

    /// Adds work to what waits for its conversation.
    pub(super) fn push(&mut self, mut work: Work) {
        if let Work::Delivery(delivery) = &mut work {
            // A delivery is a slice of what it was read with, 256 messages that would stay until the last of them has had its turn.
            delivery.envelope = delivery.envelope.detached();
        }
        self.works += 1;
        let key = key(&work);
        let next = self.taken + self.groups.len() as u64;
        let number = key.map_or(next, |key| *self.numbers.entry(key).or_insert(next));
        match usize::try_from(number - self.taken).ok().and_then(|at| self.groups.get_mut(at)) {
            Some(group) => group.works.push(work),
            None => self.groups.push_back(Group { key, works: vec![work] }),
        }
    }

    /// Takes the longest waiting: at most `conversations_max` of them, and about `events_max` pieces of work; at least one piece where any waits.
    #[must_use]
    pub(super) fn take(&mut self, conversations_max: usize, events_max: usize) -> Vec<Work> {
        let mut batch = Vec::new();
        for _ in 0..conversations_max.max(1) {
            let room = events_max.max(1) - batch.len();
            let Some(group) = self.groups.front_mut() else { break };
            if group.works.len() > room {
                let rest = group.works.split_off(room);
                batch.append(&mut std::mem::replace(&mut group.works, rest));
                break;
            }
            batch.append(&mut group.works);
            self.forget_first();
            if batch.len() >= events_max {
                break;
            }
        }
        self.works -= batch.len();
        batch
    }

    fn forget_first(&mut self) {
        if let Some(key) = self.groups.pop_front().and_then(|group| group.key) {
            self.numbers.remove(&key);
        }
        self.taken += 1;
    }
}

/// What work of the same conversation has in common. Two conversations with the same 64 bits only have their turn together. An event that names no
/// conversation keeps its place in the order instead.
fn key(work: &Work) -> Option<u64> {
    match work {
        Work::Delivery(delivery) => delivery.envelope.attribute("ce-subject").map(hash64),
        Work::Due { conversation, .. } | Work::Refill { conversation, .. } | Work::Deleted { conversation, .. } => {
            Some(hash64(conversation))
        }
        Work::RefillAccount { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(conversation: u8, number: usize) -> Work {
        Work::Due { account: number.to_string(), conversation: conversation.to_string() }
    }

    fn parts(batch: &[Work]) -> Vec<(u8, usize)> {
        let part = |work: &Work| match work {
            Work::Due { account, conversation } => (conversation.parse().unwrap(), account.parse().unwrap()),
            other => panic!("{other:?}"),
        };
        batch.iter().map(part).collect()
    }

    #[test]
    fn who_waits_longest_has_its_turn_with_all_that_came() {
        let mut backlog = Backlog::default();
        for (number, conversation) in [1, 2, 1, 3, 2, 1].into_iter().enumerate() {
            backlog.push(piece(conversation, number));
        }
        assert_eq!(parts(&backlog.take(1, 100)), [(1, 0), (1, 2), (1, 5)]);
        backlog.push(piece(1, 6));
        assert_eq!(parts(&backlog.take(2, 100)), [(2, 1), (2, 4), (3, 3)]);
        assert_eq!(parts(&backlog.take(2, 100)), [(1, 6)]);
        assert!(backlog.is_empty());
        assert!(backlog.take(2, 100).is_empty());
    }

    #[test]
    fn a_long_group_is_cut_and_keeps_its_turn() {
        let mut backlog = Backlog::default();
        (0..5).for_each(|number| backlog.push(piece(1, number)));
        backlog.push(piece(2, 5));
        assert_eq!(parts(&backlog.take(9, 3)), [(1, 0), (1, 1), (1, 2)]);
        backlog.push(piece(1, 6));
        assert_eq!(parts(&backlog.take(9, 3)), [(1, 3), (1, 4), (1, 6)]);
        assert_eq!(parts(&backlog.take(9, 3)), [(2, 5)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_a_conversation_stays_in_order(
            steps in prop::collection::vec(prop_oneof![3 => (0u8..6).prop_map(Ok), 1 => (1usize..4, 1usize..8).prop_map(Err)], 0..200)
        ) {
            let (mut backlog, mut pushed, mut taken) = (Backlog::default(), 0, Vec::new());
            for step in steps {
                match step {
                    Ok(conversation) => {
                        backlog.push(piece(conversation, pushed));
                        pushed += 1;
                    }
                    Err((conversations, events)) => {
                        let batch = parts(&backlog.take(conversations, events));
                        prop_assert!(batch.len() <= events);
                        prop_assert_eq!(backlog.works, pushed - taken.len() - batch.len());
                        prop_assert_eq!(batch.is_empty(), taken.len() == pushed);
                        taken.extend(batch);
                    }
                }
            }
            while !backlog.is_empty() {
                taken.extend(parts(&backlog.take(3, 5)));
            }
            for conversation in 0..6 {
                let numbers: Vec<usize> = taken.iter().filter(|(of, _)| *of == conversation).map(|(_, number)| *number).collect();
                prop_assert!(numbers.is_sorted());
            }
            let mut numbers: Vec<usize> = taken.into_iter().map(|(_, number)| number).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..pushed).collect::<Vec<_>>());
        }
    }
}
