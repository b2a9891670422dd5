//! What listens where a daemon should: silence, nonsense, floods.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use convpipe::runtime::scrape::{Address, AskError, ask};

use super::{NOBODY, folder, picture};

/// Answers every connection; ends with the test, for the threads of a process end with it.
fn listener(answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            // A client that has heard enough hangs up.
            std::thread::spawn(move || drop(answer(&mut stream)));
        }
    });
    address
}

/// Reads the question, says this, and hangs up.
fn says(text: &str) -> impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static {
    let text = text.to_owned();
    move |stream| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(text.as_bytes())
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn flood(head: &'static str) -> impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static {
    move |stream| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(head.as_bytes())?;
        let block = [b'x'; 64 << 10];
        // A gigabyte, if somebody takes it.
        (0..16 << 10).try_for_each(|_| stream.write_all(&block))
    }
}

#[test]
fn who_is_no_daemon_of_ours_is_told_as_such_and_hides_nobody() {
    let dir = folder(NOBODY);
    let hostile = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\n\u{1b}[2J";
    let rows = [
        (listener(says("SSH-2.0-OpenSSH_9.2\r\n")), "no HTTP: "),
        (listener(says("")), "no HTTP: "),
        (listener(says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort")), "no HTTP: "),
        (listener(says(&ok("<html>"))), "line 1 of its metrics cannot be read"),
        (listener(says(&ok("go_goroutines 7\n"))), "its metrics are not those of a daemon of convpipe"),
        (listener(says(&ok("convpipe_daemon{daemon=\"snapshot\",version=\"0.1.0\"} 1\n"))), "it is snapshot"),
        (listener(says(&ok("convpipe_daemon{daemon=\"\u{1b}]0;x\u{7}\",version=\"\"} 1\n"))), "it is \u{1b}]0;x\u{7}"),
        (listener(says(hostile)), "/metrics answers 503"),
        (listener(flood("HTTP/1.1 200 OK\r\n\r\n")), "an answer of more than 1048576 bytes"),
        (listener(flood("HTTP/1.1 200 OK\r\nX: ")), "no HTTP: "),
    ];
    let args: Vec<&str> = rows.iter().flat_map(|(address, _)| ["--ingest", address]).collect();
    let begun = Instant::now();
    let (code, picture) = picture(dir.path(), &args);
    assert_eq!(code, 69, "{picture:#}");
    for ((_, expected), daemon) in rows.iter().zip(picture["daemons"].as_array().unwrap()) {
        let reason = daemon["reasons"][0].as_str().unwrap();
        assert!(daemon["state"] == "foreign" && reason.starts_with(expected), "{daemon:#} is not {expected:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());

    // The same for a person: not one control character.
    let shown = super::status(dir.path(), &args).stdout.join("\n");
    assert!(shown.contains("something else answers there: it is \\u{1b}]0;x\\u{7}"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn who_takes_the_connection_and_is_silent_hangs() {
    let dir = folder(NOBODY);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, picture) = picture(dir.path(), &["--ingest", &silent.local_addr().unwrap().to_string()]);
    let (ingest, problem) = (&picture["daemons"][0], &picture["problems"][0]);
    assert_eq!((code, ingest["state"].as_str(), problem["what"].as_str()), (69, Some("hangs"), Some("hangs: no answer within 4 s")));
    assert!(problem["advice"].as_str().unwrap().contains("restart it"), "{problem:#}");
}

/// With a clock that runs as soon as nobody has anything to do: silence costs no time.
#[tokio::test(start_paused = true)]
async fn silence_ends_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().into();
    let begun = tokio::time::Instant::now();
    let error = ask(&address, "/metrics", 1 << 20).await.unwrap_err();
    assert!(matches!(error, AskError::Silent), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(error.to_string(), "no answer within 4 s");
}
