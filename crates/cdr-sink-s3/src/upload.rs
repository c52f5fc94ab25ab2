//! One attempt: every object that a batch becomes is put under its key, side by side.
//!
//! ```text
//!  PUT key, If-None-Match: *  ──▶ 200: delivered
//!   (or parts, and the same   ──▶ 412: something is there ──HEAD──▶ our sha256: delivered, by an earlier attempt
//!    condition to join them)  │                                 └─▶ another ──GET──▶ the same records: delivered
//!                             │                                                  └─▶ others: rejected
//!                             └─▶ anything else: see `trouble`
//! ```

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::{
        head_object::HeadObjectOutput,
        put_object::{PutObjectError, PutObjectOutput},
    },
    primitives::ByteStream,
};
use bytes::Bytes;
use cdr_archive::{Filing, Object};
use cdr_core::{
    Batch, Batching, Failure, Outcome, Partition, Push, Receipt, Report, Seal, Sink, Unavailable,
};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, sync::Mutex, task::spawn_blocking, time::Instant};

use crate::{
    access::Access,
    keeping::Keeping,
    metadata,
    trouble::{Step, Trouble},
};

/// Most raw objects side by side. An upload is a round trip of tens of milliseconds, so this is what carries the
/// rate; more would only make throttling likelier.
const SIDE_BY_SIDE: usize = 16;

/// Most bytes of bodies that are on their way at once.
const BYTES_AT_ONCE: usize = 16 * 1024 * 1024;

/// In bytes: what an object of many is beside the bodies at most, for itself (Parquet's columns) and for each push (what is known
/// about it). See [`Parcel::most`].
const FRAME: usize = 1024 * 1024;
const FRAME_OF_A_PUSH: usize = 1024;

/// A bucket that pushes go to.
pub struct S3Sink {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) filing: Filing,
    pub(crate) conditional: bool,
    /// Objects that are larger go in parts of so many bytes.
    pub(crate) part: usize,
    pub(crate) keeping: Keeping,
    pub(crate) timeout: Duration,
    /// Whoever makes the bytes of an object.
    pub(crate) making: Mutex<()>,
    pub(crate) access: Access,
}

/// An object, ready to go.
pub(crate) struct Parcel<'a> {
    pub(crate) object: &'a Object,
    pub(crate) bytes: Bytes,
    /// Lower-case hex.
    pub(crate) sha256: String,
    /// When its attempt must be over, all requests of it.
    pub(crate) until: Instant,
}

impl Sink for S3Sink {
    fn batching(&self) -> Batching {
        let raw = Batching { pushes: SIDE_BY_SIDE, bytes: BYTES_AT_ONCE, ..Batching::single() };
        self.filing.batching().unwrap_or(raw)
    }

    fn partition(&self, push: &Push) -> Partition {
        self.filing.partition(push)
    }

    fn seal(&self, batch: &Batch) -> Option<Seal> {
        self.filing.seal(&self.prefix, batch)
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let until = Instant::now() + self.timeout;
        let client = match self.access.client().await {
            Ok(client) => client,
            Err(missing) => return Report::unavailable(batch, missing),
        };
        let objects = self.filing.objects(&self.prefix, batch);
        let attempts = join_all(objects.iter().map(|object| self.archive(client, object, until))).await;
        let mut report = Report::untried(batch);
        let mut index = 0..;
        for (object, attempt) in objects.iter().zip(attempts) {
            let outcome = match attempt {
                Ok(receipt) => Outcome::Delivered(receipt),
                Err(Trouble::Retry(failure)) => Outcome::Retry(failure),
                Err(Trouble::Reject(failure)) => Outcome::Reject(failure),
                // Its pushes stay untried: what it met says nothing about them.
                Err(Trouble::Unavailable(why)) => {
                    report = report.and_unavailable(why);
                    Outcome::Untried
                }
            };
            index.by_ref().take(object.pushes().len()).for_each(|index| report.set(index, outcome.clone()));
        }
        report
    }

