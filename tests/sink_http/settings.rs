//! What the settings may say.

use super::*;

/// The faults of these settings, as the operator reads them.
fn faults(settings: Value) -> Vec<String> {
    let faults = build::<HttpSettings>(settings).err().expect("faulty settings");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn building_needs_no_runtime() {
    let sink = sink("https://crm.example.com/hooks/s3cret?key=s3cret", json!({}));
    assert_eq!(sink.describe(), "sends each push to https://crm.example.com:443 by POST");
}

#[test]
fn all_faults_come_at_once() {
    let settings = json!({
        "url": "ftp://crm.example.com", "timeout": "0s", "content_type": "a\nb",
        "auth": { "basic": { "username": "a:b", "password": "p" } },
        "headers": { "Idempotency-Key": "1", "a b": "c", "Authorization": "d", "X-Fine": "e\n" },
    });
    let faults = faults(settings);
    let places: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "url",
            "content_type",
            "auth.basic.username",
            "headers.Authorization",
            "headers.Idempotency-Key",
            "headers.X-Fine",
            "headers.a b",
            "timeout",
        ],
        "{faults:#?}"
    );
}

#[test]
fn an_attempt_ends_before_its_lane_cuts_it_off() {
    assert!(build::<HttpSettings>(json!({ "url": "http://h/", "timeout": "100s" })).is_ok());
    let expected = "timeout: a timeout is at most 100s: the lane ends an attempt after 120s";
    assert_eq!(faults(json!({ "url": "http://h/", "timeout": "101s" })), [expected]);
}

