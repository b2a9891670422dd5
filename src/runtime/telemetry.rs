//! Logs: one record a line, on stderr, that no foreign text can forge.
//!
//! Owns the subscriber and its writer. Records of the `log` crate are not bridged on purpose: the WebSocket library logs whole handshakes,
//! secrets included, at `trace`. Invariant: a record is one line of printable text, whatever stands in its fields.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogConfig, LogFormat};

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

/// Installs the process's subscriber: to stderr, as text on a terminal and as JSON elsewhere, unless the config says which.
///
/// # Errors
/// [`TelemetryError`]; nothing is installed then.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| TelemetryError::Filter { filter: config.filter.clone(), reason: error.to_string() })?;
    let json = match config.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    tracing::subscriber::set_global_default(subscriber(filter, json, || Escaped(io::stderr()))).map_err(|_| TelemetryError::Twice)
}

/// Colours are left out: an escape character in a record then always means foreign text.
fn subscriber<W>(filter: EnvFilter, json: bool, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
    if json { Box::new(builder.json().flatten_event(true).finish()) } else { Box::new(builder.finish()) }
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
        let subscriber = subscriber(EnvFilter::new("info"), json, move || Escaped(writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(text = HOSTILE, debug = ?HOSTILE, display = %HOSTILE, "{HOSTILE}");
            tracing::debug!("not this");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
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
        let error = init(&LogConfig { filter: "info,=,=".into(), format: LogFormat::Text }).unwrap_err();
        assert!(error.to_string().contains("info,=,="), "{error}");
    }
}
