//! What the S3 receiver holds, and its face towards the protocol: the operations of [`s3s::S3`] over a map.
//!
//! A put and its condition are one step under one lock, so two puts with `If-None-Match: *` never both win.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, atomic::Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use s3s::{Body, S3, S3Request, S3Response, S3Result, dto::*, s3_error};
use sha2::{Digest, Sha256};

use super::{State, lock};

/// An object that the receiver holds.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its content type, as sent.
    pub content_type: Option<String>,
    /// How it was asked to be kept.
    pub kept: Kept,
    /// Its metadata, without the `x-amz-meta-` of the wire.
    pub metadata: BTreeMap<String, String>,
    /// How often it was written; puts that a condition refused do not count.
    pub puts: u32,
    /// Whether a later put changed its bytes.
    pub overwritten: bool,
    written_at: SystemTime,
}

/// How an object was asked to be kept; the receiver notes it and does nothing of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Its storage class.
    pub storage_class: Option<String>,
    /// `AES256` or `aws:kms`.
    pub encryption: Option<String>,
    /// By which key.
    pub kms_key: Option<String>,
    /// `GOVERNANCE` or `COMPLIANCE`, and until when, RFC 3339.
    pub locked: Option<(String, String)>,
    /// Whether its bytes came in parts.
    pub in_parts: bool,
}

impl Object {
    fn etag(&self) -> ETag {
        ETag::Strong(hex::encode(&Sha256::digest(&self.bytes)[..16]))
    }
}

/// No part but the last is smaller (API reference, "UploadPart").
const SMALLEST_PART: usize = 5 << 20;

/// Buckets and unfinished multipart uploads.
#[derive(Default)]
pub(super) struct Store {
    buckets: Mutex<HashMap<String, BTreeMap<String, Object>>>,
    uploads: Mutex<HashMap<String, Upload>>,
}

struct Upload {
    bucket: String,
    key: String,
    content_type: Option<String>,
    kept: Kept,
    metadata: BTreeMap<String, String>,
    parts: BTreeMap<i32, Bytes>,
}

