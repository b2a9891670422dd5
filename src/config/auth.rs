//! How `auth-refresh` obtains artifacts: its sections of the config, and what in them cannot be.
//!
//! No key here holds a secret: headers that do are named by files. Messages do not repeat a URL, in which one may have been put by mistake.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::Config;
use super::known::join;

/// When artifacts are renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshConfig {
    /// Provider of every account that names none of its own.
    pub provider: Option<String>,
    /// An artifact is renewed when less than this part of its life is left, percent.
    pub min_ttl_percent: u64,
    /// The same as a length of time, instead of the percentage, seconds; at most half of the life counts.
    pub min_ttl_s: Option<u64>,
    /// Life of an artifact that does not state it, seconds.
    pub life_s: u64,
    /// How much later than that an account may have its turn, percent of the time that is left then, so that not all come at once.
    pub jitter_percent: u64,
    /// Most accounts whose provider is asked at once.
    pub concurrency_max: usize,
    /// Shortest wait after a provider failed, milliseconds; doubles with every failure, with full jitter.
    pub backoff_min_ms: u64,
    /// Longest wait after a provider failed, milliseconds.
    pub backoff_max_ms: u64,
    /// Largest answer of a provider, bytes.
    pub answer_max_bytes: usize,
    /// How long a stop waits for providers that are being asked, seconds.
    pub drain_timeout_s: u64,
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self {
            provider: None,
            min_ttl_percent: 25,
            min_ttl_s: None,
            life_s: 86_400,
            jitter_percent: 20,
            concurrency_max: 4,
            backoff_min_ms: 5_000,
            backoff_max_ms: 600_000,
            answer_max_bytes: 64 << 10,
            drain_timeout_s: 10,
        }
    }
}

/// Where artifacts come from: a command or an HTTP endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// A program that writes the artifact to its standard output.
    pub command: Option<CommandConfig>,
    /// An HTTP endpoint that answers with the artifact.
    pub http: Option<HttpConfig>,
}

/// A program that writes the artifact to its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommandConfig {
    /// The program; a bare name is looked for in PATH. No shell is involved.
    pub program: PathBuf,
    /// Its arguments; `{account}` and `{reason}` in them are replaced.
    pub args: Vec<String>,
    /// How long it may take, milliseconds; then it is killed with all that it started.
    pub timeout_ms: u64,
}

impl Default for CommandConfig {
    fn default() -> Self {
        Self { program: PathBuf::new(), args: Vec::new(), timeout_ms: 60_000 }
    }
}

/// An HTTP endpoint that answers with the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// The endpoint, https, or http on this machine's loopback; `{account}` and `{reason}` are replaced. No secret here.
    pub url: String,
    /// `GET` or `POST`.
    pub method: HttpMethod,
    /// By name of a header, the file with its value, mode 0600.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The JSON text to post; `{account}` and `{reason}` are replaced. No secret here.
    pub body: Option<String>,
    /// By field of the artifact, the JSON pointer to it in the answer; none: the answer is the artifact.
    pub fields: BTreeMap<String, String>,
    /// Certificates (PEM) to trust instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// How long the whole answer may take, milliseconds.
    pub timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            method: HttpMethod::default(),
            header_files: BTreeMap::new(),
            body: None,
            fields: BTreeMap::new(),
            ca_file: None,
            timeout_ms: 30_000,
        }
    }
}

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Without a body.
    #[default]
    Get,
    /// With one.
    Post,
}

/// Fields of an artifact that an endpoint's answer can be pointed to for.
pub const ARTIFACT_FIELDS: [&str; 9] =
    ["account_id", "ws_url", "token", "expires_at", "origin", "user_agent", "headers", "prepared_at", "status"];

/// What is replaced in arguments, URLs and bodies.
pub const PLACEHOLDERS: [&str; 2] = ["{account}", "{reason}"];

/// Each argument costs memory of the system's, which has a limit.
const ARGS_MAX: usize = 100;
/// Each is a task and perhaps a process.
const CONCURRENCY_MAX: usize = 256;
/// Artifacts may not be larger, whatever a provider may answer.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Headers that belong to the connection or are written by the client itself.
const OUR_HEADERS: [&str; 7] = ["host", "connection", "content-length", "content-type", "transfer-encoding", "accept", "user-agent"];

