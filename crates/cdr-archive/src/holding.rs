//! The place where an archive lies, seen by who checks it or reads it back.

use std::pin::Pin;

use bytes::Bytes;

use crate::Filing;

/// What a place is asked for; the error is in words for the operator.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The place where an archive lies: a folder, a bucket. Keys are those behind its prefix.
pub trait Holding: Send + Sync {
    /// How its sink files pushes today.
    fn filing(&self) -> &Filing;

    /// The keys of everything that lies there, in their order.
    fn keys(&self) -> Asked<'_, Vec<String>>;

    /// The bytes under a key.
    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Bytes>;

    /// Puts bytes under a key where nothing is; false when something is.
    fn add<'a>(&'a self, key: &'a str, bytes: Bytes) -> Asked<'a, bool>;
}
