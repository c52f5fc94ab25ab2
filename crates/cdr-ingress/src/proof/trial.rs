//! Requests tried against settings, for the tests of this folder.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use jiff::Timestamp;
use serde_json::Value;

use super::{Proof, Proofs};
use crate::answer::Rejection;

/// What stands in `verify`.
pub fn proofs(verify: Value) -> Proofs {
    Proofs::new(Some(&read(verify))).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The faults of what stands in `verify`, with their paths.
pub fn faults(verify: Value) -> Vec<String> {
    let faults = Proofs::new(Some(&read(verify))).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

fn read(verify: Value) -> Vec<Proof> {
    cdr_core::setting::read(verify).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A request on its way in.
#[derive(Clone)]
pub struct Trial {
    pub request: Request<()>,
    body: Bytes,
    now: Timestamp,
}

impl Trial {
    pub fn new(target: &str) -> Self {
        let request = Request::post(target).body(()).unwrap();
        Self { request, body: Bytes::from_static(b"{}"), now: Timestamp::constant(1_700_000_000, 0) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.request.headers_mut().append(name, value);
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    pub fn at(mut self, second: i64) -> Self {
        self.now = Timestamp::new(second, 0).unwrap();
        self
    }

    /// `passes`, or the verdict; `unread` in front when the body was not read for it.
    pub fn judged(self, proofs: &Proofs) -> String {
        let (_, claim) = match proofs.admit(self.request, self.now) {
            Ok(admitted) => admitted,
            Err(rejection) => return format!("unread: {}", rejection.verdict().name()),
        };
        let said = |rejection: Rejection| rejection.verdict().name().to_owned();
        claim.prove(self.body).map_or_else(said, |_| "passes".to_owned())
    }
}
