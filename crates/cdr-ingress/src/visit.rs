//! The way of a request: one function, a line for each check, cheap and safe ones first.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cdr_core::{Facts, Incoming as Push, Intake, NotStored, Origin, Suspect, cdr, json::Fault};
use http::{HeaderMap, HeaderName, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use crate::{
    answer::{self, Rejection},
    asked::Asked,
    body::{self, Charge, Held},
    handed::{Handed, ToTheEnd},
    keeper::{Keeper, Policy},
    notes::Notes,
};

/// Identifies one push; the sender's retries repeat it (product page 679/67256).
const PUSH_UUID: HeaderName = HeaderName::from_static("x-tccc-push-uuid");

/// How long a commit may take before the sender is told to come again. TCCC publishes no timeout for pushes;
/// 5 s is what it publishes for a call-back of the same product (1229/70684).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Somebody who came to the door, for as long as the connection lasts.
pub(crate) struct Visit<I> {
    pub keeper: Arc<Keeper>,
    pub intake: Arc<I>,
    /// What is being stored; it goes on when the sender hangs up.
    pub stores: TaskTracker,
    pub peer: IpAddr,
}

impl<I: Intake> Visit<I> {
    /// Answers a request, whatever it is.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let policy = self.keeper.policy.load_full();
        let client = policy.settings.client_address(self.peer, request.headers());
        match self.take(&policy, client, request).await {
            Ok(()) => answer::stored(),
            Err(rejection) => {
                self.keeper.refused(&rejection, client);
                rejection.response()
            }
        }
    }

    async fn take(
        &self,
        policy: &Policy,
        client: IpAddr,
        request: Request<Incoming>,
    ) -> Result<(), Rejection> {
        self.keeper.admit(policy, client, &request)?;
        policy.expects(&request)?;
        let request = policy.proofs.prove(request)?;
        let Asked { action, version } = Asked::of(request.uri())?;
        plain(request.headers())?;
        let uuid = self.push_uuid(request.headers());
        let Held { bytes, charge } =
            body::read(request, &policy.settings.limits, &self.keeper.in_flight).await?;

        let sha256 = Sha256::digest(&bytes).into();
        let received_at = Timestamp::now();
        let sender = Some(client);
        let facts = Facts { action, version, uuid, received_at, sender, origin: Origin::Push, sha256 };
        match cdr::read(&facts.action, &bytes) {
            Ok(cdr) => self.store(Push { facts, body: bytes, cdr }, charge).await,
            Err(fault) => Err(self.quarantine(facts, bytes, fault, charge).await),
        }
    }

    /// What the sender calls this push. A strange name is no reason to refuse it.
    fn push_uuid(&self, headers: &HeaderMap) -> Option<String> {
        let mut lines = headers.get_all(PUSH_UUID).iter();
        let line = lines.next()?.to_str().unwrap_or_default();
        let is_fit =
            |line: &&str| (1..=128).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_graphic());
        let uuid = Some(line).filter(is_fit).filter(|_| lines.next().is_none());
        if uuid.is_none() && self.keeper.counters.odd_uuid() {
            tracing::warn!(
                "a push came with an X-TCCC-PUSH-UUID that is not one text of 1 to 128 visible characters; \
                 it counts as absent, and so will others like it without a word"
            );
        }
        uuid.map(str::to_owned)
    }

    /// Hands the push over and waits for its fsync.
    ///
    /// hyper drops us when the sender hangs up, and a commit that takes too long must go on: either way it is
    /// counted and told when it is kept.
    async fn store(&self, push: Push, charge: Charge) -> Result<(), Rejection> {
        let notes = Notes::of(&push);
        let storing = self.intake.store(push);
        let handed = Handed { storing, notes, keeper: Arc::clone(&self.keeper), _charge: charge };
        let stored = ToTheEnd { future: Some(handed), tasks: &self.stores };
        match tokio::time::timeout(COMMIT_TIMEOUT, stored).await {
            Ok(stored) => stored.map_err(Rejection::NotStored),
            Err(_) => Err(Rejection::NotStored(NotStored::Slow(COMMIT_TIMEOUT))),
        }
    }

    /// Keeps what an authentic sender sent and what is no push.
    async fn quarantine(&self, facts: Facts, body: Bytes, fault: Fault, charge: Charge) -> Rejection {
        let intake = Arc::clone(&self.intake);
        let suspect = Suspect { facts, body, reason: fault.without_excerpt() };
        let kept = self.stores.spawn(async move {
            let kept = intake.quarantine(suspect).await;
            drop(charge);
            kept
        });
        match within_commit_timeout(kept).await {
            Ok(kept) => Rejection::Quarantined { fault, number: kept.number },
            Err(NotStored::QuarantineFull) => Rejection::QuarantineFull { fault },
            Err(why) => Rejection::NotStored(why),
        }
    }
}

/// Compressed bodies are refused before they are read: we would check and hash something else than was sent.
fn plain(headers: &HeaderMap) -> Result<(), Rejection> {
    let is_plain = |encoding: &http::HeaderValue| {
        encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    };
    let all_plain = headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain);
    all_plain.then_some(()).ok_or(Rejection::Encoding)
}

async fn within_commit_timeout<T>(
    task: tokio::task::JoinHandle<Result<T, NotStored>>,
) -> Result<T, NotStored> {
    match tokio::time::timeout(COMMIT_TIMEOUT, task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(NotStored::Failing(format!("storing was broken off: {panicked}"))),
        Err(_) => Err(NotStored::Slow(COMMIT_TIMEOUT)),
    }
}
