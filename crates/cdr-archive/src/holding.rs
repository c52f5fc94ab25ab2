//! The place where an archive lies, seen by who checks it or reads it back.

use std::pin::Pin;

use bytes::Bytes;

use crate::Filing;

/// What a place is asked for; the error is in words for the operator.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// How much of what lies below a folder is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// What lies in it, and of each folder in it as much as is then said of that.
    Folders,
}

/// Says how much of what lies below a folder is asked for: `cdr/`, or the empty one above all.
pub type Wanted<'a> = &'a (dyn Fn(&str) -> Below + Send + Sync);

/// The place where an archive lies: a folder, a bucket. Keys are those behind its prefix.
pub trait Holding: Send + Sync {
    /// How its sink files pushes today.
    fn filing(&self) -> &Filing;

    /// The keys of what lies below a folder, the empty one for the whole, in their order. Folders of which nothing is wanted
    /// are not looked into; a folder that is not there holds nothing.
    fn keys_in<'a>(&'a self, folder: &'a str, wanted: Wanted<'a>) -> Asked<'a, Vec<String>>;

    /// The keys of everything that lies there, in their order.
    fn keys(&self) -> Asked<'_, Vec<String>> {
        self.keys_in("", &|_| Below::All)
    }

    /// The key that a receipt of its sink names, if it lies here.
    fn key_of<'r>(&self, receipt: &'r str) -> Option<&'r str>;

    /// The bytes under a key.
    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Bytes>;

    /// Puts bytes under a key where nothing is; false when something is.
    fn add<'a>(&'a self, key: &'a str, bytes: Bytes) -> Asked<'a, bool>;
}
