//! Pushes to try expressions on.

use bytes::Bytes;
use cdr_core::{Facts, Incoming, Origin, Position, Push, SpoolId};

/// A push of an action with a body.
pub fn of(action: &str, body: &str) -> Push {
    let facts = Facts {
        action: action.parse().unwrap(),
        version: Some("1.0".to_owned()),
        uuid: None,
        received_at: "2026-03-01T08:30:00.1234Z".parse().unwrap(),
        sender: Some("203.0.113.7".parse().unwrap()),
        origin: Origin::Push,
        sha256: [0; 32],
    };
    let incoming = Incoming::read(facts, Bytes::from(body.to_owned())).unwrap();
    Push::stored(SpoolId([1; 8]), Position(7), incoming)
}

/// A `cdr` with these fields after its session.
pub fn cdr(fields: &str) -> Push {
    let comma = if fields.is_empty() { "" } else { "," };
    of("cdr", &format!(r#"{{"SessionId":"s1"{comma}{fields}}}"#))
}
