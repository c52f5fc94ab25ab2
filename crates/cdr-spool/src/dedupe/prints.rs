//! What of a push's key is remembered: two hashes of 32 bits.

use crate::Key;

/// The hashes by which a push is suspected to be another one: of its UUID, and of its whole key. Written into index files:
/// never change them without changing the index's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prints {
    /// 0: no UUID.
    pub(super) uuid: u32,
    /// 0: no push.
    pub(super) whole: u32,
}

impl Prints {
    /// Of a position that holds no push.
    pub(crate) const NONE: Prints = Prints { uuid: 0, whole: 0 };

    pub(crate) fn of(action: &str, uuid: Option<&str>, sha256: &[u8; 32]) -> Prints {
        let mut whole = crc32fast::Hasher::new();
        whole.update(sha256);
        whole.update(action.as_bytes());
        whole.update(&[0, u8::from(uuid.is_some())]);
        whole.update(uuid.unwrap_or_default().as_bytes());
        Prints {
            uuid: uuid.map_or(0, |u| spread(crc32fast::hash(u.as_bytes()))),
            whole: spread(whole.finalize()),
        }
    }

    pub(crate) fn of_key(key: &Key) -> Prints {
        Prints::of(&key.action, key.uuid.as_deref(), &key.sha256)
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.uuid) << 32 | u64::from(self.whole)
    }

    pub(crate) fn from_bits(bits: u64) -> Prints {
        Prints { uuid: (bits >> 32) as u32, whole: bits as u32 }
    }

    pub(super) fn has_uuid_of(self, other: Prints) -> bool {
        self.uuid != 0 && self.uuid == other.uuid
    }
}

/// A CRC as a hash that is never 0 and whose upper bits differ for neighbours.
fn spread(crc: u32) -> u32 {
    crc.wrapping_mul(0x9E37_79B1).max(1)
}
