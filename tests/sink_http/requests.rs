//! What the receiver gets.

use super::*;
use cdr_tests::{facts, push_at, push_of, sample};

#[tokio::test]
async fn the_receiver_gets_the_very_bytes() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let samples = [
        ("cdr", "cdr/cdr-02-outbound-error-duplicate-duration.json"),
        ("cdr", "cdr/cdr-11-emoji-4-byte-utf8.json"),
        ("cdr", "cdr/cdr-12-huge-uui-64k.json"),
        ("cdr", "cdr/cdr-34-200-participants.json"),
        ("voicemail", "other-actions/voicemail-01-numeric-endpoint-user.json"),
    ];
    for (action, name) in samples {
        let push = push(action, sample(name));
        assert_eq!(receipt(&send(&sink, &push).await), "HTTP 200", "{name}");
        let received = crm.received().pop().unwrap();
        assert!(received.body == *push.body(), "{name}");
        assert_eq!(received.header("content-length"), Some(&*push.body().len().to_string()), "{name}");
        assert_eq!(received.header("transfer-encoding"), None, "{name}");
    }
}

#[tokio::test]
async fn a_request_says_what_it_is() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let body = r#"{"SessionId":"s"}"#;
    let with_uuid = cdr_core::Facts { uuid: Some("7b0c-1".into()), ..facts("cdr", body.as_bytes()) };
    receipt(&send(&sink, &push_at(42, with_uuid, body)).await);
    receipt(&send(&sink, &push("cdr", body)).await);
    let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
    assert_eq!((first.method.as_str(), first.uri.to_string()), ("POST", "/calls".to_owned()));
    assert_eq!(first.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(first.header("user-agent").unwrap().starts_with("cdr-gateway/"));
    assert_eq!(first.header("idempotency-key"), Some("c0ffee0000000001-42"));
    assert_eq!(first.header("x-tccc-push-uuid"), Some("7b0c-1"));
    assert_eq!(second.header("x-tccc-push-uuid"), None);
}

#[tokio::test]
async fn a_replay_says_so_and_is_the_same_push() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let push = push("cdr", r#"{"SessionId":"s"}"#);
    receipt(&send(&sink, &push).await);
    let delivery = cdr_core::Delivery { replay: true, ..batch([push]).first().clone() };
    let replayed = cdr_core::Batch::new(vec![delivery]).unwrap();
    receipt(&sink.deliver(&replayed).await);
    let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
    let marks = [&first, &second].map(|received| received.header("x-cdr-gateway-replay"));
    assert_eq!(marks, [None, Some("true")]);
    assert!(second.repeat, "the key is that of the push");
}

#[tokio::test]
async fn the_host_is_that_of_the_address_unless_a_header_names_another() {
    let crm = crm().await;
    receipt(&attempt(&sink(&crm.url(), json!({}))).await);
    receipt(&attempt(&sink(&crm.url(), json!({ "headers": { "Host": "crm.example.com" } }))).await);
    let received = crm.received();
    let hosts: Vec<_> = received.iter().map(|received| received.header("host")).collect();
    assert_eq!(hosts, [Some(&*crm.addr().to_string()), Some("crm.example.com")]);
}

#[tokio::test]
async fn every_attempt_on_a_push_bears_the_same_key_and_no_other_push_does() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let (one, other) = (push("cdr", r#"{"SessionId":"s"}"#), push("cdr", r#"{"SessionId":"s"}"#));
    for push in [&one, &one, &other] {
        receipt(&send(&sink, push).await);
    }
    assert_eq!((crm.kept(), crm.repeats()), (3, 1));
    let received = crm.received();
    assert_eq!(received.iter().map(|received| received.repeat).collect::<Vec<_>>(), [false, true, false]);
}

#[tokio::test]
async fn the_query_bears_action_and_version_on_request() {
    let crm = crm().await;
    let body = r#"{"SessionId":"s"}"#;
    let odd = cdr_core::Facts { version: Some("1&a=b c".into()), ..facts("cdr", body.as_bytes()) };
    let none = cdr_core::Facts { version: None, ..facts("voicemail", body.as_bytes()) };
    let sink = sink(&format!("{}?k=%20v", crm.url()), json!({ "keep_query": true }));
    for push in [push("videoCdr", body), push_of(odd, body), push_of(none, body)] {
        receipt(&send(&sink, &push).await);
    }
    let uris: Vec<_> = crm.received().iter().map(|received| received.uri.to_string()).collect();
    assert_eq!(
        uris,
        [
            "/calls?k=%20v&action=videoCdr&version=1",
            "/calls?k=%20v&action=cdr&version=1%26a%3Db+c",
            "/calls?k=%20v&action=voicemail",
        ]
    );
}

#[tokio::test]
async fn a_query_of_the_address_is_kept_and_nothing_is_added_unasked() {
    let crm = crm().await;
    let sink = sink(&format!("{}?k=v", crm.url()), json!({}));
    receipt(&attempt(&sink).await);
    assert_eq!(crm.received()[0].uri, "/calls?k=v");
}

#[tokio::test]
async fn logins_headers_method_and_content_type_are_as_set() {
    let crm = crm().await;
    let basic = json!({
        "auth": { "basic": { "username": "crm", "password": "pass:wörd" } },
        "headers": { "X-Tenant": "7" }, "method": "PUT", "content_type": "application/json",
    });
    receipt(&attempt(&sink(&crm.url(), basic)).await);
    receipt(&attempt(&sink(&crm.url(), json!({ "auth": { "bearer": "t0ken" }, "method": "PATCH" }))).await);
    let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
    // echo -n 'crm:pass:wörd' | base64
    assert_eq!(first.header("authorization"), Some("Basic Y3JtOnBhc3M6d8O2cmQ="));
    assert_eq!((first.header("x-tenant"), first.method.as_str()), (Some("7"), "PUT"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!((second.header("authorization"), second.method.as_str()), (Some("Bearer t0ken"), "PATCH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_side_by_side_do_not_mix() {
    let crm = crm().await;
    let sink = sink(&crm.url(), json!({}));
    let pushes: Vec<_> = (0..64).map(|n| push("cdr", format!(r#"{{"SessionId":"{n}"}}"#))).collect();
    let attempts = pushes.iter().cloned().map(|push| {
        let sink = Arc::clone(&sink);
        tokio::spawn(async move { receipt(&send(&sink, &push).await).to_owned() })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        assert_eq!(attempt.await.unwrap(), "HTTP 200");
    }
    let digests = crm.digests();
    assert_eq!((digests.len(), crm.kept(), crm.repeats()), (64, 64, 0));
    assert!(pushes.iter().all(|push| digests.get(&push.facts().sha256) == Some(&1)));
}
