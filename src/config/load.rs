//! Finding the file and putting the layers together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::known::{self, Known, Shape, join};
use super::layers::{Layers, Speaker, resolve_paths};
use super::yaml::{self, Content, Node};
use super::{Config, ConfigError, Environment, Origin, ProblemKind, validate};

/// Largest config file, bytes: room for thousands of accounts.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// Where a config is looked for.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The file that `--config` names; it has to exist.
    pub file: Option<&'a Path>,
    /// The environment.
    pub environment: &'a Environment,
    /// What flags say of single keys; of two for the same key the later wins.
    pub overrides: &'a [Override],
    /// The folder in which `convpipe.yaml` and `.convpipe/convpipe.yaml` are looked for; empty for the current one.
    pub directory: &'a Path,
    /// The folder of the machine's config.
    pub system: &'a Path,
}

impl<'a> Sources<'a> {
    /// The places that the documentation names.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Self { file: None, environment, overrides: &[], directory: Path::new(""), system: Path::new("/etc/convpipe") }
    }
}

/// A flag that stands for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The key: `log.filter`. A path that is no key would be our own mistake, and panics in debug builds.
    pub key: &'static str,
    /// The flag, as the origin names it: `--log`.
    pub flag: &'static str,
    /// The value, as in an environment variable.
    pub value: String,
}

/// A config that was loaded, with where it comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The origin of every value, by path: `redis.timeout_ms`. A list is one value; so is each key of an account.
    pub origins: BTreeMap<String, Origin>,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
}

/// Loads the config: flag over environment over file over default.
///
/// # Errors
/// [`ConfigError::Read`] where a file that was named or found cannot be read, [`ConfigError::Invalid`] with every problem found.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    let file = find(sources)?;
    if let Some((path, text)) = &file {
        match yaml::read(text) {
            Ok(document) => layers.file(path, &document),
            Err(error) => layers.problem(Speaker::File(path).at(error.place), ProblemKind::Syntax(error.message)),
        }
    }
    environment(sources.environment, &mut layers);
    for Override { key, flag, value } in sources.overrides {
        say(&mut layers, Speaker::Flag(flag), key, value);
    }
    layers.inherit();
    let mut config = layers.typed();
    let mut origins = std::mem::take(&mut layers.origins);
    if layers.problems.is_empty() {
        for violation in validate::violations(&config) {
            let is_set = |(key, _): &(String, String)| layers.nearest_place(key) != Origin::Default;
            let (key, message) = match violation.other.filter(is_set) {
                Some(other) if !is_set(&violation.told) => other,
                _ => violation.told,
            };
            layers.problem(layers.nearest_place(&key), ProblemKind::Value { key, message });
        }
    }
    if !layers.problems.is_empty() {
        layers.problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (0, line, column),
            Origin::Env(_) => (1, 0, 0),
            Origin::Flag(_) | Origin::Default => (2, 0, 0),
        });
        return Err(ConfigError::Invalid(layers.problems));
    }
    resolve_paths(&mut config, &origins, sources.environment.path("CREDENTIALS_DIRECTORY").as_deref());
    let mut defaults = Vec::new();
    leaves(&serde_yaml::to_value(&config).unwrap_or_default(), known::root(), "", &mut defaults);
    for path in defaults {
        origins.entry(path).or_insert(Origin::Default);
    }
    Ok(Loaded { config, origins, file: file.map(|(path, _)| path) })
}

/// The paths of all values that a config holds.
fn leaves(value: &serde_yaml::Value, known: &Known, path: &str, found: &mut Vec<String>) {
    match (&known.shape, value) {
        (Shape::Section(_) | Shape::Each(_), serde_yaml::Value::Mapping(map)) => {
            for (key, value) in map {
                if let Some((key, child)) = key.as_str().and_then(|key| Some((key, known.child(key)?))) {
                    leaves(value, child, &join(path, key), found);
                }
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Variables of other people's tools that set a key of ours, as those tools' own documentation says.
const FOREIGN_VARIABLES: [(&str, &str); 2] =
    [("PUBSUB_EMULATOR_HOST", "bus.google.emulator"), ("FIRESTORE_EMULATOR_HOST", "documents.firestore.emulator")];

/// The variables. One that begins with `CONVPIPE_` and is none of ours is a misspelt one, and says nothing where it should.
fn environment(environment: &Environment, layers: &mut Layers) {
    for (name, key) in FOREIGN_VARIABLES {
        if let Some(value) = environment.get(name) {
            say(layers, Speaker::Env(name), key, value);
        }
    }
    for (name, value) in environment.with_prefix("CONVPIPE_") {
        if name == "CONVPIPE_CONFIG" || name.starts_with("CONVPIPE_TEST_") {
            continue;
        }
        let speaker = Speaker::Env(name);
        match (known::environment_names().get(name), value.to_str()) {
            (None, _) => layers.problem(speaker.at(None), ProblemKind::UnknownVariable { nearest: known::nearest_variable(name) }),
            (Some(key), Some(value)) => say(layers, speaker, key, value),
            (Some(key), None) => {
                layers.problem(speaker.at(None), ProblemKind::Value { key: key.clone(), message: "not UTF-8".to_owned() });
            }
        }
    }
}

/// Sets one key from the text of a variable or a flag: a text as it stands there (`null` or `~` for none, where none is possible),
/// anything else as YAML.
fn say(layers: &mut Layers, speaker: Speaker<'_>, key: &str, value: &str) {
    let Some(known) = known::at(key) else {
        debug_assert!(false, "{key} is no key of the config");
        return;
    };
    let is_none = known.nullable && matches!(value, "null" | "~");
    if known.shape == Shape::Text && !is_none {
        let content = Content::Scalar(serde_yaml::Value::String(value.to_owned()));
        return layers.value(speaker, key, Node { content, place: None });
    }
    match yaml::read(value) {
        Ok(node) => layers.value(speaker, key, node),
        Err(error) => layers.problem(speaker.at(None), ProblemKind::Value { key: key.to_owned(), message: error.message }),
    }
}

/// The file: the one that was named, else the first that exists.
fn find(sources: &Sources<'_>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = sources.file.map(Path::to_owned).or_else(|| sources.environment.path("CONVPIPE_CONFIG"));
    if let Some(path) = named {
        return match read(&path) {
            Ok(text) => Ok(Some((path, text?))),
            Err(source) => Err(ConfigError::Read { path, source }),
        };
    }
    // The XDG base directory specification: unset means `$HOME/.config`, and a relative path is to be ignored.
    let own = sources.environment.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let own = own.or_else(|| sources.environment.path("HOME").map(|home| home.join(".config")));
    let candidates = [
        Some(sources.directory.join("convpipe.yaml")),
        Some(sources.directory.join(".convpipe").join("convpipe.yaml")),
        own.map(|folder| folder.join("convpipe").join("convpipe.yaml")),
        Some(sources.system.join("convpipe.yaml")),
    ];
    for path in candidates.into_iter().flatten() {
        match read(&path) {
            Ok(text) => return Ok(Some((path, text?))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(ConfigError::Read { path, source }),
        }
    }
    Ok(None)
}

/// The outer error is that of the file system, so that the caller can tell a missing file.
fn read(path: &Path) -> io::Result<Result<String, ConfigError>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Ok(Err(ConfigError::TooLarge { path: path.to_owned(), max: FILE_SIZE_MAX }));
    }
    String::from_utf8(bytes).map(Ok).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}
