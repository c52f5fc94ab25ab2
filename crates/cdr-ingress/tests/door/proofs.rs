//! Who may push, by clients that are not ours: openssl, curl, and the library of Standard Webhooks.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::Engine;
use cdr_ingress::Verdict;
use serde_json::{Value, json};

use crate::{
    client::{Answer, CDR, Client, push, send},
    store::House,
};

const TARGET: &str = "/?action=cdr&version=1";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

async fn house(proof: Value) -> House {
    House::open(json!({ "verify": [proof] })).await
}

/// What a program says to this input.
async fn says(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        use std::io::Write;
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The digest as openssl writes it, in hex.
async fn openssl(arguments: &[&str], input: &str) -> String {
    let arguments = [&["dgst", "-r"], arguments].concat();
    says("openssl", &arguments, input).await.split(' ').next().unwrap().to_owned()
}

fn body_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).expect("JSON")
}

#[tokio::test]
async fn a_token_in_the_push_url_is_enough() {
    let token = "0123456789abcdef";
    let house = house(json!({ "token": { "query": "token", "value": token } })).await;
    let address = house.door.address();
    let target = |token: &str| format!("/?token={token}?action=cdr&version=1");
    send(address, push(&target(token), &[], CDR)).await.is_ok();
    let missing = send(address, push(TARGET, &[], CDR)).await;
    missing.is(401, "a token in the query parameter token is expected");
    assert!(missing.headers["www-authenticate"].starts_with("Bearer"));
    send(address, push(&target("fedcba9876543210"), &[], CDR)).await.is(401, "wrong token");
    assert_eq!((house.count(Verdict::NoProof), house.count(Verdict::WrongProof)), (1, 1));
    assert_eq!(house.store.bodies().len(), 1);
}

const SECRET: &str = "a+secret/of ours";

fn oauth2(settings: Value) -> Value {
    let mut all = json!({ "client_id": "tccc", "client_secret": SECRET });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    json!({ "oauth2": all })
}

/// Asks for a token as curl does it.
async fn curl(address: SocketAddr, arguments: &[&str]) -> Value {
    let url = format!("http://{address}/oauth2/token?action=cdr&version=1");
    let said = says("curl", &[&["-sS", url.as_str()], arguments].concat(), "").await;
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
}

fn bearer(token: &Value) -> String {
    format!("Authorization: Bearer {}", token["access_token"].as_str().expect("a token"))
}

#[tokio::test]
async fn curl_gets_a_token_in_each_way_and_pushes_with_it() {
    let house = house(oauth2(json!({ "lifetime": "1h" }))).await;
    let address = house.door.address();
    let login = format!("tccc:{SECRET}");
    let secret = format!("client_secret={SECRET}");
    let json = json!({ "grant_type": "client_credentials", "client_id": "tccc", "client_secret": SECRET });
    for arguments in [
        vec!["-u", &login, "-d", "grant_type=client_credentials&scope=push"],
        vec!["-d", "grant_type=client_credentials", "-d", "client_id=tccc", "--data-urlencode", &secret],
        vec!["-H", "Content-Type: application/json", "-d", &json.to_string()],
    ] {
        let token = curl(address, &arguments).await;
        assert_eq!((&token["token_type"], &token["expires_in"]), (&"Bearer".into(), &3600.into()));
        send(address, push(TARGET, &[&bearer(&token)], CDR)).await.is_ok();
    }
    assert_eq!(house.count(Verdict::Token), 3);
    let wrong = curl(address, &["-u", "tccc:wrong", "-d", "grant_type=client_credentials"]).await;
    assert_eq!(wrong["error"], "invalid_client");
    assert_eq!(house.count(Verdict::WrongProof), 1);
}

/// Asks for a token with these lines in the head.
async fn ask(address: SocketAddr, lines: &[&str], body: &str) -> Answer {
    send(address, push("/oauth2/token", lines, body)).await
}

