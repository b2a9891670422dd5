//! Rooms under load: `cargo bench --bench pipeline -- bus`. Without a name, all of them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures, and says where it cannot go on")]

mod bus;

fn main() {
    // cargo passes flags such as `--bench`; what is no flag is a name.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if wanted("bus") {
        bus::run();
    }
}
