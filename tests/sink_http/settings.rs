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
