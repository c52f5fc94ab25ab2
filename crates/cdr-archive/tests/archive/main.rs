//! What an archive holds, through its public face: keys, forms, and reading back.

mod audits;
mod forms;
mod keys;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_archive::{Filing, Settings};
use cdr_core::{Batch, Delivery, Facts, Origin, Position, Push, SpoolId};
use sha2::{Digest, Sha256};

const SPOOL: SpoolId = SpoolId([0xc0, 0xff, 0xee, 0, 0, 0, 0, 1]);

fn filing(settings: Settings) -> Filing {
    settings.check(Duration::from_secs(2)).unwrap()
}

/// Half an hour before a midnight in UTC, the next day in Shanghai.
fn facts(action: &str, body: &[u8]) -> Facts {
    Facts {
        action: action.parse().unwrap(),
        version: Some("1".to_owned()),
        uuid: None,
        received_at: "2026-03-31T23:30:00.123Z".parse().unwrap(),
        sender: None,
        origin: Origin::Push,
        sha256: Sha256::digest(body).into(),
    }
}

fn push(position: u64, action: &str, body: impl Into<Bytes>) -> Arc<Push> {
    let body = body.into();
    let facts = facts(action, &body);
    Arc::new(Push::from_spool(SPOOL, Position(position), facts, body))
}

fn batch(pushes: impl IntoIterator<Item = Arc<Push>>) -> Batch {
    let first =
        |push| Delivery { push, routes: Arc::from([]), attempt: 1, replay: false, may_be_there: false };
    Batch::new(pushes.into_iter().map(first).collect()).unwrap()
}
