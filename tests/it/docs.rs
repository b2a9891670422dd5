//! What the documentation says is so: commands parse, keys and defaults are those of the config, files and tests that are named exist.
//!
//! A plain scan of the Markdown. Whether links lead somewhere is checked by `scripts/check-links`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use convpipe::commands::Cli;
use convpipe::config::{Config, environment_names};
use convpipe::schema::event::EventKind;
use convpipe::transform::normalize::Reason;

/// One Markdown file.
pub(crate) struct Page {
    name: String,
    text: String,
}

impl Page {
    fn read(name: &str) -> Self {
        Self { name: name.to_owned(), text: fs::read_to_string(root().join(name)).unwrap() }
    }

    /// The lines of what is to be typed into a shell, with their numbers.
    pub(crate) fn shell(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, _, code)| *code == Some("sh")).map(|(number, line, _)| (number, line))
    }

    /// What stands between backticks outside of code blocks, with the number of its line.
    fn spans(&self) -> impl Iterator<Item = (usize, &str)> {
        let prose = self.lines().filter(|(_, _, code)| code.is_none());
        prose.flat_map(|(number, line, _)| line.split('`').skip(1).step_by(2).map(move |span| (number, span)))
    }

    /// Number, line, and the language of the code block that it stands in; the fences themselves are left out.
    fn lines(&self) -> impl Iterator<Item = (usize, &str, Option<&str>)> {
        let mut code = None;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                code = if code.is_none() { Some(language) } else { None };
                return None;
            }
            Some((index + 1, line, code))
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What people read first, and everything in `docs/`.
pub(crate) fn pages() -> Vec<Page> {
    let in_docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> = in_docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    names.sort();
    let in_docs = names.iter().map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap()));
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).into_iter().chain(in_docs).map(|name| Page::read(&name)).collect()
}

