//! The layers laid over each other: one tree of what was said, with the origin of each value, and every problem found on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::auth::BareName;
use super::known::{self, Known, Shape, join};
use super::policy::SECRET_FILES;
use super::yaml::{Content, Entry, Node, Place};
use super::{Config, Origin, Problem, ProblemKind};

/// Most problems told at once; more are noise.
pub(super) const PROBLEMS_MAX: usize = 20;

/// What was said so far. Later layers win: lists and scalars are replaced, sections are merged key by key.
#[derive(Debug, Default)]
pub(super) struct Layers {
    tree: Mapping,
    /// Path of each key that holds a value, and who set it.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Place of each value, items of lists included.
    places: BTreeMap<String, Origin>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
}

/// Who speaks in a layer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaker<'a> {
    File(&'a Path),
    Env(&'a str),
    Flag(&'a str),
}

impl Speaker<'_> {
    pub(super) fn at(self, place: Option<Place>) -> Origin {
        match self {
            Self::File(path) => {
                let Place { line, column } = place.unwrap_or(Place { line: 1, column: 1 });
                Origin::File { path: path.to_owned(), line, column }
            }
            Self::Env(name) => Origin::Env(name.to_owned()),
            Self::Flag(name) => Origin::Flag(name.to_owned()),
        }
    }
}

impl Layers {
    /// Lays a file's document over what was said.
    pub(super) fn file(&mut self, path: &Path, document: &Node) {
        let speaker = Speaker::File(path);
        match &document.content {
            Content::Map(entries) => {
                let mut tree = std::mem::take(&mut self.tree);
                self.section(speaker, known::root(), "", entries, &mut tree);
                self.tree = tree;
            }
            Content::Scalar(Value::Null) => {}
            _ => self.problem(speaker.at(document.place), ProblemKind::Syntax("a config is a map of keys".to_owned())),
        }
    }

    /// Sets one key, as a variable or a flag does. `path` has no free keys in it and names a value, not a section.
    pub(super) fn value(&mut self, speaker: Speaker<'_>, path: &str, value: Node) {
        let Some(known) = known::at(path) else { return };
        // Free keys are replaced as a whole: a variable that said half of the accounts would leave the other half to a file.
        let inside = format!("{path}.");
        self.origins.retain(|leaf, _| !leaf.starts_with(&inside));
        self.places.retain(|leaf, _| !leaf.starts_with(&inside));
        let mut tree = std::mem::take(&mut self.tree);
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut section = &mut tree;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            section = subsection(section, parent);
        }
        section.remove(key);
        self.entry(speaker, known, path, &Entry { key: key.to_owned(), place: None, value }, section);
        self.tree = tree;
    }

    fn section(&mut self, speaker: Speaker<'_>, known: &Known, path: &str, entries: &[Entry], into: &mut Mapping) {
        let mut seen = BTreeSet::new();
        for entry in entries {
            let key = join(path, &entry.key);
            match known.child(&entry.key) {
                None => {
                    let nearest = known::nearest_key(known, path, &entry.key);
                    self.problem(speaker.at(entry.place), ProblemKind::UnknownKey { key, nearest });
                }
                Some(_) if !seen.insert(&entry.key) => self.problem(speaker.at(entry.place), ProblemKind::DuplicateKey { key }),
                Some(child) => self.entry(speaker, child, &key, entry, into),
            }
        }
    }

    fn entry(&mut self, speaker: Speaker<'_>, known: &Known, path: &str, entry: &Entry, into: &mut Mapping) {
        let Entry { key, place, value: node } = entry;
        match (&known.shape, &node.content) {
            (Shape::Section(_) | Shape::Each(_), Content::Map(entries)) => {
                self.section(speaker, known, path, entries, subsection(into, key));
            }
            // A section of which every key is commented out.
            (Shape::Section(_) | Shape::Each(_), Content::Scalar(Value::Null)) => {}
            (Shape::Section(_) | Shape::Each(_), _) => {
                let message = "keys stand under this one; it has no value of its own".to_owned();
                self.problem(speaker.at(node.place.or(*place)), ProblemKind::Value { key: path.to_owned(), message });
            }
            _ => {
                self.origins.insert(path.to_owned(), speaker.at(place.or(node.place)));
                let value = self.plain(speaker, known, path, *place, node);
                into.insert(key.as_str().into(), value);
            }
        }
    }

    /// A value without its places, which are noted; keys inside list items are checked.
    fn plain(&mut self, speaker: Speaker<'_>, known: &Known, path: &str, place: Option<Place>, node: &Node) -> Value {
        let place = node.place.or(place);
        self.places.insert(path.to_owned(), speaker.at(place));
        match &node.content {
            // `fans: [100000001]` is what people write, and an id is a text.
            Content::Scalar(Value::Number(number)) if known.shape == Shape::Text && !number.is_f64() => Value::String(number.to_string()),
            Content::Scalar(value) => value.clone(),
            Content::List(items) => {
                let any = Known::default();
                let item = if let Shape::List(item) = &known.shape { item } else { &any };
                let items = items.iter().enumerate();
                Value::Sequence(items.map(|(at, node)| self.plain(speaker, item, &format!("{path}[{at}]"), place, node)).collect())
            }
            Content::Map(entries) => {
                let mut map = Mapping::new();
                if let Shape::Section(_) = known.shape {
                    self.section(speaker, known, path, entries, &mut map);
                } else {
                    let message = "expected a value, found keys".to_owned();
                    self.problem(speaker.at(place), ProblemKind::Value { key: path.to_owned(), message });
                }
                Value::Mapping(map)
            }
        }
    }

    /// What an account does not say of a section that all have is as for all.
    pub(super) fn inherit(&mut self) {
        let mut accounts = std::mem::take(subsection(&mut self.tree, "accounts"));
        for (account, sections) in &mut accounts {
            let (Some(account), Value::Mapping(sections)) = (account.as_str(), sections) else { continue };
            let account = join("accounts", account);
            for (name, base) in [("high_value", "high_value"), ("due", "priority.due")] {
                let Some(Value::Mapping(own)) = sections.get_mut(name) else { continue };
                let said = base.split('.').try_fold(&self.tree, |tree, key| tree.get(key).and_then(Value::as_mapping));
                for (key, value) in said.into_iter().flatten() {
                    let Some(key_name) = key.as_str().filter(|_| !own.contains_key(key)) else { continue };
                    own.insert(key.clone(), value.clone());
                    if let Some(origin) = self.origins.get(&join(base, key_name)).cloned() {
                        self.origins.insert(join(&join(&account, name), key_name), origin);
                    }
                }
            }
        }
        subsection(&mut self.tree, "accounts").extend(accounts);
    }

    /// The typed config. A value of the wrong type is noted, taken out and left to its default, so that one run finds them all.
    pub(super) fn typed(&mut self) -> Config {
        for _ in 0..PROBLEMS_MAX {
            let error = match serde_path_to_error::deserialize(Value::Mapping(self.tree.clone())) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let mut keys = Vec::new();
            let key = error.path().iter().fold(String::new(), |path, segment| match segment {
                serde_path_to_error::Segment::Map { key } => {
                    keys.push(key.clone());
                    join(&path, key)
                }
                serde_path_to_error::Segment::Seq { index } => format!("{path}[{index}]"),
                _ => path,
            });
            let message = plain_words(&error.inner().to_string());
            let origin = self.nearest_place(&key);
            // A value that an account inherited has no place of its own, and was told where it stands.
            if origin != Origin::Default || self.problems.is_empty() {
                self.problem(origin, ProblemKind::Value { key, message });
            }
            if !remove(&mut self.tree, &keys) {
                break;
            }
        }
        Config::default()
    }

    /// Where the value of a path stands, or of a section its first value, or the closest one around it.
    pub(super) fn nearest_place(&self, path: &str) -> Origin {
        let inside = format!("{path}.");
        let within = || self.places.range(inside.clone()..).next().filter(|(key, _)| key.starts_with(&inside));
        if let Some(origin) = self.places.get(path).or_else(|| within().map(|(_, origin)| origin)) {
            return origin.clone();
        }
        let mut path = path;
        loop {
            if let Some(origin) = self.places.get(path) {
                return origin.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Origin::Default,
            }
        }
    }

    pub(super) fn problem(&mut self, origin: Origin, kind: ProblemKind) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { origin, kind });
        }
    }
}