    fn describe(&self) -> String {
        let keys = self.access.keys_from().map(|from| format!(", {from}")).unwrap_or_default();
        let place = format!("s3://{}/{} at {}{keys}", self.bucket, self.prefix, self.access.place());
        match self.filing.batching() {
            None => format!("an object per push in {place}"),
            Some(Batching { pushes, wait, .. }) => format!(
                ".{} objects of up to {pushes} pushes in {place}, {wait:?} after the first of them at the latest",
                self.filing.ext()
            ),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let client = self.access.client().await.map_err(|missing| missing.reason)?;
        let head = client.head_bucket().bucket(&self.bucket).send();
        match tokio::time::timeout(self.timeout, head).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.trouble(Step::Probe, error).into_reason()),
            Err(_) => Err(self.no_answer()),
        }
    }
}

impl S3Sink {
    /// Brings one object to its place, or finds it there.
    async fn archive(&self, client: &Client, object: &Object, until: Instant) -> Result<Receipt, Trouble> {
        let parcel = {
            // One after the other: side by side they would take the room of several, and no processor is idle meanwhile.
            let _turn = self.making.lock().await;
            Parcel::load(object, until).await?
        };
        match parcel.bytes.len() > self.part {
            true => self.put_in_parts(client, &parcel).await?,
            false => self.in_time(until, self.put_whole(client, &parcel)).await?,
        }
        Ok(self.receipt(object))
    }

    /// A receipt that equals the key of the seal costs nothing to keep.
    fn receipt(&self, object: &Object) -> Receipt {
        match object.raw() {
            Some(_) => Receipt::new(format!("s3://{}/{}", self.bucket, object.key())),
            None => Receipt::new(object.key()),
        }
    }

    pub(crate) async fn in_time<T>(
        &self,
        until: Instant,
        attempt: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout_at(until, attempt).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Trouble::Retry(Failure::new(self.no_answer()))),
        }
    }

    async fn put_whole(&self, client: &Client, parcel: &Parcel<'_>) -> Result<(), Trouble> {
        match self.put(client, parcel).await {
            Ok(stored) => self.believe(stored.e_tag()),
            Err(error) if is_there_already(&error) => self.compare(client, parcel).await,
            Err(error) => Err(self.trouble(Step::Put, error)),
        }
    }

    async fn put(
        &self,
        client: &Client,
        parcel: &Parcel<'_>,
    ) -> Result<PutObjectOutput, SdkError<PutObjectError>> {
        let (lock_mode, locked_until) = self.keeping.lock(parcel.object).unzip();
        let mut put = client
            .put_object()
            .bucket(&self.bucket)
            .key(parcel.object.key())
            .content_type(parcel.object.content_type())
            .body(ByteStream::from(parcel.bytes.clone()))
            .set_storage_class(self.keeping.storage_class())
            .set_server_side_encryption(self.keeping.encryption())
            .set_ssekms_key_id(self.keeping.kms_key())
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(locked_until)
            .set_checksum_algorithm(self.keeping.checksum())
            .set_if_none_match(self.only_new());
        for (name, value) in parcel.metadata() {
            put = put.metadata(name, value);
        }
        put.send().await
    }

    /// The condition that nothing is overwritten.
    pub(crate) fn only_new(&self) -> Option<String> {
        self.conditional.then(|| "*".to_owned())
    }

    /// Every S3 server answers with an ETag. Who says 200 without one is a portal or a web server, and to
    /// believe it would lose the record.
    pub(crate) fn believe(&self, etag: Option<&str>) -> Result<(), Trouble> {
        match etag {
            Some(_) => Ok(()),
            None => Err(Trouble::Unavailable(self.no_s3())),
        }
    }

    /// Looks at the object that is there already: delivered only when it holds what this one would have put.
    pub(crate) async fn compare(&self, client: &Client, parcel: &Parcel<'_>) -> Result<(), Trouble> {
        let head = client.head_object().bucket(&self.bucket).key(parcel.object.key()).send().await;
        let head = head.map_err(|error| self.trouble(Step::Look, error))?;
        match stored_sha256(&head) == Some(&parcel.sha256) || self.holds(client, parcel, &head).await? {
            true => Ok(()),
            false => Err(Trouble::Reject(Failure::new(format!(
                "another object stands at s3://{}/{}, and is not overwritten: move it away, then retry",
                self.bucket,
                parcel.object.key()
            )))),
        }
    }

    /// Somebody else may have put the same there, or another version of the gateway, which compressed it otherwise.
    async fn holds(
        &self,
        client: &Client,
        parcel: &Parcel<'_>,
        head: &HeadObjectOutput,
    ) -> Result<bool, Trouble> {
        let may_be_ours = |length: usize| match parcel.object.raw() {
            Some(_) => length == parcel.bytes.len(),
            None => length <= parcel.most(),
        };
        let length = head.content_length().and_then(|length| usize::try_from(length).ok());
        if !length.is_none_or(may_be_ours) {
            return Ok(false);
        }
        let get = client.get_object().bucket(&self.bucket).key(parcel.object.key()).send().await;
        let object = get.map_err(|error| self.trouble(Step::Look, error))?;
        // One more than is ours, so that what is longer shows: a server need not tell the length.
        let most = parcel.most() as u64 + 1;
        let mut found = Vec::new();
        object.body.into_async_read().take(most).read_to_end(&mut found).await.map_err(|_| {
            Trouble::Retry(Failure::new("the object that is there already could not be read to its end"))
        })?;
        Ok(found == parcel.bytes || (may_be_ours(found.len()) && parcel.object.has_same_records(&found)))
    }

    fn no_s3(&self) -> Unavailable {
        let place = self.access.place();
        Unavailable::new(format!(
            "{place} says 200 without an ETag, which is not S3's way: correct \"endpoint\""
        ))
    }

    pub(crate) fn no_answer(&self) -> String {
        format!("no answer from {} within {} s", self.access.place(), self.timeout.as_secs())
    }
}

