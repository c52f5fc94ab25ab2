//! A whole connection: any bytes from a sender, and what the door says to them.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cdr_core::{Incoming, Intake, NotStored, Position, Quarantined, Stored, Suspect};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    runtime::Runtime,
};
use tokio_util::task::TaskTracker;

use super::proofs::IN_HEAD;
use crate::{
    connection::{self, Stop},
    keeper::{Keeper, Policy},
    visit::Visit,
};

/// Nothing takes longer, in virtual time: each timeout ends a connection long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// What HTTP/2 begins with (RFC 9113 §3.4): without it nothing that follows is looked at.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

thread_local! {
    static OPEN: House = House::new(json!({}), [127, 0, 0, 1]);
    static GUARDED: House = House::new(
        json!({ "verify": serde_json::from_str::<Value>(IN_HEAD).unwrap_or_default(), "trusted_proxies": ["10.0.0.0/8"] }),
        [10, 0, 0, 1],
    );
}

/// A connection to a door where everybody may push: it ends, each answer is one of the table, and as many pushes are
/// stored as were answered with `ErrCode` 0.
pub fn door(bytes: &[u8]) {
    OPEN.with(|house| {
        let kept = house.intake.pushes.load(Ordering::Relaxed);
        let answers = house.visited(bytes);
        let is_stored = |answer: &&Answer| answer.code == Some(0);
        let told = answers.iter().filter(is_stored).count() as u64;
        assert_eq!(house.intake.pushes.load(Ordering::Relaxed) - kept, told, "{answers:?}");
    });
}

/// A connection through a trusted proxy to a door that asks for proof, from somebody who has none: nothing is kept.
pub fn guarded_door(bytes: &[u8]) {
    GUARDED.with(|house| {
        let answers = house.visited(bytes);
        assert!(answers.iter().all(|answer| answer.status != 200), "{answers:?}");
        assert_eq!(house.intake.pushes.load(Ordering::Relaxed), 0);
        assert_eq!(house.intake.suspects.load(Ordering::Relaxed), 0);
    });
}

/// Frames of HTTP/2, from the first one after the sender's settings on, to a door where everybody may push: it ends.
pub fn http2(bytes: &[u8]) {
    OPEN.with(|house| {
        let bytes = [PREFACE, bytes].concat();
        house.run(&bytes, async |socket| {
            connection::http2::serve(socket, house.visit(), &Stop::default()).await;
        });
    });
}

/// A door, and what is behind it.
struct House {
    runtime: Runtime,
    keeper: Arc<Keeper>,
    intake: Arc<Counted>,
    peer: IpAddr,
}

/// Counts what would be kept.
#[derive(Default)]
struct Counted {
    pushes: AtomicU64,
    suspects: AtomicU64,
}

impl Intake for Counted {
    type Storing = Ready<Result<Stored, NotStored>>;

    fn store(&self, _: Incoming) -> Self::Storing {
        let position = Position(self.pushes.fetch_add(1, Ordering::Relaxed) + 1);
        ready(Ok(Stored { position, repeat: false, uuid_reused: false }))
    }

    async fn quarantine(&self, _: Suspect) -> Result<Quarantined, NotStored> {
        let number = Position(self.suspects.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(Quarantined { number, repeat: false })
    }
}

/// What the door said.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// Its `ErrCode`; none in hyper's bare answer and in those of RFC 6749.
    code: Option<u64>,
}

