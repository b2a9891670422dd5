//! What stands in Redis and cannot be read: it is marked, and everything else goes on.

use super::*;

async fn get(url: &str) -> (u16, Value) {
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// The rows by id: whether marked, and the preview.
fn rows(answer: &Value) -> Vec<(String, bool, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| (text(&row["id"]), row["unreadable"] == true, text(&row["preview"]));
    let mut rows: Vec<_> = answer["conversations"].as_array().into_iter().flatten().map(row).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn one_unreadable_conversation_is_marked_and_the_others_live() {
    let server = RedisServer::start();
    let keys = Keys::new(&Config::default().redis).unwrap();
    for id in ["1", "2", "3", "4", "5"] {
        put(&server, id, 1, |_| ());
    }
    // Unreadable from the start: a snapshot of another version, a `rev` that is no number, another type of key.
    server.run::<()>(&["HSET", &keys.conversation(A, "2"), "snapshot", "{\"v\":2}", "rev", "7"]);
    server.run::<()>(&["HSET", &keys.conversation(A, "3"), "rev", "many"]);
    server.run::<()>(&["DEL", &keys.conversation(A, "4")]);
    server.run::<()>(&["SET", &keys.conversation(A, "4"), "x"]);
    let served = Served::start(&server.url(), |_| ()).await;
    let (list, accounts) = (served.url("/api/v1/conversations"), served.url("/api/v1/accounts"));
    let row = |id: &str, marked: bool, preview: &str| (id.to_owned(), marked, preview.to_owned());
    let (status, answer) = get(&list).await;
    let expected = [row("1", false, "hello"), row("2", true, ""), row("3", true, ""), row("4", true, ""), row("5", false, "hello")];
    assert_eq!((status, rows(&answer)), (200, expected.to_vec()));
    let (_, status) = get(&served.url("/api/v1/status")).await;
    assert_eq!((&status["redis"]["ok"], &status["redis"]["fault"]), (&Value::Bool(true), &Value::Null));

    // One turns unreadable later: what was known of it stays. Others go on, and are mended.
    server.run::<()>(&["HSET", &keys.conversation(A, "1"), "snapshot", "[]", "rev", "2"]);
    put(&server, "5", 2, |snapshot| snapshot["last_message"]["preview"] = "still live".into());
    put(&server, "2", 8, |snapshot| snapshot["last_message"]["preview"] = "mended".into());
    put(&server, "3", 9, |_| ());
    let expected =
        [row("1", true, "hello"), row("2", false, "mended"), row("3", false, "hello"), row("4", true, ""), row("5", false, "still live")];
    until("the others live", || async { (rows(&get(&list).await.1) == expected).then_some(()) }).await;
    until("the strip counts them", || async { (get(&accounts).await.1["accounts"][0]["unreadable"] == 2).then_some(()) }).await;
    let page = client().get(served.url("/")).send().await.unwrap();
    let (status, html) = (page.status(), page.text().await.unwrap());
    assert_eq!(status, 200);
    assert!(html.contains("2 cannot be read") && html.matches("badge unreadable").count() == 2, "{html}");

    // Whoever opens it is told what is wrong, with the inbox beside it.
    let (status, answer) = get(&served.url("/api/v1/accounts/200000001/conversations/1")).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (502, Some("unreadable")));
    let page = client().get(served.url("/accounts/200000001/conversations/1")).send().await.unwrap();
    let (status, html) = (page.status(), page.text().await.unwrap());
    assert!(status == 502 && html.contains("It cannot be read now: unexpected content") && html.contains("still live"), "{html}");
    served.stop().await;
}

#[tokio::test]
async fn an_account_whose_state_cannot_be_read_keeps_its_conversations() {
    let server = RedisServer::start();
    put(&server, "1", 1, |_| ());
    let keys = Keys::new(&Config::default().redis).unwrap();
    server.run::<()>(&["HSET", &keys.account(A), "gap", "no JSON"]);
    let served = Served::start(&server.url(), |_| ()).await;
    let (status, answer) = get(&served.url("/api/v1/accounts")).await;
    let fault = answer["accounts"][0]["fault"].as_str().unwrap_or_default().to_owned();
    assert!(status == 200 && fault.contains("JSON that this version does not read"), "{answer}");
    let rows = rows(&get(&served.url("/api/v1/conversations")).await.1);
    assert_eq!(rows, [("1".to_owned(), false, "hello".to_owned())]);
    server.run::<()>(&["HDEL", &keys.account(A), "gap"]);
    until("it is mended", || async { get(&served.url("/api/v1/accounts")).await.1["accounts"][0].get("fault").is_none().then_some(()) })
        .await;
    served.stop().await;
}
