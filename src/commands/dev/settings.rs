//! The config of a `dev`: what the user's own file says, with the stores and the folder of this `dev` on top.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::folder::{Folder, HEADER};
use super::redis::RedisAccess;
use crate::commands::{CommandError, Context, Exit};
use crate::config::{self, Config, Environment, Override, RedisConfig, Sources};
use crate::runtime::clock;

/// The file whose config is taken: the one that is named, else `./convpipe.yaml`. Those of the user and of the machine are for services, and what
/// an earlier `dev` wrote into `dir` is nobody's wish.
///
/// # Errors
/// Where the file cannot be used, as every command says it.
pub(super) fn base(context: &Context, dir: &Path) -> Result<Option<PathBuf>, CommandError> {
    let named = context.globals().config.clone().or_else(|| context.environment().path("CONVPIPE_CONFIG"));
    let here = || Some(PathBuf::from("convpipe.yaml")).filter(|file| file.exists());
    let Some(file) = named.or_else(here) else { return Ok(None) };
    if file.canonicalize().is_ok_and(|file| dir.join("convpipe.yaml").canonicalize().is_ok_and(|own| own == file)) {
        return Ok(None);
    }
    context.config_from(&file, Vec::new())?;
    Ok(Some(file))
}

/// Writes the config that the other commands find, and loads it. What `dev` says itself wins over the environment too.
///
/// # Errors
/// Where the folder cannot be written, or the base has become unusable.
pub(super) fn write(
    context: &Context,
    folder: &Folder,
    redis: &RedisAccess,
    addresses: &[(&'static str, SocketAddr)],
    emulators: Option<&Emulators>,
    base: Option<&Path>,
) -> Result<Config, CommandError> {
    let mut own = own(folder, redis, emulators);
    own.push(Override { key: "health.auth_refresh", flag: "dev", value: "off".to_owned() });
    own.extend(addresses.iter().map(|(key, address)| Override { key, flag: "dev", value: address.to_string() }));
    let mut text = format!("{HEADER}\n");
    match base {
        Some(base) => {
            // Absolute, so that the paths in it stay what they are in another folder.
            let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
            let nothing = Environment::default();
            let loaded = config::load(&Sources { file: Some(&base), overrides: &own, ..Sources::new(&nothing) })?;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# All of it from {:?}, but for the stores.", base.display().to_string());
            text += &config::render(&loaded, false);
        }
        None => {
            text += "# `convpipe config default` has every key with its meaning.\n";
            text += &nested(&own);
            // A list that the recorded fans stand on, so that high-value streams have something in them from the start.
            text += "high_value:\n  lists: [\"880001\"]\n";
        }
    }
    folder.write("convpipe.yaml", text.as_bytes())?;
    Ok(context.config_from(&folder.config_file(), own)?.config)
}

/// Google's emulators, and the project in them.
pub(super) struct Emulators {
    pubsub: String,
    firestore: String,
    project: String,
}

impl Emulators {
    /// Those that the two variables name, as Google's own clients read them. A project of its own for every run, so that it begins anew; with `keep`
    /// always the same.
    ///
    /// # Errors
    /// Where a variable is not set.
    pub(super) fn find(environment: &Environment, keep: bool) -> Result<Self, CommandError> {
        let host = |name: &str| {
            let missing = || CommandError::new(Exit::Usage, format!("--google-emulators needs {name}"));
            environment.get(name).map(str::to_owned).ok_or_else(|| missing().hint("scripts/dev --google-emulators starts both and sets it"))
        };
        let project = if keep { "convpipe-dev".to_owned() } else { format!("convpipe-dev-{}", clock::now().0 / 1000) };
        Ok(Self { pubsub: host("PUBSUB_EMULATOR_HOST")?, firestore: host("FIRESTORE_EMULATOR_HOST")?, project })
    }
}

/// What is `dev`'s own, whatever a file or a variable says.
fn own(folder: &Folder, redis: &RedisAccess, emulators: Option<&Emulators>) -> Vec<Override> {
    let set = |key, value: &str| Override { key, flag: "dev", value: value.to_owned() };
    let at = |key, name: &str| set(key, &folder.dir().join(name).display().to_string());
    let mut own = match emulators {
        Some(Emulators { pubsub, firestore, project }) => vec![
            set("bus.backend", "google"),
            set("bus.google.project", project),
            set("bus.google.emulator", pubsub),
            set("documents.backend", "firestore"),
            set("documents.firestore.project", project),
            set("documents.firestore.emulator", firestore),
        ],
        None => vec![
            set("bus.backend", "embedded"),
            at("bus.embedded.dir", "bus"),
            set("documents.backend", "embedded"),
            at("documents.embedded.path", "documents.db"),
        ],
    };
    own.extend([at("auth.dir", "auth"), at("ingest.state_dir", "ingest"), set("redis.url", &redis.url)]);
    let users = [("redis.user", "redis.password_file", &redis.writer), ("redis.reader_user", "redis.reader_password_file", &redis.reader)];
    for (user_key, file_key, user) in users {
        let (user, file) = user.as_ref().map_or(("null", "null".to_owned()), |(user, file)| (user, file.display().to_string()));
        own.extend([set(user_key, user), set(file_key, &file)]);
    }
    if redis.writer.is_some() {
        // The users of the private Redis have rights below this prefix alone.
        own.push(set("redis.prefix", &RedisConfig::default().prefix));
    }
    own
}

/// The keys as YAML. Those of one section follow each other.
fn nested(own: &[Override]) -> String {
    let (mut text, mut open): (String, Vec<&str>) = (String::new(), Vec::new());
    for Override { key, value, .. } in own {
        let mut sections: Vec<&str> = key.split('.').collect();
        let leaf = sections.pop().unwrap_or_default();
        let same = open.iter().zip(&sections).take_while(|(open, section)| open == section).count();
        for (depth, section) in sections.iter().enumerate().skip(same) {
            let _ = writeln!(text, "{:1$}{section}:", "", 2 * depth);
        }
        let value = if value == "null" { value.clone() } else { serde_json::Value::from(value.as_str()).to_string() };
        let _ = writeln!(text, "{:1$}{leaf}: {value}", "", 2 * sections.len());
        open = sections;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_nested_as_the_config_reads_them() {
        let own = [("bus.backend", "embedded"), ("bus.embedded.dir", "/a b/bus"), ("auth.dir", "a"), ("redis.user", "null")];
        let own = own.map(|(key, value)| Override { key, flag: "dev", value: value.to_owned() });
        let expected = "bus:\n  backend: \"embedded\"\n  embedded:\n    dir: \"/a b/bus\"\nauth:\n  dir: \"a\"\nredis:\n  user: null\n";
        assert_eq!(nested(&own), expected);
        let config: Config = serde_yaml::from_str(expected).unwrap();
        assert_eq!((config.bus.embedded.dir.to_str(), config.redis.user), (Some("/a b/bus"), None));
    }
}
