//! What strangers write, on a real terminal: it cannot steer it, and it pushes nothing out of its column.

use std::collections::BTreeSet;

use convpipe::runtime::clock;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::support::terminal::Terminal;

/// Marks where a name or a text begins.
const MARK: char = '§';

/// Names and texts that would steer a terminal, hide what stands there, or stand in more columns than they have.
fn hostile() -> Vec<String> {
    let long_word = "x".repeat(4_096);
    let marks = format!("e{}", "\u{301}\u{489}".repeat(300));
    [
        "plain",
        "\u{1b}]52;c;cHduZWQ=\u{7} clipboard",
        "\u{1b}]0;title\u{1b}\\ \u{1b}]2;title\u{7}",
        "\u{1b}[2J\u{1b}[H\u{1b}[31mred\u{1b}[8mhidden\u{1b}c",
        "\u{1b}P+q544e\u{1b}\\ \u{1b}_apc\u{1b}\\ \u{1b}^pm\u{1b}\\ \u{1b}Xsos\u{1b}\\",
        "a\rb\nc\td\u{8}\u{8}\u{8}\u{b}\u{c}\u{0}\u{7f}",
        "\u{9b}31m\u{9d}0;title\u{9c}\u{90}x\u{9c}\u{85}\u{84}",
        "\u{202e}desrever\u{202c} \u{2066}isolate\u{2069}\u{61c}\u{200e}\u{200f}",
        "zero\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}width",
        "\u{2028}line\u{2029}paragraph\u{e0041}\u{e007f}tags\u{3164}",
        &marks,
        &long_word,
        "你好世界，你好世界，你好世界，你好世界，你好世界",
        "مرحبا بالعالم שלום עולם",
        "👩‍👩‍👧‍👦 👍🏽 ❤️ 🏳️‍🌈 1️⃣ 🇺🇦",
        "می\u{200c}خواهم हिन्दी क्\u{200d}ष",
    ]
    .iter()
    .map(|text| format!("{MARK}{text}"))
    .collect()
}

/// Each hostile text as a fan's name and as what that fan wrote, and all of them as what Ann wrote.
async fn filled() -> Stores {
    let mut stores = Stores::new().await;
    let at = clock::now().plus(-2 * HOUR);
    for (number, text) in (1..).zip(&hostile()) {
        let fan = (100_001_000 + number).to_string();
        stores.say(&named(message(A, &fan, number, text, at), text), at.plus(120)).await;
        stores.say(&named(message(A, ANN, 1_000 + number, text, at), text), at.plus(120)).await;
    }
    stores
}

/// The lines that a terminal showed. Nothing but text and the ends of lines came, as `TERM=dumb` has no colours and no bars.
#[track_caller]
fn lines(stores: &Stores, columns: u16, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let (status, shown) = Terminal::start(stores.dir.path(), columns, &words, &[("TERM", "dumb")]).wait(LIMIT);
    let lines: Vec<String> = shown.split_terminator("\r\n").map(str::to_owned).collect();
    assert!(matches!(status.code(), Some(0 | 1)) && !lines.is_empty(), "{line}: {status}: {shown}");
    assert_inert(&lines);
    let hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{3164}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    // In JSON a letter keeps the marks that it has: who reads it is no terminal.
    let marks_max = if line.contains("-o ") { usize::MAX } else { 4 };
    for shown in &lines {
        assert_eq!(shown.chars().find(|&c| hidden(c)), None, "{line}: {shown:?}");
        let flood = shown.chars().fold((0, 0), |(run, most): (usize, usize), c| {
            let run = if matches!(c, '\u{301}' | '\u{489}') { run + 1 } else { 0 };
            (run, most.max(run))
        });
        assert!(flood.1 <= marks_max, "{line}: {} marks on one letter", flood.1);
    }
    lines
}

/// The columns in which the marks of a line stand.
fn marks(line: &str) -> Vec<usize> {
    line.match_indices(MARK).map(|(at, _)| line[..at].width()).collect()
}

#[track_caller]
fn assert_fits(lines: &[String], columns: u16) {
    for line in lines {
        assert!(line.width() <= usize::from(columns), "{} of {columns} columns: {line:?}", line.width());
    }
}

fn heading(lines: &[String], name: &str) -> usize {
    let line = lines.iter().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
    line[..line.find(name).unwrap()].width()
}

