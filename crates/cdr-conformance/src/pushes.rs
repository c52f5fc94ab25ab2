//! Pushes as they come, the odd ones too.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cdr_core::{Alert, AlertKind, Facts, Origin, Position, Push, SpoolId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The number in every push; no reason or receipt may hold it.
pub(crate) const NUMBER: &str = "13912345678";

/// An ordinary call.
pub(crate) fn call() -> Arc<Push> {
    call_with("")
}

fn call_with(more: &str) -> Arc<Push> {
    let body = format!(
        r#"{{"SdkAppId":1400000214,"SessionId":"conformance","Direction":0,"Caller":"0086{NUMBER}","Callee":"008675586013388","StartTimestamp":1772354590,"AcceptTimestamp":1772354600,"EndedTimestamp":1772354675,"Duration":75,"EndStatusString":"ok"{more}}}"#
    );
    push("cdr", Origin::Push, body)
}

/// What may come, each with a name for what is odd about it.
pub(crate) fn odd() -> Vec<(&'static str, Arc<Push>)> {
    let unpublished = r#"{"Anything":[{"a":null}]}"#.to_owned();
    let nulls = r#"{"SessionId":1,"Caller":null,"SeatUser":null,"ServeParticipants":null,"Direction":"x"}"#;
    let alert = Alert {
        kind: AlertKind::Paused,
        subject: "the sink crm is paused".to_owned(),
        text: "nobody listens\nat 127.0.0.1:9000".to_owned(),
        at: received_at(),
        about: "crm".to_owned(),
        resolved: false,
    };
    let alert = serde_json::json!(alert).to_string();
    vec![
        ("emoji and Chinese", call_with(r#","UserRemark":"😀 客户说 “好”","QueuedSkillGroupName":"售后""#)),
        ("control characters", call_with(r#","UserRemark":"a\u0000b\r\nBcc: x@example.com\u001b[0m""#)),
        ("a lone surrogate", call_with(r#","UserRemark":"\ud83d""#)),
        ("markup", call_with(r#","UserRemark":"</td><script>{{x}}${y}%s","Uui":"../../etc""#)),
        ("repeated keys", call_with(r#","Duration":15,"Duration":0"#)),
        ("a byte order mark", push("cdr", Origin::Push, "\u{feff}{\"SessionId\":\"s\"}".to_owned())),
        ("nulls, and values of other types", push("cdr", Origin::Push, nulls.to_owned())),
        ("an unpublished action", push("somethingNew", Origin::Push, unpublished)),
        (
            "a recording",
            push("record", Origin::Push, format!(r#"{{"SessionId":"s","EndpointUser":{NUMBER}}}"#)),
        ),
        ("1 MiB", call_with(&format!(r#","Uui":"{}""#, "x".repeat(1 << 20)))),
        ("an alert of the gateway", push(Alert::ACTION, Origin::Alert, alert)),
    ]
}

fn received_at() -> Timestamp {
    // A fixed moment, so that what is made of it can be compared; 2026-03-01T08:43:00Z.
    Timestamp::from_second(1_772_354_580).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A push at a position that no other one of this process has.
fn push(action: &str, origin: Origin, body: String) -> Arc<Push> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let body = Bytes::from(body);
    let position = Position(NEXT.fetch_add(1, Ordering::Relaxed));
    let facts = Facts {
        // Written above, in letters.
        action: action.parse().expect("an action"),
        version: Some("1".to_owned()),
        uuid: Some(format!("conformance-{position}")),
        received_at: received_at(),
        sender: Some([127, 0, 0, 1].into()),
        origin,
        sha256: Sha256::digest(&body).into(),
    };
    Arc::new(Push::from_spool(SpoolId(*b"conforms"), position, facts, body))
}
