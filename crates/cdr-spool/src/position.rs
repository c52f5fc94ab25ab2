//! Where a push lies, and whose spool it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The place of a push in the spool: grows by one with each stored push, first is 1, never used twice within a spool.
///
/// A position whose commit failed is burnt: it names nothing and never will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The first position of every spool.
    pub const FIRST: Position = Position(1);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Position)
    }
}

/// The random identity of a spool, made at its first start and written into every segment.
///
/// A fresh or restored spool starts its positions again; only identity and position together name a push for good,
/// so everything that outlives the spool (archive keys, idempotency keys) contains both.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolId(pub(crate) [u8; 8]);

impl SpoolId {
    pub(crate) fn random() -> SpoolId {
        SpoolId(rand::random())
    }

    /// The eight bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// 16 hex digits.
impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpoolId({self})")
    }
}