#[test]
fn faults_of_logins_are_told_with_their_places() {
    let places = |mut settings: Value| {
        settings["url"] = json!("http://h/");
        let faults = faults(settings);
        faults.iter().map(|fault| fault.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let api_key = |key: Value| places(json!({ "auth": { "api_key": key } }));
    assert_eq!(api_key(json!({ "value": "k" })), ["auth.api_key"]);
    assert_eq!(api_key(json!({ "value": "k", "header": "a", "query": "b" })), ["auth.api_key"]);
    assert_eq!(api_key(json!({ "value": "k", "header": "a b" })), ["auth.api_key.header"]);
    let oauth2 = json!({ "token_url": "crm", "client_id": "a" });
    assert_eq!(places(json!({ "auth": { "oauth2": oauth2 } })), ["auth.oauth2", "auth.oauth2.token_url"]);
    assert_eq!(places(json!({ "tls": { "key": "a.pem" } })), ["tls"]);
    assert_eq!(places(json!({ "proxy": "socks5://h:1" })), ["proxy"]);
    let signature = json!({ "standard_webhooks": { "secret": "short", "previous": "bad!" } });
    let expected = ["signature.standard_webhooks.secret", "signature.standard_webhooks.previous"];
    assert_eq!(places(json!({ "signature": signature })), expected);
    let batch = json!({
        "batch": { "pushes": 0, "age": "2h" }, "keep_query": true, "path": "/{{SessionId}}", "query": { "a": "{{SessionId}}" },
    });
    assert_eq!(places(batch), ["batch.pushes", "batch.age", "batch", "batch", "batch"]);
    let twice = json!({
        "auth": { "api_key": { "header": "X-Key", "value": "k" } }, "headers": { "x-key": "k", "Authorization": "fine" },
    });
    assert_eq!(places(twice), ["headers.x-key"]);
}

#[test]
fn what_no_address_may_hold_is_named() {
    let fault = |url: &str| faults(json!({ "url": url })).join("; ");
    assert!(fault("http://crm:hunter2@crm.example.com/").contains("use auth"));
    assert!(!fault("http://crm:hunter2@crm.example.com/").contains("hunter2"));
    assert!(!fault("http://crm:hunter2@:/").contains("hunter2"));
    assert!(fault("crm.example.com/calls").contains("expected something like https://"));
    assert!(fault("http://crm.example.com/#calls").contains('#'));
}

#[test]
fn misspelled_settings_are_told_with_the_nearest_name() {
    let faults =
        faults(json!({ "url": "http://h/", "tiemout": "3s", "method": "post", "auth": { "basci": {} } }));
    let has = |text: &str| assert!(faults.iter().any(|fault| fault.contains(text)), "{text}: {faults:#?}");
    has(r#"did you mean "timeout"?"#);
    has(r#"did you mean "POST"?"#);
    has(r#"did you mean "basic"?"#);
}

#[test]
fn faults_of_expressions_are_told_with_their_places() {
    let settings = json!({
        "url": "http://h/{{SessionId}}",
        "lock": "custmer",
        "headers": { "X-A": "{{Caler}}" },
        "body": { "a": 1 },
        "steps": [
            {
                "name": "a", "path": "contacts", "query": { "q": ["x"], "r": "{{" }, "body": "row",
                "take": { "Caller": "body.id", "in": "body.id", "id": "bdy.id" },
            },
            {
                "name": "a", "path": "/x?y=1", "needs": ["idd"], "when": "id ==",
                "body": { "list": [{ "b": "{{statu}} {{status}}" }, "{{id}}"] },
                "success": { "when": "status == '200'" }, "already_there": "1", "classify": [{ "when": "x", "as": "retry" }],
                "find": { "found": "boddy == 1" },
            },
            { "name": "b" },
        ],
    });
    let faults = faults(settings);
    let places: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "url",
            "headers.X-A",
            "lock",
            "body",
            "steps.0.body",
            "steps.0.path",
            "steps.0.query.q",
            "steps.0.query.r",
            "steps.0.take.Caller",
            "steps.0.take.id",
            "steps.0.take.in",
            "steps.1.name",
            "steps.1.find",
            "steps.1.needs",
            "steps.1.body.list.0.b",
            "steps.1.body.list.0.b",
            "steps.1.path",
            "steps.1.when",
            "steps.1.classify.0.when",
            "steps.1.already_there",
            "steps.1.success.when",
            "steps.1.find.found",
        ],
        "{faults:#?}"
    );
    let has = |text: &str| assert!(faults.iter().any(|fault| fault.contains(text)), "{text}: {faults:#?}");
    has(r#"in {{Caler}}: there is no field "Caler", did you mean "Caller"? (column 1)"#);
    has(r#"unknown name taken by an earlier step "idd", did you mean "id"?"#);
    has(r#"did you mean "body"?"#);
}

#[tokio::test]
async fn no_secret_is_in_any_error() {
    use cdr_simulator::crm::Behaviour;
    let mut crm = crm().await;
    let url = format!("{}/hunter2-hook?key=hunter2", crm.url());
    let settings = json!({
        "auth": { "basic": { "username": "crm", "password": "hunter2" } }, "headers": { "X-Key": "hunter2" },
        "timeout": "100ms",
    });
    let sink = sink(&url, settings);
    let mut told = vec![sink.describe()];
    for status in [200, 204, 307, 400, 401, 403, 404, 413, 429, 500, 503] {
        crm.behave(Behaviour::status(status).times(1));
        told.push(format!("{:?}", attempt(&sink).await));
    }
    // echo -n 'crm:hunter2' | base64
    let echo = format!("{}hunter2 Y3JtOmh1bnRlcjI= hunter2", "x".repeat(500));
    crm.behave(Behaviour::status(500).body(echo).times(1));
    let report = attempt(&sink).await;
    assert!(retry(&report).excerpt.starts_with("xxx"));
    told.push(format!("{report:?}"));
    for behaviour in [Behaviour::hang(), Behaviour::cut_after_reading(), Behaviour::break_off(200, "{")] {
        crm.behave(behaviour.times(1));
        told.push(format!("{:?}", attempt(&sink).await));
    }
    crm.go_away().await;
    told.push(format!("{:?} {:?}", attempt(&sink).await, sink.probe().await));
    told.extend(faults(json!({ "url": "http://h/", "auth": { "bearer": "hunter2\n" } })));
    told.extend(faults(json!({ "url": "http://h/", "auth": { "bearer": ["hunter2"] } })));
    for text in told {
        // echo -n 'crm:hunter2' | base64
        assert!(!text.contains("hunter2") && !text.contains("Y3JtOmh1bnRlcjI"), "{text}");
    }
}
