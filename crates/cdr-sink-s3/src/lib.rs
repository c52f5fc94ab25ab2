//! Archives pushes as objects in S3, Tencent COS and their like: an object per push, its exact bytes.
//!
//! ```yaml
//! archive: { s3: { bucket: cdr-1250000000, region: ap-shanghai, endpoint: https://cos.ap-shanghai.myqcloud.com } }
//! ```
//!
//! # What it promises
//! **Each push is in the bucket once, whatever happens.** The key of a push and the bytes under it depend on the
//! push alone (`key`), so an attempt that is repeated after a lost answer or a crash writes the same thing to
//! the same place. On top of that an object is only written where there is none yet (`If-None-Match: *`), so
//! that a versioned bucket gets no second version and nothing is ever overwritten. Some servers accept that
//! condition and ignore it: the promise does not need it.
//!
//! When the server says that there is an object already, it is looked at: only one with our SHA-256 counts as
//! delivered. Anything else is a dead letter that names the key.
//!
//! # The parts
//! * `settings`: what stands in the configuration, and what is wrong with it.
//! * `key`: where a push goes.
//! * `access`: the client, made at first use: credentials and region from the settings or AWS's environment.
//! * `upload`: one attempt.
//! * `trouble`: what each error says about the push, or about the bucket, in words for the operator.
#![forbid(unsafe_code)]

mod access;
mod key;
mod settings;
mod trouble;
mod upload;

pub use settings::S3Settings;
pub use upload::S3Sink;
