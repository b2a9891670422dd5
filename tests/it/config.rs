//! The config as people meet it: files, variables, flags, and what is said when one of them is wrong.

use std::fs;
use std::path::Path;

use convpipe::config::{Config, ConfigError, Environment, Loaded, Override, Sources, default_file, load, render};

/// Loads `convpipe.yaml` with this text, these variables and these flags, from a folder of its own.
fn load_text(text: &str, variables: &[(&str, &str)], overrides: &[Override]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("convpipe.yaml"), text).unwrap();
    let environment: Environment = variables.iter().copied().collect();
    load(&Sources { directory: folder.path(), system: folder.path(), overrides, ..Sources::new(&environment) })
}

/// What is said of a wrong config, with the folder taken out.
fn complaints(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let Err(error) = load_text(text, variables, &[]) else { return Vec::new() };
    let strip = |line: &str| line.find("convpipe.yaml:").map_or(line, |at| &line[at..]).to_owned();
    error.to_string().lines().map(strip).collect()
}

#[test]
fn nothing_said_is_the_default() {
    for text in ["", "# nothing\n", "---\n", "redis:\n  # url: redis://elsewhere\n", "accounts: {}\n"] {
        let loaded = load_text(text, &[], &[]).unwrap();
        assert_eq!(loaded.config, Config::default(), "{text:?}");
        assert!(loaded.origins.values().all(|origin| origin.to_string() == "default"), "{text:?}");
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let text = "redis:\n  timeout_ms: 1\n  inbox_max: 1\n  due_max: 1\nlog: { filter: file }\n";
    let variables = [("CONVPIPE_REDIS_INBOX_MAX", "2"), ("CONVPIPE_LOG_FILTER", "env"), ("CONVPIPE_REDIS_DUE_MAX", "")];
    let flags = [Override { key: "log.filter", flag: "--log", value: "debug".into() }];
    let Loaded { config, origins, file } = load_text(text, &variables, &flags).unwrap();
    assert_eq!((config.redis.timeout_ms, config.redis.inbox_max, config.redis.due_max), (1, 2, 1));
    assert_eq!(config.log.filter, "debug");
    let file = file.unwrap();
    for (key, expected) in [
        ("redis.timeout_ms", format!("file {}:2", file.display())),
        ("redis.inbox_max", "env CONVPIPE_REDIS_INBOX_MAX".to_owned()),
        ("redis.due_max", format!("file {}:4", file.display())),
        ("log.filter", "flag --log".to_owned()),
        ("log.format", "default".to_owned()),
    ] {
        assert_eq!(origins[key].to_string(), expected, "{key}");
    }
}

#[test]
fn variables_are_texts_or_yaml() {
    let config = |name: &str, value: &str| load_text("", &[(name, value)], &[]).map(|loaded| loaded.config);
    assert_eq!(config("CONVPIPE_REDIS_PREFIX", "007").unwrap().redis.prefix, "007");
    assert_eq!(config("CONVPIPE_LOG_FILTER", "info,convpipe::ws=debug").unwrap().log.filter, "info,convpipe::ws=debug");
    assert_eq!(config("CONVPIPE_REDIS_USER", "~").unwrap().redis.user, None);
    assert_eq!(config("CONVPIPE_REDIS_USER", "reader").unwrap().redis.user.as_deref(), Some("reader"));
    assert_eq!(config("CONVPIPE_HIGH_VALUE_FANS", "[100000001, x]").unwrap().high_value.fans, ["100000001", "x"]);
    assert_eq!(config("CONVPIPE_HIGH_VALUE_SPEND_MIN", "~").unwrap().high_value.spend_min, None);
    assert!(!config("CONVPIPE_INGEST_RAW", "false").unwrap().ingest.raw);
    let tiers = config("CONVPIPE_TIERS", "[{name: all, spend_min: 0}]").unwrap().tiers.0;
    assert_eq!((tiers.len(), tiers[0].name.as_str()), (1, "all"));
    let accounts = load_text("accounts: { \"1\": {} }\n", &[("CONVPIPE_ACCOUNTS", "{2: {due: {awaiting_s: [5]}}}")], &[]).unwrap();
    assert_eq!(accounts.config.accounts.keys().collect::<Vec<_>>(), ["2"]);
    assert_eq!(accounts.origins["accounts.2.due.awaiting_s"].to_string(), "env CONVPIPE_ACCOUNTS");
}

#[test]
fn the_variable_of_an_emulator_is_heard_and_ours_wins() {
    let text = "bus: {backend: google, google: {project: demo}}\n";
    let foreign = ("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085");
    let ours = ("CONVPIPE_BUS_GOOGLE_EMULATOR", "127.0.0.1:9");
    for (variables, expected, origin) in [
        (&[][..], None, "default"),
        (&[("PUBSUB_EMULATOR_HOST", "")][..], None, "default"),
        (&[foreign][..], Some("127.0.0.1:8085"), "env PUBSUB_EMULATOR_HOST"),
        (&[foreign, ours][..], Some("127.0.0.1:9"), "env CONVPIPE_BUS_GOOGLE_EMULATOR"),
    ] {
        let loaded = load_text(text, variables, &[]).unwrap();
        assert_eq!(loaded.config.bus.google.emulator.as_deref(), expected);
        assert_eq!(loaded.origins["bus.google.emulator"].to_string(), origin);
    }
    assert_eq!(
        complaints(text, &[("PUBSUB_EMULATOR_HOST", "http://here")]),
        ["PUBSUB_EMULATOR_HOST: bus.google.emulator: is host:port, such as 127.0.0.1:8085"]
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "redis:\n  url: redis://h\n  time_out_ms: 5\n",
            &[],
            &["convpipe.yaml:3:3: unknown key redis.time_out_ms; did you mean redis.timeout_ms?"],
        ),
        ("lanes: 2\n", &[], &["convpipe.yaml:1:1: unknown key lanes; did you mean snapshot.lanes?"]),
        ("\"\\e[31m\": 2\n", &[], &[r#"convpipe.yaml:1:1: unknown key "\u{1b}[31m""#]),
        ("redis: {url: redis://a, url: redis://b}\n", &[], &["convpipe.yaml:1:25: redis.url stands there twice"]),
        (
            "redis:\n  timeout_ms: soon\n",
            &[],
            &["convpipe.yaml:2:15: redis.timeout_ms: invalid type: string \"soon\", expected a whole number from 0"],
        ),
        (
            "redis:\n  timeout_ms: -1\n  url: [1]\nbus: embedded\n",
            &[],
            &[
                "convpipe.yaml:2:15: redis.timeout_ms: invalid value: integer `-1`, expected a whole number from 0",
                "convpipe.yaml:3:9: redis.url: invalid type: sequence, expected a string",
                "convpipe.yaml:4:6: bus: keys stand under this one; it has no value of its own",
            ],
        ),
        (
            "bus:\n  backend: embeded\n",
            &[],
            &["convpipe.yaml:2:12: bus.backend: unknown variant `embeded`, expected `embedded` or `google`"],
        ),
        (
            "priority:\n  rules:\n    - reason: x\n      level: high\n      kind: [tip.]\n",
            &[],
            &[
                "convpipe.yaml:3:7: priority.rules[0]: missing field `kinds`",
                "convpipe.yaml:5:7: unknown key priority.rules[0].kind; did you mean priority.rules[0].kinds?",
            ],
        ),
        (
            "tiers:\n  - { name: a, spend_min: 0 }\n  - { name: b, spend_min: lots }\n",
            &[],
            &["convpipe.yaml:3:27: tiers[1].spend_min: invalid type: string \"lots\", expected a whole number"],
        ),
        (
            "accounts:\n  7:\n    high_value:\n      spendmin: 5\n",
            &[],
            &["convpipe.yaml:4:7: unknown key accounts.7.high_value.spendmin; did you mean accounts.7.high_value.spend_min?"],
        ),
        (
            "high_value: { spend_min: much }\naccounts: { 7: { high_value: { lists: [vip] } } }\n",
            &[],
            &["convpipe.yaml:1:26: high_value.spend_min: invalid type: string \"much\", expected a whole number"],
        ),
        ("redis:\n  url: [\n", &[], &["convpipe.yaml:3:1: did not find expected node content"]),
        ("- 1\n", &[], &["convpipe.yaml:1:3: a config is a map of keys"]),
        (
            "ingest:\n  backoff_max_ms: 10\n",
            &[],
            &["convpipe.yaml:2:19: ingest.backoff_max_ms: is 10, has to be at least ingest.backoff_min_ms, which is 1000"],
        ),
        (
            "ingest:\n  backoff_min_ms: 70000\n",
            &[],
            &["convpipe.yaml:2:19: ingest.backoff_min_ms: is 70000, has to be at most ingest.backoff_max_ms, which is 60000"],
        ),
        (
            "tiers:\n  - { name: a, spend_min: 5 }\n",
            &[],
            &["convpipe.yaml:2:7: tiers: the lowest tier has to have spend_min 0, so that everybody is in one"],
        ),
        (
            "",
            &[("CONVPIPE_REDIS_TIME_OUT_MS", "5")],
            &["CONVPIPE_REDIS_TIME_OUT_MS: unknown variable; did you mean CONVPIPE_REDIS_TIMEOUT_MS?"],
        ),
        ("", &[("CONVPIPE_TEST_ANYTHING", "5"), ("CONVPIPELINE", "5")], &[]),
        (
            "",
            &[("CONVPIPE_REDIS_TIMEOUT_MS", "soon")],
            &["CONVPIPE_REDIS_TIMEOUT_MS: redis.timeout_ms: invalid type: string \"soon\", expected a whole number from 0"],
        ),
        (
            "",
            &[("CONVPIPE_TIERS", "[{nam: a}]")],
            &["CONVPIPE_TIERS: unknown key tiers[0].nam; did you mean tiers[0].name?", "CONVPIPE_TIERS: tiers[0]: missing field `name`"],
        ),
    ];
    for (text, variables, expected) in cases {
        assert_eq!(complaints(text, variables), *expected, "{text:?} {variables:?}");
    }
}

#[test]
fn complaints_are_bounded() {
    let text: String = (0..1_000).map(|at| format!("unknown_{at}: 1\n")).collect();
    assert_eq!(complaints(&text, &[]).len(), 20);
}

#[test]
fn an_account_is_as_all_are_but_for_what_it_says() {
    let text = "high_value:\n  spend_min: 7\n  lists: [vip]\naccounts:\n  0123:\n    high_value: { lists: [whales] }\n    due: { awaiting_s: [9] }\n";
    let loaded = load_text(text, &[], &[]).unwrap();
    let policy = loaded.config.policy("0123");
    assert_eq!((policy.high_value.spend_min, policy.high_value.lists), (Some(7), vec!["whales".to_owned()]));
    assert_eq!((policy.due.awaiting_s, policy.due.subscription_expiring_s), (vec![9], 86_400));
    assert_eq!(loaded.config.policy("other").high_value.lists, ["vip"]);
    assert!(loaded.origins["accounts.0123.high_value.spend_min"].to_string().ends_with("convpipe.yaml:2"));
}

#[test]
fn the_first_file_that_exists_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let found = |named: Option<&Path>, variables: &[(&str, &Path)]| {
        let environment: Environment = variables.iter().map(|(name, value)| (*name, value.as_os_str().to_owned())).collect();
        let (work, system) = (at("work"), at("etc/convpipe"));
        let sources = Sources { file: named, directory: &work, system: &system, ..Sources::new(&environment) };
        load(&sources).map(|loaded| loaded.file.map(|file| file.strip_prefix(folder.path()).unwrap().to_owned()))
    };
    let expect = |expected: &str, named: Option<&Path>, variables: &[(&str, &Path)]| {
        assert_eq!(found(named, variables).unwrap().as_deref(), Some(Path::new(expected)));
    };
    assert_eq!(found(None, &[]).unwrap(), None);
    let places = [
        "etc/convpipe/convpipe.yaml",
        "home/.config/convpipe/convpipe.yaml",
        "xdg/convpipe/convpipe.yaml",
        "work/.convpipe/convpipe.yaml",
        "work/convpipe.yaml",
        "variable.yaml",
        "flag.yaml",
    ];
    for place in places {
        fs::create_dir_all(at(place).parent().unwrap()).unwrap();
    }
    let (home, xdg, relative) = (at("home"), at("xdg"), Path::new("xdg"));
    fs::write(at(places[0]), "").unwrap();
    expect(places[0], None, &[("HOME", &home)]);
    fs::write(at(places[1]), "").unwrap();
    expect(places[1], None, &[("HOME", &home)]);
    expect(places[1], None, &[("HOME", &home), ("XDG_CONFIG_HOME", relative)]);
    fs::write(at(places[2]), "").unwrap();
    expect(places[2], None, &[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]);
    fs::write(at(places[3]), "").unwrap();
    expect(places[3], None, &[("XDG_CONFIG_HOME", &xdg)]);
    fs::write(at(places[4]), "").unwrap();
    expect(places[4], None, &[("XDG_CONFIG_HOME", &xdg)]);
    let (variable, flag) = (at(places[5]), at(places[6]));
    assert!(matches!(found(None, &[("CONVPIPE_CONFIG", &variable)]), Err(ConfigError::Read { .. })), "a file that is named has to exist");
    fs::write(&variable, "").unwrap();
    expect(places[5], None, &[("CONVPIPE_CONFIG", &variable)]);
    assert!(matches!(found(Some(&flag), &[("CONVPIPE_CONFIG", &variable)]), Err(ConfigError::Read { .. })));
    fs::write(&flag, "").unwrap();
    expect(places[6], Some(&flag), &[("CONVPIPE_CONFIG", &variable)]);
}

#[test]
fn a_file_that_cannot_be_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::default();
    let load_file = |path: &Path| load(&Sources { file: Some(path), ..Sources::new(&environment) });
    assert!(matches!(load_file(folder.path()), Err(ConfigError::Read { .. })), "a folder");
    let large = folder.path().join("large.yaml");
    fs::write(&large, "# ".repeat(600_000)).unwrap();
    assert!(matches!(load_file(&large), Err(ConfigError::TooLarge { .. })));
    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, [0x72, 0xff, 0xfe]).unwrap();
    assert!(matches!(load_file(&binary), Err(ConfigError::Read { .. })), "not UTF-8");
}

