//! What operators read, and what they must never be able to read there.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tracing::{Level, subscriber::DefaultGuard};

use crate::{
    client::{CDR, push, send},
    store::House,
};

/// All that this thread logs.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// At the default level.
    pub fn keep() -> (Self, DefaultGuard) {
        Self::keep_from(Level::INFO)
    }

    fn keep_from(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn lines_with(&self, words: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stored_push_is_one_line_of_debug_without_numbers_and_names() {
    let (log, _guard) = Log::keep_from(Level::DEBUG);
    let house = House::open(json!({ "path": "/secret" })).await;
    let body = r#"{"SessionId":"s-7","Caller":"008613800138000","SeatUser":{"Name":"Zhang"}}"#;
    send(house.door.address(), push("/secret?action=cdr", &["X-TCCC-PUSH-UUID: u-7"], body)).await.is_ok();
    let told = log.lines_with("DEBUG cdr_ingress");
    assert_eq!(told.len(), 1, "{told:?}");
    let stored =
        format!(r#"stored position=1 session_id="s-7" action="cdr" bytes={} repeat=false"#, body.len());
    assert!(told[0].contains(&stored), "{told:?}");
}

#[tokio::test]
async fn a_session_id_of_any_length_makes_a_short_line() {
    let (log, _guard) = Log::keep_from(Level::DEBUG);
    let house = House::open(json!({})).await;
    let body = json!({ "SessionId": "会".repeat(100_000) }).to_string();
    send(house.door.address(), push("/?action=cdr", &[], &body)).await.is_ok();
    let told = log.lines_with("cdr_ingress");
    assert!(told[0].contains("stored") && told[0].len() < 1024, "{} bytes", told[0].len());
}

#[tokio::test]
async fn the_first_push_is_told_and_the_next_ones_are_not() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({})).await;
    for session in ["s-1", "s-2"] {
        let body = json!({ "SessionId": session }).to_string();
        send(house.door.address(), push("/?action=cdr", &[], &body)).await.is_ok();
    }
    let told = r#"the first push since the start is stored position=1 session_id="s-1""#;
    assert!(log.text().contains(told) && log.text().lines().count() == 1, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn what_came_is_one_line_a_minute_and_none_when_nothing_came() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({})).await;
    let address = house.door.address();
    for _ in 0..3 {
        send(address, push("/?action=cdr", &[], CDR)).await.is_ok();
    }
    send(address, push("/", &[], CDR)).await.is(404, "");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = "pushes in the last minute stored=1 repeats=2 refused=1";
    crate::store::eventually("it is told", || !log.lines_with(told).is_empty()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(log.lines_with("in the last minute").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_stop_tells_what_came_since_the_last_line() {
    let (log, _guard) = Log::keep();
    let mut house = House::open(json!({})).await;
    send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is_ok();
    house.shut_wholly().await;
    assert_eq!(log.lines_with("stored=1 repeats=0 refused=0").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn neither_bodies_nor_passwords_nor_the_path_reach_the_log() {
    let (log, _guard) = Log::keep();
    let verify = json!([{ "basic": { "username": "tccc", "password": "hunter2" } }]);
    let house = House::open(json!({ "path": "/secret", "verify": verify })).await;
    let address = house.door.address();
    // tccc:hunter2
    let right = "Authorization: Basic dGNjYzpodW50ZXIy";
    send(address, push("/secre?action=cdr", &[right], CDR)).await.is(404, "");
    send(address, push("/secret?action=cdr", &["Authorization: Basic aHVudGVyMg=="], CDR)).await.is(401, "");
    send(address, push("/secret?action=008613800138000-", &[right], CDR)).await.is(404, "");
    send(address, push("/secret?action=cdr", &[right], "{\"Caller\":13800138000x}"))
        .await
        .is(400, "13800138000");
    let status = r#"{"SessionId":"s","EndStatusString":"008613800138000","Duration":"13800138000x"}"#;
    send(address, push("/secret?action=cdr", &[right], status)).await.is_ok();
    assert_eq!(log.lines_with("refused a request").len(), 4, "{}", log.text());
    assert_eq!(log.lines_with("WARN").len(), 6, "{}", log.text());
    for secret in ["138001", "hunter2", "aHVudG", "secre"] {
        assert!(!log.text().contains(secret), "{secret} in {}", log.text());
    }
}

#[tokio::test]
async fn no_token_and_no_key_reaches_the_log_at_any_level_of_ours() {
    let (log, _guard) = Log::keep_from(Level::TRACE);
    let house = House::open(json!({ "verify": [
        { "token": { "query": "token", "value": "hunter2-hunter2-hunter2" } },
        { "oauth2": { "client_id": "tccc", "client_secret": "hunter2+hunter2-" } },
        { "signature": { "preset": "im", "key": "hunter2" } },
    ] }))
    .await;
    let address = house.door.address();
    let client = "grant_type=client_credentials&client_id=tccc&client_secret=hunter2%2Bhunter2-";
    let given = send(address, push("/oauth2/token", &[], client)).await;
    let token = serde_json::from_str::<serde_json::Value>(&given.body).unwrap()["access_token"].clone();
    let bearer = format!("Authorization: Bearer {}", token.as_str().unwrap());
    send(address, push("/?action=cdr", &[&bearer], CDR)).await.is_ok();
    send(address, push("/?token=hunter2-hunter2-hunter2?action=cdr", &[], CDR)).await.is_ok();
    send(address, push("/?token=hunter2&action=cdr", &[], CDR)).await.is(401, "wrong token");
    send(address, push("/?action=cdr", &["Authorization: Bearer hunter2"], CDR))
        .await
        .is(401, "wrong access");
    send(address, push("/oauth2/token", &[], "client_id=x&client_secret=hunter2")).await;
    let ours: String = log.lines_with(" cdr_ingress").concat();
    assert!(ours.contains("reason=\"wrong_proof\""), "{ours}");
    for secret in ["hunter2", token.as_str().unwrap(), "aHVudGVyM"] {
        assert!(!ours.contains(secret), "{secret} in {ours}");
    }
}

#[tokio::test]
async fn a_refusal_says_why_once_and_which_setting() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({ "allow": { "networks": ["203.0.113.0/24"] } })).await;
    for _ in 0..5 {
        send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is(403, "");
    }
    let told = log.lines_with("ingress.allow.networks");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(r#"reason="network" sender=127.0.0.1"#), "{told:?}");
}

#[tokio::test]
async fn who_speaks_tls_to_a_plain_port_is_called_so() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({})).await;
    assert_eq!(send(house.door.address(), "\x16\x03\x01\x02\x00\x01\x00").await.status, 400);
    // The answer is hyper's, and the line is written after it.
    crate::store::eventually("it is told", || !log.lines_with("TLS (https)").is_empty()).await;
}

#[tokio::test]
async fn a_sender_that_passes_unlisted_is_told_once() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({ "allow": { "mode": "log" } })).await;
    for _ in 0..3 {
        send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is_ok();
    }
    assert_eq!(log.lines_with("brought its first push").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_stop_tells_the_addresses_that_were_learned_ready_to_be_written_into_the_file() {
    let (log, _guard) = Log::keep();
    let allow = json!({ "networks": ["203.0.113.0/24"], "mode": "log" });
    let mut house = House::open(json!({ "allow": allow })).await;
    send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is_ok();
    house.shut_wholly().await;
    let told = log.lines_with("networks: [203.0.113.0/24, 127.0.0.1/32]");
    assert_eq!(told.len(), 1, "{}", log.text());
}

#[tokio::test]
async fn nothing_is_said_of_who_only_knocked() {
    let (log, _guard) = Log::keep();
    let mut house = House::open(json!({ "path": "/secret", "allow": { "mode": "log" } })).await;
    send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is(404, "");
    house.shut_wholly().await;
    assert!(!log.text().contains("networks: ["), "{}", log.text());
}
