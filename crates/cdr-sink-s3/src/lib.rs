//! Archives pushes as objects in S3, Tencent COS and their like: many in an object, or each by itself.
//!
//! ```yaml
//! archive: { s3: { bucket: cdr-1250000000, region: ap-shanghai, endpoint: https://cos.ap-shanghai.myqcloud.com } }
//! ```
//!
//! How pushes become objects, what these hold and how they are called is `cdr_archive`'s; here is how an object comes to lie
//! in a bucket.
//!
//! # What it promises
//! **Each push is in the bucket once, whatever happens.** Which pushes share an object, its key and its form are sealed in the
//! spool before the upload; those of a lone push follow from the push itself. So an attempt that is repeated after a lost
//! answer or a crash writes the same thing to the same place. On top of that an object is only written where there is none yet
//! (`If-None-Match: *`), so that a versioned bucket gets no second version and nothing is ever overwritten. Some servers accept
//! that condition and ignore it: the promise does not need it.
//!
//! When the server says that there is an object already, it is looked at: only one with our SHA-256, or with the same
//! records, counts as delivered. Anything else is a dead letter that names the key.
//!
//! # The parts
//! * `settings`: what stands in the configuration, and what is wrong with it; `keeping`: how the server shall keep objects.
//! * `access`: the client, made at first use; `sources`: where AWS keeps credentials that the settings do not hold.
//! * `upload`: one attempt; `parts`: one in parts; `metadata`: what is written beside the bytes;
//!   `holding`: reading it back.
//! * `trouble`: what each error says about the push, or about the bucket, in words for the operator.
#![forbid(unsafe_code)]

mod access;
mod helper;
mod holding;
mod keeping;
mod metadata;
mod parts;
mod settings;
mod sources;
mod trouble;
mod upload;

pub use keeping::{Encryption, LockMode, ObjectLock};
pub use settings::S3Settings;
pub use upload::S3Sink;
