//! A consumer that misses spans of the topic and catches up with nothing but what `reconcile --since` reads.

use std::collections::BTreeMap;

use convpipe::config::RedisConfig;
use convpipe::daemons::reconcile::{Changes, Cursor, Since};
use convpipe::schema::event::{Direction, Event, EventKind, Message};
use convpipe::schema::policy::Policy;
use convpipe::schema::state::ConversationState;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::{ConversationBatch, ConversationWrite, WriteOutcome};
use convpipe::transform::policy::CompiledPolicy;
use convpipe::views::{Reader, Writer};

use crate::support::redis::RedisServer;

const ACCOUNTS: [&str; 2] = ["200000001", "200000002"];
const SEEDS: u64 = 100;
/// How long a write may be on its way.
const WRITE_MS: i64 = 50_000;

/// The service, its clock, and what it has written.
struct Service {
    writer: Writer,
    policy: CompiledPolicy,
    states: BTreeMap<(String, String), (Box<ConversationState>, u64)>,
    now: Millis,
    /// A write that was folded and has not taken effect yet.
    on_its_way: Option<(ConversationWrite, Millis)>,
    number: u64,
}

impl Service {
    fn fold(&mut self, account: &str, fan: &str) -> ConversationWrite {
        self.number += 1;
        let id = self.number.to_string();
        let mut event = Event::of_account(EventKind::MessageReceived, format!("id-{id}"), account, "00000000000000c1", self.now);
        (event.conversation_id, event.fan_id, event.direction) = (Some(fan.into()), Some(fan.into()), Direction::In);
        // What is told may have happened long ago: the order of the inbox says nothing of what was written last.
        event.occurred_at = Some(self.now.plus(-i64::from(u16::from(fan.as_bytes()[0]) % 7) * 3_600_000));
        event.message = Some(Message { id: Some(id.as_str().into()), ..Message::default() });
        let key = (account.to_owned(), fan.to_owned());
        let (state, rev) = self.states.remove(&key).map_or((None, 0), |(state, rev)| (Some(state), rev));
        let mut batch = ConversationBatch::new(account, fan, state, rev, &self.policy, self.now);
        batch.apply(&event, Default::default).unwrap();
        let (write, state) = batch.finish().unwrap().unwrap();
        self.states.insert(key, (state, write.rev));
        write
    }

    async fn write(&self, write: ConversationWrite) {
        assert_eq!(self.writer.write_conversations(&[write]).await.unwrap(), [WriteOutcome::Written]);
    }

    async fn settle(&mut self) {
        if let Some((write, _)) = self.on_its_way.take() {
            self.write(write).await;
        }
    }

    /// Lets time pass. What is on its way takes effect before it has been so for too long.
    async fn wait(&mut self, ms: i64) {
        if self.on_its_way.as_ref().is_some_and(|(_, folded_at)| self.now.plus(ms).since(*folded_at) > WRITE_MS) {
            self.settle().await;
        }
        self.now = self.now.plus(ms);
    }

    /// Redis loses everything, and is filled again.
    async fn lose(&mut self, redis: &RedisServer, prefix: &str) {
        self.settle().await;
        for key in redis.run::<Vec<String>>(&["KEYS", &format!("{prefix}:*")]) {
            redis.run::<()>(&["DEL", &key]);
        }
        self.writer.epoch().await.unwrap();
        for ((account, fan), (state, rev)) in std::mem::take(&mut self.states) {
            let mut batch = ConversationBatch::new(&account, &fan, Some(state), 0, &self.policy, self.now).beginning_with(rev + 1_000);
            batch.refresh();
            let (write, state) = batch.finish().unwrap().unwrap();
            self.states.insert((account, fan), (state, write.rev));
            self.write(write).await;
        }
    }
}

/// What the consumer holds: the JSON of the greatest `rev` of each conversation.
type Held = BTreeMap<(String, String), (u64, String)>;

async fn catch_up(reader: &Reader, cursor: &mut Option<Cursor>, began: Millis, now: Millis, held: &mut Held) {
    let since = cursor.clone().map_or(Since::Moment(began), Since::Cursor);
    let mut changes = Changes::begin(reader.clone(), since, &[], now).await.unwrap();
    if changes.is_reset() {
        held.clear();
    }
    while let Some(page) = changes.next().await.unwrap() {
        for view in page {
            let key = (view.snapshot.account_id.raw().to_owned(), view.snapshot.conversation_id.raw().to_owned());
            if held.get(&key).is_none_or(|(rev, _)| *rev < view.rev) {
                held.insert(key, (view.rev, view.raw));
            }
        }
    }
    *cursor = Some(changes.cursor().clone());
}

async fn simulate(redis: &RedisServer, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let prefix = format!("seed{seed}");
    let config = RedisConfig { url: redis.url(), prefix: prefix.clone(), ..RedisConfig::default() };
    let (writer, reader) = (Writer::connect(&config).await.unwrap(), Reader::connect(&config).await.unwrap());
    writer.epoch().await.unwrap();
    let began = convpipe::runtime::clock::now().plus(-86_400_000);
    let policy = CompiledPolicy::new(Policy::default()).unwrap();
    let mut service = Service { writer, policy, states: BTreeMap::new(), now: began, on_its_way: None, number: 0 };
    let (mut held, mut cursor, mut misses) = (Held::new(), None, false);
    let mut partial = 0;
    for _ in 0..60 {
        service.wait(chance.i64(0..120_000)).await;
        match chance.u8(0..20) {
            0..=11 => {
                let (account, fan) = (ACCOUNTS[chance.usize(..2)], chance.u8(b'a'..=b'p'));
                let fan = char::from(fan).to_string();
                service.settle().await;
                let write = service.fold(account, &fan);
                if chance.bool() {
                    service.on_its_way = Some((write, service.now))
                } else {
                    service.write(write).await
                }
                // A consumer that hears of it reads the conversation; one that misses the span does not.
                if !misses && let Some(view) = reader.conversation(account, &fan).await.unwrap() {
                    held.insert((account.to_owned(), fan), (view.rev, view.raw));
                }
            }
            12..=15 => misses = !misses,
            16..=18 => {
                let before = held.len();
                catch_up(&reader, &mut cursor, began, service.now, &mut held).await;
                partial += usize::from(before > 0);
            }
            _ => service.lose(redis, &prefix).await,
        }
    }
    service.settle().await;
    catch_up(&reader, &mut cursor, began, service.now, &mut held).await;
    let mut stands = Held::new();
    for account in ACCOUNTS {
        for (conversation, _) in reader.inbox(account, 0, 1_000).await.unwrap() {
            let view = reader.conversation(account, &conversation).await.unwrap().unwrap();
            stands.insert((account.to_owned(), conversation), (view.rev, view.raw));
        }
    }
    assert!(!stands.is_empty() && partial > 0, "seed {seed} proves nothing");
    assert_eq!(held, stands, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_misses_spans_of_the_topic_catches_up_from_redis_alone() {
    let redis = RedisServer::start();
    for seed in 0..SEEDS {
        simulate(&redis, seed).await;
    }
}
