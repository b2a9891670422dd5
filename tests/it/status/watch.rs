//! `--watch`: the whole terminal, and a line each time in a pipe.

use rustix::process::Signal;

use super::{LIMIT, NOBODY, folder};
use crate::support::fullscreen::Fullscreen;
use crate::support::process::Process;

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn it_draws_in_place_follows_the_size_and_gives_the_terminal_back() {
    for (keys, code) in [("\x03", 0), ("q", 0)] {
        let dir = folder(NOBODY);
        let mut terminal = Fullscreen::start(dir.path(), &["status", "--watch", "500ms", "--ingest", "127.0.0.1:1"], 80, 24);
        let is_whole = |lines: &[String]| lines.iter().any(|line| line.starts_with("DAEMON"));
        let lines = terminal.wait_picture(LIMIT, is_whole);
        assert!(terminal.said().contains(ENTER) && !terminal.echoes(), "{:?}", terminal.said());
        assert!(lines[0].contains("2 to mend") && lines[0].ends_with("every 500ms, q ends"), "{lines:#?}");
        assert!(lines.len() <= 24 && widest(&lines) <= 80, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("fail  ingest 127.0.0.1:1 does not answer: Connection refused")), "{lines:#?}");

        // What is typed is not shown, and does not end it.
        terminal.send("hello\r");
        terminal.resize(40, 8);
        let lines = terminal.wait_picture(LIMIT, |lines| lines.len() == 8 && lines[7].contains("more lines"));
        assert!(widest(&lines) <= 40 && !terminal.said().contains("hello"), "{lines:#?}");
        terminal.resize(200, 50);
        let lines = terminal.wait_picture(LIMIT, |lines| is_whole(lines) && widest(lines) > 80);
        assert!(lines.len() <= 50 && widest(&lines) <= 200, "{lines:#?}");

        terminal.send(keys);
        assert_eq!(terminal.wait_end(LIMIT).code(), Some(code));
        terminal.wait_said(LIMIT, LEAVE);
        assert!(terminal.said().trim_end().ends_with(LEAVE) && terminal.echoes(), "{:?}", terminal.said());
    }
}

#[test]
fn behind_ctrl_z_the_terminal_is_the_shells() {
    let dir = folder(NOBODY);
    let mut terminal = Fullscreen::start(dir.path(), &["status", "-w", "500ms"], 80, 24);
    terminal.wait_picture(LIMIT, |lines| lines.iter().any(|line| line.starts_with("DAEMON")));
    terminal.send("\x1a");
    terminal.wait_said(LIMIT, LEAVE);
    terminal.wait_stopped(LIMIT);
    assert!(terminal.echoes());
    terminal.signal(Signal::CONT);
    terminal.wait_said(LIMIT, &format!("{LEAVE}{ENTER}"));
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.wait_end(LIMIT).code(), Some(0));
    assert!(terminal.echoes());
}

#[test]
fn a_pipe_gets_a_line_each_time_until_it_is_closed_or_a_signal_comes() {
    let dir = folder(NOBODY);
    let args = ["status", "--watch", "500ms", "-o", "jsonl"];
    let process = Process::start(dir.path(), &args);
    process.wait_stdout("\"window_s\":null", LIMIT);
    // The second look tells rates.
    process.wait_stdout_that("has a window", LIMIT, |line| line.contains("\"window_s\":") && !line.contains("\"window_s\":null"));
    process.signal(Signal::INT);
    let output = process.wait(LIMIT);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{:?}", output.stderr);
    for line in &output.stdout {
        let picture: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(picture["problems"][0]["about"], "redis");
    }

    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_convpipe"));
    let mut child = command.args(args).current_dir(dir.path()).stdout(writer).spawn().unwrap();
    drop((command, reader));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
