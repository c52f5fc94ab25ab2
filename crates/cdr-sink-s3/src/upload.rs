//! One attempt: every push of the batch is put under its key, side by side.
//!
//! ```text
//!  PUT key, If-None-Match: *  ──▶ 200: delivered
//!                             ──▶ 412: something is there ──HEAD──▶ our sha256: delivered, by an earlier attempt
//!                             │                                 └─▶ no sha256 ──GET──▶ the same bytes: delivered
//!                             │                                                    └─▶ other bytes: rejected
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
use cdr_core::{Batch, Batching, Failure, Outcome, Push, Receipt, Report, Sink, Unavailable};
use futures_util::future::join_all;

use crate::{
    access::Access,
    key::{self, metadata},
    trouble::{Step, Trouble},
};

/// Most uploads side by side. An upload is a round trip of tens of milliseconds, so this is what carries the
/// rate; more would only make throttling likelier.
const SIDE_BY_SIDE: usize = 16;

/// Most bytes of bodies that are on their way at once.
const BYTES_AT_ONCE: usize = 16 * 1024 * 1024;

/// A bucket that pushes go to.
pub struct S3Sink {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) conditional: bool,
    pub(crate) timeout: Duration,
    pub(crate) access: Access,
}

impl Sink for S3Sink {
    fn batching(&self) -> Batching {
        Batching { pushes: SIDE_BY_SIDE, bytes: BYTES_AT_ONCE, ..Batching::single() }
    }

    async fn deliver(&self, batch: &Batch) -> Report {
        let client = match self.access.client() {
            Ok(client) => client,
            Err(missing) => return Report::unavailable(batch, missing),
        };
        let attempts = join_all(batch.pushes().map(|push| self.in_time(client, push))).await;
        let mut report = Report::untried(batch);
        for (index, attempt) in attempts.into_iter().enumerate() {
            match attempt {
                Ok(receipt) => report.set(index, Outcome::Delivered(receipt)),
                Err(Trouble::Retry(failure)) => report.set(index, Outcome::Retry(failure)),
                Err(Trouble::Reject(failure)) => report.set(index, Outcome::Reject(failure)),
                // Its push stays untried: what it met says nothing about it.
                Err(Trouble::Unavailable(why)) => report = report.and_unavailable(why),
            }
        }
        report
    }

    fn describe(&self) -> String {
        let keys = match self.access.has_credentials() {
            true => "",
            false => ", credentials from the environment",
        };
        format!("an object per push in s3://{}/{} at {}{keys}", self.bucket, self.prefix, self.access.place())
    }

    async fn probe(&self) -> Result<(), String> {
        let client = self.access.client().map_err(|missing| missing.reason)?;
        let head = client.head_bucket().bucket(&self.bucket).send();
        match tokio::time::timeout(self.timeout, head).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.trouble(Step::Probe, error).into_reason()),
            Err(_) => Err(self.no_answer()),
        }
    }
}

impl S3Sink {
    async fn in_time(&self, client: &Client, push: &Push) -> Result<Receipt, Trouble> {
        match tokio::time::timeout(self.timeout, self.archive(client, push)).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Trouble::Retry(Failure::new(self.no_answer()))),
        }
    }

    /// Brings one push to its place, or finds it there.
    async fn archive(&self, client: &Client, push: &Push) -> Result<Receipt, Trouble> {
        let key = key::of(&self.prefix, push);
        match self.put(client, &key, push).await {
            Ok(stored) if stored.e_tag().is_some() => {}
            // Every S3 server answers with an ETag. Who says 200 without one is a portal or a web server, and to
            // believe it would lose the record.
            Ok(_) => return Err(Trouble::Unavailable(self.no_s3())),
            Err(error) if is_there_already(&error) => self.compare(client, &key, push).await?,
            Err(error) => return Err(self.trouble(Step::Put, error)),
        }
        Ok(Receipt::new(format!("s3://{}/{key}", self.bucket)))
    }

    async fn put(
        &self,
        client: &Client,
        key: &str,
        push: &Push,
    ) -> Result<PutObjectOutput, SdkError<PutObjectError>> {
        let mut put = client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type("application/json")
            .body(ByteStream::from(push.body().clone()))
            .set_if_none_match(self.conditional.then(|| "*".to_owned()));
        for (name, value) in key::metadata_of(push) {
            put = put.metadata(name, value);
        }
        put.send().await
    }

    /// Looks at the object that is there already: delivered only when it holds what this push would have put.
    async fn compare(&self, client: &Client, key: &str, push: &Push) -> Result<(), Trouble> {
        let head = client.head_object().bucket(&self.bucket).key(key).send().await;
        let head = head.map_err(|error| self.trouble(Step::Look, error))?;
        let same = match stored_sha256(&head) {
            Some(sha256) => sha256 == push.sha256_hex(),
            None if head.content_length() != Some(push.body().len() as i64) => false,
            None => self.holds(client, key, push.body()).await?,
        };
        match same {
            true => Ok(()),
            false => Err(Trouble::Reject(Failure::new(format!(
                "another object stands at s3://{}/{key}, and is not overwritten: move it away, then retry",
                self.bucket
            )))),
        }
    }

    async fn holds(&self, client: &Client, key: &str, expected: &[u8]) -> Result<bool, Trouble> {
        let get = client.get_object().bucket(&self.bucket).key(key).send().await;
        let object = get.map_err(|error| self.trouble(Step::Look, error))?;
        match object.body.collect().await {
            Ok(bytes) => Ok(bytes.into_bytes() == expected),
            Err(_) => Err(Trouble::Retry(Failure::new(
                "the object that is there already could not be read to its end",
            ))),
        }
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

fn stored_sha256(head: &HeadObjectOutput) -> Option<&str> {
    head.metadata()?.get(metadata::SHA256).map(String::as_str)
}

/// 412 is S3's answer to a put whose `If-None-Match` does not hold.
fn is_there_already(error: &SdkError<PutObjectError>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
}