#[test]
fn relative_paths_in_a_file_are_relative_to_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let text = "bus: { embedded: { dir: bus } }\nredis: { password_file: ../secret }\nauth: { dir: /var/lib/auth }\n";
    let file = folder.path().join("convpipe.yaml");
    fs::write(&file, text).unwrap();
    let environment: Environment = [("CONVPIPE_REDIS_READER_PASSWORD_FILE", "reader")].into_iter().collect();
    let config = load(&Sources { file: Some(&file), ..Sources::new(&environment) }).unwrap().config;
    assert_eq!(config.bus.embedded.dir, folder.path().join("bus"));
    assert_eq!(config.redis.password_file, Some(folder.path().join("../secret")));
    assert_eq!(config.auth.dir, Path::new("/var/lib/auth"));
    assert_eq!(config.redis.reader_password_file.as_deref(), Some(Path::new("reader")), "a variable is relative to the current directory");
    assert_eq!(config.documents.embedded.path, Path::new(".convpipe/documents.db"), "so is a default");
}

#[test]
fn the_bare_name_of_a_secret_is_looked_for_among_the_credentials_first() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("redis-password"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", credentials.join("dangling")).unwrap();
    let file = folder.path().join("convpipe.yaml");
    let found = |named: &Path| {
        fs::write(
            &file,
            format!(
                "redis: {{ password_file: {0}, reader_password_file: {0} }}\nauth: {{ dir: redis-password, providers: {{ p: {{ http: {{ url: 'https://h/', header_files: {{ A: {0} }}, ca_file: redis-password }} }} }} }}\n",
                named.display()
            ),
        )
        .unwrap();
        let environment: Environment = [("CREDENTIALS_DIRECTORY", &credentials)].into_iter().collect();
        let config = load(&Sources { file: Some(&file), ..Sources::new(&environment) }).unwrap().config;
        assert_eq!(config.auth.dir, folder.path().join("redis-password"), "no secret");
        assert_eq!(config.redis.password_file, config.redis.reader_password_file);
        let http = config.auth.providers["p"].http.as_ref().unwrap();
        assert_eq!(http.ca_file.as_deref(), Some(&*folder.path().join("redis-password")), "no secret");
        assert_eq!(Some(&http.header_files["A"]), config.redis.password_file.as_ref());
        config.redis.password_file.unwrap()
    };
    let absolute = folder.path().join("redis-password");
    for (named, expected) in [
        (Path::new("redis-password"), credentials.join("redis-password")),
        (Path::new("dangling"), credentials.join("dangling")),
        (Path::new("another"), folder.path().join("another")),
        (Path::new("./redis-password"), folder.path().join("./redis-password")),
        (Path::new("../redis-password"), folder.path().join("../redis-password")),
        (&absolute, absolute.clone()),
    ] {
        assert_eq!(found(named), expected, "{named:?}");
    }
}

