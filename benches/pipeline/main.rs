//! Rooms and the whole pipeline under load: `cargo bench --bench pipeline -- bus`. Without a name, all of them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures, and says where it cannot go on")]

mod bus;
mod documents;
mod end_to_end;
#[path = "../../tests/it/support/fake_pubsub.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod fake_pubsub;
mod frames;
mod pubsub;
mod redis;
#[path = "../../tests/it/support/redis.rs"]
mod server;
mod snapshot;
mod stack;

const PARTS: [(&str, fn()); 7] = [
    ("bus", bus::run),
    ("pubsub", pubsub::run),
    ("redis", redis::run),
    ("documents", documents::run),
    ("snapshot_views", snapshot::views),
    ("snapshot_documents", snapshot::documents),
    ("end_to_end", end_to_end::run),
];

fn main() {
    // cargo passes flags such as `--bench`; what is no flag is a name.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, run) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