fn login(secret: &str) -> String {
    format!("Authorization: Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("tccc:{secret}")))
}

#[tokio::test]
async fn the_token_endpoint_answers_as_rfc_6749_has_it() {
    let house = house(oauth2(json!({}))).await;
    let address = house.door.address();
    let right = login(SECRET);
    let given = ask(address, &[&right], "grant_type=client_credentials").await;
    assert_eq!((given.status, given.headers["cache-control"].as_str()), (200, "no-store"));
    assert_eq!(given.headers["content-type"], "application/json");
    for (lines, body, status, error) in [
        (vec![], "grant_type=client_credentials", 401, "invalid_client"),
        (vec![login("wrong")], "grant_type=client_credentials", 401, "invalid_client"),
        (vec![right.clone()], "grant_type=password", 400, "unsupported_grant_type"),
        (vec![right.clone()], "", 400, "invalid_request"),
        (vec![right.clone()], "{", 400, "invalid_request"),
        (vec![right.clone()], &"x".repeat(9000), 400, "invalid_request"),
    ] {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = ask(address, &lines, body).await;
        assert_eq!((answer.status, &body_of(&answer)["error"]), (status, &error.into()), "{answer:?}");
        assert!(
            answer.headers.contains_key("cache-control") && body_of(&answer)["error_description"].is_string()
        );
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    let counts = [Verdict::Token, Verdict::NoProof, Verdict::WrongProof, Verdict::TokenRequest];
    assert_eq!(counts.map(|verdict| house.count(verdict)), [1, 1, 1, 4]);
    let get = send(address, "GET /oauth2/token HTTP/1.1\r\nHost: x\r\n\r\n").await;
    get.is(405, "POST");
}

#[tokio::test]
async fn a_client_with_a_wrong_secret_in_the_head_is_not_read_further() {
    let house = house(oauth2(json!({}))).await;
    let mut client = Client::connect(house.door.address()).await;
    let request =
        push("/oauth2/token", &[&login("wrong"), "Expect: 100-continue"], "grant_type=client_credentials");
    client.write(request.split("grant_type").next().unwrap()).await;
    assert_eq!(client.answer().await.status, 401);
}

#[tokio::test]
async fn where_nobody_may_have_tokens_there_is_no_token_endpoint() {
    let house = House::open(json!({})).await;
    ask(house.door.address(), &[&login(SECRET)], "grant_type=client_credentials")
        .await
        .is(404, "nothing is here");
}

#[tokio::test]
async fn the_token_endpoint_is_below_a_secret_path() {
    let house = House::open(json!({ "path": "/push/x/", "verify": [oauth2(json!({}))] })).await;
    let address = house.door.address();
    let body = "grant_type=client_credentials";
    ask(address, &[&login(SECRET)], body).await.is(404, "nothing is here");
    assert_eq!(send(address, push("/push/x/oauth2/token", &[&login(SECRET)], body)).await.status, 200);
}

#[tokio::test]
async fn a_wrong_access_token_is_a_401_as_rfc_6750_has_it() {
    let house = house(oauth2(json!({}))).await;
    let address = house.door.address();
    let missing = send(address, push(TARGET, &[], CDR)).await;
    missing.is(401, "OAuth 2.0 is expected: set token URL, ClientID and ClientSecret");
    assert_eq!(missing.headers["www-authenticate"], r#"Bearer realm="cdr-gateway""#);
    let wrong = send(address, push(TARGET, &["Authorization: Bearer AAAA"], CDR)).await;
    wrong.is(401, "wrong access token");
    assert_eq!(wrong.headers["www-authenticate"], r#"Bearer realm="cdr-gateway", error="invalid_token""#);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_work_on_other_nodes_and_of_several_clients() {
    let other = json!({ "oauth2": { "client_id": "other", "client_secret": "another secret of ours" } });
    let both = json!({ "verify": [other, oauth2(json!({}))] });
    let (one, two) = (House::open(both.clone()).await, House::open(both).await);
    let body = "grant_type=client_credentials&client_id=other&client_secret=another+secret+of+ours";
    for request in [
        push("/oauth2/token", &[], body),
        push("/oauth2/token", &[&login(SECRET)], "grant_type=client_credentials"),
    ] {
        let token = body_of(&send(one.door.address(), request).await);
        send(two.door.address(), push(TARGET, &[&bearer(&token)], CDR)).await.is_ok();
    }
}

#[tokio::test]
async fn after_its_lifetime_and_grace_a_token_is_stale() {
    let house = house(oauth2(json!({ "lifetime": "1s", "grace": "0s" }))).await;
    let address = house.door.address();
    let token = body_of(&ask(address, &[&login(SECRET)], "grant_type=client_credentials").await);
    let deadline = now() + 10;
    loop {
        let answer = send(address, push(TARGET, &[&bearer(&token)], CDR)).await;
        if answer.status == 401 {
            answer.is(401, "the access token has expired");
            assert!(answer.headers["www-authenticate"].ends_with(r#"error="invalid_token""#));
            break;
        }
        assert!(now() < deadline, "it never ends");
    }
    assert_eq!(house.count(Verdict::StaleProof), 1);
}

#[tokio::test]
async fn what_the_library_of_standard_webhooks_signs_passes() {
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==";
    let house = house(json!({ "signature": { "preset": "standard-webhooks", "key": key } })).await;
    let address = house.door.address();
    let sign = |time: i64, body: &str| {
        let signature =
            standardwebhooks::Webhook::new(key).unwrap().sign("msg_1", time, body.as_bytes()).unwrap();
        [
            "webhook-id: msg_1".to_owned(),
            format!("webhook-timestamp: {time}"),
            format!("webhook-signature: {signature}"),
        ]
    };
    let with = |lines: [String; 3], body: &str| push(TARGET, &lines.each_ref().map(String::as_str), body);
    send(address, with(sign(now(), CDR), CDR)).await.is_ok();
    send(address, with(sign(now(), CDR), &CDR.replace("s-1", "s-2"))).await.is(401, "wrong signature");
    send(address, with(sign(now() - 400, CDR), CDR)).await.is(401, "the signature is of another time");
    send(address, push(TARGET, &[], CDR))
        .await
        .is(401, "a signature in the header webhook-signature is expected");
    let counts = [Verdict::Stored, Verdict::WrongProof, Verdict::StaleProof, Verdict::NoProof];
    assert_eq!(counts.map(|verdict| house.count(verdict)), [1, 1, 1, 1]);
}

#[tokio::test]
async fn what_openssl_signs_passes_and_a_changed_body_does_not() {
    let key = "a key of two parties";
    let hmac = openssl(&["-sha256", "-hmac", key], CDR).await;
    let seeded = openssl(&["-sha256"], &format!("{key}{CDR}")).await;
    let base64 = base64::prelude::BASE64_STANDARD.encode(hex_decoded(&hmac));
    let of_sha1 = openssl(&["-sha1", "-hmac", key], &format!("v0:7:{CDR}")).await;
    let own = json!({ "key": key, "header": "X-Sig", "hash": "sha1", "prefix": "v0=", "signed": "v0:{header:X-Id}:{body}" });
    for (settings, lines) in [
        (
            json!({ "preset": "trtc", "key": key }),
            vec![format!("Sign: {base64}"), "SdkAppId: 1400000214".to_owned()],
        ),
        (json!({ "preset": "github", "key": key }), vec![format!("X-Hub-Signature-256: sha256={hmac}")]),
        (json!({ "preset": "moderation", "key": key }), vec![format!("X-Signature: {seeded}")]),
        (own, vec![format!("X-Sig: v0={of_sha1}"), "X-Id: 7".to_owned()]),
    ] {
        let house = house(json!({ "signature": settings })).await;
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        send(house.door.address(), push(TARGET, &lines, CDR)).await.is_ok();
        let changed = CDR.replace("s-1", "s-2");
        send(house.door.address(), push(TARGET, &lines, &changed)).await.is(401, "wrong signature");
        assert_eq!(house.store.only().body, CDR);
    }
}

fn hex_decoded(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

#[tokio::test]
async fn signatures_in_query_and_body_pass_as_openssl_makes_them() {
    let end = now() + 600;
    let md5 = openssl(&["-md5"], &format!("key{end}")).await;
    let body = |sign: &str, end_name: &str| json!({ "SessionId": "s", sign: md5, end_name: end }).to_string();
    let time = now();
    let of_im = openssl(&["-sha256"], &format!("key{time}")).await;
    let target = format!("/?Sign={of_im}&RequestTime={time}?action=cdr&version=1");
    for (preset, target, body) in [
        ("css", TARGET, body("sign", "t")),
        ("tiw", TARGET, body("Sign", "ExpireTime")),
        ("im", target.as_str(), CDR.to_owned()),
    ] {
        let house = house(json!({ "signature": { "preset": preset, "key": "key" } })).await;
        send(house.door.address(), push(target, &[], &body)).await.is_ok();
        let wrong = body.replace(&md5, &reversed(&md5));
        let target = target.replace(&of_im, &reversed(&of_im));
        send(house.door.address(), push(&target, &[], &wrong)).await.is(401, "wrong signature");
    }
}

#[tokio::test]
async fn the_body_of_somebody_unknown_is_neither_kept_nor_told_about() {
    let house = house(json!({ "signature": { "preset": "github", "key": "key" } })).await;
    let line = format!("X-Hub-Signature-256: sha256={}", "0".repeat(64));
    for body in ["no json", "{}", CDR] {
        send(house.door.address(), push(TARGET, &[&line], body)).await.is(401, "wrong signature");
    }
    assert!(house.store.bodies().is_empty() && house.store.quarantine.lock().unwrap().is_empty());
    let mut client = Client::connect(house.door.address()).await;
    let head = push(TARGET, &["X-Hub-Signature-256: sha256=12", "Expect: 100-continue"], CDR);
    client.write(&head[..head.len() - CDR.len()]).await;
    client.answer().await.is(401, "wrong signature");
}
