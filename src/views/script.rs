//! The scripts, and how they are run.
//!
//! Scripts are static text; ids and values reach them only as KEYS and ARGV. A script that Redis does not know (a fresh or restarted Redis,
//! `SCRIPT FLUSH`) is loaded and what needed it is sent again: a refused call has done nothing.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, ServerError, Value};

use super::connection::Connection;
use super::error::ViewsError;

/// One script and its SHA-1, by which Redis knows it.
pub(super) struct Script {
    source: &'static str,
    hash: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// The call with its keys; the arguments follow with [`Cmd::arg`].
    pub(super) fn call(&self, keys: &[String], args: usize, bytes: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(3 + keys.len() + args, bytes + 64 * (keys.len() + 1));
        cmd.arg("EVALSHA").arg(self.hash.as_str()).arg(keys.len()).arg(keys);
        cmd
    }
}

/// Guarded write of conversations.
pub(super) static CONVERSATIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/conversations.lua")));
/// Guarded write of one account.
pub(super) static ACCOUNT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/account.lua")));
/// Messages and deletes, told of each other.
pub(super) static RESOLVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/resolve.lua")));

/// Runs calls of one script in one pipeline; the answers in order. The first error reply, if any, is the error.
pub(super) async fn run(connection: &Connection, script: &Script, calls: &Pipeline) -> Result<Vec<Value>, ViewsError> {
    let mut values = connection.send(calls).await?;
    let unknown: Vec<usize> = (0..values.len()).filter(|&at| matches!(&values[at], Value::ServerError(e) if is_no_script(e))).collect();
    if !unknown.is_empty() {
        let mut again = Pipeline::with_capacity(1 + unknown.len());
        again.cmd("SCRIPT").arg("LOAD").arg(script.source);
        let mut calls: Vec<Option<&Cmd>> = calls.cmd_iter().map(Some).collect();
        for cmd in unknown.iter().filter_map(|&at| calls[at].take()) {
            again.add_command(cmd.clone());
        }
        let mut answers = connection.query(&again).await?.into_iter().skip(1);
        for at in unknown {
            values[at] = answers.next().unwrap_or(Value::Nil);
        }
    }
    match values.iter().find_map(|value| if let Value::ServerError(error) = value { Some(error) } else { None }) {
        Some(error) => Err(ViewsError::from_reply(error)),
        None => Ok(values),
    }
}

fn is_no_script(error: &ServerError) -> bool {
    error.code() == "NOSCRIPT"
}
