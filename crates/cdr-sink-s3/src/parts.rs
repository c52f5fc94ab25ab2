//! A large object goes in parts, which the server joins: an upload of its own, aborted when something fails.
//!
//! Until they are joined there is no object, so nobody ever sees half of one. Parts that a `kill -9` left behind are paid for
//! until a lifecycle rule of the bucket removes them (`AbortIncompleteMultipartUpload`).

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    operation::upload_part::UploadPartOutput,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};

use crate::{
    S3Sink,
    trouble::{Step, Trouble},
    upload::{Parcel, is_there_already},
};

/// Giving up an upload may take so long; what stays is for the lifecycle rule.
pub(crate) const ABORT: Duration = Duration::from_secs(5);

impl S3Sink {
    /// Brings an object to its place in parts, or finds it there.
    pub(crate) async fn put_in_parts(&self, client: &Client, parcel: &Parcel<'_>) -> Result<(), Trouble> {
        let upload = self.in_time(parcel.until, self.begin(client, parcel)).await?;
        let joined = self.in_time(parcel.until, self.send_and_join(client, parcel, &upload)).await;
        if !matches!(joined, Ok(true)) {
            self.abort(client, parcel, &upload).await;
        }
        match joined? {
            true => Ok(()),
            false => self.in_time(parcel.until, self.compare(client, parcel)).await,
        }
    }

    async fn begin(&self, client: &Client, parcel: &Parcel<'_>) -> Result<String, Trouble> {
        let (lock_mode, locked_until) = self.keeping.lock(parcel.object).unzip();
        let mut begin = client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(parcel.object.key())
            .content_type(parcel.object.content_type())
            .set_storage_class(self.keeping.storage_class())
            .set_server_side_encryption(self.keeping.encryption())
            .set_ssekms_key_id(self.keeping.kms_key())
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(locked_until)
            .set_checksum_algorithm(self.keeping.checksum());
        for (name, value) in parcel.metadata() {
            begin = begin.metadata(name, value);
        }
        let begun = begin.send().await.map_err(|error| self.trouble(Step::Put, error))?;
        // Whoever answers without one is no S3 server.
        self.believe(begun.upload_id())?;
        Ok(begun.upload_id.unwrap_or_default())
    }

    /// Whether the object came about; else something stands in its place.
    async fn send_and_join(
        &self,
        client: &Client,
        parcel: &Parcel<'_>,
        upload: &str,
    ) -> Result<bool, Trouble> {
        let mut parts = Vec::new();
        let mut rest = parcel.bytes.clone();
        // One after the other: side by side they would take the room of several in every buffer on the way.
        for number in 1.. {
            let part = rest.split_to(self.part.min(rest.len()));
            if part.is_empty() {
                break;
            }
            let sent = client
                .upload_part()
                .bucket(&self.bucket)
                .key(parcel.object.key())
                .upload_id(upload)
                .part_number(number)
                .set_checksum_algorithm(self.keeping.checksum())
                .body(ByteStream::from(part))
                .send()
                .await
                .map_err(|error| self.trouble(Step::Put, error))?;
            self.believe(sent.e_tag())?;
            parts.push(completed(number, sent));
        }
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let join = client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(parcel.object.key())
            .upload_id(upload)
            .multipart_upload(all)
            .set_if_none_match(self.only_new());
        match join.send().await {
            Ok(joined) => self.believe(joined.e_tag()).map(|()| true),
            Err(error) if is_there_already(&error) => Ok(false),
            Err(error) => Err(self.trouble(Step::Put, error)),
        }
    }

    /// What fails here was told by what failed before, or does no harm.
    async fn abort(&self, client: &Client, parcel: &Parcel<'_>, upload: &str) {
        let abort = client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(parcel.object.key())
            .upload_id(upload)
            .send();
        drop(tokio::time::timeout(ABORT, abort).await);
    }
}

fn completed(number: i32, sent: UploadPartOutput) -> CompletedPart {
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .set_checksum_crc32(sent.checksum_crc32)
        .set_checksum_crc64_nvme(sent.checksum_crc64_nvme)
        .set_checksum_sha256(sent.checksum_sha256)
        .build()
}
