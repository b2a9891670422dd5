//! A program whose stdout is the artifact, as with the `credential_process` of AWS.
//!
//! It gets no input, and a process group of its own: Ctrl-C in a terminal does not reach it, and when it is given up everything that it started
//! goes with it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::time::timeout;

use super::redact::Redactor;
use super::{Answer, Ask, Asked, ProviderError, answer, ms};
use crate::config::CommandConfig;

/// Bytes of its talk that are kept; more is read and dropped, so that the program does not wait for us.
const SAID_MAX: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Command {
    program: PathBuf,
    args: Vec<String>,
    timeout_ms: u64,
}

impl Command {
    pub(super) fn new(config: &CommandConfig) -> Self {
        Self { program: config.program.clone(), args: config.args.clone(), timeout_ms: config.timeout_ms }
    }

    pub(super) async fn ask(&self, ask: &Ask<'_>, answer_max: usize) -> Asked {
        let (mut written, mut said) = (Pipe::new(answer_max), Pipe::new(SAID_MAX));
        let answer = self.run(ask, &mut written, &mut said).await;
        let mut redactor = Redactor::default();
        ask.old.into_iter().for_each(|old| redactor.artifact(old));
        redactor.answer(&written.bytes);
        Asked { answer, said: redactor.lines(&said.bytes, !said.is_over) }
    }

    async fn run(&self, ask: &Ask<'_>, written: &mut Pipe, said: &mut Pipe) -> Result<Answer, ProviderError> {
        let mut running = self.start(ask)?;
        let (Some(stdout), Some(stderr)) = (running.child.stdout.take(), running.child.stderr.take()) else {
            return Err(ProviderError::Read { detail: "there is no pipe".to_owned() });
        };
        let ended = timeout(ms(self.timeout_ms), async {
            // In this order: as long as nobody has waited for the program, its id is its own and its group can be killed.
            tokio::try_join!(written.read_or_refuse(stdout), said.read_and_drop(stderr))?;
            running.child.wait().await.map_err(|error| ProviderError::Read { detail: error.to_string() })
        })
        .await;
        let status = match ended {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ProviderError::Timeout { after_ms: self.timeout_ms }),
        };
        match (status.code(), status.signal()) {
            (Some(0), _) => answer::decode(&written.bytes, ask),
            (Some(code), _) => Err(ProviderError::Exit(code)),
            (None, signal) => Err(ProviderError::Killed(signal.unwrap_or(0))),
        }
    }

    fn start(&self, ask: &Ask<'_>) -> Result<Running, ProviderError> {
        let child = tokio::process::Command::new(&self.program)
            .args(self.args.iter().map(|arg| ask.fill(arg)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(|error| ProviderError::Start { program: self.program.clone(), detail: error.to_string() })?;
        Ok(Running { child })
    }
}

/// A program at work; dropped before it has ended, it is killed with its whole group.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is an id only as long as nobody has waited for the program, so it cannot be another's by now.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may be gone already, with all of its group.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// What came out of a pipe, up to a limit.
struct Pipe {
    bytes: Zeroizing<Vec<u8>>,
    max: usize,
    /// There was more.
    is_over: bool,
}

impl Pipe {
    fn new(max: usize) -> Self {
        // Room for all of it means that no copy is left behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(max)), max, is_over: false }
    }

    async fn read_or_refuse(&mut self, pipe: impl AsyncRead + Unpin) -> Result<(), ProviderError> {
        let max = self.max;
        self.read(pipe, true).await?;
        if self.is_over { Err(ProviderError::TooLarge { max }) } else { Ok(()) }
    }

    async fn read_and_drop(&mut self, pipe: impl AsyncRead + Unpin) -> Result<(), ProviderError> {
        self.read(pipe, false).await
    }

    async fn read(&mut self, mut pipe: impl AsyncRead + Unpin, stop_when_over: bool) -> Result<(), ProviderError> {
        let mut chunk = Zeroizing::new([0u8; 4096]);
        while !(self.is_over && stop_when_over) {
            let read = pipe.read(chunk.as_mut_slice()).await.map_err(|error| ProviderError::Read { detail: error.to_string() })?;
            if read == 0 {
                break;
            }
            let kept = read.min(self.max - self.bytes.len());
            self.bytes.extend_from_slice(&chunk[..kept]);
            self.is_over |= kept < read;
        }
        Ok(())
    }
}
