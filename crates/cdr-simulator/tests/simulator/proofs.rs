//! The sender proves who it is: what goes along with each push, with its retries, and where tokens come from.

use std::time::Duration;

use bytes::Bytes;
use cdr_core::Secret;
use cdr_simulator::sender::{ClientCertificate, Outcome, Preset, Proof, Sender, SenderSettings};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::receiver::{OK, Receiver, Reply};

const BODY: Bytes = Bytes::from_static(br#"{"SessionId":"s-1"}"#);
const FULL: Reply = Reply::Answer(503, r#"{"ErrCode":503,"ErrMsg":"the spool is full"}"#);
const REFUSED: Reply = Reply::Answer(401, r#"{"ErrCode":401,"ErrMsg":""}"#);

fn settings(url: Url, proof: Proof) -> SenderSettings {
    let retry_waits = vec![Duration::from_millis(1)];
    SenderSettings { proof: Some(proof), retry_waits, ..SenderSettings::new(url) }
}

fn sender(receiver: &Receiver, proof: Proof) -> Sender {
    Sender::new(settings(receiver.url("/cdr"), proof)).unwrap()
}

fn oauth2(token_url: Option<Url>) -> Proof {
    Proof::OAuth2 { token_url, client_id: "t c".to_owned(), client_secret: Secret::new("s:&") }
}

#[tokio::test]
async fn a_token_stands_in_its_header_in_the_query_or_as_bearer() {
    let receiver = Receiver::start([]).await;
    let token = || Secret::new("5d41402a+&");
    sender(&receiver, Proof::Header { name: "X-Token".parse().unwrap(), token: token() })
        .send_one(BODY)
        .await;
    sender(&receiver, Proof::Query { name: "token".to_owned(), token: token() }).send_one(BODY).await;
    sender(&receiver, Proof::Bearer(token())).send_one(BODY).await;
    let got = receiver.got();
    assert_eq!(got[0].header("x-token"), Some("5d41402a+&"));
    assert_eq!(got[1].target, "/cdr?token=5d41402a%2B%26&action=cdr&version=1");
    assert_eq!(got[2].header("authorization"), Some("Bearer 5d41402a+&"));
    let taken = |name: &str| {
        let proof = Proof::Header { name: name.parse().unwrap(), token: token() };
        Sender::new(settings(receiver.url("/"), proof)).err().map(|error| error.to_string())
    };
    assert!(taken("Host").is_some() && taken("X-TCCC-PUSH-UUID").is_some());
}

#[tokio::test]
async fn an_access_token_is_asked_for_once_and_again_when_it_is_refused() {
    let first = r#"{"access_token":"first","token_type":"Bearer","expires_in":7200}"#;
    let second = r#"{"access_token":"second"}"#;
    let script = [Reply::Answer(200, first), OK, OK, REFUSED, Reply::Answer(200, second), OK];
    let receiver = Receiver::start(script).await;
    let sender = sender(&receiver, oauth2(None));
    let bodies = std::iter::repeat_n(BODY, 3);
    let summary = sender.run(bodies, |_, _| {}, CancellationToken::new()).await;
    assert_eq!((summary.taken, summary.attempts()), (3, 4), "{summary}");
    let got = receiver.got();
    let said = got.iter().map(|got| (got.target.as_str(), got.header("authorization").unwrap()));
    let (asked, push) = ("/cdr/oauth2/token", "/cdr?action=cdr&version=1");
    // `printf 't+c:s%%3A%%26' | base64`: form-encoded first.
    let login = "Basic dCtjOnMlM0ElMjY=";
    let (first, second) = ("Bearer first", "Bearer second");
    let expected =
        [(asked, login), (push, first), (push, first), (push, first), (asked, login), (push, second)];
    assert_eq!(said.collect::<Vec<_>>(), expected);
    assert_eq!(got[0].body, "grant_type=client_credentials");
    assert_eq!(got[0].header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_not_used() {
    let short = Reply::Answer(200, r#"{"access_token":"short","expires_in":30}"#);
    let endpoint = Receiver::start([short.clone(), short]).await;
    let receiver = Receiver::start([]).await;
    let sender = sender(&receiver, oauth2(Some(endpoint.url("/token?tenant=1"))));
    sender.send_one(BODY).await;
    assert!(sender.send_one(BODY).await.is_taken());
    let asked: Vec<_> = endpoint.got().into_iter().map(|got| got.target).collect();
    assert_eq!(asked, ["/token?tenant=1", "/token?tenant=1"]);
}

#[tokio::test]
async fn an_endpoint_that_gives_no_token_is_named_with_its_reason() {
    let wrong = r#"{"error":"invalid_client","error_description":"wrong client_id or client_secret"}"#;
    for (reply, expected) in [
        (Reply::Answer(401, wrong), "answers HTTP 401: wrong client_id or client_secret"),
        (Reply::Answer(400, r#"{"error":"invalid_client"}"#), "answers HTTP 400: invalid_client"),
        (Reply::Answer(200, "<html>"), "answers HTTP 200"),
        (Reply::HangUp, "did not answer: the connection was closed before the answer"),
    ] {
        let endpoint = Receiver::start([reply]).await;
        let receiver = Receiver::start([]).await;
        let mut settings = settings(receiver.url("/"), oauth2(Some(endpoint.url("/token"))));
        settings.retry_waits.clear();
        let answer = Sender::new(settings).unwrap().send_one(BODY).await.answer;
        assert_eq!(answer.outcome, Outcome::NoToken);
        let at = format!("no access token: 127.0.0.1:{} {expected}", endpoint.port());
        assert_eq!(answer.to_string(), at);
        assert!(receiver.got().is_empty(), "a push went without its token");
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_that_wait_for_one_token_wait_together() {
    let endpoint = Receiver::start(std::iter::repeat_n(Reply::Silence, 20)).await;
    let receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.url("/"), oauth2(Some(endpoint.url("/token"))));
    settings.retry_waits.clear();
    settings.connections = 20;
    let limit = settings.timeout;
    let bodies = std::iter::repeat_n(BODY, 20);
    let summary = Sender::new(settings).unwrap().run(bodies, |_, _| {}, CancellationToken::new()).await;
    assert_eq!(summary.outcomes[&Outcome::NoToken], 20);
    assert!(summary.elapsed < 2 * limit, "one after the other they waited {:?}", summary.elapsed);
}

/// Not what an attempt looks like, but that the receiver knows its retry for one: see the vectors in the crate.
#[tokio::test]
async fn a_retry_is_signed_too_and_has_the_same_bytes() {
    for preset in Preset::ALL {
        let receiver = Receiver::start([FULL]).await;
        let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSw=");
        assert!(sender(&receiver, Proof::Signature { preset, key }).send_one(BODY).await.is_taken());
        let got = receiver.got();
        assert_eq!(got.len(), 2);
        assert_eq!((&got[0].body, got[0].uuid()), (&got[1].body, got[1].uuid()), "{preset}");
        let in_body = matches!(preset, Preset::Css | Preset::Tiw);
        assert_eq!(got[0].body != BODY, in_body, "{preset}");
        for got in got {
            let header = ["sign", "x-signature", "webhook-signature", "x-hub-signature-256"];
            let in_head =
                header.iter().any(|name| got.header(name).is_some()) || got.target.contains("&Sign=");
            assert_ne!(in_head, in_body, "{preset}");
        }
    }
}

#[test]
fn proofs_that_cannot_be_are_refused_without_telling_a_secret() {
    let told = |proof: Proof| {
        assert!(!format!("{proof:?}").contains("s3cret"), "{proof:?}");
        let error = Sender::new(settings("http://localhost/".parse().unwrap(), proof)).err();
        error.map(|error| format!("{error:#}")).unwrap_or_default()
    };
    let text = told(Proof::Bearer(Secret::new("s3cret\n")));
    assert!(text.contains("no header can carry it") && !text.contains("s3cret"), "{text}");
    let preset = Preset::StandardWebhooks;
    let text = told(Proof::Signature { preset, key: Secret::new("s3cret!") });
    assert!(text.contains("whsec_") && !text.contains("s3cret"), "{text}");
    let text = told(oauth2(Some("ftp://localhost/".parse().unwrap())));
    assert!(text.starts_with("token URL: "), "{text}");

    let certificate = ClientCertificate { certificate: "cert.pem".into(), key: "key.pem".into() };
    let url = |url: &str| SenderSettings {
        certificate: Some(certificate.clone()),
        ..SenderSettings::new(url.parse().unwrap())
    };
    let plain = Sender::new(url("http://localhost/")).err().unwrap().to_string();
    assert!(plain.contains("has to begin with https"), "{plain}");
    let missing = Sender::new(url("https://localhost/")).err().unwrap().to_string();
    assert!(missing.contains("cert.pem cannot be read"), "{missing}");
}
