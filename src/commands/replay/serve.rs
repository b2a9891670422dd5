//! Recorded frames to whoever connects, as the platform would send them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::{Playing, Run};
use crate::auth::ArtifactStore;
use crate::commands::output::number;
use crate::commands::{CommandError, Exit, interrupted};
use crate::daemons::playback::{Playback, RecordingError};
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::ARTIFACT_SCHEMA;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::ws::serve::{Player, serve, stage, token_of};

pub(super) fn run(run: &Run<'_>, address: SocketAddr, artifacts: Option<&Path>) -> Result<Exit, CommandError> {
    let output = run.context.output();
    run.context.block_on(async {
        let shutdown = crate::commands::listen()?;
        let listener = bind(address).await?;
        let bound = listener.local_addr().unwrap_or(address);
        let accounts = &run.overview.accounts;
        if let Some(dir) = artifacts {
            write_artifacts(dir, bound, accounts)?;
            output.note(format!("artifacts of {} accounts are in {}", accounts.len(), dir.display()));
        }
        output.note(format!(
            "serving {} accounts on ws://{bound}, from when the first connects; tokens are replay-<account>",
            accounts.len()
        ));
        let (player, source) = stage(accounts.iter().map(String::as_str), &run.overview.online);
        let serving = tokio::spawn(serve(listener, source, shutdown.clone()));
        tokio::select! {
            () = player.connected(1) => run.progress.begin(),
            () = shutdown.requested() => {}
        }
        let mut playing = Playing::default();
        play(&mut run.playback(), &player, &shutdown, |result| match result {
            Ok(()) => {
                playing.played += 1;
                run.progress.advance(1);
            }
            Err(error) => {
                playing.damaged(error);
                run.progress.fail(1);
            }
        })
        .await;
        tokio::select! {
            () = player.drained() => {}
            () = shutdown.requested() => {}
        }
        run.progress.finish();
        let interrupted = shutdown.is_requested().then(|| interrupted(&shutdown, "interrupted before the recording's end"));
        shutdown.request();
        // The server ends with its listener; how is of no use to anybody here.
        let _ = serving.await;
        output.note(format!("{} frames sent, {} lost with a connection", number(player.sent()), number(player.lost())));
        match interrupted {
            // What has no end of its own is ended by a signal, and was not interrupted.
            Some(error) if !run.settings.repeat => Err(error),
            None => run.conclude(playing, 0),
            Some(_) => playing.outcome().map(|()| Exit::Done),
        }
    })
}

/// Binds the server's address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "choose another port, or 0 for a free one",
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose an address of this machine",
        };
        CommandError::new(Exit::Unavailable, format!("cannot listen on {address}")).caused_by(&error).hint(hint)
    })
}

/// Plays until the recording ends or a stop is asked for; `told` hears of every frame and every error.
pub(crate) async fn play(playback: &mut Playback, player: &Player, shutdown: &Shutdown, mut told: impl FnMut(Result<(), RecordingError>)) {
    loop {
        let played = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            played = playback.next() => played,
        };
        match played {
            None => return,
            Some(Err(error)) => told(Err(error)),
            Some(Ok(played)) => {
                let sent = tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    sent = player.play(&played.account, played.text) => sent,
                };
                // The stage was set with every account of the recording, so only a server that has ended refuses.
                if sent.is_err() {
                    return;
                }
                told(Ok(()));
            }
        }
    }
}

/// Writes an artifact for each account, with which ingest connects to this server.
///
/// # Errors
/// Where the folder cannot be made or a file not be written.
pub(crate) fn write_artifacts(dir: &Path, server: SocketAddr, accounts: &BTreeSet<String>) -> Result<(), CommandError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| CommandError::new(Exit::TryLater, format!("cannot make the folder {}", dir.display())).caused_by(&error))?;
    let store = ArtifactStore::new(dir);
    let now = clock::now();
    for account in accounts {
        store.write(&Artifact {
            schema: ARTIFACT_SCHEMA.to_owned(),
            account_id: account.clone(),
            generation: u64::try_from(now.0).unwrap_or(0),
            platform: "onlyfans".to_owned(),
            ws_url: format!("ws://{server}/").into(),
            token: token_of(account).into(),
            expires_at: None,
            origin: None,
            user_agent: Some(concat!("convpipe/", env!("CARGO_PKG_VERSION")).to_owned()),
            headers: BTreeMap::new(),
            prepared_at: Some(now),
            status: ArtifactStatus::Ready,
        })?;
    }
    Ok(())
}
