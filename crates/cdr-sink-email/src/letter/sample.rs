//! Pushes that templates are tried on before any real one comes.

use std::sync::Arc;

use cdr_core::{Delivery, Facts, Incoming, Origin, Position, Push, SpoolId};
use jiff::Timestamp;

use super::{Style, View};

const CALL: &str = r#"{
    "SdkAppId": 1400000000, "SessionId": "99ee14df-ab25-55ac-b91b-aaf389fc9e53", "Direction": 0,
    "EndStatusString": "noSeatOnline", "QueuedSkillGroupName": "售后", "Caller": "008613800138000",
    "Callee": "0086075500000000", "StartTimestamp": 1721001800, "EndedTimestamp": 1721001825
}"#;

/// A view of each kind that there is about calls: one, several, one about which little is known.
pub(crate) fn samples(style: &Style) -> Vec<View> {
    let call = || delivery(CALL.to_owned());
    let bare = || delivery(r#"{"SessionId":"1"}"#.to_owned());
    let batches = [vec![call()], vec![call(), bare()], vec![bare()]];
    let views = batches.into_iter().map(|batch| batch.into_iter().flatten().collect::<Vec<_>>());
    views.map(|deliveries| View::of(&deliveries, style)).collect()
}

fn delivery(body: String) -> Option<Delivery> {
    let facts = Facts {
        action: "cdr".parse().ok()?,
        version: Some("1".to_owned()),
        uuid: None,
        received_at: Timestamp::UNIX_EPOCH,
        sender: None,
        origin: Origin::Push,
        sha256: [0; 32],
    };
    let read = Incoming::read(facts, body.into()).ok()?;
    let push = Arc::new(Push::stored(SpoolId([0; 8]), Position(1), read));
    Some(Delivery {
        push,
        routes: Arc::from(["a route".to_owned()]),
        attempt: 1,
        replay: false,
        may_be_there: false,
    })
}
