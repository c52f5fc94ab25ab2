//! What stands under `s3:` in the configuration, and what is wrong with it.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use cdr_archive::{BatchSettings, Compression, Filing, Layout, Settings};
use cdr_core::{ATTEMPT_DEADLINE, BuildError, Secret, SinkConfig, SinkName, setting};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::{Host, Url};

use crate::{
    S3Sink,
    access::Access,
    keeping::{Encryption, Keeping, ObjectLock},
    parts::ABORT,
};

/// How long a push waits for company: a request costs money, and meanwhile it lies in the spool, as safe as ever.
const USUAL_AGE: Duration = Duration::from_secs(60);

/// In bytes; S3 takes no smaller ones but the last (API reference, "UploadPart").
const PART_SIZES: RangeInclusive<u64> = 5 << 20..=64 << 20;

/// Behind the longest an upload can still be given up, and its pushes told of, before the lane's deadline.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(100);
const _: () = assert!(TIMEOUTS.end().as_secs() + ABORT.as_secs() < ATTEMPT_DEADLINE.as_secs());

/// The settings of the `s3` sink.
///
/// Without credentials here they are looked for where AWS's tools look, at first use and whenever they are over: the
/// environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), the profile in `~/.aws`, a web identity, the
/// container's endpoint, the machine's metadata service.
#[derive(Deserialize, Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket, which must exist. At Tencent COS its name ends in the APPID: `cdr-1250000000`.
    pub bucket: String,
    /// The region that requests are signed for. Without it: `us-east-1` when there is an `endpoint`,
    /// else what environment, profile or machine say.
    pub region: Option<String>,
    /// The server, without the bucket: `https://cos.ap-shanghai.myqcloud.com`. Without it: AWS.
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<Url>,
    /// Whether the bucket is named in the path of the URL instead of its host. AWS and COS want the host, most
    /// servers of one's own want the path. An endpoint that is an IP address is always asked by path.
    #[serde(default)]
    pub path_style: bool,
    /// The access key id; COS calls it SecretId.
    pub access_key_id: Option<Secret>,
    /// The secret access key; COS calls it SecretKey.
    pub secret_access_key: Option<Secret>,
    /// The token that belongs to temporary credentials.
    pub session_token: Option<Secret>,
    /// The profile in `~/.aws` whose credentials count, instead of keys here and of all other sources. It may take on a role.
    pub profile: Option<String>,
    /// What every key begins with, literally, such as `calls/`.
    #[serde(default)]
    pub prefix: String,
    /// How pushes become objects.
    #[serde(default)]
    pub layout: Layout,
    /// How objects of many are compressed. Without it parquet by zstd, lines not at all.
    pub compression: Option<Compression>,
    /// What objects are called behind the prefix, by parts such as {action} and {date}; it needs {spool}, {first} and, but for raw,
    /// {sha}, and ends with .{ext}.
    pub key: Option<String>,
    /// In which days and hours of keys begin: Asia/Shanghai. Without it the configuration's.
    pub timezone: Option<String>,
    /// When an object of many is full.
    pub batch: Option<BatchSettings>,
    /// Whether the gateway writes the manifest of each day that is over. It needs s3:ListBucket and s3:GetObject.
    #[serde(default = "yes")]
    pub manifest: bool,
    /// Objects that are larger go in parts of this size, 5MiB to 64MiB.
    #[serde(default = "default_part")]
    #[schemars(with = "String")]
    pub part_size: ByteSize,
    /// Where the server puts them, such as STANDARD_IA. Without it where the bucket says.
    pub storage_class: Option<String>,
    /// How the server encrypts them. Without it as the bucket says.
    pub sse: Option<Encryption>,
    /// The key by which, for aws:kms. Without it the account's own.
    pub sse_kms_key: Option<String>,
    /// Until when nobody may remove them.
    pub object_lock: Option<ObjectLock>,
    /// Whether an object is written only where there is none (`If-None-Match: *`). For servers that refuse the
    /// condition; those that ignore it do no harm.
    #[serde(default = "yes")]
    pub conditional: bool,
    /// Whether uploads bear a CRC beside the SHA-256 that their signature covers anyway. Without it: `supported`
    /// at AWS, `required` at any other endpoint, since many servers refuse the newer checksum headers.
    pub checksums: Option<Checksums>,
    /// How long an attempt may take, 1 s to 100 s, from connecting to the last byte of the last answer, all parts of an
    /// object included.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

/// When uploads bear a checksum header.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// Where S3 demands one.
    Required,
    /// Wherever S3 knows one.
    Supported,
}

fn yes() -> bool {
    true
}