#[test]
fn the_default_file_has_every_text_and_is_the_default() {
    let file = default_file();
    let loaded = load_text(&file, &[], &[]).unwrap();
    let mut expected = Config::default();
    let folder = loaded.file.as_ref().unwrap().parent().unwrap();
    for path in
        [&mut expected.bus.embedded.dir, &mut expected.documents.embedded.path, &mut expected.auth.dir, &mut expected.ingest.state_dir]
    {
        *path = folder.join(&*path);
    }
    assert_eq!(loaded.config, expected);
    let is_default = |key: &&String| loaded.origins[*key].to_string() == "default";
    assert_eq!(loaded.origins.keys().filter(is_default).collect::<Vec<_>>(), Vec::<&String>::new(), "every key stands in the file");
    let lines: Vec<&str> = file.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(':') && !line.trim_start().starts_with(['#', '-'])) {
        assert!(lines[at - 1].trim_start().starts_with("# "), "{line} has no text");
    }
    assert!(
        file.contains("# Longest wait for an answer, milliseconds. After three in a row the connection is rebuilt.\n  timeout_ms: 2000\n")
    );
    assert!(lines.iter().all(|line| line.starts_with('#') || line.chars().count() <= 140), "comments are wrapped");
}

#[test]
fn a_rendered_config_loads_as_itself() {
    let text = "bus: { embedded: { dir: /b } }\nauth: { dir: /a }\ningest: { state_dir: /i }\ndocuments: { embedded: { path: /d } }\nredis: { user: \"null\", prefix: \"007\" }\nlog: { filter: \"a b: #c=debug\" }\naccounts:\n  \"0123\":\n    high_value: { fans: [\"1\", \"a, b\"] }\n  a.b: { tiers: [{ name: \"x: y\", spend_min: 0 }] }\n";
    let loaded = load_text(text, &[], &[]).unwrap();
    for origins in [false, true] {
        let printed = render(&loaded, origins);
        assert_eq!(load_text(&printed, &[], &[]).unwrap().config, loaded.config, "{printed}");
    }
    let printed = render(&loaded, true);
    assert!(printed.contains("  timeout_ms: 2000  # default\n"), "{printed}");
    assert!(
        printed.lines().any(|line| line.starts_with("  filter: \"a b: #c=debug\"  # file ") && line.ends_with("convpipe.yaml:6")),
        "{printed}"
    );
}

