//! The rules of the house that a machine can keep: which module may import which, what pure code may name, how long a file may be.
//!
//! A plain scan of the text: comments and strings are taken out, paths are followed through braces. Tests inside a file are code too.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the crate's root by rank, lowest first. A module names only modules of a lower rank, and itself.
const RANKS: &[&[&str]] = &[
    &["schema"],
    &["config", "transform"],
    &["runtime"],
    &["ws", "bus", "views", "documents", "auth"],
    &["backends"],
    &["daemons"],
    &["commands"],
    &["bin"],
];

/// What pure code has no business with.
const IMPURE: &[&str] = &["std::time", "std::fs", "std::net", "std::env", "std::process", "std::thread", "tokio", "redis", "rusqlite"];

/// Lines of a file up to its tests.
const LINES_MAX: usize = 600;

#[test]
fn modules_import_only_lower_ranks() {
    let mut problems = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(rank) = rank(module) else {
            problems.push(format!("{}: the module `{module}` has no rank yet", source.name()));
            continue;
        };
        for named in source.modules_named() {
            let allowed = named == module || self::rank(&named).is_some_and(|other| other < rank);
            if !allowed && is_module(&named) {
                problems.push(format!("{}: `{module}` names `{named}`, which is not of a lower rank", source.name()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn transform_is_pure() {
    let mut problems = Vec::new();
    for source in sources().into_iter().filter(|source| source.module() == Some("transform")) {
        for path in paths(&source.code) {
            let names = |impure: &&&str| path == **impure || path.starts_with(&format!("{impure}::"));
            if let Some(impure) = IMPURE.iter().find(names) {
                problems.push(format!("{}: names `{impure}`", source.name()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LINES_MAX {
            problems.push(format!("{}: {lines} lines before its tests; {LINES_MAX} are allowed, so split it", source.name()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// One file under `src/`.
struct Source {
    /// Relative to `src/`.
    path: PathBuf,
    text: String,
    /// The text without comments and strings.
    code: String,
}

impl Source {
    fn name(&self) -> String {
        format!("src/{}", self.path.display())
    }

    /// The module of the crate's root that it belongs to; none for `lib.rs`, which only lists them.
    fn module(&self) -> Option<&str> {
        let first = self.path.iter().next()?.to_str()?;
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (module != "lib").then_some(module)
    }

    /// Modules of the crate's root that it names: through `crate::`, through the library's name, or through enough `super::`.
    fn modules_named(&self) -> Vec<String> {
        let is_binary = self.module() == Some("bin");
        let depth = self.depth();
        let mut named = Vec::new();
        for path in paths(&self.code) {
            let parts: Vec<&str> = path.split("::").collect();
            let supers = parts.iter().take_while(|&&part| part == "super" || part == "self").filter(|&&part| part == "super").count();
            let module = match parts[0] {
                "crate" if !is_binary => parts.get(1),
                "convpipe" if is_binary => parts.get(1),
                // One more `super` than this leaves the root; inline modules only make it one fewer.
                "super" | "self" if supers >= depth => parts.iter().find(|&&part| part != "super" && part != "self"),
                _ => None,
            };
            named.extend(module.map(|&module| module.to_owned()));
        }
        named
    }

    /// Steps from this file's module up to the crate's root.
    fn depth(&self) -> usize {
        let is_folder = self.path.file_name().is_some_and(|name| name == "mod.rs");
        self.path.iter().count() - usize::from(is_folder)
    }
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|modules| modules.contains(&module))
}

/// Whether the crate's root has such a module, as opposed to an item or a glob.
fn is_module(name: &str) -> bool {
    rank(name).is_some() || root().join(name).is_dir() || root().join(format!("{name}.rs")).is_file()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let (mut folders, mut sources) = (vec![root()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), code: without_comments(&text), text });
            }
        }
    }
    assert!(!sources.is_empty());
    sources
}

/// Every path in the code: `use a::{b, c::d}` gives `a::b` and `a::c::d`; `a::b(c)` gives `a::b` and `c`.
fn paths(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_name(tokens[at]) {
            at = path(&tokens, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path that begins at `at`, behind `prefix`; returns where it ends.
fn path(tokens: &[&str], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(at) {
            Some(&name) if is_name(name) => {
                path = if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
                at += 1;
            }
            // The group of a `use`; whatever else stands between the braces is passed over.
            Some(&"{") => {
                at += 1;
                while tokens.get(at).is_some_and(|&token| token != "}") {
                    at = match tokens[at] {
                        "as" => at + 2,
                        name if is_name(name) => self::path(tokens, at, &path, found),
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            // `a::<T>()`, `a::*`.
            _ => break,
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let len = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    tokens
}

/// The code with comments and the content of strings and characters replaced by blanks.
fn without_comments(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_len(rest)
        } else if !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') && is_raw_string(rest) {
            raw_string_len(rest)
        } else if first == '"' {
            quoted_len(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted_len(rest, '\'')
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn is_raw_string(text: &str) -> bool {
    let text = text.strip_prefix('b').unwrap_or(text);
    text.strip_prefix('r').is_some_and(|text| text.trim_start_matches('#').starts_with('"'))
}

fn raw_string_len(text: &str) -> usize {
    let open = text.find('"').unwrap_or(0) + 1;
    let close = format!("\"{}", "#".repeat(text[..open].matches('#').count()));
    text[open..].find(&close).map_or(text.len(), |end| open + end + close.len())
}

/// `'a'` and `'\n'`, not the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// The rules are worth what the scan finds.
#[test]
fn the_scan_finds_paths() {
    let code = r##"
        //! [`crate::hidden`] /* crate::hidden
        /* crate::hidden /* crate::hidden */ crate::hidden */
        use std::{fs, collections::{BTreeMap, BTreeSet as Set2}};
        use crate::bus::*;
        fn f<'a>(x: &'a str, c: char) -> crate::views::View {
            let quote = '"'; let escaped = '\''; let s = "crate::hidden \" crate::hidden"; let raw = r#"crate::hidden " crate::hidden"#;
            super::super::ws::connect(crate :: auth :: load::<T>());
        }
    "##;
    let found = paths(&without_comments(code));
    for expected in [
        "std::fs",
        "std::collections::BTreeMap",
        "std::collections::BTreeSet",
        "crate::bus",
        "crate::views::View",
        "super::super::ws::connect",
        "crate::auth::load",
    ] {
        assert!(found.iter().any(|path| path == expected), "{expected} in {found:?}");
    }
    assert!(!found.iter().any(|path| path.contains("hidden") || path.contains("Set2")), "{found:?}");
    let source = |path: &str, code: &str| Source { path: path.into(), text: String::new(), code: code.to_owned() };
    for (path, code, expected) in [
        ("bus/mod.rs", "use crate::{views, schema::event::Event};", vec!["views", "schema"]),
        ("bus/mod.rs", "use super::views::X; use self::inner::Y;", vec!["views"]),
        ("bus/embedded/log.rs", "use super::super::super::views::X; use super::super::inner::Y;", vec!["views"]),
        ("backends.rs", "use super::views::X;", vec!["views"]),
        ("bin/convpipe.rs", "convpipe::commands::run(); crate::helper();", vec!["commands"]),
    ] {
        assert_eq!(source(path, code).modules_named(), expected, "{path}: {code}");
    }
}