fn default_part() -> ByteSize {
    ByteSize::mib(8)
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

impl SinkConfig for S3Settings {
    const KIND: &'static str = "s3";
    type Sink = S3Sink;

    fn build(self, _name: &SinkName) -> Result<S3Sink, BuildError> {
        let mut faults = BuildError::default();
        self.check_bucket(&mut faults);
        self.check_region(&mut faults);
        self.check_endpoint(&mut faults);
        self.check_credentials(&mut faults);
        self.check_prefix(&mut faults);
        let filing = self.filing().map_err(|more| faults.0.extend(more.0)).ok();
        let keeping = self.keeping();
        keeping.check(&mut faults);
        if !PART_SIZES.contains(&self.part_size.0) {
            faults.push("part_size", "a part is 5MiB to 64MiB");
        }
        if !TIMEOUTS.contains(&self.timeout) {
            faults.push("timeout", "a timeout is 1s to 100s: the lane ends an attempt after 120s");
        }
        let Some(filing) = filing else { return Err(faults) };
        faults.or_ok(())?;
        Ok(S3Sink {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            filing,
            conditional: self.conditional,
            // Checked to be at most 64 MiB.
            part: usize::try_from(self.part_size.0).unwrap_or(usize::MAX),
            keeping,
            timeout: self.timeout,
            making: Mutex::default(),
            access: Access::new(self),
        })
    }

    fn schema() -> Option<serde_json::Value> {
        Some(setting::schema::<Self>())
    }
}

impl S3Settings {
    fn filing(&self) -> Result<Filing, BuildError> {
        let Self { layout, compression, key, timezone, batch, manifest, .. } = self;
        let settings = Settings {
            layout: *layout,
            compression: *compression,
            key: key.clone(),
            timezone: timezone.clone(),
            batch: *batch,
            manifest: *manifest,
        };
        settings.check(USUAL_AGE)
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            storage_class: self.storage_class.clone(),
            sse: self.sse,
            sse_kms_key: self.sse_kms_key.clone(),
            object_lock: self.object_lock,
        }
    }

    /// S3's rules for names of buckets (Amazon S3 user guide, "General purpose bucket naming rules"); those of
    /// COS are narrower.
    fn check_bucket(&self, faults: &mut BuildError) {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let name = self.bucket.as_bytes();
        let good = (3..=63).contains(&name.len())
            && name.iter().copied().all(inner)
            && edge(name.first())
            && edge(name.last())
            && !self.bucket.contains("..");
        if !good {
            faults.push(
                "bucket",
                "a bucket's name is 3 to 63 lower-case letters, digits, - or ., with a letter or digit at both ends; \
                 no URL, and no folder: that is \"prefix\"",
            );
        }
    }

    fn check_region(&self, faults: &mut BuildError) {
        let Some(region) = &self.region else { return };
        let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if region.is_empty() || !region.bytes().all(letters) {
            faults.push("region", "a region is lower-case letters, digits and -, such as ap-shanghai");
        }
    }

    fn check_endpoint(&self, faults: &mut BuildError) {
        let Some(endpoint) = &self.endpoint else { return };
        if !matches!(endpoint.scheme(), "http" | "https") {
            faults.push("endpoint", "an endpoint begins with https:// or http://");
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            faults.push(
                "endpoint",
                "credentials stand in access_key_id and secret_access_key, not in the endpoint",
            );
        }
        if endpoint.query().is_some() || endpoint.fragment().is_some() {
            faults.push("endpoint", "an endpoint has no ? and no #");
        }
        if let Some(Host::Domain(host)) = endpoint.host()
            && let Some(rest) = host.strip_prefix(&format!("{}.", self.bucket))
        {
            faults.push(
                "endpoint",
                format!("the endpoint is the server without the bucket: {}://{rest}", endpoint.scheme()),
            );
        }
    }

    fn check_credentials(&self, faults: &mut BuildError) {
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => {
                faults.push("secret_access_key", "access_key_id needs its secret_access_key");
            }
            (None, Some(_)) => faults.push("access_key_id", "secret_access_key needs its access_key_id"),
            (None, None) if self.session_token.is_some() => {
                faults.push("session_token", "a session_token needs its access_key_id and secret_access_key");
            }
            _ => {}
        }
        if self.profile.is_some() && self.access_key_id.is_some() {
            faults.push("profile", "credentials come from a profile or from access_key_id, not from both");
        }
        if self.profile.as_ref().is_some_and(|profile| profile.trim().is_empty()) {
            faults.push("profile", "a profile is a name of ~/.aws/config or ~/.aws/credentials");
        }
    }

    /// Some servers store `/a` as `a`, and resolve `..`: two names for one object.
    fn check_prefix(&self, faults: &mut BuildError) {
        let prefix = &self.prefix;
        let folders = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.starts_with('/') {
            faults.push("prefix", "keys do not begin with /");
        } else if !prefix.is_empty() && folders.split('/').any(|part| matches!(part, "" | "." | "..")) {
            faults.push("prefix", "a prefix has no empty part, no . and no .. between its /");
        }
        if prefix.len() > 512 || prefix.chars().any(|c| c.is_control() || c == '\\') {
            faults.push("prefix", "a prefix is at most 512 bytes, without control characters and \\");
        }
    }
}