impl Config {
    /// The provider of an account: its own, else that of all. `None` where it has none.
    #[must_use]
    pub fn provider_of(&self, account: &str) -> Option<&str> {
        let own = self.accounts.get(account).and_then(|own| own.auth_provider.as_deref());
        own.or(self.auth.refresh.provider.as_deref())
    }

    /// The paths among the providers: key, path, what a bare name means there.
    pub(super) fn provider_paths_mut(&mut self) -> Vec<(String, &mut PathBuf, BareName)> {
        let mut paths = Vec::new();
        for (name, provider) in &mut self.auth.providers {
            let key = join("auth.providers", name);
            if let Some(command) = &mut provider.command {
                paths.push((format!("{key}.command.program"), &mut command.program, BareName::Program));
            }
            if let Some(http) = &mut provider.http {
                let files = &mut http.header_files;
                paths.extend(
                    files.iter_mut().map(|(header, file)| (join(&format!("{key}.http.header_files"), header), file, BareName::Secret)),
                );
                paths.extend(http.ca_file.iter_mut().map(|file| (format!("{key}.http.ca_file"), file, BareName::File)));
            }
        }
        paths
    }
}

/// What a path without a slash means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BareName {
    /// A file beside the config.
    File,
    /// The same, unless `$CREDENTIALS_DIRECTORY` has one of that name.
    Secret,
    /// A program, to be found on the `PATH`.
    Program,
}

/// What is wrong, by key.
pub(super) fn violations(config: &Config) -> Vec<(String, String)> {
    let mut found = Found(Vec::new());
    let refresh = &config.auth.refresh;
    found.require((1..=90).contains(&refresh.min_ttl_percent), "auth.refresh.min_ttl_percent", "is 1 to 90");
    found.require(refresh.jitter_percent <= 100, "auth.refresh.jitter_percent", "is 0 to 100");
    let concurrency = format!("cannot be more than {CONCURRENCY_MAX}");
    found.require(refresh.concurrency_max <= CONCURRENCY_MAX, "auth.refresh.concurrency_max", &concurrency);
    let answer = format!("cannot be more than {ANSWER_MAX_BYTES}, the largest artifact");
    found.require(refresh.answer_max_bytes <= ANSWER_MAX_BYTES, "auth.refresh.answer_max_bytes", &answer);
    for (name, provider) in &config.auth.providers {
        found.provider(&join("auth.providers", name), name, provider);
    }
    if let Some(name) = &refresh.provider {
        found.known(config, "auth.refresh.provider", name);
    }
    for (account, own) in &config.accounts {
        let path = join("accounts", account);
        if let Some(name) = &own.auth_provider {
            found.known(config, &format!("{path}.auth_provider"), name);
        }
        if config.provider_of(account).is_some() {
            found.require(is_name(account), &path, "has an artifact, so its id is 1 to 64 of A-Z a-z 0-9 _ -");
        }
    }
    found.0
}

struct Found(Vec<(String, String)>);

