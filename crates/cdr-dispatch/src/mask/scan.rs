//! Where the values of a JSON text lie: one pass, without recursion, and without reading what nobody asks for.
//!
//! The door has checked that it is JSON. On anything else this finds something or nothing, and never panics.

use std::{borrow::Cow, ops::Range};

use super::Kind;

/// An object or a list that is open.
struct Open {
    is_object: bool,
    /// What all that lies in it is taken for.
    kind: Option<Kind>,
}

/// Tells the place of each text, number and word below a member that `kind_of` knows by its name, with the kind of the
/// nearest such member.
pub(super) fn values(
    json: &str,
    kind_of: impl Fn(&str) -> Option<Kind>,
    mut found: impl FnMut(Kind, Range<usize>),
) {
    let bytes = json.as_bytes();
    let mut open: Vec<Open> = Vec::new();
    let mut member = None;
    let mut expects_name = false;
    let mut at = 0;
    while at < bytes.len() {
        let around = open.last();
        let kind = around.and_then(|open| if open.is_object { member } else { open.kind });
        let mut end = at + 1;
        match bytes[at] {
            bracket @ (b'{' | b'[') => {
                expects_name = bracket == b'{';
                open.push(Open { is_object: expects_name, kind });
            }
            b'}' | b']' => {
                open.pop();
                expects_name = false;
            }
            b',' => expects_name = around.is_some_and(|open| open.is_object),
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' if expects_name => {
                end = end_of_text(bytes, at);
                let name = text(&json[at..end]);
                member = name.and_then(|name| kind_of(&name)).or(around.and_then(|open| open.kind));
                expects_name = false;
            }
            first => {
                end = if first == b'"' { end_of_text(bytes, at) } else { end_of_word(bytes, at) };
                if let Some(kind) = kind {
                    found(kind, at..end);
                }
            }
        }
        at = end;
    }
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let is_over = |byte: &u8| {
        matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"' | b' ' | b'\t' | b'\r' | b'\n')
    };
    let length = bytes[start..].iter().position(is_over);
    length.map_or(bytes.len(), |length| start + length.max(1))
}

/// A JSON text, or a number by its digits; none of any other value.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.bytes().next()? {
        b'"' => serde_json::from_str(raw).ok().and_then(cdr_core::json::text),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(raw)),
        _ => None,
    }
}
