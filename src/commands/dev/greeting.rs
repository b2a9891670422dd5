//! What `dev` says once everything is live: the commands to try, as they are typed in this shell.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use crate::commands::Context;
use crate::commands::output::{Tone, number, term_safe};
use crate::daemons::playback::Overview;

/// Says what to try.
pub(super) fn greet(context: &Context, folder: &Folder, overview: &Overview, server: SocketAddr, dashboard: SocketAddr) {
    let output = context.output();
    let strong = |text: &str| output.note_tone(Tone::Strong, text);
    let (accounts, frames) = (overview.accounts.len(), number(overview.frames));
    output.note(format!("{} · {accounts} accounts on ws://{server}, {frames} frames a round", strong("convpipe is live")));
    output.note(format!("the inbox, live, in a browser: {}", strong(&format!("http://{dashboard}/"))));
    output.note(format!("everything is in {}; in another terminal, from this folder, try:", folder.dir().display()));
    let program = program(context);
    let option = if finds_it(context, folder) { String::new() } else { format!("--config {} ", shown(&folder.config_file())) };
    for (command, what) in [
        ("tail-priority", "who needs an answer, as it happens"),
        ("inspect-fan 100000001", "everything about one fan"),
        ("status --watch", "how every part of it is doing"),
        ("config print --origin", "what holds here, and who says so"),
    ] {
        output.note(format!("  {}  {what}", strong(&term_safe(&format!("{program} {option}{command:<24}")))));
    }
    output.note("Ctrl-C ends all of it");
}

/// Whether the other commands find the config that `dev` wrote by themselves, from the current folder.
fn finds_it(context: &Context, folder: &Folder) -> bool {
    let is_beside = Path::new(".convpipe").canonicalize().is_ok_and(|dir| dir == folder.dir());
    is_beside && !Path::new("convpipe.yaml").exists() && context.environment().path("CONVPIPE_CONFIG").is_none()
}

/// How this program is called from this shell and this folder.
fn program(context: &Context) -> String {
    let typed = std::env::args_os().next().unwrap_or_default();
    let search = context.environment().path("PATH").unwrap_or_default();
    name(&typed, &std::env::current_exe().unwrap_or_default(), &std::env::split_paths(&search).collect::<Vec<_>>())
}

/// `convpipe` where the shell finds this program under that name, else the path as it was typed, as short as it can be.
fn name(typed: &OsStr, exe: &Path, search: &[PathBuf]) -> String {
    const NAME: &str = "convpipe";
    let same = |found: PathBuf| found.canonicalize().is_ok_and(|found| exe.canonicalize().is_ok_and(|exe| exe == found));
    let first = search.iter().map(|dir| dir.join(NAME)).find(|found| found.is_file());
    if first.is_some_and(same) {
        return NAME.to_owned();
    }
    let typed = Path::new(typed);
    // A bare name was found on a path that this process does not see; then only the file itself is sure.
    shown(if typed.components().count() > 1 { typed } else { exe })
}

/// A path as it is typed from the current folder.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    let is_plain = path.is_relative() && !path.starts_with(".") && !path.starts_with("..");
    if is_plain { format!("./{}", path.display()) } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_called_as_short_as_it_can_be() {
        let here = std::env::current_dir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("build").join("convpipe");
        let (on_path, other, nowhere) = (dir.path().join("bin"), dir.path().join("other"), dir.path().join("nowhere"));
        for folder in [exe.parent().unwrap(), &on_path, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(&exe, "").unwrap();
        std::fs::write(other.join("convpipe"), "").unwrap();
        std::os::unix::fs::symlink(&exe, on_path.join("convpipe")).unwrap();
        let full = exe.display().to_string();
        let below = here.join("target/release/convpipe");
        for (typed, search, expected) in [
            (full.as_str(), &[nowhere.clone(), on_path.clone()][..], "convpipe"),
            (full.as_str(), &[other, on_path], full.as_str()),
            (full.as_str(), &[nowhere], full.as_str()),
            ("target/release/convpipe", &[], "./target/release/convpipe"),
            ("./convpipe", &[], "./convpipe"),
            ("../convpipe", &[], "../convpipe"),
            (below.to_str().unwrap(), &[], "./target/release/convpipe"),
            ("convpipe", &[], full.as_str()),
        ] {
            assert_eq!(name(OsStr::new(typed), &exe, search), expected, "{typed} {search:?}");
        }
    }
}