#[tokio::test]
async fn strangers_cannot_steer_a_terminal_nor_push_its_columns_aside() {
    let stores = filled().await;
    let texts = hostile().len();
    for columns in [80, 200] {
        let feed = lines(&stores, columns, "tail-priority --no-follow");
        assert_fits(&feed, columns);
        let (name, text) = (heading(&feed, "FAN"), heading(&feed, "MESSAGE"));
        let rows: Vec<&String> = feed.iter().filter(|line| line.contains(MARK)).collect();
        assert_eq!(rows.len(), 2 * texts);
        for row in rows {
            assert_eq!(marks(row), [name, text], "{row}");
        }

        let since = lines(&stores, columns, "reconcile --since 1d");
        let (table, notes) = since.split_at(since.len() - 1);
        assert_fits(table, columns);
        assert!(notes[0].ends_with(|c: char| c.is_ascii_digit()) && notes[0].contains("go on with --since"), "{notes:?}");
        let places: BTreeSet<usize> = table.iter().flat_map(|line| marks(line)).collect();
        assert_eq!(places, BTreeSet::from([heading(table, "NAME")]));

        for what in ["--history --last 100", "--events --last 100"] {
            let shown = lines(&stores, columns, &format!("inspect-fan {ANN} {what}"));
            assert_fits(&shown, columns);
            // The name stands once in the first line; a text in each message, all below each other.
            let places: BTreeSet<usize> = shown.iter().skip(1).flat_map(|line| marks(line)).collect();
            assert_eq!(places.len(), 1, "{what}: {shown:#?}");
        }
        for number in 1..=texts {
            let overview = lines(&stores, columns, &format!("inspect-fan {}", 100_001_000 + number));
            // The heading is one line, however long a name is, so that it can be found.
            assert_fits(&overview[1..], columns);
        }
        assert_fits(&lines(&stores, columns, &format!("inspect-fan {ANN} --explain onlyfans:{A}:msg:1001:received")), columns);
        lines(&stores, columns, &format!("inspect-fan {ANN} --transcript"));
        for format in ["json", "jsonl", "raw"] {
            lines(&stores, columns, &format!("inspect-fan {ANN} -o {format}"));
            lines(&stores, columns, &format!("tail-priority --no-follow -o {format}"));
        }
        lines(&stores, columns, "reconcile --since 1d -o jsonl");
        lines(&stores, columns, "doctor");
    }
}

#[tokio::test]
async fn what_stands_in_a_recording_is_inert_too() {
    let stores = Stores::new().await;
    let mut recording = String::new();
    for (number, text) in (0..).zip(&hostile()) {
        let id = 6_400_000_000_000_u64 + number;
        let at = "2026-07-24T20:00:00+00:00";
        let chat = serde_json::json!({
            "id": id, "text": text, "fromUser": { "id": 100_000_001, "name": text }, "createdAt": at, "changedAt": at, text: text,
        });
        let line = serde_json::json!({
            "t0": "2026-07-24T20:00:00.000Z", "t_ms": number, "account": A, "frame": { "api2_chat_message": chat, text: { "id": 1 } },
        });
        recording.push_str(&format!("{line}\n"));
    }
    fs::write(stores.dir.path().join("hostile.jsonl"), recording).unwrap();
    for columns in [80, 200] {
        lines(&stores, columns, "replay --stats hostile.jsonl");
        lines(&stores, columns, "replay hostile.jsonl");
        lines(&stores, columns, "replay hostile.jsonl -o jsonl");
    }
}

#[tokio::test]
async fn colours_are_all_that_a_terminal_gets_besides() {
    let stores = filled().await;
    for line in ["tail-priority --no-follow", "reconcile --since 1d", "inspect-fan 100000001"] {
        let words: Vec<&str> = line.split(' ').collect();
        let (_, shown) = Terminal::start(stores.dir.path(), 80, &words, &[]).wait(LIMIT);
        let mut rest = shown.as_str();
        assert!(rest.contains("\u{1b}["), "{line}: there are colours");
        while let Some(at) = rest.find('\u{1b}') {
            let sequence = rest[at..].strip_prefix("\u{1b}[").unwrap_or_else(|| panic!("{line}: {:?}", &rest[at..]));
            let end = sequence.find(|c: char| !matches!(c, '0'..='9' | ';')).unwrap_or(0);
            assert_eq!(&sequence[end..=end], "m", "{line}: {:?}", &rest[at..]);
            rest = &sequence[end + 1..];
        }
    }
}
