//! Containers and Kubernetes: what refers to something finds it, what has to be one number is, and nothing runs that is not confined.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize as _;
use serde_yaml::Value;

use super::{none, place, text, under, why_not, yaml};

/// Every object of the manifests, with the file that it stands in.
fn objects() -> Vec<(String, Value)> {
    let listed = yaml("kubernetes/kustomization.yaml");
    let listed: Vec<&str> = listed["resources"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    let there: BTreeSet<String> =
        fs::read_dir(place("kubernetes")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let other = ["kustomization.yaml", "convpipe.yaml"];
    let unlisted: Vec<&String> = there.iter().filter(|name| !other.contains(&name.as_str()) && !listed.contains(&name.as_str())).collect();
    assert!(unlisted.is_empty(), "kustomization.yaml does not name {unlisted:?}");
    let read = |name: &str| {
        let text = text(&format!("kubernetes/{name}"));
        serde_yaml::Deserializer::from_str(&text)
            .map(|document| (name.to_owned(), Value::deserialize(document).unwrap()))
            .collect::<Vec<_>>()
    };
    listed.into_iter().flat_map(read).collect()
}

/// The template of each workload's pods, by the workload's name.
fn pods() -> Vec<(String, Value)> {
    let workloads = objects().into_iter().filter(|(_, object)| !under(object, "containers").is_empty());
    let pods = workloads.map(|(_, object)| {
        let spec = if object["kind"].as_str() == Some("CronJob") { &object["spec"]["jobTemplate"]["spec"] } else { &object["spec"] };
        (object["metadata"]["name"].as_str().unwrap().to_owned(), spec["template"]["spec"].clone())
    });
    let pods: Vec<_> = pods.collect();
    assert_eq!(pods.len(), 4);
    pods
}

fn names_of(kind: &str) -> BTreeSet<String> {
    let of_kind = objects().into_iter().filter(|(_, object)| object["kind"].as_str() == Some(kind));
    of_kind.map(|(_, object)| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn whatever_a_pod_refers_to_is_there() {
    let config_map = yaml("kubernetes/kustomization.yaml")["configMapGenerator"][0]["name"].as_str().unwrap().to_owned();
    let (accounts, claims) = (names_of("ServiceAccount"), names_of("PersistentVolumeClaim"));
    for (name, pod) in pods() {
        assert_eq!(pod["serviceAccountName"].as_str(), Some(name.as_str()));
        assert!(accounts.contains(&name), "{name}");
        let volumes = pod["volumes"].as_sequence().unwrap();
        let volumes: BTreeSet<&str> = volumes.iter().filter_map(|volume| volume["name"].as_str()).collect();
        let mounts = under(&pod["containers"], "volumeMounts").into_iter().filter_map(Value::as_sequence).flatten();
        let mounted: BTreeSet<&str> = mounts.filter_map(|mount| mount["name"].as_str()).collect();
        assert_eq!(volumes, mounted, "{name}");
        assert!(under(&pod, "configMap").iter().all(|volume| volume["name"].as_str() == Some(&config_map)), "{name}");
        assert!(under(&pod, "claimName").iter().all(|claim| claims.contains(claim.as_str().unwrap())), "{name}");
        let args: Vec<&str> = pod["containers"][0]["args"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(why_not(&args), None, "{name}");
    }
}

#[test]
fn every_pod_is_confined_bounded_and_given_time_to_drain() {
    let mut problems = Vec::new();
    for (name, pod) in pods() {
        let container = &pod["containers"][0];
        for (holds, what) in [
            (pod["securityContext"]["runAsNonRoot"] == Value::Bool(true), "may be root"),
            (pod["securityContext"]["runAsUser"].as_u64() == Some(65_532), "is not the user of the image"),
            (pod["securityContext"]["seccompProfile"]["type"].as_str() == Some("RuntimeDefault"), "has no seccomp profile"),
            (pod["automountServiceAccountToken"] == Value::Bool(false), "gets a token for Kubernetes"),
            (container["securityContext"]["readOnlyRootFilesystem"] == Value::Bool(true), "can write to its image"),
            (container["securityContext"]["allowPrivilegeEscalation"] == Value::Bool(false), "may rise"),
            (container["securityContext"]["capabilities"]["drop"][0].as_str() == Some("ALL"), "keeps capabilities"),
            (container["resources"]["limits"]["memory"].is_string(), "has no bound of its memory"),
            (container["resources"]["requests"]["cpu"].is_string(), "asks for no CPU"),
            (pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds >= 10), "is killed before it has drained"),
        ] {
            if !holds {
                problems.push(format!("{name} {what}"));
            }
        }
    }
    none(&problems);
}

#[test]
fn parts_of_ingest_are_as_many_as_its_pods_and_counted_from_one() {
    let (_, ingest) = objects().into_iter().find(|(_, object)| object["kind"].as_str() == Some("StatefulSet")).unwrap();
    let variables = ingest["spec"]["template"]["spec"]["containers"][0]["env"].as_sequence().unwrap();
    let value = |name: &str| variables.iter().find(|variable| variable["name"].as_str() == Some(name)).unwrap()["value"].as_str().unwrap();
    assert_eq!(value("SHARDS").parse().ok(), ingest["spec"]["replicas"].as_u64());
    assert_eq!(ingest["spec"]["ordinals"]["start"].as_u64(), Some(1));
    let replicas = ingest["spec"]["replicas"].as_u64().unwrap();
    for ordinal in 1..=replicas {
        let shard = value("CONVPIPE_INGEST_SHARD").replace("$(POD_INDEX)", &ordinal.to_string()).replace("$(SHARDS)", value("SHARDS"));
        shard.parse::<convpipe::config::Shard>().unwrap();
    }
}

#[test]
fn probes_ask_where_the_config_listens() {
    let config = yaml("kubernetes/convpipe.yaml");
    for (daemon, key) in [
        ("ingest", &config["health"]["ingest"]),
        ("snapshot", &config["health"]["snapshot"]),
        ("dashboard", &config["health"]["dashboard"]),
    ] {
        let (_, pod) = pods().into_iter().find(|(name, _)| *name == format!("convpipe-{daemon}")).unwrap();
        let container = &pod["containers"][0];
        let (host, port) = key.as_str().unwrap().split_once(':').unwrap();
        let open = |name: &str| {
            container["ports"].as_sequence().unwrap().iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64()
        };
        assert_eq!((host, open("health")), ("0.0.0.0", port.parse().ok()), "{daemon}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            // Without Redis the dashboard is not ready, and serves what it has: whether it listens is all that counts.
            let expected = if (daemon, probe) == ("dashboard", "readinessProbe") { ("http", None) } else { ("health", Some(path)) };
            let asked = under(&container[probe], "port");
            assert_eq!((asked[0].as_str().unwrap(), container[probe]["httpGet"]["path"].as_str()), expected, "{daemon}: {probe}");
        }
    }
}

#[test]
fn secrets_are_files_where_the_config_looks_for_them() {
    let config = yaml("kubernetes/convpipe.yaml");
    let wanted = |value: &Value| value.as_str().unwrap().to_owned();
    for (daemon, files) in [
        ("convpipe-snapshot", vec![wanted(&config["redis"]["password_file"])]),
        ("convpipe-dashboard", vec![wanted(&config["redis"]["reader_password_file"]), wanted(&config["dashboard"]["token_file"])]),
        ("convpipe-ingest", Vec::new()),
        ("convpipe-auth-refresh", Vec::new()),
    ] {
        let (_, pod) = pods().into_iter().find(|(name, _)| name == daemon).unwrap();
        let mounts = pod["containers"][0]["volumeMounts"].as_sequence().unwrap().clone();
        let secrets: Vec<Value> = mounts.into_iter().filter(|mount| mount["name"].as_str() == Some("secret")).collect();
        let found: Vec<String> = secrets.iter().map(|mount| wanted(&mount["mountPath"])).collect();
        assert_eq!(found, files, "{daemon}");
        // Without a subPath it would be a link, and those are refused.
        assert!(secrets.iter().all(|mount| wanted(&mount["mountPath"]).ends_with(&wanted(&mount["subPath"]))), "{daemon}");
        // Octal as YAML 1.1 and Kubernetes read it: with the group of the pod, and root's, the one mode beside 0600 that is taken.
        let modes: Vec<&Value> = under(&pod, "defaultMode");
        assert!(
            modes.iter().all(|mode| mode.as_u64() == Some(0o440) || mode.as_u64() == Some(440) || mode.as_str() == Some("0440")),
            "{modes:?}"
        );
    }
}

#[test]
fn the_autoscaler_looks_at_the_subscriptions() {
    let (_, scaler) = objects().into_iter().find(|(_, object)| object["kind"].as_str() == Some("HorizontalPodAutoscaler")).unwrap();
    let config = convpipe::config::Config::default();
    let asked: Vec<&str> = under(&scaler, "resource.labels.subscription_id").into_iter().filter_map(Value::as_str).collect();
    assert_eq!(asked, [config.bus.views_subscription.as_str(), config.bus.documents_subscription.as_str()]);
}

#[test]
fn the_image_is_built_from_all_that_the_program_includes() {
    let context = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore")).unwrap();
    let given: Vec<&str> = context.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for needed in ["Cargo.toml", "Cargo.lock", ".cargo", "src", "benches", "tests/it/main.rs"] {
        assert!(given.contains(&needed), "{needed}");
    }
    let mut found = 0;
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let outside = text.split("include_").skip(1).filter_map(|rest| rest.split('"').nth(1)).filter(|path| path.starts_with("../../"));
        for path in outside {
            found += 1;
            let path = path.trim_start_matches("../");
            assert!(given.contains(&path), "{}: {path} is not in the context of the image", file.display());
        }
    }
    assert!(found >= 2, "{found}");
}

fn sources(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

#[test]
fn compose_runs_every_daemon_without_rights() {
    let compose = yaml("docker/compose.yaml");
    let daemons: Vec<&str> = under(&compose["services"], "command").into_iter().filter_map(|command| command[0].as_str()).collect();
    assert_eq!(daemons, ["valkey-server", "ingest", "snapshot", "auth-refresh", "dashboard"]);
    let shared = &compose["x-daemon"];
    assert_eq!((shared["read_only"].as_bool(), shared["cap_drop"][0].as_str()), (Some(true), Some("ALL")));
    let published = under(&compose, "ports");
    assert_eq!(published.len(), 1);
    assert_eq!(published[0][0].as_str(), Some("127.0.0.1:7070:7070"), "nothing is open to a network");
}
