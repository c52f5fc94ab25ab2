//! What operators read, and what they must never be able to read there.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing::subscriber::DefaultGuard;

use crate::{
    client::{CDR, push, send},
    store::House,
};

/// All that this thread logs at the default level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn keep() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines_with(&self, words: &str) -> Vec<String> {
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
async fn a_stored_push_is_one_line_without_numbers_and_names() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({ "path": "/secret" })).await;
    let body = r#"{"SessionId":"s-7","Caller":"008613800138000","SeatUser":{"Name":"Zhang"}}"#;
    send(house.door.address(), push("/secret?action=cdr", &["X-TCCC-PUSH-UUID: u-7"], body)).await.is_ok();
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    let stored =
        format!(r#"stored position=1 session_id="s-7" action="cdr" bytes={} repeat=false"#, body.len());
    assert!(log.text().contains(&stored), "{}", log.text());
}

#[tokio::test]
async fn a_session_id_of_any_length_makes_a_short_line() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({})).await;
    let body = json!({ "SessionId": "会".repeat(100_000) }).to_string();
    send(house.door.address(), push("/?action=cdr", &[], &body)).await.is_ok();
    assert!(log.text().contains("stored") && log.text().len() < 1024, "{} bytes", log.text().len());
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
async fn a_network_that_passes_unlisted_is_told_once() {
    let (log, _guard) = Log::keep();
    let house = House::open(json!({ "allow": { "mode": "log" } })).await;
    for _ in 0..3 {
        send(house.door.address(), push("/?action=cdr", &[], CDR)).await.is_ok();
    }
    assert_eq!(log.lines_with("network=127.0.0.0/24").len(), 1, "{}", log.text());
}
