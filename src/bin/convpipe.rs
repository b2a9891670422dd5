//! The `convpipe` binary: parse, run, exit.

use std::process::ExitCode;

use convpipe::commands::{self, Context};
use convpipe::config::Environment;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match commands::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let context = Context::new(cli.globals, Environment::capture());
    let outcome = commands::run(&context, cli.command);
    context.conclude(outcome).into()
}
