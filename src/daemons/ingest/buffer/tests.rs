use super::*;
use crate::schema::event::EventKind;
use crate::schema::time::Millis;
use proptest::prelude::*;
use std::time::Duration;

/// A numbered event; `number` is its frame, `padding` makes it larger.
fn item(kind: EventKind, conversation: &str, number: u64, padding: usize) -> Item {
    let mut event = Event::of_account(kind, "x".repeat(padding), "1", "c", Millis(0));
    event.conversation_id = Some(conversation.into());
    event.frame_no = number;
    Item::event(&event).unwrap()
}

fn number(envelope: &Envelope) -> u64 {
    envelope.event().unwrap().frame_no
}

fn buffer(bytes_max: usize) -> (Buffer, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Buffer::new(bytes_max, counters.clone()), counters)
}

#[tokio::test]
async fn class_c_is_dropped_class_b_coalesced_class_a_waits() {
    let size = item(EventKind::MessageReceived, "1", 1, 0).cost();
    let (buffer, counters) = buffer(8 * size);
    let mut next = 0;
    let mut push = |kind| {
        next += 1;
        // The other classes a little larger, so that they pass the marks that four and six messages only reach.
        let padding = if kind == EventKind::MessageReceived { 0 } else { 20 };
        let mut one = VecDeque::from([item(kind, "1", next, padding)]);
        buffer.try_push(&mut one)
    };
    for _ in 0..4 {
        assert!(push(EventKind::MessageReceived));
    }
    assert!(push(EventKind::TypingStarted), "half full is not more than half full");
    assert!(push(EventKind::TypingStarted));
    assert_eq!(counters.read().dropped_c, 1);
    assert!(push(EventKind::CountersUpdated), "the first one has nothing to replace");
    assert!(push(EventKind::CountersUpdated), "more than three quarters full: replaces it");
    assert_eq!(counters.read().coalesced_b, 1);
    while push(EventKind::MessageReceived) {}
    let batch = buffer.take(usize::MAX).await.unwrap();
    assert_eq!(batch.events.iter().map(number).collect::<Vec<_>>()[..6], [1, 2, 3, 4, 5, 8]);
    assert!(!push(EventKind::MessageReceived), "what is on its way counts");
    buffer.release(&batch);
    assert_eq!(buffer.depth(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_push_goes_on_when_space_comes_free() {
    let (buffer, _) = buffer(1);
    let items: VecDeque<_> = (1..=3).map(|n| item(EventKind::MessageReceived, "1", n, 0)).collect();
    let pushing = tokio::spawn({
        let buffer = buffer.clone();
        let mut items = items;
        async move {
            buffer.push(&mut items).await;
            buffer.close();
        }
    });
    let mut seen = Vec::new();
    while let Some(batch) = tokio::time::timeout(Duration::from_secs(5), buffer.take(10)).await.unwrap() {
        assert_eq!(batch.len(), 1, "an item larger than the buffer passes alone");
        seen.extend(batch.events.iter().map(number));
        buffer.release(&batch);
    }
    pushing.await.unwrap();
    assert_eq!(seen, [1, 2, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<(EventKind, u8, usize)>),
    Take(usize),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(EventKind::MessageReceived),
        Just(EventKind::TipReceived),
        Just(EventKind::CountersUpdated),
        Just(EventKind::MessageLiked),
        Just(EventKind::TypingStarted),
    ];
    prop_oneof![
        prop::collection::vec((kind, 0u8..3, 0usize..900), 1..8).prop_map(Step::Push),
        (1usize..6).prop_map(Step::Take),
        Just(Step::Release),
    ]
}

/// The same rules over a plain list, by someone who has never seen an index.
#[derive(Default)]
struct Model {
    waiting: Vec<Item>,
    flying: usize,
}

impl Model {
    fn used(&self) -> usize {
        self.flying + self.waiting.iter().map(Item::cost).sum::<usize>()
    }

    fn push(&mut self, item: &Item, max: usize) -> bool {
        let older = self.waiting.iter().rposition(|other| other.class == Class::B && other.same == item.same);
        match item.class {
            Class::C if self.used() > max / 2 => true,
            Class::B if self.used() > max / 4 * 3 && older.is_some() => {
                let older = &mut self.waiting[older.unwrap()];
                let before = std::mem::replace(older, item.clone());
                if self.used() > max {
                    let at = self.waiting.iter().rposition(|other| other == item).unwrap();
                    self.waiting[at] = before;
                    return false;
                }
                true
            }
            _ if self.used() > 0 && self.used() + item.cost() > max => false,
            _ => {
                self.waiting.push(item.clone());
                true
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_the_naive_model(steps in prop::collection::vec(step(), 0..60), max in 2_000usize..12_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (buffer, _) = buffer(max);
        let (mut model, mut batches) = (Model::default(), VecDeque::new());
        let mut pending: VecDeque<Item> = VecDeque::new();
        let (mut counter, mut sent_a, mut got_a) = (0, Vec::new(), Vec::new());
        let settle = |pending: &mut VecDeque<Item>, model: &mut Model| {
            let mut expected = pending.clone();
            while expected.front().is_some_and(|item| model.push(item, max)) {
                expected.pop_front();
            }
            let all = buffer.try_push(pending);
            assert_eq!((&*pending, all), (&expected, expected.is_empty()));
        };
        for step in steps.into_iter().chain(std::iter::repeat_n([Step::Take(6), Step::Release], 200).flatten()) {
            match step {
                Step::Push(items) => {
                    for (kind, conversation, padding) in items {
                        counter += 1;
                        let item = item(kind, &conversation.to_string(), counter, padding);
                        if item.class == Class::A {
                            sent_a.push(counter);
                        }
                        pending.push_back(item);
                    }
                    settle(&mut pending, &mut model);
                }
                Step::Take(count) => {
                    if buffer.depth().0 > 0 {
                        let batch = runtime.block_on(buffer.take(count)).unwrap();
                        let taken: Vec<Item> = model.waiting.drain(..count.min(model.waiting.len())).collect();
                        model.flying += taken.iter().map(Item::cost).sum::<usize>();
                        let expected: Vec<Envelope> = taken.into_iter().map(|item| item.envelope).collect();
                        prop_assert_eq!(&batch.events, &expected);
                        got_a.extend(batch.events.iter().filter(|envelope| envelope.class() == Class::A).map(number));
                        batches.push_back(batch);
                    }
                }
                Step::Release => {
                    if let Some(batch) = batches.pop_front() {
                        buffer.release(&batch);
                        model.flying -= batch.cost;
                        settle(&mut pending, &mut model);
                    }
                }
            }
            let (depth, used) = buffer.depth();
            prop_assert_eq!((depth, used), (model.waiting.len(), model.used()));
            prop_assert!(used <= max || depth + batches.len() <= 1, "{used} of {max}");
        }
        // Whatever was shed in between: class A arrived, all of it, in order.
        prop_assert!(pending.is_empty());
        prop_assert_eq!(got_a, sent_a);
    }
}
