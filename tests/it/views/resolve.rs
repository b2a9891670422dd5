//! Messages and deletes that learn of each other.

use convpipe::schema::time::Millis;
use convpipe::transform::resolve::Claims;
use convpipe::views::Writer;

use super::{ACCOUNT, T0, claims, start};

#[tokio::test]
async fn messages_and_deletes_learn_of_each_other_in_any_order() {
    let (_server, _, writer, _) = start().await;
    let m = "6400000000001";
    /// What is claimed, and for messages and deletes what is answered.
    type Step<'a> = (&'a str, Claims, Vec<Option<i64>>, Vec<Option<&'a str>>);
    let steps: [Step<'_>; 8] = [
        ("a message alone", claims(&[(m, "fan")], &[]), vec![None], vec![]),
        ("its delete", claims(&[], &[(m, T0)]), vec![], vec![Some("fan")]),
        ("the delete again, later", claims(&[], &[(m, T0 + 5)]), vec![], vec![Some("fan")]),
        ("the message again", claims(&[(m, "fan")], &[]), vec![Some(T0)], vec![]),
        ("a delete first", claims(&[], &[("7", T0), ("8", T0)]), vec![], vec![None, None]),
        ("the delete again, earlier", claims(&[], &[("7", T0 - 9)]), vec![], vec![None]),
        ("then the message, among others", claims(&[("6", "x"), ("7", "y"), ("9", "z")], &[]), vec![None, Some(T0 - 9), None], vec![]),
        ("both at once", claims(&[("n:\n{1}", "a:\nb")], &[("n:\n{1}", T0)]), vec![Some(T0)], vec![Some("a:\nb")]),
    ];
    for (what, claims, deleted_at, conversations) in steps {
        for again in [false, true] {
            let resolved = writer.resolve(std::slice::from_ref(&claims)).await.unwrap().remove(0);
            assert_eq!(resolved.deleted_at.iter().map(|at| at.map(|at| at.0)).collect::<Vec<_>>(), deleted_at, "{what}, again: {again}");
            assert_eq!(resolved.conversations.iter().map(Option::as_deref).collect::<Vec<_>>(), conversations, "{what}, again: {again}");
        }
    }
    assert_eq!(writer.resolve(&[]).await.unwrap().len(), 0);
    assert_eq!(writer.resolve(&[claims(&[], &[])]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn claims_beyond_one_call_and_many_deletes_resolve() {
    let (_server, _, writer, _) = start().await;
    // More tombstones in the range than the one look of the script takes in.
    let ids: Vec<String> = (0..2500).map(|id| (6_400_000_000_000u64 + id).to_string()).collect();
    let deletes: Vec<(String, Millis)> = ids.iter().step_by(2).map(|id| (id.clone(), Millis(T0))).collect();
    writer.resolve(&[Claims { account: ACCOUNT.into(), deletes, ..Claims::default() }]).await.unwrap();
    let messages: Vec<(String, String)> = ids.iter().map(|id| (id.clone(), format!("of {id}"))).collect();
    let other = Claims { account: "other".into(), messages: messages[..1].to_vec(), ..Claims::default() };
    let resolved = writer.resolve(&[Claims { account: ACCOUNT.into(), messages, ..Claims::default() }, other]).await.unwrap();
    for (number, at) in resolved[0].deleted_at.iter().enumerate() {
        assert_eq!(at.is_some(), number % 2 == 0, "message {number}");
    }
    assert_eq!(resolved[1].deleted_at, [None], "accounts share nothing");
}

#[tokio::test]
async fn a_message_and_its_delete_on_two_workers_meet() {
    let (_server, config, _, _) = start().await;
    let (left, right) = (Writer::connect(&config).await.unwrap(), Writer::connect(&config).await.unwrap());
    for round in 0..100 {
        let id = format!("{}", 6_400_000_000_000u64 + round);
        let (message, delete) = ([claims(&[(&id, "fan")], &[])], [claims(&[], &[(&id, T0)])]);
        let (seen, told) = tokio::join!(left.resolve(&message), right.resolve(&delete));
        let (seen, told) = (seen.unwrap()[0].deleted_at[0].is_some(), told.unwrap()[0].conversations[0].is_some());
        assert!(seen ^ told, "round {round}: exactly the second of the two learns of the first");
    }
}