/// The bare name of a secret file, made that file in `credentials` where there is one; other relative paths that a file says, made relative to the
/// file's folder.
pub(super) fn resolve_paths(config: &mut Config, origins: &BTreeMap<String, Origin>, credentials: Option<&Path>) {
    let named = |key: &'static str| if SECRET_FILES.contains(&key) { BareName::Secret } else { BareName::File };
    for (key, path) in config.paths_mut() {
        resolve(path, named(key), origins.get(key), credentials);
    }
    for (key, path, bare) in config.provider_paths_mut() {
        resolve(path, bare, origins.get(&key), credentials);
    }
}

fn resolve(path: &mut PathBuf, bare: BareName, origin: Option<&Origin>, credentials: Option<&Path>) {
    let is_bare = |meant| bare == meant && path.file_name() == Some(path.as_os_str());
    if is_bare(BareName::Program) {
        return;
    }
    let credential = credentials.filter(|_| is_bare(BareName::Secret)).map(|folder| folder.join(&*path));
    // Whatever lies there is meant: where it cannot be used, its reader says so, instead of another file being taken in silence.
    if let Some(credential) = credential.filter(|credential| credential.symlink_metadata().is_ok()) {
        *path = credential;
    } else if let Some(Origin::File { path: file, .. }) = origin
        && let Some(folder) = file.parent()
    {
        *path = folder.join(&*path);
    }
}

fn subsection<'a>(tree: &'a mut Mapping, key: &str) -> &'a mut Mapping {
    let section = tree.entry(key.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
    if !section.is_mapping() {
        *section = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(section) = section else { unreachable!("a mapping was put here in the line above") };
    section
}

/// Takes the innermost value on the way along `keys` out of the tree. Keys inside list items take the list.
fn remove(tree: &mut Mapping, keys: &[String]) -> bool {
    let Some((key, rest)) = keys.split_first() else { return false };
    if let (Some(Value::Mapping(section)), false) = (tree.get_mut(key.as_str()), rest.is_empty())
        && remove(section, rest)
    {
        return true;
    }
    tree.remove(key.as_str()).is_some()
}

/// What serde says, with Rust's type names in words.
fn plain_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let expected = match expected {
        "u64" | "u32" | "usize" => "a whole number from 0",
        "i64" => "a whole number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{found}expected {expected}")
}
