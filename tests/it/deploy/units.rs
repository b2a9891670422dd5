//! The units of systemd: confined alike, stopped no sooner than a drain may take, handed the secrets that the config names.

use std::collections::BTreeMap;

use convpipe::config::Config;

use super::{none, text, why_not, yaml};

const DAEMONS: [&str; 3] = ["ingest", "snapshot", "dashboard"];

/// What confines a service; what differs between them is not here.
const CONFINED: [&str; 24] = [
    "UMask=0077",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
];

/// The settings of a unit, without comments: each with all of its values.
fn unit(name: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings = BTreeMap::<String, Vec<String>>::new();
    let text = text(&format!("systemd/{name}"));
    for (key, value) in text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        settings.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    settings
}

fn services() -> impl Iterator<Item = String> {
    DAEMONS.into_iter().chain(["auth-refresh"]).map(|daemon| format!("convpipe-{daemon}.service"))
}

#[test]
fn every_service_is_confined_and_bounded() {
    let mut problems = Vec::new();
    for name in services() {
        let text = text(&format!("systemd/{name}"));
        let missing = CONFINED.iter().filter(|setting| !text.lines().any(|line| line == **setting));
        problems.extend(missing.map(|setting| format!("{name}: no {setting}")));
        let unit = unit(&name);
        let unbounded = ["MemoryMax", "TasksMax", "LimitNOFILE", "TimeoutStartSec"].iter().filter(|bound| !unit.contains_key(**bound));
        problems.extend(unbounded.map(|bound| format!("{name}: no {bound}")));
    }
    none(&problems);
}

#[test]
fn what_they_start_is_a_command() {
    for name in services() {
        let [start] = &unit(&name)["ExecStart"][..] else { panic!("{name} starts one thing") };
        let words: Vec<&str> = start.split(' ').collect();
        assert_eq!(words[..3], ["/usr/local/bin/convpipe", "--config", "/etc/convpipe/convpipe.yaml"], "{name}");
        assert_eq!(why_not(&words[1..]), None, "{name}");
    }
}

#[test]
fn daemons_are_watched_restarted_and_given_time_to_drain() {
    let config = Config::default();
    let drain_s = config.ingest.drain_timeout_s.max(config.snapshot.drain_timeout_s);
    for daemon in DAEMONS {
        let unit = unit(&format!("convpipe-{daemon}.service"));
        for (key, expected) in [
            ("Type", "notify-reload"),
            ("Restart", "on-failure"),
            // A wrong command line and a wrong config stay wrong.
            ("RestartPreventExitStatus", "2 78"),
            ("StartLimitIntervalSec", "0"),
            ("WantedBy", "convpipe.target"),
            ("PartOf", "convpipe.target"),
        ] {
            assert_eq!(unit[key], [expected], "{daemon}: {key}");
        }
        let seconds = |key: &str| unit[key][0].parse::<u64>().unwrap();
        assert!(seconds("TimeoutStopSec") > 2 * drain_s, "{daemon}");
        // A sign of life comes at half of it at the latest, and a loop may stand still for less than the two together.
        assert!((10..=config.health.stall_s).contains(&seconds("WatchdogSec")), "{daemon}");
        assert!(seconds("RestartMaxDelaySec") > seconds("RestartSec"), "{daemon}");
    }
    let before = text("systemd/before-253.conf");
    assert!(before.contains("\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n"), "{before}");
}

#[test]
fn secrets_are_those_that_the_config_names() {
    let config = yaml("convpipe.yaml");
    for (daemon, key) in [("snapshot", "password_file"), ("dashboard", "reader_password_file")] {
        let name = config["redis"][key].as_str().unwrap();
        assert!(!name.contains('/'), "{name} is looked for in the folder of credentials");
        let credentials = &unit(&format!("convpipe-{daemon}.service"))["LoadCredential"];
        assert_eq!(credentials[..], [format!("{name}:/etc/convpipe/{name}")], "{daemon}");
    }
    assert!(!unit("convpipe-ingest.service").contains_key("LoadCredential"), "it asks Redis for nothing");
}

#[test]
fn those_who_share_the_topic_are_one_user_and_the_dashboard_is_another() {
    for daemon in ["ingest", "snapshot", "auth-refresh"] {
        let unit = unit(&format!("convpipe-{daemon}.service"));
        assert_eq!((&unit["User"][0], &unit["StateDirectory"][0]), (&"convpipe".to_owned(), &"convpipe".to_owned()), "{daemon}");
    }
    assert!(text("systemd/convpipe.sysusers").contains("\nu convpipe - \"convpipe\" /var/lib/convpipe /usr/sbin/nologin\n"));
    let dashboard = unit("convpipe-dashboard.service");
    assert_eq!(dashboard["DynamicUser"], ["yes"]);
    assert!(!dashboard.contains_key("StateDirectory"), "it keeps nothing");
    let config = yaml("convpipe.yaml");
    for path in [
        &config["bus"]["embedded"]["dir"],
        &config["documents"]["embedded"]["path"],
        &config["auth"]["dir"],
        &config["ingest"]["state_dir"],
    ] {
        assert!(path.as_str().unwrap().starts_with("/var/lib/convpipe/"), "{path:?}: nothing else can be written");
    }
}
