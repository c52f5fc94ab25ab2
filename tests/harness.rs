//! What the end-to-end tests stand on: pushes made by hand, and the gateway's process.
#![forbid(unsafe_code)]

mod faulty_disk;
mod process;
mod secrecy;

pub use faulty_disk::{Call, FaultyDisk};
pub use process::{Answer, Cli, Following, Process, binary, cli, exchange, until};

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use cdr_core::{
    Batch, Delivery, Facts, Origin, Position, Push, SettingFault, SinkConfig, Sinks, SpoolId,
    registry::AnySink,
};
use sha2::{Digest, Sha256};

/// The spool that all handmade pushes lie in.
pub const SPOOL: SpoolId = SpoolId([0xc0, 0xff, 0xee, 0, 0, 0, 0, 1]);

/// When all handmade pushes arrived: half an hour before a midnight in UTC, the next day in Shanghai.
pub const RECEIVED_AT: &str = "2026-03-31T23:30:00Z";

/// What is known about a push of this action and body beside its bytes.
pub fn facts(action: &str, body: &[u8]) -> Facts {
    Facts {
        action: action.parse().expect("an action"),
        version: Some("1".to_owned()),
        uuid: None,
        received_at: RECEIVED_AT.parse().expect("a time"),
        sender: None,
        origin: Origin::Push,
        sha256: Sha256::digest(body).into(),
    }
}

/// A push as if read back from a spool, at the next free position of this process: beyond a million, so that
/// it meets none that a test chose.
pub fn push(action: &str, body: impl Into<Bytes>) -> Arc<Push> {
    let body = body.into();
    push_of(facts(action, &body), body)
}

/// The same with facts of one's own.
pub fn push_of(facts: Facts, body: impl Into<Bytes>) -> Arc<Push> {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_001);
    push_at(NEXT.fetch_add(1, Ordering::Relaxed), facts, body)
}

/// The same at a position of one's own.
pub fn push_at(position: u64, facts: Facts, body: impl Into<Bytes>) -> Arc<Push> {
    Arc::new(Push::from_spool(SPOOL, Position(position), facts, body.into()))
}

/// A first attempt on these pushes.
pub fn batch(pushes: impl IntoIterator<Item = Arc<Push>>) -> Batch {
    let routes: Arc<[String]> = Arc::from(["a route".to_owned()]);
    let first =
        |push| Delivery { push, routes: Arc::clone(&routes), attempt: 1, replay: false, may_be_there: false };
    Batch::new(pushes.into_iter().map(first).collect()).expect("a batch has at least one push")
}

/// Builds a sink of this kind the way the gateway does.
///
/// # Errors
/// The faults of the settings.
pub fn build<C: SinkConfig>(settings: serde_json::Value) -> Result<Arc<dyn AnySink>, Vec<SettingFault>> {
    let name = "under-test".parse().expect("a name");
    Sinks::default().with::<C>().build(C::KIND, &name, settings).expect("the kind was added")
}

/// The bytes of a file below `examples/samples`, such as `cdr/cdr-26-minimal.json`.
pub fn sample(name: &str) -> Bytes {
    let path = samples().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// The folder of sample bodies.
pub fn samples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/samples"))
}