impl House {
    /// As the tests of the attacks have it.
    fn new(mut settings: Value, peer: impl Into<IpAddr>) -> Self {
        settings["path"] = "/push".into();
        settings["limits"] = json!({ "body": "16KiB", "in_flight": "32KiB" });
        let settings = cdr_core::setting::read(settings).unwrap_or_else(|faults| panic!("{faults:?}"));
        let policy = Policy::new(settings).unwrap_or_else(|faults| panic!("{faults:?}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        Self { runtime, keeper: Arc::new(Keeper::new(policy)), intake: Arc::default(), peer: peer.into() }
    }

    fn visit(&self) -> Visit<Counted> {
        let (keeper, intake) = (Arc::clone(&self.keeper), Arc::clone(&self.intake));
        let Ok(seat) = keeper.seat(&keeper.policy.load(), self.peer) else {
            panic!("one connection is too many");
        };
        let (stores, peer) = (TaskTracker::new(), self.peer);
        Visit { keeper, intake, stores, peer, certificate: None, seat }
    }

    /// What a sender of these bytes is answered.
    fn visited(&self, bytes: &[u8]) -> Vec<Answer> {
        let said = self.run(bytes, async |socket| {
            connection::serve(socket, self.visit(), Stop::default()).await;
        });
        answers(&said, bytes)
    }

    /// Serves a sender who sends these bytes in two pieces, and says how he was answered. Half of all senders then
    /// close their side, the others wait for the door to do so.
    fn run(&self, bytes: &[u8], serve: impl AsyncFnOnce(DuplexStream)) -> Vec<u8> {
        self.runtime.block_on(async {
            let (theirs, ours) = duplex(64 * 1024);
            let (mut reader, mut writer) = split(theirs);
            let (one, other) = bytes.split_at(bytes.len() / 3);
            let sends = async move {
                // Who is hung up on need not say more.
                let _ = writer.write_all(one).await;
                tokio::task::yield_now().await;
                let _ = writer.write_all(other).await;
                if bytes.len().is_multiple_of(2) {
                    let _ = writer.shutdown().await;
                }
            };
            let mut said = Vec::new();
            let visit = async { tokio::join!(serve(ours), sends, reader.read_to_end(&mut said)) };
            let ended = tokio::time::timeout(PATIENCE, visit).await;
            assert!(ended.is_ok(), "a connection hangs");
            said
        })
    }
}

/// Reads all that was said to `request`; a door that says anything else than answers is a fault.
fn answers(mut said: &[u8], request: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !said.is_empty() {
        let (answer, rest) = answer(said, request);
        answers.push(answer);
        said = rest;
    }
    answers
}

/// One answer, and what follows it.
fn answer<'a>(said: &'a [u8], request: &[u8]) -> (Answer, &'a [u8]) {
    let shown = String::from_utf8_lossy(said);
    let Some(end) = said.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        panic!("half an answer: {shown:?}")
    };
    let (head, rest) = (String::from_utf8_lossy(&said[..end]).to_ascii_lowercase(), &said[end + 4..]);
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| head.starts_with("http/1.")) else { panic!("not HTTP: {shown:?}") };
    let length = value("content-length: ").map_or(Ok(0), str::parse).unwrap_or(usize::MAX);
    if rest.is_empty() && request.windows(5).any(|bytes| bytes == b"HEAD ") {
        return (Answer { status, code: None }, rest);
    }
    let Some((body, rest)) = rest.split_at_checked(length) else { panic!("half a body: {shown:?}") };
    let is_json = value("content-type: ") == Some("application/json");
    let code = is_json.then(|| code(body, status)).flatten();
    // What is not HTTP gets a bare answer, and a sender may be asked to go on.
    assert!(is_json || body.is_empty() && [100, 400, 414, 431].contains(&status), "{shown:?}");
    (Answer { status, code }, rest)
}

/// Looks whether a body is of the table.
fn code(body: &[u8], status: u16) -> Option<u64> {
    let said: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}"));
    let code = said["ErrCode"].as_u64();
    let is_ours = match code {
        Some(0) => status == 200,
        Some(code) => code == u64::from(status) && status >= 400,
        None => said["error"].is_string() && status >= 400,
    };
    assert!(is_ours, "{status}: {said}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");

    fn kept() -> u64 {
        OPEN.with(|house| house.intake.pushes.load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_a_push_gets_through_to_the_store_by_either_protocol() {
        for (target, seed, pushes) in [
            (door as fn(&[u8]), "door/gzip", 1),
            (door, "door/chunked", 1),
            (door, "door/pipelined", 3),
            (http2, "http2/push", 1),
            (http2, "http2/three-pushes", 3),
            (http2, "http2/padded", 1),
        ] {
            let before = kept();
            target(&std::fs::read(format!("{SEEDS}/{seed}")).unwrap());
            assert_eq!(kept() - before, pushes, "{seed}");
        }
    }

    #[test]
    fn what_proves_nothing_comes_to_the_guarded_door_in_all_ways() {
        let answered = |seed: &str| {
            let bytes = std::fs::read(format!("{SEEDS}/guarded_door/{seed}")).unwrap();
            let answers = GUARDED.with(|house| house.visited(&bytes));
            answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
        };
        for seed in ["behind-v2-tlv", "proof-trtc", "proof-css", "token-form", "token-head"] {
            assert_eq!(answered(seed), [401], "{seed}");
        }
        assert_eq!(answered("token-twice"), [400]);
    }

    #[test]
    #[should_panic(expected = "half an answer")]
    fn an_answer_that_breaks_off_is_a_fault() {
        answers(b"HTTP/1.1 200 OK\r\n", b"");
    }

    #[test]
    #[should_panic(expected = "\"ErrCode\":0")]
    fn a_zero_beside_another_status_is_a_fault() {
        let said =
            b"HTTP/1.1 503 x\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"ErrCode\":0}";
        answers(said, b"");
    }
}
