//! A config as a YAML file that people read: with the text of every key, or with the origin of every value.

use std::fmt::Write;

use serde_yaml::Value;

use super::known::{self, Known, Shape, join};
use super::{Config, Loaded};

/// Comments are wrapped here.
const WIDTH: usize = 100;

const HEAD: &str = "\
# The configuration of convpipe. Every key is optional; the values here are the defaults.
# Flags win over CONVPIPE_… variables (CONVPIPE_REDIS_TIMEOUT_MS sets redis.timeout_ms), and those over this file.
# A relative path is relative to the folder of this file.
";

/// The default config as a file in which every key has its text. Loading it gives the default config.
#[must_use]
pub fn default_file() -> String {
    let mut writer = Writer { out: HEAD.to_owned(), notes: Notes::Texts };
    writer.section(&value(&Config::default()), known::root(), "", 0);
    writer.out
}

/// A loaded config as a file, with the origin of every value behind it where that is wanted.
#[must_use]
pub fn render(loaded: &Loaded, origins: bool) -> String {
    let notes = if origins { Notes::Origins(loaded) } else { Notes::None };
    let mut writer = Writer { out: String::new(), notes };
    writer.section(&value(&loaded.config), known::root(), "", 0);
    writer.out
}

fn value(config: &Config) -> Value {
    serde_yaml::to_value(config).unwrap_or_default()
}

struct Writer<'a> {
    out: String,
    notes: Notes<'a>,
}

/// What stands beside the values.
enum Notes<'a> {
    None,
    /// Before each key, its text.
    Texts,
    /// Behind each value, its origin.
    Origins(&'a Loaded),
}

impl Writer<'_> {
    fn section(&mut self, value: &Value, known: &Known, path: &str, depth: usize) {
        for (key, value) in value.as_mapping().into_iter().flatten() {
            let Some((key, child)) = key.as_str().and_then(|key| Some((key, known.child(key)?))) else { continue };
            // An account that says nothing of a section or list is not one that says null.
            if value.is_null() && matches!(child.shape, Shape::Section(_) | Shape::List(_)) {
                continue;
            }
            let path = join(path, key);
            self.texts(child, depth);
            let behind = match &self.notes {
                Notes::Origins(loaded) => loaded.origins.get(&path).map_or_else(String::new, |origin| format!("  # {origin}")),
                _ => String::new(),
            };
            let key = scalar(&Value::from(key));
            match value {
                Value::Mapping(map) if !map.is_empty() => {
                    self.line(depth, format_args!("{key}:"));
                    self.section(value, child, &path, depth + 1);
                }
                Value::Sequence(items) if items.iter().any(Value::is_mapping) => {
                    self.line(depth, format_args!("{key}:{behind}"));
                    items.iter().for_each(|item| self.line(depth + 1, format_args!("- {}", flow(item))));
                }
                _ => self.line(depth, format_args!("{key}: {}{behind}", flow(value))),
            }
        }
    }

    /// The text of a key, and for free keys what may stand under each.
    fn texts(&mut self, known: &Known, depth: usize) {
        if !matches!(self.notes, Notes::Texts) {
            return;
        }
        if depth == 0 {
            self.out.push('\n');
        }
        self.comment(depth, "", &known.text);
        if let Shape::Each(each) = &known.shape {
            self.comment(depth, "", "Under each id may stand:");
            self.possible(each, depth, "  ");
        }
    }

    fn possible(&mut self, known: &Known, depth: usize, inset: &str) {
        let Shape::Section(keys) = &known.shape else { return };
        for (key, child) in keys {
            self.comment(depth, inset, &format!("{key}: {}", child.text));
            self.possible(child, depth, &format!("{inset}  "));
        }
    }

    fn comment(&mut self, depth: usize, inset: &str, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.chars().count() + word.chars().count() + 2 * depth + inset.len() + 3 > WIDTH {
                self.line(depth, format_args!("# {inset}{line}"));
                line.clear();
            }
            let gap = if line.is_empty() { "" } else { " " };
            line.push_str(gap);
            line.push_str(word);
        }
        self.line(depth, format_args!("# {inset}{line}"));
    }

    fn line(&mut self, depth: usize, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = 2 * depth);
    }
}

/// A value in one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Mapping(map) if map.is_empty() => "{}".to_owned(),
        Value::Mapping(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Sequence(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        _ => scalar(value),
    }
}

/// A scalar in one line. A text is quoted, as JSON, unless it is a plain word that YAML reads as that same text.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
                && serde_yaml::from_str::<Value>(text).is_ok_and(|read| read == *value);
            if is_plain { text.clone() } else { serde_json::to_string(text).unwrap_or_default() }
        }
        _ => serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned(),
    }
}
