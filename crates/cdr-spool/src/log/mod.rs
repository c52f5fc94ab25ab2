//! The log on disk: files, frames, entries. Read [`segment`] → [`frame`] → [`entry`] → [`walk`] → [`index`].
//!
//! ```text
//! 0000000007.log     header │ frame │ frame │ frame …            the truth
//! frame              magic, segment, salt, sequence, durable_to, position, time, CRC │ entry │ entry …
//! 0000000007.index   what a scan of the closed segment would tell  derived, may be deleted
//! ```
//! All numbers are little-endian; inside entries most are LEB128 ([`codec`]).

pub(crate) mod codec;
pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod index;
pub(crate) mod outcomes;
pub(crate) mod segment;
pub(crate) mod view;
pub(crate) mod walk;