#[test]
fn providers_are_found_beside_the_file_and_told_of_where_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("convpipe.yaml");
    let text = "auth:
  providers:
    bare: { command: { program: get-session } }
    beside: { command: { program: ./get-session } }
    vault: { http: { url: 'https://h/', header_files: { X-Key: key, Authorization: /etc/key }, ca_file: ca.pem } }
accounts: { \"1\": { auth_provider: vault } }
";
    fs::write(&file, text).unwrap();
    let environment = Environment::default();
    let loaded = load(&Sources { file: Some(&file), ..Sources::new(&environment) }).unwrap();
    let providers = &loaded.config.auth.providers;
    let program = |name: &str| &providers[name].command.as_ref().unwrap().program;
    assert_eq!((program("bare").as_path(), program("beside")), (Path::new("get-session"), &folder.path().join("./get-session")));
    let http = providers["vault"].http.as_ref().unwrap();
    let files: Vec<_> = http.header_files.values().collect();
    assert_eq!(files, [Path::new("/etc/key"), &folder.path().join("key")]);
    assert_eq!((http.ca_file.as_ref(), loaded.config.provider_of("1")), (Some(&folder.path().join("ca.pem")), Some("vault")));
    let printed = render(&loaded, true);
    assert!(printed.contains(&format!("X-Key: {}/key  # file {}:5", folder.path().display(), file.display())), "{printed}");

    for (text, expected) in [
        ("auth:\n  refresh: { provider: vault }\n", "2:24: auth.refresh.provider: there is no \"vault\" in auth.providers, which is empty"),
        ("accounts:\n  1: { auth_provider: x }\n", "2:23: accounts.1.auth_provider: there is no \"x\" in auth.providers, which is empty"),
        (
            "auth: { providers: { a: { comand: {} } } }\n",
            "1:27: unknown key auth.providers.a.comand; did you mean auth.providers.a.command?",
        ),
        (
            "auth: { providers: { a: { command: { program: x }, http: { url: 'https://h/' } } } }\n",
            "1:47: auth.providers.a: is either a command or http",
        ),
    ] {
        assert_eq!(complaints(text, &[]), [format!("convpipe.yaml:{expected}")], "{text}");
    }
}
