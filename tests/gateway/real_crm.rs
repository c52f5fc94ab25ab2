//! A CRM that exists: BottleCRM, which `tests/crm/start` starts. What is asserted is read back through its API.
//!
//! It needs a CRM in `CRM_URL` and a token for it in `CRM_TOKEN`: `just crm` has both. Each run brings numbers of its own.

use std::{
    env, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cdr_tests::{Process, exchange, until};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::configuration;

/// The CRM as its own users see it.
struct Crm {
    addr: SocketAddr,
    headers: String,
}

impl Crm {
    fn of_environment() -> Self {
        let url = env::var("CRM_URL").expect("CRM_URL is set: run `just crm`");
        let addr =
            url.strip_prefix("http://").and_then(|addr| addr.parse().ok()).expect("http://ADDRESS:PORT");
        let token = env::var("CRM_TOKEN").expect("CRM_TOKEN is set: run `just crm`");
        Self { addr, headers: format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n") }
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> Value {
        let answer = exchange(self.addr, method, target, &self.headers, body.as_bytes());
        assert!((200..300).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.body);
        answer.json()
    }

    fn make_contact(&self, phone: &str) {
        let contact = json!({ "first_name": "Li", "last_name": "Na", "phone": phone });
        self.ask("POST", "/api/contacts/", &contact.to_string());
    }

    /// The contacts whose number, as it is written there, contains this.
    fn contacts(&self, phone: &str) -> Vec<Value> {
        self.ask("GET", &format!("/api/contacts/?limit=100&phone={phone}"), "")["results"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// The calls of a contact, sorted by session.
    fn calls(&self, contact: &Value) -> Vec<Value> {
        let contact = contact["id"].as_str().unwrap();
        let told = self.ask("GET", &format!("/api/interactions/?limit=200&contact={contact}"), "");
        let mut calls = told["interactions"].as_array().unwrap().clone();
        calls.sort_by_key(|call| session(call).to_owned());
        calls
    }
}

fn session(call: &Value) -> &str {
    call["body"].as_str().unwrap().rsplit(' ').next().unwrap()
}

/// The way to the CRM. It cuts the answer to the first call that is told off in its middle, and keeps that to the second.
#[derive(Default)]
struct Way {
    /// Calls that the CRM was told.
    told: AtomicUsize,
    /// Those of them that it answered, and whose answer did not get through.
    unconfirmed: AtomicUsize,
}

impl Way {
    async fn to(crm: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (way, addr) = (Arc::new(Self::default()), listener.local_addr().unwrap());
        let passing = Arc::clone(&way);
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let way = Arc::clone(&passing);
                tokio::spawn(async move { way.pass(gateway, crm).await });
            }
        });
        (way, addr)
    }

    async fn pass(&self, mut gateway: TcpStream, crm: SocketAddr) -> io::Result<()> {
        let mut crm = TcpStream::connect(crm).await?;
        let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        // Which of the calls the answer will be to.
        let mut call = None;
        loop {
            tokio::select! {
                read = gateway.read(&mut asked) => {
                    let request = &asked[..read?];
                    if request.is_empty() {
                        return Ok(());
                    }
                    if request.starts_with(b"POST /api/interactions/ ") {
                        call = Some(self.told.fetch_add(1, Ordering::SeqCst));
                    }
                    crm.write_all(request).await?;
                }
                read = crm.read(&mut answered) => {
                    let answer = &answered[..read?];
                    match call.take() {
                        Some(0) => {
                            gateway.write_all(&answer[..answer.len() / 2]).await?;
                            self.unconfirmed.fetch_add(1, Ordering::SeqCst);
                            return Ok(());
                        }
                        Some(1) => {
                            self.unconfirmed.fetch_add(1, Ordering::SeqCst);
                            return gateway.read(&mut asked).await.map(drop);
                        }
                        _ if answer.is_empty() => return Ok(()),
                        _ => gateway.write_all(answer).await?,
                    }
                }
            }
        }
    }
}

fn call(session: &str, caller: &str) -> String {
    json!({
        "SessionId": session, "Direction": 0, "Caller": format!("0086{caller}"), "Callee": "008675586013388",
        "StartTimestamp": 1_772_353_800, "AcceptTimestamp": 1_772_353_810, "EndedTimestamp": 1_772_353_875,
        "EndStatusString": "ok", "SeatUser": { "Mail": "li.na@example.com" }, "UserRemark": "call back \"soon\"",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it needs a CRM: `just crm`"]
async fn a_real_crm_has_each_call_once_with_the_right_contact_after_kill_9_and_a_cut_off_answer() {
    let crm = Crm::of_environment();
    let run = jiff::Timestamp::now().as_millisecond();
    let number = |prefix: u32| format!("{prefix}{:08}", run % 100_000_000);
    let (unknown, known) = (number(138), number(139));
    let as_written = format!("{}-{}-{}", &known[..3], &known[3..7], &known[7..]);
    crm.make_contact(&as_written);
    let sessions = [1, 2, 3].map(|call| format!("{run}-{call}"));

    let folder = tempfile::tempdir().unwrap();
    let (way, addr) = Way::to(crm.addr).await;
    let mut configuration = configuration("http://127.0.0.1:9/");
    let auth = json!({ "bearer": { "env": "CRM_TOKEN" } });
    configuration["sinks"]["crm"]["http"] =
        json!({ "preset": "bottlecrm", "url": format!("http://{addr}"), "auth": auth });
    configuration["routes"] = json!([{ "name": "all", "to": ["crm"] }]);
    let gateway = Process::start(folder.path(), &configuration.to_string());
    thread::scope(|scope| {
        for (session, caller) in sessions.iter().zip([&unknown, &unknown, &known]) {
            let gateway = &gateway;
            scope.spawn(move || {
                assert_eq!(gateway.push("cdr", call(session, caller).as_bytes(), None).err_code(), 0)
            });
        }
    });
    until("two calls are stored and not confirmed", || {
        (way.unconfirmed.load(Ordering::SeqCst) == 2).then_some(())
    });
    gateway.kill();
    let gateway = Process::start_again(folder.path());
    gateway.until_delivered();

    assert_eq!(gateway.lane("crm")["dead"], 0, "{}", gateway.lane("crm"));
    let made = crm.contacts(&unknown);
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0]["phone"], format!("+86{unknown}"));
    let calls = crm.calls(&made[0]);
    assert_eq!(calls.iter().map(session).collect::<Vec<_>>(), sessions[..2]);
    assert_eq!(crm.contacts(&known).len(), 0, "one was made beside the one that was there");
    let kept = crm.contacts(&as_written);
    assert_eq!(crm.calls(&kept[0]).iter().map(session).collect::<Vec<_>>(), sessions[2..]);
    assert_eq!(way.told.load(Ordering::SeqCst), 3, "a call was told twice");
    for (member, expected) in [
        ("kind", json!("call")),
        ("direction", json!("inbound")),
        ("occurred_at", json!("2026-03-01T08:30:00Z")),
        ("duration_seconds", json!(65)),
        ("outcome", json!("connected")),
        ("subject", json!(format!("Call from +86{unknown}"))),
    ] {
        assert_eq!(calls[0][member], expected, "{member}");
    }
}
