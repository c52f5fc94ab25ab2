//! Where a push goes, and what is written beside its bytes.
//!
//! A key is `{prefix}{action}/dt={date}/{spool}-{position}.json`: the action of the push, the UTC date of its
//! arrival (`dt=2026-11-22`, as Hive, Athena and DuckDB read partitions), the identity of its spool and its
//! position there with 20 digits, so that keys sort as pushes came.
//!
//! * The same push always has the same key: nothing in it depends on when or how often it is uploaded.
//! * Different pushes have different keys: positions are never reused within a spool, and a fresh or restored
//!   spool has another identity.
//! * No key leaves the prefix: what a sender can choose is percent-encoded but for letters, digits and `_`.

use std::fmt::Write;

use cdr_core::Push;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but letters, digits and `_`, so that an encoded part holds no `/` and no `.`.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_');

/// What cannot stand in a header, or would not come back as it went: spaces at its ends are trimmed, and `%` is
/// the escape itself. What is not ASCII is always encoded.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"');

/// The longest UUID that is kept as metadata, in bytes; all metadata of an object share 2 KB.
const LONGEST_UUID: usize = 256;

/// The names of an object's metadata.
pub(crate) mod metadata {
    /// SHA-256 of the bytes, lower-case hex.
    pub(crate) const SHA256: &str = "sha256";
    /// The sender's `X-TCCC-PUSH-UUID`, percent-encoded where a header needs it.
    pub(crate) const UUID: &str = "uuid";
    /// The push's action.
    pub(crate) const ACTION: &str = "action";
    /// When it arrived, RFC 3339, UTC.
    pub(crate) const RECEIVED_AT: &str = "received-at";
}

/// The key of a push.
pub(crate) fn of(prefix: &str, push: &Push) -> String {
    let action = utf8_percent_encode(push.action().as_str(), PART);
    let date = push.facts().received_at.strftime("%Y-%m-%d");
    let mut key = String::with_capacity(prefix.len() + 80);
    // Writing to a string cannot fail.
    let _ = write!(key, "{prefix}{action}/dt={date}/{}-{:020}.json", push.spool(), push.position().0);
    key
}

/// What is written beside the bytes of a push, by name.
pub(crate) fn metadata_of(push: &Push) -> Vec<(&'static str, String)> {
    let facts = push.facts();
    let mut metadata = vec![
        (metadata::SHA256, push.sha256_hex()),
        (metadata::ACTION, facts.action.to_string()),
        (metadata::RECEIVED_AT, facts.received_at.to_string()),
    ];
    // A cut one would be another UUID: better none.
    if let Some(uuid) = facts.uuid.as_deref().filter(|uuid| uuid.len() <= LONGEST_UUID) {
        metadata.push((metadata::UUID, utf8_percent_encode(uuid, HEADER).to_string()));
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cdr_core::{Facts, Origin, Position, SpoolId};
    use proptest::prelude::*;

    use super::*;

    fn push(spool: u8, position: u64, action: &str, uuid: Option<String>) -> Push {
        let facts = Facts {
            action: action.parse().unwrap(),
            version: None,
            uuid,
            // In Shanghai it is the next day already.
            received_at: "2026-03-31T16:30:00Z".parse().unwrap(),
            sender: None,
            origin: Origin::Push,
            sha256: [0; 32],
        };
        Push::from_spool(SpoolId([spool; 8]), Position(position), facts, Default::default())
    }

    #[test]
    fn a_key_reads_as_documented() {
        let key = of("calls/", &push(0xab, 42, "videoCdr", None));
        assert_eq!(key, "calls/videoCdr/dt=2026-03-31/abababababababab-00000000000000000042.json");
        assert!(of("", &push(1, 1, "cdr", None)).starts_with("cdr/dt="));
    }

    #[test]
    fn a_uuid_too_long_for_metadata_is_left_out() {
        let metadata = |length| metadata_of(&push(1, 1, "cdr", Some("x".repeat(length))));
        assert_eq!((metadata(256).len(), metadata(257).len()), (4, 3));
    }

    proptest! {
        #[test]
        fn different_pushes_have_different_keys(
            one in (any::<u8>(), any::<u64>(), "[A-Za-z0-9_]{1,32}"),
            other in (any::<u8>(), any::<u64>(), "[A-Za-z0-9_]{1,32}"),
        ) {
            let key = |(spool, position, action): &(u8, u64, String)| of("p/", &push(*spool, *position, action, None));
            prop_assert_eq!((one.0, one.1) == (other.0, other.1) && one.2 == other.2, key(&one) == key(&other));
            prop_assert_eq!(key(&one).split('/').count(), 4);
        }

        #[test]
        fn any_uuid_goes_through_a_header_and_comes_back(uuid in "\\PC{0,60}|[ -~]{0,60}|.{0,20}") {
            let metadata: BTreeMap<_, _> = metadata_of(&push(1, 1, "cdr", Some(uuid.clone()))).into_iter().collect();
            let sent = &metadata[metadata::UUID];
            prop_assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{}", sent);
            let back = percent_encoding::percent_decode_str(sent).decode_utf8().unwrap();
            prop_assert_eq!(back, uuid);
        }
    }
}
