//! The bucket, seen by who checks the archive or reads it back.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use cdr_archive::{
    Below, Filing, Holding,
    holding::{Asked, Wanted},
};
use sha2::{Digest, Sha256};

use crate::{S3Sink, metadata, trouble::Step, upload::is_there_already};

impl Holding for S3Sink {
    fn filing(&self) -> &Filing {
        &self.filing
    }

    fn keys_in<'a>(&'a self, folder: &'a str, wanted: Wanted<'a>) -> Asked<'a, Vec<String>> {
        Box::pin(async move {
            let client = self.access.client().await.map_err(|missing| missing.reason)?;
            let mut keys = Vec::new();
            let mut folders = vec![folder.to_owned()];
            while let Some(folder) = folders.pop() {
                let below = wanted(&folder);
                if below == Below::Nothing {
                    continue;
                }
                let list = client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(format!("{}{folder}", self.prefix))
                    .set_delimiter((below == Below::Folders).then(|| "/".to_owned()));
                let mut pages = list.into_paginator().send();
                while let Some(page) = pages.next().await {
                    let page = page.map_err(|error| self.trouble(Step::Probe, error).into_reason())?;
                    let behind_prefix = |key: &str| key.strip_prefix(&self.prefix).map(str::to_owned);
                    keys.extend(page.contents().iter().filter_map(|object| behind_prefix(object.key()?)));
                    folders.extend(
                        page.common_prefixes().iter().filter_map(|found| behind_prefix(found.prefix()?)),
                    );
                }
            }
            keys.sort_unstable();
            Ok(keys)
        })
    }

    fn key_of<'r>(&self, receipt: &'r str) -> Option<&'r str> {
        // That of a raw object is its URL, that of many their key.
        let behind_scheme = receipt.strip_prefix("s3://").and_then(|rest| rest.strip_prefix(&self.bucket));
        let key = behind_scheme.and_then(|rest| rest.strip_prefix('/')).unwrap_or(receipt);
        key.strip_prefix(&self.prefix)
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
                .set_checksum_algorithm(self.keeping.checksum())
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
