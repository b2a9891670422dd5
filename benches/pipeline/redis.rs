//! Conversations a second into Redis, beside what plain pipelined HSET and XADD reach on the same Redis.

use std::time::{Duration, Instant};

use convpipe::config::RedisConfig;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::{ConversationWrite, WriteOutcome};
use convpipe::transform::resolve::Claims;
use convpipe::views::Writer;

use super::server;

const CONVERSATIONS: usize = 10_000;
const ACCOUNTS: usize = 5;
const BATCH: usize = 2_000;
const ROUNDS: usize = 12;

/// Measures and prints; each figure is the median of its rounds.
pub(crate) fn run() {
    let server = server::RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let plain = plain(&server);
    server.flush();
    let config = RedisConfig { url: server.url(), ..RedisConfig::default() };
    for lanes in [1, 2] {
        let (rate, cpu) = runtime.block_on(guarded(&config, &server, lanes));
        print(&format!("redis: conversations/s guarded, {lanes} lane(s)"), rate, &format!("{cpu:.1} us of Redis' CPU each"));
        server.flush();
    }
    let (rate, cpu) = runtime.block_on(resolved(&config, &server));
    print("redis: messages/s resolved", rate, &format!("{cpu:.2} us of Redis' CPU each"));
    print("redis: events/s plain HSET+XADD", plain.0, &format!("{:.1} us of Redis' CPU each", plain.1));
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
fn print(what: &str, rate: f64, note: &str) {
    println!("{what:<48} {rate:>10.0}   {note}");
}

/// Every conversation written again and again: 1 KB of snapshot, 1.2 KB of state, one priority entry.
async fn guarded(config: &RedisConfig, server: &server::RedisServer, lanes: usize) -> (f64, f64) {
    let mut rounds = Rounds::default();
    let mut revs = 0;
    let mut writers = Vec::new();
    for _ in 0..lanes {
        writers.push(Writer::connect(config).await.expect("Redis answers"));
    }
    for _ in 0..ROUNDS {
        let all: Vec<ConversationWrite> = (0..CONVERSATIONS).map(|number| write(number, revs)).collect();
        revs += 1;
        let mut tasks = Vec::new();
        let begun = Begun::now(server);
        for (writer, part) in writers.iter().zip(all.chunks(CONVERSATIONS / lanes)) {
            let (writer, part) = (writer.clone(), part.to_vec());
            tasks.push(tokio::spawn(async move {
                for batch in part.chunks(BATCH) {
                    let outcomes = writer.write_conversations(batch).await.expect("written");
                    assert!(outcomes.iter().all(|&outcome| outcome == WriteOutcome::Written), "nobody else writes");
                }
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        rounds.end(&begun, server);
    }
    rounds.medians()
}

async fn resolved(config: &RedisConfig, server: &server::RedisServer) -> (f64, f64) {
    let writer = Writer::connect(config).await.expect("Redis answers");
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        let begun = Begun::now(server);
        for batch in 0..CONVERSATIONS / BATCH {
            let first = 6_400_000_000_000 + (round * CONVERSATIONS + batch * BATCH) as u64;
            let claims = (0..ACCOUNTS).map(|account| Claims {
                account: format!("{}", 200_000_000 + account),
                messages: (0..BATCH / ACCOUNTS)
                    .map(|number| ((first + (number * ACCOUNTS + account) as u64).to_string(), format!("{}", 100_000_000 + number)))
                    .collect(),
                deletes: if batch == 0 { vec![(first.to_string(), Millis(1_784_808_000_000))] } else { Vec::new() },
            });
            writer.resolve(&claims.collect::<Vec<_>>()).await.expect("resolved");
        }
        rounds.end(&begun, server);
    }
    rounds.medians()
}

/// What a straight client does: for each event one HSET of its state and one XADD, pipelined, nothing guarded.
fn plain(server: &server::RedisServer) -> (f64, f64) {
    let mut connection = server.connection();
    let mut rounds = Rounds::default();
    let event = vec![b'e'; 500];
    for _ in 0..ROUNDS {
        let begun = Begun::now(server);
        for batch in 0..CONVERSATIONS / BATCH {
            let mut pipeline = redis::Pipeline::with_capacity(2 * BATCH);
            for number in batch * BATCH..(batch + 1) * BATCH {
                pipeline.cmd("HSET").arg(format!("plain:{number}")).arg("event").arg(&event).ignore();
                pipeline.cmd("XADD").arg("plain:feed").arg("MAXLEN").arg("~").arg(10_000).arg("*").arg("event").arg(&event).ignore();
            }
            pipeline.exec(&mut connection).expect("written");
        }
        rounds.end(&begun, server);
    }
    rounds.medians()
}

fn write(number: usize, rev: u64) -> ConversationWrite {
    let at = Millis(1_784_808_000_000 + i64::try_from(rev).unwrap_or(0) * 10_000 + i64::try_from(number).unwrap_or(0));
    ConversationWrite {
        account: format!("{}", 200_000_000 + number % ACCOUNTS),
        conversation: format!("{}", 100_000_000 + number),
        expected_rev: rev,
        rev: rev + 1,
        snapshot: vec![b's'; 1_000],
        fold: vec![b'f'; 1_200],
        active_at: at,
        awaiting_since: (number as u64 + rev).is_multiple_of(2).then_some(at),
        due_at: (number as u64 + rev).is_multiple_of(2).then_some(at.plus(120_000)),
        fan_events: Vec::new(),
        priority: vec![vec![b'p'; 400]],
    }
}

/// CPU time that Redis has used.
fn redis_cpu(server: &server::RedisServer) -> Duration {
    let info: String = server.run(&["INFO", "cpu"]);
    let seconds = |name: &str| -> f64 { info.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0.0) };
    Duration::from_secs_f64(seconds("used_cpu_sys:") + seconds("used_cpu_user:"))
}

/// The beginning of a round.
struct Begun {
    at: Instant,
    cpu: Duration,
}

impl Begun {
    fn now(server: &server::RedisServer) -> Self {
        Self { cpu: redis_cpu(server), at: Instant::now() }
    }
}

/// Operations a second, and microseconds of Redis' CPU for each, of every round.
#[derive(Default)]
struct Rounds(Vec<(f64, f64)>);

impl Rounds {
    fn end(&mut self, begun: &Begun, server: &server::RedisServer) {
        let took = begun.at.elapsed();
        let cpu = redis_cpu(server) - begun.cpu;
        self.0.push((CONVERSATIONS as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / CONVERSATIONS as f64));
    }

    fn medians(&self) -> (f64, f64) {
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = self.0.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        (median(|round| round.0), median(|round| round.1))
    }
}