impl Found {
    fn require(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.0.push((key.to_owned(), message.to_owned()));
        }
    }

    /// The provider that `key` names has to be there.
    fn known(&mut self, config: &Config, key: &str, name: &str) {
        let providers = &config.auth.providers;
        let nearest = providers.keys().min_by_key(|known| strsim::damerau_levenshtein(known, &name.chars().take(64).collect::<String>()));
        let message = match nearest {
            Some(nearest) => format!("there is no {name:?} in auth.providers; the nearest is {nearest}"),
            None => format!("there is no {name:?} in auth.providers, which is empty"),
        };
        self.require(providers.contains_key(name), key, &message);
    }

    fn provider(&mut self, key: &str, name: &str, provider: &ProviderConfig) {
        self.require(is_name(name), key, "the name of a provider is 1 to 64 of A-Z a-z 0-9 _ -");
        let one = provider.command.is_some() != provider.http.is_some();
        self.require(one, key, "is either a command or http");
        if let Some(command) = &provider.command {
            self.command(&format!("{key}.command"), command);
        }
        if let Some(http) = &provider.http {
            self.http(&format!("{key}.http"), http);
        }
    }

    fn command(&mut self, key: &str, command: &CommandConfig) {
        self.require(!command.program.as_os_str().is_empty(), &format!("{key}.program"), "names no program");
        let key = format!("{key}.args");
        self.require(command.args.len() <= ARGS_MAX, &key, &format!("are more than {ARGS_MAX}"));
        self.require(command.args.iter().all(|arg| !arg.contains('\0')), &key, "hold a NUL character");
        command.args.iter().for_each(|arg| self.placeholders(&key, arg));
    }

    fn http(&mut self, key: &str, http: &HttpConfig) {
        let url = format!("{key}.url");
        self.placeholders(&url, &http.url);
        match endpoint(&http.url) {
            Ok(()) => {}
            Err(why) => self.require(false, &url, why),
        }
        for header in http.header_files.keys() {
            let key = join(&format!("{key}.header_files"), header);
            self.require(is_header(header), &key, "is no name of a header");
            let ours = OUR_HEADERS.contains(&header.to_ascii_lowercase().as_str());
            self.require(!ours, &key, "is a header that convpipe itself sends");
        }
        if let Some(body) = &http.body {
            let key = format!("{key}.body");
            self.require(http.method == HttpMethod::Post, &key, "goes with method POST alone");
            self.placeholders(&key, body);
        }
        self.fields(&format!("{key}.fields"), &http.fields);
    }

    fn fields(&mut self, key: &str, fields: &BTreeMap<String, String>) {
        for (field, pointer) in fields {
            let key = join(key, field);
            let known = ARTIFACT_FIELDS.join(", ");
            self.require(ARTIFACT_FIELDS.contains(&field.as_str()), &key, &format!("is no field that can be pointed to: {known}"));
            self.require(pointer.starts_with('/'), &key, "is a JSON pointer, which begins with a slash");
        }
        for field in ["ws_url", "token"] {
            let is_there = fields.is_empty() || fields.contains_key(field);
            self.require(is_there, key, &format!("have no pointer for {field}, without which there is no artifact"));
        }
    }

    /// Words in braces that are none of ours are most likely ours misspelt. Other braces, as in JSON, stay.
    fn placeholders(&mut self, key: &str, text: &str) {
        for (at, _) in text.match_indices('{') {
            let rest = &text[at..];
            let Some(end) = rest.find('}') else { continue };
            let (word, is_ours) = (&rest[1..end], PLACEHOLDERS.contains(&&rest[..=end]));
            let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            self.require(!is_word || is_ours, key, &format!("{{{word}}} is replaced by nothing; there are {}", PLACEHOLDERS.join(" and ")));
        }
    }
}

/// Whether credentials may be sent there.
fn endpoint(template: &str) -> Result<(), &'static str> {
    let filled = |with: &str| Url::parse(&PLACEHOLDERS.iter().fold(template.to_owned(), |url, placeholder| url.replace(placeholder, with)));
    let (Ok(url), Ok(other)) = (filled("0"), filled("1")) else { return Err("is no URL") };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err("is neither an https:// URL nor an http:// URL of this machine's loopback"),
    }
    if (url.host_str(), url.port()) != (other.host_str(), other.port()) {
        return Err("has a placeholder in its host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password; put an Authorization header into a file and name it in header_files");
    }
    if url.fragment().is_some() { Err("has a fragment, which is never sent") } else { Ok(()) }
}