/// Checks every finding of every page, and tells all that is wrong at once.
fn check<'p>(pages: &'p [Page], find: impl Fn(&'p Page) -> Vec<(usize, String)>) {
    let told = pages.iter().flat_map(|page| find(page).into_iter().map(move |(line, what)| format!("{}:{line}: {what}", page.name)));
    let problems: Vec<String> = told.collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn commands_parse() {
    let pages = pages();
    let count = pages.iter().flat_map(Page::shell).filter(|(_, line)| command(line).is_some()).count();
    assert!(count > 10, "only {count} commands were found");
    check(&pages, |page| {
        let commands = page.shell().filter_map(|(number, line)| Some((number, command(line)?)));
        commands.filter_map(|(number, words)| Some((number, why_not(&words)?))).collect()
    });
}

/// The words of a line that calls the program, its name first. Variables in front are not among them, nor a comment, a pipe or a redirection behind.
pub(crate) fn command(line: &str) -> Option<Vec<String>> {
    let line = line.trim_start();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let words = words(line);
    let first = words.iter().position(|word| !(word.starts_with("CONVPIPE_") && word.contains('=')))?;
    let name = &words[first];
    if name != "convpipe" && !name.ends_with("/convpipe") {
        return None;
    }
    let end = |word: &&String| !matches!(word.as_str(), "|" | ">" | ">>" | "&" | "&&" | ";" | "#");
    Some(words[first..].iter().take_while(end).cloned().collect())
}

/// Words as a shell has them, as far as the documentation needs it: quotes, and a comment that ends the line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            (_, c) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// What is wrong with a command line; help is a right one.
pub(crate) fn why_not(words: &[String]) -> Option<String> {
    let error = Cli::command().try_get_matches_from(words).err().filter(clap::Error::use_stderr)?;
    Some(format!("{}: {}", words.join(" "), error.to_string().lines().next().unwrap_or_default()))
}

#[test]
fn lines_are_read_as_commands() {
    for (line, expected) in [
        ("convpipe config check", Some("config,check")),
        ("$ target/release/convpipe schema event | less", Some("schema,event")),
        ("CONVPIPE_HIGH_VALUE_LISTS='[a, b]' convpipe config print  # a comment", Some("config,print")),
        ("redis-cli get convpipe:epoch", None),
        ("convpipe is live", Some("is,live")),
    ] {
        assert_eq!(command(line).map(|words| words[1..].join(",")).as_deref(), expected, "{line}");
    }
    assert!(why_not(&words("convpipe is live")).is_some() && why_not(&words("convpipe replay - --no-such-flag")).is_some());
    assert!(why_not(&words("convpipe --help")).is_none());
}

#[test]
fn config_keys_and_variables_exist() {
    let keys: Vec<&str> = environment_names().values().map(String::as_str).collect();
    let sections: Vec<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    // A key, a section, or a key of one account.
    let exists = |name: &str| {
        let inside = format!("{name}.");
        name.starts_with("accounts.") || keys.iter().any(|key| *key == name || key.starts_with(&inside))
    };
    let looks_like_a_key = |span: &str| {
        let is_file = [".rs", ".md", ".db", ".log", ".acl"].iter().any(|ending| span.ends_with(ending));
        let is_name = span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'));
        is_name && !is_file && span.split_once('.').is_some_and(|(section, key)| sections.contains(&section) && !key.is_empty())
    };
    check(&pages(), |page| {
        let spans = page.spans().filter(|(_, span)| looks_like_a_key(span) && !exists(span));
        let keys = spans.map(|(number, span)| (number, format!("there is no key {span}")));
        let words = page
            .lines()
            .flat_map(|(number, line, _)| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(move |word| (number, word)));
        let is_key = |word: &str| {
            word.strip_prefix("CONVPIPE_").is_some_and(|rest| !rest.is_empty() && rest != "CONFIG" && !rest.starts_with("TEST_"))
        };
        let named = words.filter(|(_, word)| is_key(word));
        let unknown = named.filter(|(_, word)| !environment_names().contains_key(*word));
        keys.chain(unknown.map(|(number, word)| (number, format!("there is no variable {word}")))).collect()
    });
}

#[test]
fn the_page_of_the_config_has_every_key_with_its_default() {
    let page = Page::read("docs/config.md");
    let defaults = serde_yaml::to_value(Config::default()).unwrap();
    let mut problems = Vec::new();
    for key in environment_names().values() {
        let Some(row) = page.text.lines().find(|line| line.starts_with(&format!("| `{key}` |"))) else {
            problems.push(format!("{key} has no row"));
            continue;
        };
        let value = key.split('.').fold(&defaults, |value, key| &value[key]);
        // Lists are told in words; the file of `config default` has them.
        if value.as_sequence().is_some_and(|list| !list.is_empty()) {
            continue;
        }
        let written = serde_json::to_string(value).unwrap();
        let written = written.trim_matches('"');
        if row.split('|').nth(2).map(str::trim) != Some(&format!("`{written}`")) {
            problems.push(format!("{key} is {written} by default: {row}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_page_of_the_events_has_every_kind_and_every_reason() {
    let page = Page::read("docs/events.md");
    for kind in EventKind::ALL {
        let row = format!("| `{}` | {} |", kind.name(), kind.class().name());
        assert!(page.text.contains(&row), "no row begins with {row}");
    }
    for reason in Reason::ALL {
        assert!(page.spans().any(|(_, span)| span == reason.name()), "{reason} is not there");
    }
}

#[test]
fn named_files_and_tests_exist() {
    const FOLDERS: [&str; 9] = ["src/", "tests/", "docs/", "deploy/", "scripts/", "fixtures/", "fuzz/", "benches/", "man/"];
    check(&pages(), |page| {
        let spans = page.spans().filter(|(_, span)| FOLDERS.iter().any(|folder| span.starts_with(folder)));
        let missing = spans.filter_map(|(number, span)| {
            let (path, test) = span.split_once("::").map_or((span, None), |(path, test)| (path, Some(test)));
            let path = path.split(' ').next().unwrap_or_default();
            let Some(test) = test else { return (!root().join(path).exists()).then(|| (number, format!("{path} does not exist"))) };
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            (!text.contains(&format!("fn {test}("))).then(|| (number, format!("{path} has no test {test}")))
        });
        missing.collect()
    });
}

#[test]
fn the_readme_asks_for_the_toolchain_of_the_manifest() {
    let wanted = format!("Rust {}", env!("CARGO_PKG_RUST_VERSION"));
    assert!(Page::read("README.md").text.contains(&wanted), "README.md does not say {wanted}");
}
