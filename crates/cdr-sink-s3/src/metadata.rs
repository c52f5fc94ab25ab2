//! What is written beside the bytes of an object.

use cdr_archive::Object;
use cdr_core::Push;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// SHA-256 of the bytes, lower-case hex: by this an object that is there already is known as ours.
pub(crate) const SHA256: &str = "sha256";

/// The sender's `X-TCCC-PUSH-UUID`, percent-encoded where a header needs it.
const UUID: &str = "uuid";
/// The push's action.
const ACTION: &str = "action";
/// When it arrived, RFC 3339, UTC.
const RECEIVED_AT: &str = "received-at";
/// How many pushes an object holds.
const PUSHES: &str = "pushes";
/// The position of the first of them.
const FIRST: &str = "first";
/// The position of the last of them.
const LAST: &str = "last";

/// What cannot stand in a header, or would not come back as it went: spaces at its ends are trimmed, and `%` is
/// the escape itself. What is not ASCII is always encoded.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"');

/// The longest UUID that is kept as metadata, in bytes; all metadata of an object share 2 KB.
const LONGEST_UUID: usize = 256;

/// What is written beside an object of these bytes, by name.
pub(crate) fn of(object: &Object, sha256: &str) -> Vec<(&'static str, String)> {
    let mut metadata = vec![(SHA256, sha256.to_owned())];
    match (object.raw(), object.pushes()) {
        (Some(push), _) => metadata.extend(of_push(push)),
        (None, [first, .., last]) | (None, [first @ last]) => metadata.extend([
            (PUSHES, object.pushes().len().to_string()),
            (FIRST, first.position().to_string()),
            (LAST, last.position().to_string()),
        ]),
        (None, []) => {}
    }
    metadata
}

fn of_push(push: &Push) -> Vec<(&'static str, String)> {
    let facts = push.facts();
    let mut metadata = vec![(ACTION, facts.action.to_string()), (RECEIVED_AT, facts.received_at.to_string())];
    // A cut one would be another UUID: better none.
    if let Some(uuid) = facts.uuid.as_deref().filter(|uuid| uuid.len() <= LONGEST_UUID) {
        metadata.push((UUID, utf8_percent_encode(uuid, HEADER).to_string()));
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cdr_core::{Facts, Origin, Position, SpoolId};
    use proptest::prelude::*;

    use super::*;

    fn metadata(uuid: String) -> BTreeMap<&'static str, String> {
        let facts = Facts {
            action: "cdr".parse().unwrap(),
            version: None,
            uuid: Some(uuid),
            received_at: "2026-03-31T16:30:00Z".parse().unwrap(),
            sender: None,
            origin: Origin::Push,
            sha256: [0; 32],
        };
        let push = Push::from_spool(SpoolId([1; 8]), Position(1), facts, Default::default());
        of_push(&push).into_iter().collect()
    }

    #[test]
    fn a_uuid_too_long_for_metadata_is_left_out() {
        let metadata = |length| metadata("x".repeat(length)).len();
        assert_eq!((metadata(256), metadata(257)), (3, 2));
    }

    proptest! {
        #[test]
        fn any_uuid_goes_through_a_header_and_comes_back(uuid in "\\PC{0,60}|[ -~]{0,60}|.{0,20}") {
            let metadata = metadata(uuid.clone());
            let sent = &metadata[UUID];
            prop_assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{}", sent);
            let back = percent_encoding::percent_decode_str(sent).decode_utf8().unwrap();
            prop_assert_eq!(back, uuid);
        }
    }
}
