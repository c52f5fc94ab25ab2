//! The sender does what TCCC does, and says what it met.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cdr_core::Secret;
use cdr_simulator::{
    calls::CallCentre,
    sender::{Outcome, Outgoing, Proof, Sender, SenderSettings},
};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::receiver::{OK, Receiver, Reply};

const BODY: Bytes = Bytes::from_static(br#"{"SessionId":"s-1"}"#);
const FULL: Reply = Reply::Answer(503, r#"{"ErrCode":503,"ErrMsg":"the spool is full"}"#);

/// Three retries that do not make a test wait.
fn settings(url: Url) -> SenderSettings {
    SenderSettings { retry_waits: vec![Duration::from_millis(1); 3], ..SenderSettings::new(url) }
}

fn login(username: &str, password: &str) -> Proof {
    Proof::Basic { username: username.to_owned(), password: Secret::new(password) }
}

fn sender(url: Url) -> Sender {
    Sender::new(settings(url)).unwrap()
}

/// Short only where nothing will come: a busy machine must not make an answer late.
fn timeout_for(reply: &Reply) -> Duration {
    if matches!(reply, Reply::Silence) { Duration::from_millis(500) } else { Duration::from_secs(60) }
}

fn bodies(count: usize) -> impl Iterator<Item = Bytes> + Send + 'static {
    CallCentre::new(1).calls().take(count).map(|call| call.body)
}

#[tokio::test]
async fn a_push_looks_as_tccc_s_do() {
    let receiver = Receiver::start([]).await;
    let sent = sender(receiver.url("/cdr")).send_one(BODY).await;
    assert!(sent.is_taken());
    assert_eq!((sent.attempts(), sent.answer.detail.as_str()), (1, "ok"));

    let got = receiver.got().pop().unwrap();
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/cdr?action=cdr&version=1"));
    assert_eq!(got.header("content-type"), Some("application/json;charset=utf8"));
    assert_eq!(got.header("host"), Some(receiver.url("/").authority()));
    assert_eq!(got.header("authorization"), None);
    assert_eq!(got.uuid(), sent.uuid.to_string());
    assert_eq!(sent.uuid.get_version_num(), 4);
    assert_eq!(got.body, BODY);
}

#[tokio::test]
async fn action_and_version_join_the_query_that_is_there() {
    let receiver = Receiver::start([]).await;
    for (url, target) in [
        ("/", "/?action=cdr&version=1"),
        ("/in?token=a%20b", "/in?token=a%20b&action=cdr&version=1"),
        ("/in?", "/in?action=cdr&version=1"),
        ("/in?a&b=1#part", "/in?a&b=1&action=cdr&version=1"),
    ] {
        sender(receiver.url(url)).send_one(BODY).await;
        assert_eq!(receiver.got()[0].target, target, "{url}");
    }
}

#[tokio::test]
async fn the_action_is_settable_and_a_voicemail_has_no_version() {
    let receiver = Receiver::start([]).await;
    for (action, target) in [("record", "/?action=record&version=1"), ("voicemail", "/?action=voicemail")] {
        let settings = SenderSettings { action: action.parse().unwrap(), ..settings(receiver.url("/")) };
        Sender::new(settings).unwrap().send_one(BODY).await;
        assert_eq!(receiver.got()[0].target, target);
    }
}

#[tokio::test]
async fn a_login_goes_along_as_basic_from_the_settings_or_the_url() {
    let receiver = Receiver::start([]).await;
    let proof = Some(login("tccc", "pä s+s&="));
    let with_login = SenderSettings { proof, ..settings(receiver.url("/")) };
    assert!(!format!("{with_login:?}").contains("pä s"));
    Sender::new(with_login).unwrap().send_one(BODY).await;
    let from_url = format!("http://tccc:p%C3%A4%20s+s&=@127.0.0.1:{}/", receiver.port());
    sender(from_url.parse().unwrap()).send_one(BODY).await;
    for got in receiver.got() {
        assert_eq!(got.header("authorization"), Some("Basic dGNjYzpww6QgcytzJj0="));
    }
}

#[tokio::test]
async fn whatever_is_not_err_code_0_is_pushed_again_with_the_same_uuid() {
    for refusal in [
        FULL,
        Reply::Answer(200, r#"{"ErrCode":1,"ErrMsg":"no"}"#),
        Reply::Answer(200, "ok"),
        Reply::Answer(200, ""),
        Reply::Answer(500, r#"{"ErrCode":0,"ErrMsg":"ok"}"#),
        Reply::Answer(302, ""),
        Reply::HangUp,
        Reply::Silence,
    ] {
        let timeout = timeout_for(&refusal);
        let receiver = Receiver::start([refusal.clone(), refusal]).await;
        let sender = Sender::new(SenderSettings { timeout, ..settings(receiver.url("/")) }).unwrap();
        let sent = sender.send_one(BODY).await;
        assert!(sent.is_taken(), "{:?}", sent.answer);
        let got = receiver.got();
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|got| got.uuid() == sent.uuid.to_string() && got.body == BODY));
    }
}

#[tokio::test]
async fn after_three_retries_a_push_is_given_up() {
    let receiver = Receiver::start([FULL, FULL, FULL, FULL]).await;
    let sender = sender(receiver.url("/"));
    let sent = sender.send_one(BODY).await;
    assert_eq!((sent.attempts(), receiver.got().len()), (4, 4));
    assert_eq!(sent.answer.outcome, Outcome::Refused { status: 503, err_code: 503 });
    let next = sender.send_one(BODY).await;
    assert!(next.is_taken());
    assert_ne!(next.uuid, sent.uuid);
}

#[test]
fn by_default_the_waits_are_1_2_and_5_seconds() {
    let waits = SenderSettings::new("http://localhost".parse().unwrap()).retry_waits;
    assert_eq!(waits, [1, 2, 5].map(Duration::from_secs));
}

#[tokio::test]
async fn a_uuid_can_be_given() {
    let receiver = Receiver::start([]).await;
    let uuid = Uuid::from_u128(7);
    sender(receiver.url("/")).send_one(Outgoing { body: BODY, uuid }).await;
    assert_eq!(receiver.got()[0].uuid(), "00000000-0000-0000-0000-000000000007");
}

#[tokio::test]
async fn what_went_wrong_is_said_in_words() {
    let words = [
        (
            Reply::Answer(401, r#"{"ErrCode":401,"ErrMsg":"x"}"#),
            "asks for a proof of sender, such as a user name and a password; it says \"x\"",
        ),
        (Reply::Answer(404, ""), "HTTP 404 without an ErrCode: nothing takes pushes at this path"),
        (FULL, "HTTP 503, ErrCode 503: the receiver cannot take pushes now; it says \"the spool is full\""),
        (Reply::Answer(200, "<html>"), "HTTP 200 without an ErrCode: TCCC wants JSON with ErrCode 0"),
        (Reply::HangUp, "did not answer: the connection was closed before the answer"),
        (Reply::Silence, "within 500ms"),
    ];
    for (reply, expected) in words {
        let timeout = timeout_for(&reply);
        let receiver = Receiver::start([reply]).await;
        let settings = SenderSettings { retry_waits: Vec::new(), timeout, ..settings(receiver.url("/")) };
        let answer = Sender::new(settings).unwrap().send_one(BODY).await.answer.to_string();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_called_so() {
    let receiver = Receiver::start([Reply::Answer(401, r#"{"ErrCode":401,"ErrMsg":""}"#)]).await;
    let proof = Some(login("tccc", "wrong"));
    let settings = SenderSettings { proof, retry_waits: Vec::new(), ..settings(receiver.url("/")) };
    let answer = Sender::new(settings).unwrap().send_one(BODY).await.answer.to_string();
    assert_eq!(answer, "HTTP 401, ErrCode 401: wrong user name or password");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_said() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sent = sender(format!("http://127.0.0.1:{port}/").parse().unwrap()).send_one(BODY).await;
    assert_eq!((sent.attempts(), sent.answer.outcome), (4, Outcome::NobodyListens));
    assert!(sent.answer.to_string().starts_with(&format!("nobody listens at 127.0.0.1:{port};")));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let fault = |change: &dyn Fn(&mut SenderSettings)| {
        let mut settings = settings("http://127.0.0.1/".parse().unwrap());
        change(&mut settings);
        Sender::new(settings).err().map(|error| format!("{error:#}")).unwrap_or_default()
    };
    assert!(fault(&|settings| settings.url = "ftp://127.0.0.1/".parse().unwrap()).contains("\"ftp\""));
    assert!(fault(&|settings| settings.connections = 0).contains("connections"));
    assert!(fault(&|settings| settings.rate = Some(0.0)).contains("rate"));
    assert!(fault(&|settings| settings.rate = Some(f64::NAN)).contains("rate"));
    assert!(fault(&|settings| settings.proof = Some(login("a:b", ""))).contains("colon"));
    let no_file = |settings: &mut SenderSettings| {
        settings.url = "https://127.0.0.1/".parse().unwrap();
        settings.extra_ca = Some("/no/such.pem".into());
    };
    assert!(fault(&no_file).contains("/no/such.pem cannot be read"));
}

#[tokio::test]
async fn a_run_pushes_each_body_once_and_counts() {
    let receiver = Receiver::start([FULL, Reply::HangUp]).await;
    let settings = SenderSettings { connections: 8, ..settings(receiver.url("/")) };
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    let on_each = move |push: &Outgoing, sent: &cdr_simulator::sender::Sent| {
        assert_eq!(push.uuid, sent.uuid);
        tell.fetch_add(1, Ordering::Relaxed);
    };
    let summary = Sender::new(settings).unwrap().run(bodies(300), on_each, CancellationToken::new()).await;

    assert_eq!((summary.taken, summary.given_up, summary.attempts()), (300, 0, 302));
    assert_eq!(told.load(Ordering::Relaxed), 300);
    assert_eq!(summary.outcomes[&Outcome::Taken], 300);
    assert_eq!(summary.outcomes[&Outcome::Refused { status: 503, err_code: 503 }], 1);
    assert!(summary.latency(0.5) > Duration::ZERO && summary.latency(0.5) <= summary.latency(1.0));
    assert!(summary.to_string().contains("300 taken"));
    assert!(summary.to_string().contains("302 attempts: 300 taken · 1 HTTP 503, ErrCode 503 · 1 hung up"));

    let mut got: Vec<_> = receiver.got().into_iter().map(|got| got.body).collect();
    let mut expected: Vec<_> = bodies(300).collect();
    for bodies in [&mut got, &mut expected] {
        bodies.sort_unstable();
        bodies.dedup();
    }
    assert!(got == expected, "every body came");
    assert!(receiver.connections() <= 9, "connections are kept: {}", receiver.connections());
    assert!((2..=8).contains(&receiver.most_at_once()), "{} at once", receiver.most_at_once());
}

#[tokio::test]
async fn pushes_that_nobody_takes_are_counted_as_given_up() {
    let receiver = Receiver::start(std::iter::repeat_n(FULL, 12)).await;
    let summary = sender(receiver.url("/")).run(bodies(4), |_, _| {}, CancellationToken::new()).await;
    assert_eq!((summary.taken, summary.given_up, summary.attempts()), (1, 3, 13));
    assert!(summary.to_string().contains("3 given up, which TCCC would lose"));
}

#[tokio::test]
async fn a_connection_that_the_receiver_closes_costs_no_attempt() {
    let close = Reply::AnswerAndClose(200, r#"{"ErrCode":0}"#);
    let receiver = Receiver::start([close.clone(), close, OK, OK]).await;
    let summary = sender(receiver.url("/")).run(bodies(4), |_, _| {}, CancellationToken::new()).await;
    assert_eq!((summary.taken, summary.attempts(), receiver.connections()), (4, 4, 3));
}

#[tokio::test]
async fn a_rate_is_not_exceeded() {
    let receiver = Receiver::start([]).await;
    let settings = SenderSettings { rate: Some(200.0), connections: 4, ..settings(receiver.url("/")) };
    let summary = Sender::new(settings).unwrap().run(bodies(21), |_, _| {}, CancellationToken::new()).await;
    assert_eq!(summary.taken, 21);
    assert!(summary.elapsed >= Duration::from_millis(100), "20 pushes after the first take 100 ms");
}

#[tokio::test]
async fn a_stopped_run_ends_without_retries() {
    let receiver = Receiver::start(std::iter::repeat_n(FULL, 100)).await;
    let stop = CancellationToken::new();
    let settings = SenderSettings {
        retry_waits: vec![Duration::from_secs(3600)],
        connections: 3,
        ..settings(receiver.url("/"))
    };
    let sender = Sender::new(settings).unwrap();
    let run = tokio::spawn({
        let stop = stop.clone();
        async move { sender.run(bodies(1000), |_, _| {}, stop).await }
    });
    let all_connected = async {
        while receiver.connections() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_connected).await.unwrap();
    stop.cancel();
    let summary = run.await.unwrap();
    assert_eq!(summary.taken, 0);
    assert!(summary.pushes() <= 3 && summary.attempts() == summary.pushes(), "{summary}");
}

#[tokio::test]
async fn https_trusts_the_given_authority_and_no_stranger() {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut pem = tempfile::NamedTempFile::new().unwrap();
    pem.write_all(identity.cert.pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    let receiver = Receiver::start_tls(Arc::new(config).into()).await;
    let url: Url = format!("https://localhost:{}/", receiver.port()).parse().unwrap();

    let trusting = SenderSettings { extra_ca: Some(pem.path().to_owned()), ..settings(url.clone()) };
    assert!(Sender::new(trusting).unwrap().send_one(BODY).await.is_taken());
    let stranger = SenderSettings { retry_waits: Vec::new(), ..settings(url) };
    let answer = Sender::new(stranger).unwrap().send_one(BODY).await.answer;
    assert_eq!(answer.outcome, Outcome::Tls, "{answer}");
}
