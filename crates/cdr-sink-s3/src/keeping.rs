//! How the server shall keep objects: where, encrypted by what, and until when nobody may remove them.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::{
    primitives::DateTime,
    types::{ChecksumAlgorithm, ObjectLockMode, ServerSideEncryption, StorageClass},
};
use cdr_archive::Object;
use cdr_core::BuildError;
use schemars::JsonSchema;
use serde::Deserialize;

/// S3 takes no lock until a time that is past by its clock (user guide, "Object Lock considerations"), which may be a quarter
/// of an hour off ours. A lock of which less is left is made this long.
const SHORTEST_LOCK: Duration = Duration::from_secs(3600);

/// How the server encrypts what it keeps.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
pub enum Encryption {
    /// With keys of its own.
    AES256,
    /// With a key of AWS's KMS, or what the server takes for one.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// Until when nobody may remove or overwrite an object. The bucket must have been made with object lock.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Whether those with a special permission still may.
    pub mode: LockMode,
    /// How long from the arrival of its last push on: 365d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub retain: Duration,
}

/// Whether a lock can be lifted.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// By who has `s3:BypassGovernanceRetention`.
    Governance,
    /// By nobody, the account's owner included.
    Compliance,
}

/// How the server shall keep objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeping {
    pub storage_class: Option<String>,
    pub sse: Option<Encryption>,
    pub sse_kms_key: Option<String>,
    pub object_lock: Option<ObjectLock>,
}

impl Keeping {
    pub fn check(&self, faults: &mut BuildError) {
        let letters = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        if self.storage_class.as_ref().is_some_and(|class| class.is_empty() || !class.bytes().all(letters)) {
            faults.push("storage_class", "a storage class is upper-case letters and _, such as STANDARD_IA");
        }
        if self.sse_kms_key.is_some() && self.sse != Some(Encryption::Kms) {
            faults.push("sse_kms_key", "belongs to `sse: aws:kms`");
        }
        if self.object_lock.is_some_and(|lock| lock.retain < Duration::from_secs(24 * 3600)) {
            faults.push("object_lock.retain", "an object is locked for at least 1d");
        }
    }

    pub fn storage_class(&self) -> Option<StorageClass> {
        self.storage_class.as_deref().map(StorageClass::from)
    }

    pub fn encryption(&self) -> Option<ServerSideEncryption> {
        self.sse.map(|sse| match sse {
            Encryption::AES256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
        })
    }

    pub fn kms_key(&self) -> Option<String> {
        self.sse_kms_key.clone()
    }

    /// How, and until when, nobody may remove an object that is put now. None when that time is over already, as it is for a push
    /// that waited longer than `retain`: what was promised is kept, and a lock that nobody asked for might outlast the day on
    /// which the record has to be removed.
    ///
    /// From the arrival and not from now on, so that a repeat asks for the same.
    pub fn lock(&self, object: &Object) -> Option<(ObjectLockMode, DateTime)> {
        let lock = self.object_lock?;
        let arrival = object.pushes().last()?.facts().received_at.as_second();
        let until = arrival.saturating_add_unsigned(lock.retain.as_secs());
        let now = DateTime::from(SystemTime::now()).secs();
        let mode = match lock.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        };
        let shortest = now.saturating_add_unsigned(SHORTEST_LOCK.as_secs());
        (until > now).then(|| (mode, DateTime::from_secs(until.max(shortest))))
    }

    /// S3 takes no locked object without a checksum of its own (user guide, "Object Lock considerations").
    pub fn checksum(&self) -> Option<ChecksumAlgorithm> {
        self.object_lock.map(|_| ChecksumAlgorithm::Sha256)
    }
}
