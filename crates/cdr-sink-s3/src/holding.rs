//! The bucket, seen by who checks the archive or reads it back.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use cdr_archive::{Filing, Holding, holding::Asked};
use sha2::{Digest, Sha256};

use crate::{S3Sink, metadata, trouble::Step, upload::is_there_already};

impl Holding for S3Sink {
    fn filing(&self) -> &Filing {
        &self.filing
    }

    fn keys(&self) -> Asked<'_, Vec<String>> {
        Box::pin(async move {
            let client = self.access.client().await.map_err(|missing| missing.reason)?;
            let list = client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
            let mut pages = list.into_paginator().send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| self.trouble(Step::Probe, error).into_reason())?;
                let found =
                    page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&self.prefix));
                keys.extend(found.map(str::to_owned));
            }
            keys.sort_unstable();
            Ok(keys)
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Bytes> {
        Box::pin(async move {
            let client = self.access.client().await.map_err(|missing| missing.reason)?;
            let key = format!("{}{key}", self.prefix);
            let get = client.get_object().bucket(&self.bucket).key(&key).send().await;
            let object =
                get.map_err(|error| format!("{key}: {}", self.trouble(Step::Look, error).into_reason()))?;
            let bytes = object.body.collect().await;
            bytes
                .map(|bytes| bytes.into_bytes())
                .map_err(|error| format!("{key} could not be read to its end: {error}"))
        })
    }

    fn add<'a>(&'a self, key: &'a str, bytes: Bytes) -> Asked<'a, bool> {
        Box::pin(async move {
            let client = self.access.client().await.map_err(|missing| missing.reason)?;
            let key = format!("{}{key}", self.prefix);
            // Some servers ignore the condition.
            if client.head_object().bucket(&self.bucket).key(&key).send().await.is_ok() {
                return Ok(false);
            }
            let put = client
                .put_object()
                .bucket(&self.bucket)
                .key(key)
                .content_type("application/json")
                .metadata(metadata::SHA256, hex::encode(Sha256::digest(&bytes)))
                .body(ByteStream::from(bytes))
                .set_server_side_encryption(self.keeping.encryption())
                .set_ssekms_key_id(self.keeping.kms_key())
                .set_if_none_match(self.only_new());
            match put.send().await {
                Ok(stored) => {
                    self.believe(stored.e_tag()).map(|()| true).map_err(|trouble| trouble.into_reason())
                }
                Err(error) if is_there_already(&error) => Ok(false),
                Err(error) => Err(self.trouble(Step::Put, error).into_reason()),
            }
        })
    }
}
