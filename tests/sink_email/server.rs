//! What becomes of a push, whatever the mail server does.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use cdr_core::{Failure, Outcome, Report, registry::AnySink};
use cdr_simulator::{
    crm::{Behaviour, Crm},
    smtp::{Identity, Mishap, Privacy, SmtpReceiver, Step},
};
use cdr_tests::batch;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{delivered, email, no_seat, plain_server, retry, server, settings};

const PASSWORD: &str = "correct horse 电池";

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// Settings for a server of this identity, which is trusted.
fn trusting(server: &SmtpReceiver, scheme: &str, identity: &Identity, ca: &tempfile::NamedTempFile) -> Value {
    std::fs::write(ca.path(), &identity.certificate).unwrap();
    let smtp = json!({
        "url": format!("{scheme}://127.0.0.1:{}", server.port()),
        "tls": null,
        "ca": ca.path(),
        "username": "cdr",
        "password": PASSWORD,
    });
    settings(server, json!({ "smtp": smtp }))
}

async fn attempt(sink: &Arc<dyn AnySink>) -> Report {
    sink.deliver(&batch([no_seat()])).await
}

fn away(report: &Report) -> &str {
    assert_eq!(report.outcomes(), [Outcome::Untried]);
    &report.why_unavailable().expect("the sink is away").reason
}