/// What can name a file and stand in a table.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// `token` of RFC 9110, 5.6.2.
fn is_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccountConfig;

    fn with(change: impl FnOnce(&mut HttpConfig)) -> ProviderConfig {
        let mut http = HttpConfig { url: "https://auth.example.com/{account}".into(), ..HttpConfig::default() };
        change(&mut http);
        ProviderConfig { http: Some(http), command: None }
    }

    fn check(name: &str, provider: ProviderConfig, expected: &[(&str, &str)]) {
        let mut config = Config::default();
        config.auth.providers.insert(name.into(), provider);
        compare(&config, expected);
    }

    fn compare(config: &Config, expected: &[(&str, &str)]) {
        let found = violations(config);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((key, message), (expected_key, expected_message)) in found.iter().zip(expected) {
            assert_eq!(key, expected_key, "{found:?}");
            assert!(message.contains(expected_message) && !message.contains("canary"), "{found:?}");
        }
    }

    #[test]
    fn credentials_go_nowhere_in_the_clear() {
        for (url, expected) in [
            ("https://auth.example.com/v1/{account}?why={reason}", ""),
            ("http://127.0.0.1:8080/", ""),
            ("http://[::1]/", ""),
            ("http://localhost:1/", ""),
            ("http://auth.example.com/canary", "neither"),
            ("http://127.0.0.1.example.com/", "neither"),
            ("file:///etc/canary", "neither"),
            ("https://{account}.example.com/", "placeholder in its host"),
            ("https://me:canary@example.com/", "header_files"),
            ("https://canary@example.com/", "header_files"),
            ("https://example.com/#canary", "fragment"),
            ("canary", "is no URL"),
        ] {
            let rows = [("auth.providers.a.http.url", expected)];
            check("a", with(|http| http.url = url.into()), if expected.is_empty() { &[] } else { &rows });
        }
    }

    #[test]
    fn a_provider_is_one_thing_and_complete() {
        let program = |program: &str| ProviderConfig {
            command: Some(CommandConfig { program: program.into(), ..CommandConfig::default() }),
            http: None,
        };
        check("a", program("get-session"), &[]);
        check("a", program(""), &[("auth.providers.a.command.program", "no program")]);
        check("a", ProviderConfig::default(), &[("auth.providers.a", "either")]);
        let both = ProviderConfig { command: program("x").command, ..with(|_| ()) };
        check("a", both, &[("auth.providers.a", "either")]);
        check("a b", program("x"), &[("auth.providers.\"a b\"", "name of a provider")]);
        let command = CommandConfig { program: "x".into(), args: vec!["{acount}".into(), "{\"a\": 1}".into()], timeout_ms: 1 };
        let misspelt = ProviderConfig { command: Some(command), http: None };
        check("a", misspelt, &[("auth.providers.a.command.args", "{acount} is replaced by nothing")]);
    }

    #[test]
    fn a_request_makes_sense() {
        let header = |name: &str| with(|http| _ = http.header_files.insert(name.into(), "x".into()));
        check("a", header("Authorization"), &[]);
        check("a", header("a:b"), &[("auth.providers.a.http.header_files.\"a:b\"", "no name")]);
        check("a", header("Host"), &[("auth.providers.a.http.header_files.Host", "itself sends")]);
        check("a", with(|http| http.body = Some("{}".into())), &[("auth.providers.a.http.body", "POST")]);
        let fields = |pairs: &[(&str, &str)]| {
            let fields = pairs.iter().map(|&(field, pointer)| (field.to_owned(), pointer.to_owned())).collect();
            with(|http| http.fields = fields)
        };
        check("a", fields(&[("token", "/t"), ("ws_url", "/u")]), &[]);
        check("a", fields(&[("token", "/t")]), &[("auth.providers.a.http.fields", "ws_url")]);
        check("a", fields(&[("token", "t"), ("ws_url", "/u")]), &[("auth.providers.a.http.fields.token", "slash")]);
        let misspelt = fields(&[("token", "/t"), ("ws_url", "/u"), ("expires", "/e")]);
        check("a", misspelt, &[("auth.providers.a.http.fields.expires", "expires_at")]);
    }

    #[test]
    fn an_account_has_a_provider_that_is_there() {
        let mut config = Config::default();
        config.auth.providers.insert("vault".into(), with(|_| ()));
        let own = |name: &str| AccountConfig { auth_provider: Some(name.into()), ..AccountConfig::default() };
        config.accounts.insert("1".into(), own("valut"));
        compare(&config, &[("accounts.1.auth_provider", "the nearest is vault")]);
        config.accounts.insert("1".into(), own("vault"));
        config.accounts.insert("a b".into(), AccountConfig::default());
        compare(&config, &[]);
        assert_eq!((config.provider_of("1"), config.provider_of("2")), (Some("vault"), None));
        config.auth.refresh.provider = Some("vault".into());
        assert_eq!(config.provider_of("2"), Some("vault"));
        compare(&config, &[("accounts.\"a b\"", "1 to 64")]);
        config.accounts.clear();
        config.auth.refresh = RefreshConfig { min_ttl_percent: 91, jitter_percent: 101, ..config.auth.refresh };
        compare(&config, &[("auth.refresh.min_ttl_percent", "1 to 90"), ("auth.refresh.jitter_percent", "0 to 100")]);
    }
}