impl Store {
    pub(super) fn objects(&self, bucket: &str) -> Vec<Object> {
        lock(&self.buckets).get(bucket).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn unfinished(&self) -> usize {
        lock(&self.uploads).len()
    }

    pub(super) fn create_bucket(&self, bucket: &str) {
        lock(&self.buckets).entry(bucket.to_owned()).or_default();
    }

    pub(super) fn delete_bucket(&self, bucket: &str) {
        lock(&self.buckets).remove(bucket);
    }

    pub(super) fn plant(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.create_bucket(bucket);
        let object = new_object(key, Bytes::copy_from_slice(bytes), None, Kept::default(), BTreeMap::new());
        lock(&self.buckets).entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let buckets = lock(&self.buckets);
        let objects = buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        lock(&self.buckets).contains_key(bucket).then_some(()).ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn put(&self, bucket: &str, mut object: Object, only_new: bool) -> S3Result<ETag> {
        let mut buckets = lock(&self.buckets);
        let objects = buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        if let Some(earlier) = objects.get(&object.key) {
            if only_new {
                return Err(s3_error!(PreconditionFailed, "an object of this key exists"));
            }
            object.puts = earlier.puts + 1;
            object.overwritten = earlier.overwritten || earlier.bytes != object.bytes;
        }
        let etag = object.etag();
        objects.insert(object.key.clone(), object);
        Ok(etag)
    }
}

fn new_object(
    key: &str,
    bytes: Bytes,
    content_type: Option<String>,
    kept: Kept,
    metadata: BTreeMap<String, String>,
) -> Object {
    Object {
        key: key.to_owned(),
        bytes,
        content_type,
        kept,
        metadata,
        puts: 1,
        overwritten: false,
        written_at: SystemTime::now(),
    }
}

async fn read(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    // A body that ends early, or is not what its signature covers, ends here.
    let whole = Body::from(body).collect().await;
    whole.map(|whole| whole.to_bytes()).map_err(|_| s3_error!(IncompleteBody))
}

fn blob(bytes: Bytes) -> Option<StreamingBlob> {
    Some(StreamingBlob::from(Body::from(bytes)))
}

fn metadata(sent: Option<Metadata>) -> BTreeMap<String, String> {
    sent.unwrap_or_default().into_iter().collect()
}

fn kept(
    storage_class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    lock: Option<ObjectLockMode>,
    until: Option<Timestamp>,
) -> S3Result<Kept> {
    if until.as_ref().is_some_and(|until| *until <= Timestamp::from(SystemTime::now())) {
        return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
    }
    let until = until.and_then(|until| {
        let mut text = Vec::new();
        until.format(TimestampFormat::DateTime, &mut text).ok()?;
        String::from_utf8(text).ok()
    });
    Ok(Kept {
        storage_class: storage_class.map(|class| class.as_str().to_owned()),
        encryption: encryption.map(|encryption| encryption.as_str().to_owned()),
        kms_key,
        locked: lock.map(|mode| mode.as_str().to_owned()).zip(until),
        in_parts: false,
    })
}

/// The protocol's side of the store.
pub(super) struct Face(pub(super) Arc<State>);

impl Face {
    fn store(&self) -> &Store {
        &self.0.store
    }

    fn only_new(&self, condition: Option<&IfNoneMatch>) -> bool {
        condition.is_some_and(ETagCondition::is_any) && !self.0.ignores_conditions.load(Ordering::Relaxed)
    }
}

type Answer<T> = S3Result<S3Response<T>>;

fn ok<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Face {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.store().create_bucket(&request.input.bucket);
        ok(CreateBucketOutput::default())
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.store().check_bucket(&request.input.bucket)?;
        ok(HeadBucketOutput::default())
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let input = request.input;
        self.store().check_bucket(&input.bucket)?;
        let only_new = self.only_new(input.if_none_match.as_ref());
        let bytes = read(input.body).await?;
        let kept = kept(
            input.storage_class,
            input.server_side_encryption,
            input.ssekms_key_id,
            input.object_lock_mode,
            input.object_lock_retain_until_date,
        )?;
        let object = new_object(&input.key, bytes, input.content_type, kept, metadata(input.metadata));
        let etag = self.store().put(&input.bucket, object, only_new)?;
        ok(PutObjectOutput { e_tag: Some(etag), ..Default::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let object = self.store().object(&request.input.bucket, &request.input.key)?;
        ok(GetObjectOutput {
            e_tag: Some(object.etag()),
            content_length: Some(object.bytes.len() as i64),
            content_type: object.content_type,
            last_modified: Some(object.written_at.into()),
            metadata: Some(object.metadata.into_iter().collect()),
            body: blob(object.bytes),
            ..Default::default()
        })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let object = self.store().object(&request.input.bucket, &request.input.key)?;
        ok(HeadObjectOutput {
            e_tag: Some(object.etag()),
            content_length: Some(object.bytes.len() as i64),
            content_type: object.content_type,
            last_modified: Some(object.written_at.into()),
            metadata: Some(object.metadata.into_iter().collect()),
            ..Default::default()
        })
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let mut buckets = lock(&self.store().buckets);
        let objects = buckets.get_mut(&request.input.bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        objects.remove(&request.input.key);
        ok(DeleteObjectOutput::default())
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let input = request.input;
        self.store().check_bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let most = input.max_keys.unwrap_or(1000).clamp(0, 1000);
        let mut objects = self.store().objects(&input.bucket);
        objects.retain(|object| object.key.starts_with(&prefix));
        // By where the server would go on: a key, or what all keys of a folder begin with.
        let folder_of = |object: &Object| {
            let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
            let end = object.key[prefix.len()..].find(delimiter)? + prefix.len() + delimiter.len();
            Some(object.key[..end].to_owned())
        };
        let mut found: BTreeMap<String, Option<Object>> = BTreeMap::new();
        for object in objects {
            match folder_of(&object) {
                Some(folder) => found.insert(folder, None),
                None => found.insert(object.key.clone(), Some(object)),
            };
        }
        found.retain(|name, _| *name > after);
        let truncated = found.len() > most as usize;
        let found: Vec<_> = found.into_iter().take(most as usize).collect();
        let next = found.last().filter(|_| truncated).map(|(name, _)| name.clone());
        let folders = found.iter().filter(|(_, object)| object.is_none());
        let folders = folders.map(|(name, _)| CommonPrefix { prefix: Some(name.clone()) }).collect();
        ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: Some(most),
            key_count: Some(found.len() as i32),
            is_truncated: Some(truncated),
            next_continuation_token: next,
            common_prefixes: Some(folders),
            contents: Some(found.into_iter().filter_map(|(_, object)| object).map(listed).collect()),
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = request.input;
        self.store().check_bucket(&input.bucket)?;
        let id = uuid::Uuid::new_v4().to_string();
        let kept = kept(
            input.storage_class,
            input.server_side_encryption,
            input.ssekms_key_id,
            input.object_lock_mode,
            input.object_lock_retain_until_date,
        )?;
        let upload = Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            content_type: input.content_type,
            kept: Kept { in_parts: true, ..kept },
            metadata: metadata(input.metadata),
            parts: BTreeMap::new(),
        };
        lock(&self.store().uploads).insert(id.clone(), upload);
        ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = request.input;
        let bytes = read(input.body).await?;
        let etag = ETag::Strong(hex::encode(&Sha256::digest(&bytes)[..16]));
        let mut uploads = lock(&self.store().uploads);
        let upload = uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(input.part_number, bytes);
        ok(UploadPartOutput { e_tag: Some(etag), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = request.input;
        let only_new = self.only_new(input.if_none_match.as_ref());
        let upload = lock(&self.store().uploads).remove(&input.upload_id);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = input.multipart_upload.and_then(|named| named.parts).unwrap_or_default();
        let mut bytes = Vec::new();
        for (index, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            let part = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.len() < SMALLEST_PART && index + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            bytes.extend_from_slice(part);
        }
        let object = new_object(&upload.key, bytes.into(), upload.content_type, upload.kept, upload.metadata);
        let etag = self.store().put(&upload.bucket, object, only_new)?;
        ok(CompleteMultipartUploadOutput {
            bucket: Some(upload.bucket),
            key: Some(upload.key),
            e_tag: Some(etag),
            ..Default::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        lock(&self.store().uploads).remove(&request.input.upload_id);
        ok(AbortMultipartUploadOutput::default())
    }
}

fn listed(object: Object) -> s3s::dto::Object {
    s3s::dto::Object {
        e_tag: Some(object.etag()),
        last_modified: Some(object.written_at.into()),
        size: Some(object.bytes.len() as i64),
        key: Some(object.key),
        ..Default::default()
    }
}