fn rejected(report: &Report) -> &Failure {
    match (report.outcomes(), report.why_unavailable()) {
        ([Outcome::Reject(failure)], None) => failure,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn mails_go_over_both_kinds_of_tls_after_a_login() {
    let (identity, ca) = (identity(), tempfile::NamedTempFile::new().unwrap());
    for (scheme, privacy) in
        [("smtps", Privacy::Tls(identity.clone())), ("smtp", Privacy::StartTls(identity.clone()))]
    {
        let server = server(privacy, Some(("cdr", PASSWORD))).await;
        let sink = email(trusting(&server, scheme, &identity, &ca));
        sink.probe().await.unwrap();
        let receipt = delivered(&attempt(&sink).await).clone();
        let [mail] = &server.mails()[..] else { panic!("one mail over {scheme}") };
        assert!(mail.encrypted && mail.login.as_deref() == Some("cdr"), "{scheme}");
        assert_eq!(
            (mail.from.as_str(), &mail.to[..]),
            ("cdr@example.com", &["on-call@example.com".to_owned()][..])
        );
        assert_eq!(receipt.0, format!("<{}> 250 2.0.0 kept as 1", mail.message_id));
    }
}

#[tokio::test]
async fn a_login_goes_over_an_open_connection_only_when_none_is_said() {
    let server = server(Privacy::None, Some(("cdr", PASSWORD))).await;
    let login = json!({ "smtp": { "username": "cdr", "password": PASSWORD } });
    delivered(&attempt(&email(settings(&server, login.clone()))).await);

    let mut starttls = settings(&server, login);
    starttls["smtp"]["tls"] = json!("starttls");
    let (before, report) = (server.lines().len(), attempt(&email(starttls)).await);
    assert!(away(&report).contains("offers no STARTTLS"), "{report:?}");
    let told: Vec<_> = server.lines().split_off(before);
    assert!(told.iter().all(|line| line.starts_with("EHLO") || line.starts_with("QUIT")), "{told:?}");
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_pauses_the_sink() {
    let (identity, ca) = (identity(), tempfile::NamedTempFile::new().unwrap());
    let server = server(Privacy::Tls(identity.clone()), None).await;
    let mut settings = trusting(&server, "smtps", &identity, &ca);
    std::fs::write(ca.path(), self::identity().certificate).unwrap();
    let report = attempt(&email(settings.clone())).await;
    assert!(away(&report).contains("certificate") && away(&report).contains("smtp.ca"), "{report:?}");

    settings["smtp"]["ca"] = json!("/nowhere/ca.pem");
    let report = attempt(&email(settings)).await;
    assert!(away(&report).contains("smtp.ca /nowhere/ca.pem"), "{report:?}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_wrong_password_pauses_the_sink_and_shows_nowhere() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());

    let server = server(Privacy::None, Some(("cdr", "another"))).await;
    let login = json!({ "smtp": { "username": "cdr", "password": PASSWORD } });
    let sink = email(settings(&server, login));
    let forms =
        [PASSWORD.to_owned(), STANDARD.encode(PASSWORD), STANDARD.encode(format!("\0cdr\0{PASSWORD}"))];

    let report = attempt(&sink).await;
    assert!(
        away(&report).contains("535 5.7.8 wrong username or password; check smtp.username"),
        "{report:?}"
    );
    let mut told = vec![format!("{report:?}"), sink.describe(), sink.probe().await.unwrap_err()];
    for form in &forms {
        server.behave_well();
        server.misbehave(Mishap::reply(Step::Auth, format!("535 5.7.8 {form} is wrong")));
        let report = attempt(&sink).await;
        assert!(away(&report).contains("refused the login (535)"), "{report:?}");
        told.push(format!("{report:?}"));
    }
    assert!(server.lines().iter().any(|line| line.contains(&forms[2])), "the password was tried");
    told.push(log.text());
    for form in forms {
        assert!(told.iter().all(|told| !told.contains(&form)), "{told:?}");
    }
}

#[tokio::test]
async fn a_token_is_read_when_it_is_needed_and_shown_by_xoauth2() {
    let server = server(Privacy::None, Some(("cdr@example.com", "first.token"))).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first.token\n").unwrap();
    let login = json!({ "smtp": { "username": "cdr@example.com", "token_file": file.path() } });
    let sink = email(settings(&server, login));
    delivered(&attempt(&sink).await);
    assert_eq!(server.mails()[0].login.as_deref(), Some("cdr@example.com"));
    assert!(server.lines().iter().any(|line| line.starts_with("AUTH XOAUTH2 ")), "{:?}", server.lines());

    std::fs::write(file.path(), "expired.token\n").unwrap();
    let told = sink.probe().await.unwrap_err();
    assert!(told.contains("refused the login") && told.contains("smtp.token_file"), "{told}");
    assert!(!told.contains("expired.token"), "{told}");
    for unusable in ["", "two words\n"] {
        std::fs::write(file.path(), unusable).unwrap();
        let told = sink.probe().await.unwrap_err();
        assert!(told.contains("holds no access token") && !told.contains("words"), "{told}");
    }
    std::fs::remove_file(file.path()).unwrap();
    assert!(sink.probe().await.unwrap_err().contains("smtp.token_file /"));
    std::fs::write(file.path(), "first.token").unwrap();
    sink.probe().await.unwrap();
}

#[tokio::test]
async fn a_token_is_fetched_kept_and_fetched_again_when_the_server_takes_it_no_more() {
    let endpoint = Crm::start("127.0.0.1:0").await.unwrap();
    // Of several behaviours the newest counts.
    for token in ["second.token", "first.token"] {
        let granted = json!({ "access_token": token, "expires_in": 3600 });
        endpoint.behave(Behaviour::status(200).body(granted.to_string()).times(1));
    }
    let smtp = |server: &SmtpReceiver| {
        let oauth2 = json!({
            "token_url": endpoint.url(), "client_id": "gateway", "refresh_token": "r3fresh", "scope": "smtp send",
        });
        settings(server, json!({ "smtp": { "username": "cdr@example.com", "oauth2": oauth2 } }))
    };
    let mut server = server(Privacy::None, Some(("cdr@example.com", "first.token"))).await;
    let sink = email(smtp(&server));
    delivered(&attempt(&sink).await);
    sink.probe().await.unwrap();
    let asked: Vec<String> =
        endpoint.received().iter().map(|asked| String::from_utf8(asked.body.to_vec()).unwrap()).collect();
    assert_eq!(
        asked,
        ["grant_type=refresh_token&refresh_token=r3fresh&scope=smtp+send&client_id=gateway"],
        "one token for both"
    );

    server.knows(("cdr@example.com", "second.token"));
    sink.probe().await.unwrap();
    assert_eq!(endpoint.received().len(), 2);

    server.knows(("cdr@example.com", "another"));
    endpoint.behave(Behaviour::status(400).body(r#"{"error":"invalid_grant","r3fresh":"r3fresh"}"#));
    let told = sink.probe().await.unwrap_err();
    let expected = format!(
        "no token for the login: {} answered 400 Bad Request with invalid_grant; check smtp.oauth2",
        endpoint.origin()
    );
    assert_eq!(told, expected);
    server.go_away().await;
    assert!(sink.probe().await.unwrap_err().starts_with("nobody listens"));
}

/// A sink that fetches tokens here, and a server that knows one of them.
async fn by_oauth2(endpoint: &Crm, more: Value) -> (SmtpReceiver, Arc<dyn AnySink>) {
    let server = server(Privacy::None, Some(("cdr@example.com", "first.token"))).await;
    let oauth2 = json!({ "token_url": endpoint.url(), "client_id": "gateway", "client_secret": "s3cret" });
    let mut settings =
        settings(&server, json!({ "smtp": { "username": "cdr@example.com", "oauth2": oauth2 } }));
    super::merge(&mut settings, more);
    let sink = email(settings);
    (server, sink)
}

#[tokio::test]
async fn a_tokens_lifetime_is_known_in_every_form_that_endpoints_write() {
    let endpoint = Crm::start("127.0.0.1:0").await.unwrap();
    // In its last seconds a token is not used: one of so few is fetched for each login.
    for (lifetime, fetched) in [
        (json!("20"), 2),
        (json!("20.5"), 2),
        (json!(20.5), 2),
        (json!("3599.5"), 1),
        (json!(3599.5), 1),
        (json!("soon"), 1),
    ] {
        let (_server, sink) = by_oauth2(&endpoint, json!({})).await;
        let granted = json!({ "access_token": "first.token", "expires_in": lifetime });
        endpoint.behave(Behaviour::status(200).body(granted.to_string()));
        let before = endpoint.received().len();
        sink.probe().await.unwrap();
        sink.probe().await.unwrap();
        assert_eq!(endpoint.received().len() - before, fetched, "{lifetime}");
    }
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_is_not_told_as_the_mail_servers_fault() {
    let endpoint = Crm::start("127.0.0.1:0").await.unwrap();
    endpoint.behave(Behaviour::hang());
    let (_server, sink) = by_oauth2(&endpoint, json!({ "timeout": "500ms" })).await;
    let expected =
        format!("no token for the login: {} did not answer in time; check smtp.oauth2", endpoint.origin());
    assert_eq!(away(&attempt(&sink).await), expected);
    assert_eq!(sink.probe().await.unwrap_err(), expected);
}

#[tokio::test]
async fn the_mechanism_that_is_set_is_the_one_that_is_used() {
    let server = server(Privacy::None, Some(("cdr", PASSWORD))).await;
    for mechanism in ["plain", "login"] {
        let login = json!({ "smtp": { "username": "cdr", "password": PASSWORD, "mechanism": mechanism } });
        delivered(&attempt(&email(settings(&server, login))).await);
        let used = server.lines().into_iter().rfind(|line| line.starts_with("AUTH ")).unwrap();
        assert!(used.starts_with(&format!("AUTH {}", mechanism.to_uppercase())), "{used}");
    }
}

#[tokio::test]
async fn a_server_without_a_login_says_so_and_one_that_wants_it_too() {
    let server = plain_server().await;
    let login = json!({ "smtp": { "username": "cdr", "password": PASSWORD } });
    let report = attempt(&email(settings(&server, login))).await;
    assert!(away(&report).contains("offers no login that we speak (PLAIN or LOGIN)"), "{report:?}");

    let server = self::server(Privacy::None, Some(("cdr", PASSWORD))).await;
    let report = attempt(&email(settings(&server, json!({})))).await;
    assert!(away(&report).contains("530 5.7.0 log in first; check `from`, and smtp.username"), "{report:?}");
}

#[tokio::test]
async fn before_the_mail_begins_every_fault_is_the_servers() {
    let mut server = plain_server().await;
    let sink = email(settings(&server, json!({ "timeout": "200ms" })));
    for (mishap, words) in [
        (Mishap::reply(Step::Greeting, "HTTP/1.1 400 Bad Request"), "does not answer as a mail server would"),
        (Mishap::reply(Step::Greeting, "554 5.7.1 blocked"), "turned us away: 554 5.7.1 blocked"),
        (Mishap::reply(Step::Hello, "421 4.3.2 full"), "turned us away: 421 4.3.2 full"),
        (Mishap::cut(Step::Greeting), "does not answer as a mail server would"),
        (Mishap::stall(Step::Hello), "did not answer within 200ms; a port that speaks TLS from the start"),
        (Mishap::reply(Step::Mail, "550 5.7.1 not you"), "refused the sender: 550 5.7.1 not you"),
    ] {
        server.behave_well();
        server.misbehave(mishap);
        let report = attempt(&sink).await;
        assert!(away(&report).contains(words), "{report:?}");
        assert!(away(&report).contains(&format!("127.0.0.1:{}", server.port())), "{report:?}");
    }
    server.behave_well();
    server.go_away().await;
    assert_eq!(away(&attempt(&sink).await), format!("nobody listens at 127.0.0.1:{}", server.port()));
    assert!(sink.probe().await.unwrap_err().starts_with("nobody listens"));
    server.come_back().await.unwrap();
    delivered(&attempt(&sink).await);
}

#[tokio::test]
async fn what_a_server_says_about_the_mail_decides_about_the_push() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({ "timeout": "500ms" })));
    let fresh = |mishap| {
        server.behave_well();
        server.misbehave(mishap);
    };
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::End] {
        fresh(Mishap::reply(step, "421 4.3.2 shutting down"));
        let report = attempt(&sink).await;
        assert!(away(&report).contains("is closing down: 421 4.3.2 shutting down"), "{step:?}: {report:?}");
    }
    for step in [Step::Mail, Step::Data, Step::End] {
        fresh(Mishap::reply(step, "451 4.7.1 later, please"));
        let report = attempt(&sink).await;
        assert!(retry(&report).reason.ends_with("put the mail off (451)"), "{step:?}: {report:?}");
        assert_eq!(retry(&report).excerpt, "451 4.7.1 later, please");
    }
    for step in [Step::Data, Step::End] {
        fresh(Mishap::reply(step, "554 5.7.1 looks like spam"));
        let report = attempt(&sink).await;
        assert!(rejected(&report).reason.ends_with("refused the mail (554)"), "{step:?}: {report:?}");
        assert_eq!(rejected(&report).excerpt, "554 5.7.1 looks like spam");
    }
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Content, Step::End, Step::Kept] {
        fresh(Mishap::cut(step));
        let report = attempt(&sink).await;
        assert!(retry(&report).reason.contains("broke in the middle of the mail"), "{step:?}: {report:?}");
    }
    fresh(Mishap::stall(Step::Data));
    assert!(retry(&attempt(&sink).await).reason.ends_with("did not ask for the mail's text within 500ms"));
}

#[tokio::test]
async fn a_mail_whose_answer_was_lost_comes_again_under_the_same_id() {
    let server = plain_server().await;
    let sink = email(settings(&server, json!({})));
    let batch = batch([no_seat(), no_seat()]);
    server.misbehave(Mishap::cut(Step::Kept).times(1));
    assert!(matches!(sink.deliver(&batch).await.outcomes(), [Outcome::Retry(_), Outcome::Retry(_)]));
    delivered(&sink.deliver(&batch).await);
    let ids: Vec<_> = server.mails().into_iter().map(|mail| mail.message_id).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].ends_with("@example.com"), "{ids:?}");
}

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
