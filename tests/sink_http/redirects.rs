//! Redirects: a call and its login go nowhere that the settings do not name.

use super::*;
use cdr_simulator::crm::Behaviour;

fn following(crm: &Crm) -> Arc<dyn AnySink> {
    sink(&crm.url(), json!({ "redirects": "follow", "auth": { "bearer": "s3cret-token" } }))
}

#[tokio::test]
async fn a_redirect_is_not_followed_unless_that_is_set_and_the_reason_says_so() {
    let crm = crm().await;
    crm.behave(Behaviour::status(308).header("location", "/s3cret-hook?token=s3cret"));
    let report = attempt(&sink(&crm.url(), json!({}))).await;
    let expected = "the receiver answered 308 Permanent Redirect to another path; correct url or path, or set redirects: follow";
    assert_eq!(away(&report).reason, expected);
    assert_eq!(crm.received().len(), 1);
}

#[tokio::test]
async fn what_is_followed_keeps_method_body_key_and_login() {
    let crm = crm().await;
    // As a URL, with somebody else's idea of who we are.
    let whole = format!("http://eve:pass@{}/calls/2?a=b%20c#top", crm.addr());
    crm.behave(Behaviour::status(308).header("location", &whole).only_at("POST /calls/1"));
    crm.behave(Behaviour::status(307).header("location", "calls/1").only_at("POST /calls"));
    assert_eq!(receipt(&attempt(&following(&crm)).await), "HTTP 200");
    let received = crm.received();
    let targets: Vec<String> = received.iter().map(|asked| asked.uri.to_string()).collect();
    assert_eq!(targets, ["/calls", "/calls/1", "/calls/2?a=b%20c"]);
    for asked in &received {
        assert_eq!((asked.method.as_str(), &asked.body), ("POST", &received[0].body));
        assert_eq!(asked.header("authorization"), Some("Bearer s3cret-token"));
        assert_eq!(asked.header("idempotency-key"), received[0].header("idempotency-key"));
        assert_eq!(asked.from, received[0].from, "the connection is used again");
    }
    assert_eq!(crm.kept(), 1);
}

#[tokio::test]
async fn neither_call_nor_login_follows_to_another_host() {
    let (crm, other) = (crm().await, crm().await);
    for location in [
        format!("http://user:s3cret-password@{}/s3cret-hook", other.addr()),
        format!("//{}/s3cret-hook", other.addr()),
        format!("https://{}/s3cret-hook", crm.addr()),
        "http://169.254.169.254/s3cret-hook".to_owned(),
    ] {
        crm.behave(Behaviour::status(307).header("location", &location).times(1));
        let report = attempt(&following(&crm)).await;
        let reason = &away(&report).reason;
        assert!(
            reason.ends_with("; it is not followed, as the login would go along: correct url"),
            "{reason}"
        );
        assert!(!reason.contains("s3cret") && !reason.contains("user"), "{reason}");
    }
    crm.behave(Behaviour::status(307).header("location", &other.url()).times(1));
    let report = attempt(&following(&crm)).await;
    assert!(away(&report).reason.contains(&format!(" to http://{};", other.addr())), "{report:?}");
    assert_eq!((other.received().len(), crm.received().len()), (0, 5));
}

#[tokio::test]
async fn a_redirect_that_would_lose_the_call_is_not_followed() {
    let crm = crm().await;
    let expected = " to another path; only 307 and 308 keep method and body: correct url or path";
    crm.behave(Behaviour::status(301).header("location", "/calls/").times(1));
    let report = attempt(&following(&crm)).await;
    assert!(away(&report).reason.ends_with(expected), "{report:?}");
    for status in [302, 303] {
        crm.behave(Behaviour::status(status).header("location", "/calls/").times(1));
        let report = attempt(&following(&crm)).await;
        assert!(retry(&report).reason.contains(expected), "{report:?}");
    }
    assert_eq!(crm.received().len(), 3);
}

#[tokio::test]
async fn a_receiver_that_stores_and_leads_on_gets_no_copy_at_every_probe() {
    let crm = crm().await;
    let leads_on =
        |status| Behaviour::status(status).header("location", "https://other.example.com/s3cret?ok");
    for (status, words) in [(302, "302 Found"), (303, "303 See Other")] {
        crm.behave(leads_on(status).keeping().times(1));
        let expected = format!(
            "the receiver answered {words} to https://other.example.com; it is not followed, as the login would go along: correct url; \
             or, if that is how it says that it took the call, set classify: [{{ when: \"status == {status}\", as: delivered }}]"
        );
        assert_eq!(retry(&attempt(&sink(&crm.url(), json!({}))).await).reason, expected);
        let when = format!("status == {status}");
        let told = sink(&crm.url(), json!({ "classify": [{ "when": when, "as": "delivered" }] }));
        crm.behave(leads_on(status).times(1));
        assert_eq!(receipt(&attempt(&told).await), format!("HTTP {status}"));
    }
    let of_script =
        r#"status == 302 && headers.location.startsWith("https://script.googleusercontent.com/")"#;
    let script = sink(
        &crm.url(),
        json!({ "classify": [{ "when": of_script, "as": "delivered" }], "success": { "when": "status == 302" } }),
    );
    for location in ["https://script.googleusercontent.com/macros/echo?x", "https://accounts.google.com/"] {
        crm.behave(Behaviour::status(302).header("location", location).times(1));
        let report = attempt(&script).await;
        let is_taken = matches!(report.outcomes(), [Outcome::Delivered(_)]);
        assert_eq!(is_taken, location.contains("googleusercontent"), "{report:?}");
    }
    crm.behave(Behaviour::status(200).body("<html>TypeError").times(1));
    retry(&attempt(&script).await);
    // Asking stores nothing: a login page is in the way.
    for settings in [json!({ "method": "GET" }), json!({ "find": { "found": "status == 200" } })] {
        crm.behave(leads_on(302).only_at("GET /calls").times(1));
        away(&attempt(&sink(&crm.url(), settings)).await);
    }
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let crm = crm().await;
    crm.behave(Behaviour::status(307).header("location", "/calls"));
    let report = attempt(&following(&crm)).await;
    assert!(away(&report).reason.ends_with(" after 5 others, as in a circle; check url"), "{report:?}");
    assert_eq!(crm.received().len(), 6);
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_told() {
    let endless = format!("location: http://{}/\r\n", "a".repeat(60_000));
    for location in
        ["", "location: http://[\r\n", "location: javascript:alert(1)\r\n", "location: \u{e9}\r\n", &endless]
    {
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\n{location}content-length: 0\r\n\r\n");
        let url = crude(answer.leak().as_bytes()).await;
        let report = attempt(&sink(&url, json!({ "redirects": "follow" }))).await;
        assert_eq!(
            away(&report).reason,
            "the receiver answered 307 Temporary Redirect; check url",
            "{location}"
        );
    }
}
