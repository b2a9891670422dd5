//! Logs: one record a line, on stderr, that no foreign text can forge.
//!
//! Owns the subscriber and its writer. Records of the `log` crate are not bridged on purpose: the WebSocket library logs whole handshakes,
//! secrets included, at `trace`. Invariant: a record is one line of printable text, whatever stands in its fields.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use super::repeats::Repeats;
use crate::config::{LogConfig, LogFormat};

/// The target of the records that follow each event on its way, from the frame to the stores: four for each event, so they are asked for by name,
/// `info,trail=debug`.
pub const TRAIL: &str = "trail";

/// Logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` does not parse.
    #[error("log.filter {filter:?} is not a filter such as `info` or `info,convpipe::ws=debug`: {reason}")]
    Filter {
        /// As configured.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Another subscriber is already installed in this process.
    #[error("logs are already set up in this process")]
    Twice,
}

/// The logs of the process, to change while it runs. Clones share it.
#[derive(Debug, Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    repeats: Repeats,
}

impl Logs {
    /// Logs by another filter and other limits from now on; the format stays.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`]; everything stays as it was then.
    pub fn adopt(&self, config: &LogConfig) -> Result<(), TelemetryError> {
        let filter = filter(config)?;
        self.repeats.limit(config.repeat_max, Duration::from_secs(config.repeat_s));
        // The subscriber lives as long as the process.
        let _ = self.filter.reload(filter);
        Ok(())
    }

    /// Tells how often what was said too often was not said. To be called now and then, and with `all` at the end.
    pub fn tell_repeats(&self, all: bool) {
        self.repeats.tell(all);
    }
}

/// Whether logs can be written like this.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn check(config: &LogConfig) -> Result<(), TelemetryError> {
    filter(config).map(|_| ())
}

/// Installs the process's subscriber: to stderr, as text on a terminal and as JSON elsewhere, unless the config says which.
///
/// # Errors
/// [`TelemetryError`]; nothing is installed then.
pub fn init(config: &LogConfig) -> Result<Logs, TelemetryError> {
    let json = match config.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let (subscriber, logs) = subscriber(config, json, || Escaped(io::stderr()))?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    Ok(logs)
}

fn filter(config: &LogConfig) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(&config.filter).map_err(|error| TelemetryError::Filter { filter: config.filter.clone(), reason: error.to_string() })
}

/// Colours are left out: an escape character in a record then always means foreign text.
fn subscriber<W>(config: &LogConfig, json: bool, writer: W) -> Result<(Box<dyn tracing::Subscriber + Send + Sync>, Logs), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(config)?);
    let repeats = Repeats::default();
    repeats.limit(config.repeat_max, Duration::from_secs(config.repeat_s));
    let records = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let records = if json { records.json().flatten_event(true).boxed() } else { records.boxed() };
    let subscriber = tracing_subscriber::registry().with(filter).with(repeats.clone()).with(records);
    Ok((Box::new(subscriber), Logs { filter: handle, repeats }))
}

/// Writes records with every character escaped that could end a line, move a cursor or reorder text: `\u000a`, as JSON writes it, so
/// that a JSON record stays one.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    /// Takes a whole record, as the formatter hands it over: its last line feed is the only one that stays.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        if line.chars().any(is_unsafe) {
            let mut escaped = String::with_capacity(line.len() + 32);
            for c in line.chars() {
                if is_unsafe(c) {
                    // Writing to a string cannot fail.
                    let _ = write!(escaped, "\\u{:04x}", u32::from(c));
                } else {
                    escaped.push(c);
                }
            }
            escaped.push_str(end);
            self.0.write_all(escaped.as_bytes())?;
        } else {
            self.0.write_all(text.as_bytes())?;
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Controls (C0, DEL, C1), line and paragraph separators, bidi controls, and what is invisible. All lie in the basic plane.
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\r\n2026-01-01 ERROR forged\x1b[2J\u{9b}31m\u{202e}gnp.exe\u{2028}b\u{85}c\0";

    fn logged(json: bool) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, _) = subscriber(&LogConfig::default(), json, move || Escaped(writer.clone())).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(text = HOSTILE, debug = ?HOSTILE, display = %HOSTILE, "{HOSTILE}");
            tracing::debug!("not this");
        });
        memory.text()
    }

    #[test]
    fn foreign_text_forges_nothing() {
        for json in [false, true] {
            let output = logged(json);
            let line = output.strip_suffix('\n').unwrap();
            assert!(!line.chars().any(is_unsafe), "json: {json}: {line:?}");
            assert!(line.contains("gnp.exe"), "the text itself stays readable: {line}");
        }
    }

    #[test]
    fn a_json_record_stays_json_and_keeps_the_text() {
        let record: serde_json::Value = serde_json::from_str(&logged(true)).unwrap();
        assert_eq!(record["text"], HOSTILE);
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let error = init(&LogConfig { filter: "info,=,=".into(), format: LogFormat::Text, ..LogConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("info,=,="), "{error}");
    }

    #[test]
    fn another_filter_holds_at_once_and_a_wrong_one_changes_nothing() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, logs) = subscriber(&LogConfig::default(), false, move || writer.clone()).unwrap();
        let with = |filter: &str| LogConfig { filter: filter.into(), ..LogConfig::default() };
        tracing::subscriber::with_default(subscriber, || {
            for (number, filter) in ["debug", "info,=,=", "warn"].into_iter().enumerate() {
                assert_eq!(logs.adopt(&with(filter)).is_ok(), number != 1);
                tracing::debug!("debug {number}");
                tracing::warn!("warning {number}");
            }
        });
        let said = memory.text();
        let has = |text: &str| said.contains(text);
        assert!(has("debug 0") && has("debug 1") && !has("debug 2") && has("warning 2"), "{said}");
    }

    #[test]
    fn what_is_repeated_is_told_by_its_number() {
        let memory = Memory::default();
        let writer = memory.clone();
        let limited = LogConfig { repeat_max: 3, repeat_s: 3_600, filter: "debug".into(), ..LogConfig::default() };
        let (subscriber, logs) = subscriber(&limited, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10 {
                tracing::warn!(number, "no answer");
                tracing::debug!(number, "a detail");
            }
            tracing::warn!("another place");
            logs.tell_repeats(false);
            assert!(!memory.text().contains("repeated"), "its time is not over");
            logs.tell_repeats(true);
            logs.tell_repeats(true);
        });
        let said = memory.text();
        let count = |text: &str| said.matches(text).count();
        assert_eq!((count(": no answer number="), count("a detail"), count("another place")), (3, 10, 1), "{said}");
        assert_eq!((count("WARN"), count("… repeated 7 times: no answer")), (5, 1), "{said}");
    }
}
