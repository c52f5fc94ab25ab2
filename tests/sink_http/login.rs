//! Keys, tokens and signatures.

use super::*;
use base64::{Engine, prelude::BASE64_STANDARD};
use cdr_simulator::crm::{Behaviour, Received};

fn authorizations(crm: &Crm) -> Vec<String> {
    let received = crm.received();
    received.iter().map(|asked| asked.header("authorization").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn an_api_key_stands_in_a_header_or_a_parameter() {
    let crm = crm().await;
    let header = json!({ "auth": { "api_key": { "header": "X-Api-Key", "value": "k3y" } } });
    receipt(&attempt(&sink(&crm.url(), header)).await);
    let query = json!({
        "auth": { "api_key": { "query": "key", "value": "k 3&y" } }, "query": { "session": "{{SessionId}}" },
    });
    receipt(&attempt(&sink(&crm.url(), query)).await);
    let [first, second] = <[_; 2]>::try_from(crm.received()).unwrap();
    assert_eq!(first.header("x-api-key"), Some("k3y"));
    assert_eq!(second.uri, "/calls?key=k+3%26y&session=s");
}

/// A token endpoint that gives `t1`, `t2` and so on.
async fn endpoint(tokens: usize) -> Crm {
    let endpoint = crm().await;
    // Of several behaviours the newest counts.
    for number in (1..=tokens).rev() {
        let granted =
            json!({ "access_token": format!("t{number}"), "expires_in": "3600", "token_type": "Bearer" });
        endpoint.behave(Behaviour::status(200).body(granted.to_string()).times(1));
    }
    endpoint
}

fn oauth(endpoint: &Crm, more: Value) -> Value {
    let mut oauth2 =
        json!({ "token_url": endpoint.url(), "client_id": "gateway", "client_secret": "hunter2" });
    oauth2.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "auth": { "oauth2": oauth2 } })
}

fn form(asked: &Received) -> String {
    String::from_utf8(asked.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept() {
    let (crm, endpoint) = (crm().await, endpoint(1).await);
    let sink = sink(&crm.url(), oauth(&endpoint, json!({ "scope": "calls.write crm" })));
    let pushes: Vec<_> = (0..5).map(|_| push("cdr", r#"{"SessionId":"s"}"#)).collect();
    let reports = futures_util::future::join_all(pushes.iter().map(|push| send(&sink, push))).await;
    for report in &reports {
        receipt(report);
    }
    assert_eq!(authorizations(&crm), ["Bearer t1"; 5]);
    let [asked] = <[_; 1]>::try_from(endpoint.received()).unwrap();
    let expected =
        "grant_type=client_credentials&scope=calls.write+crm&client_id=gateway&client_secret=hunter2";
    assert_eq!((form(&asked).as_str(), asked.method.as_str()), (expected, "POST"));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn a_refresh_token_and_other_ways_of_saying_it() {
    let (crm, endpoint) = (crm().await, endpoint(1).await);
    let more = json!({ "refresh_token": "r3fresh", "credentials_in": "basic", "scheme": "Zoho-oauthtoken" });
    receipt(&attempt(&sink(&crm.url(), oauth(&endpoint, more))).await);
    assert_eq!(authorizations(&crm), ["Zoho-oauthtoken t1"]);
    let asked = &endpoint.received()[0];
    assert_eq!(form(asked), "grant_type=refresh_token&refresh_token=r3fresh");
    // echo -n 'gateway:hunter2' | base64
    assert_eq!(asked.header("authorization"), Some("Basic Z2F0ZXdheTpodW50ZXIy"));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_no_more() {
    let (crm, endpoint) = (crm().await, endpoint(3).await);
    let sink = sink(&crm.url(), oauth(&endpoint, json!({})));
    receipt(&attempt(&sink).await);
    crm.behave(Behaviour::status(401).times(1));
    assert_eq!(receipt(&attempt(&sink).await), "HTTP 200");
    assert_eq!(authorizations(&crm), ["Bearer t1", "Bearer t1", "Bearer t2"]);
    crm.behave(Behaviour::status(401).times(2));
    away(&attempt(&sink).await);
    assert_eq!(authorizations(&crm)[3..], ["Bearer t2", "Bearer t3"]);
    assert_eq!(crm.kept(), 2);
}

#[tokio::test]
async fn without_a_token_the_receiver_is_away_and_no_secret_is_told() {
    let (crm, mut endpoint) = (crm().await, endpoint(0).await);
    let sink = sink(&crm.url(), oauth(&endpoint, json!({})));
    let refused = [
        (
            400,
            r#"{"error":"invalid_client"}"#,
            "answered 400 Bad Request with invalid_client; check auth.oauth2",
        ),
        (200, r#"{"error":"invalid_code"}"#, "answered 200 OK with invalid_code; check auth.oauth2"),
        (401, r#"{"error":"bad hunter2"}"#, "answered 401 Unauthorized; check auth.oauth2"),
        (500, "<html>", "answered 500 Internal Server Error; check auth.oauth2"),
    ];
    for (status, body, told) in refused {
        endpoint.behave(Behaviour::status(status).body(body).header("retry-after", "7").times(1));
        let report = attempt(&sink).await;
        let origin = format!("auth: no token: http://{} ", endpoint.addr());
        assert_eq!(away(&report).reason, origin + told);
        assert_eq!(away(&report).retry_after, Some(std::time::Duration::from_secs(7)));
    }
    endpoint.go_away().await;
    let reason = format!("auth: no token: nobody listens at {}", endpoint.addr());
    assert_eq!(away(&attempt(&sink).await).reason, reason);
    assert_eq!(crm.received().len(), 0);
}

#[tokio::test]
async fn a_signature_is_of_the_standard_and_of_both_keys() {
    use hmac::{Hmac, KeyInit, Mac};
    let crm = crm().await;
    let keys = [[1_u8; 32], [2; 32]];
    let [secret, previous] = keys.map(|key| format!("whsec_{}", BASE64_STANDARD.encode(key)));
    let settings =
        json!({ "signature": { "standard_webhooks": { "secret": secret, "previous": previous } } });
    receipt(&attempt(&sink(&crm.url(), settings)).await);
    let received = &crm.received()[0];
    let [id, timestamp, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| received.header(name).unwrap());
    assert_eq!(Some(id), received.header("idempotency-key"));
    assert!((jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap()).abs() < 60);
    let expected = keys.map(|key| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(&received.body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    });
    assert_eq!(signature, expected.join(" "));
}

#[tokio::test]
async fn a_token_endpoint_that_never_answers_is_away_and_no_push_is_at_fault() {
    let (crm, endpoint) = (crm().await, crm().await);
    endpoint.behave(Behaviour::hang());
    let mut settings = oauth(&endpoint, json!({}));
    settings["timeout"] = json!("200ms");
    let sink = sink(&crm.url(), settings);
    // One asks, and the others wait for its token.
    let reports = futures_util::future::join_all([attempt(&sink), attempt(&sink), attempt(&sink)]).await;
    let expected =
        format!("auth: no token: http://{} did not answer in time; check auth.oauth2", endpoint.addr());
    reports.iter().for_each(|report| assert_eq!(away(report).reason, expected));
    assert_eq!(crm.received().len(), 0);
}