impl<'a> Parcel<'a> {
    /// Makes the bytes; off this thread, for compressing takes a while.
    async fn load(object: &'a Object, until: Instant) -> Result<Self, Trouble> {
        if let Some(push) = object.raw() {
            return Ok(Self { object, bytes: push.body().clone(), sha256: push.sha256_hex(), until });
        }
        let many = object.clone();
        let written = spawn_blocking(move || {
            let mut bytes = Vec::new();
            many.write(&mut bytes).map(|()| {
                let sha256 = hex::encode(Sha256::digest(&bytes));
                (Bytes::from(bytes), sha256)
            })
        });
        match written.await {
            Ok(Ok((bytes, sha256))) => Ok(Self { object, bytes, sha256, until }),
            Ok(Err(error)) => {
                Err(Trouble::Retry(Failure::new(format!("the object cannot be made: {error}"))))
            }
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Err(Trouble::Unavailable(Unavailable::new("the gateway stops"))),
        }
    }

    /// In bytes: how long an object of the same records may be, whoever compressed it. Twice its bodies, as if nothing were
    /// compressed and every byte escaped, and what is around them.
    fn most(&self) -> usize {
        let bodies: usize = self.object.pushes().iter().map(|push| push.body().len()).sum();
        let frames = FRAME + FRAME_OF_A_PUSH * self.object.pushes().len();
        self.bytes.len() + 2 * bodies + frames
    }

    pub(crate) fn metadata(&self) -> Vec<(&'static str, String)> {
        metadata::of(self.object, &self.sha256)
    }
}

fn stored_sha256(head: &HeadObjectOutput) -> Option<&String> {
    head.metadata()?.get(metadata::SHA256)
}

/// 412 is S3's answer to a put whose `If-None-Match` does not hold.
pub(crate) fn is_there_already<E>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
}
