//! `ingest --shard`: several processes serve one folder of artifacts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::place::{LIMIT, Place, wait_until};

/// A platform that lets everybody in and remembers who came how often, by token.
async fn platform() -> (String, Arc<Mutex<BTreeMap<String, usize>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let came: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let seen = came.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let Ok(mut peer) = tokio_tungstenite::accept_async(tcp).await else { return };
                let Some(Ok(hello)) = peer.next().await else { return };
                let hello: serde_json::Value = serde_json::from_str(hello.to_text().unwrap()).unwrap();
                *seen.lock().unwrap().entry(hello["token"].as_str().unwrap().to_owned()).or_default() += 1;
                let _ = peer.send(Message::text(r#"{"connected":true}"#)).await;
                while peer.next().await.is_some() {}
            });
        }
    });
    (url, came)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_account_is_served_by_exactly_one_of_two_processes() {
    let accounts: Vec<String> = (200_000_001..=200_000_040).map(|account: u32| account.to_string()).collect();
    let (place, (url, came)) = (Place::new(), platform().await);
    place.lead(&accounts[..30], &url);
    let [first, second] = ["1/2", "2/2"].map(|shard| place.start(&["ingest", "--shard", shard]));
    wait_until("connections", || came.lock().unwrap().len() == 30).await;
    // Those that come later are shared out too.
    place.lead(&accounts[30..], &url);
    wait_until("all connections", || came.lock().unwrap().len() == 40).await;

    let served = [first, second].map(|process| {
        let output = process.terminate(LIMIT);
        assert!(output.status.success(), "{output:?}");
        let live = output.stderr.iter().filter(|line| line.contains(" live ") || line.contains("\"live\"") || line.ends_with(" live"));
        let of_account = |line: &String| accounts.iter().find(|account| line.contains(account.as_str())).cloned();
        let mut served: Vec<String> = live.filter_map(of_account).collect();
        served.sort();
        served
    });
    assert!(served.iter().all(|served| served.len() > 8), "{served:?}");
    let mut all = served.concat();
    all.sort();
    assert_eq!(all, accounts, "each is live in one process, once");
    assert!(came.lock().unwrap().values().all(|times| *times == 1), "{:?}", came.lock().unwrap());
}

#[test]
fn a_part_that_is_none_is_said_to_be_none() {
    let mut place = Place::new();
    for shard in ["0/2", "3/2", "1", "1/2/3", "a/b", "", "-1/2", "1/0", "1/1025"] {
        let output = place.start(&["ingest", &format!("--shard={shard}")]).wait(LIMIT);
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(2), "{shard}: {said}");
        assert!(said.contains("--shard") && said.contains("a part is two numbers such as 1/3"), "{shard}: {said}");
    }
    place.config["ingest"]["shard"] = "3/2".into();
    let output = place.start(&["ingest"]).wait(LIMIT);
    let said = output.stderr.join("\n");
    assert_eq!((output.status.code(), said.contains("ingest.shard"), said.contains("a part is")), (Some(78), true, true), "{said}");
}
