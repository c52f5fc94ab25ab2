//! The one strict pass over a body: is it exactly one JSON object, and if not, where is the fault?
//!
//! Strict about form: the whole body is valid UTF-8, the whole body is one JSON object of at most
//! [`MAX_DEPTH`] levels, nothing follows it. (A derived serde reader looks away inside fields that it does not
//! know: invalid UTF-8 and 5,000 levels of brackets pass there.) Tolerant about content: repeated keys, lone
//! surrogate escapes, integers of any size and a byte order mark in front are let through, since a truncated
//! nickname is no reason to lose a call.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// How deep objects and arrays may nest; what a common JSON parser takes.
pub const MAX_DEPTH: usize = 128;

/// Why bytes are not one JSON object that we take, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is wrong, in lower case, without the place.
    pub message: String,
    /// Offset into the body, from 0.
    pub byte: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// The word at that place, when there is one and it is short; may hold a phone number, so not for logs.
    pub near: Option<String>,
}

impl Fault {
    fn at(body: &[u8], byte: usize, message: impl Into<String>) -> Self {
        let byte = byte.min(body.len());
        let before = &body[..byte];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        Self { message: message.into(), byte, line, column: byte - line_start + 1, near: word_at(body, byte) }
    }

    /// A fault of the whole body rather than of a place in it.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), byte: 0, line: 1, column: 1, near: None }
    }

    /// What and where, without any part of the body: fit for logs.
    pub fn without_excerpt(&self) -> String {
        format!("{} at byte {} (line {}, column {})", self.message, self.byte, self.line, self.column)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_excerpt())?;
        match &self.near {
            Some(near) if is_masked_number(near) => {
                write!(f, ", near {near}: a masked sample value; send the real number")
            }
            Some(near) => write!(f, ", near {near}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// The published samples mask numbers as `1400xxx214`, unquoted; people paste them.
fn is_masked_number(word: &str) -> bool {
    let masked =
        word.trim_start_matches(|c: char| c.is_ascii_digit()).trim_end_matches(|c: char| c.is_ascii_digit());
    word.len() > masked.len() && !masked.is_empty() && masked.bytes().all(|b| matches!(b, b'x' | b'X' | b'*'))
}

/// The run of word characters around a place, at most 40 of them.
fn word_at(body: &[u8], byte: usize) -> Option<String> {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+' | b'*');
    let start = body[..byte].iter().rposition(|b| !is_word(b)).map_or(0, |at| at + 1);
    let end = body[byte..].iter().position(|b| !is_word(b)).map_or(body.len(), |at| byte + at);
    let word = &body[start..end];
    (!word.is_empty() && word.len() <= 40).then(|| String::from_utf8_lossy(word).into_owned())
}

/// Reads `body` as one JSON object and hands each of its fields to `field`, in order, repeated ones too.
///
/// # Errors
/// It is not exactly one JSON object in valid UTF-8 of at most [`MAX_DEPTH`] levels.
pub fn read_object<'a>(body: &'a [u8], field: impl FnMut(Cow<'a, str>, &'a RawValue)) -> Result<(), Fault> {
    if body.is_empty() {
        return Err(Fault::whole("the body is empty; expected one JSON object"));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault::at(body, error.valid_up_to(), "the body is not valid UTF-8"))?;
    // RFC 8259 §8.1 lets a reader ignore a byte order mark; the offset of a fault must still count it.
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - json.len();
    let start = json.trim_start_matches([' ', '\t', '\r', '\n']);
    if !start.starts_with('{') {
        return Err(Fault::at(body, text.len() - start.len(), not_an_object(start)));
    }
    members(json, field).map_err(|error| syntax_fault(body, skipped, &error))?;
    match too_deep(json) {
        Some(byte) => Err(Fault::at(body, skipped + byte, format!("nested deeper than {MAX_DEPTH} levels"))),
        None => Ok(()),
    }
}

/// Hands each member of `json` to `field`, if it is one JSON object.
///
/// Asks less than [`read_object`], which has asked it all before: for what lies inside of a body.
pub(crate) fn members<'a>(
    json: &'a str,
    mut field: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Fields(&mut field))?;
    reader.end()
}

fn not_an_object(start: &str) -> &'static str {
    match start.bytes().next() {
        None => "the body is blank; expected one JSON object",
        Some(b'[') => "the body is a JSON array; expected one JSON object, one push per request",
        Some(b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => "the body is not a JSON object",
        Some(_) => "the body is not JSON; expected one JSON object",
    }
}

/// serde_json tells line and column; people with a hex dump want the byte.
fn syntax_fault(body: &[u8], skipped: usize, error: &serde_json::Error) -> Fault {
    let mut line_start = skipped;
    for _ in 1..error.line() {
        line_start += body[line_start..].iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
    }
    // Its column counts the bytes consumed in the line, the faulty one included.
    let byte = (line_start + error.column()).saturating_sub(1);
    if error.is_eof() {
        return Fault {
            near: None,
            ..Fault::at(body, body.len(), "the body ends in the middle of its JSON")
        };
    }
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    Fault::at(body, byte, format!("not JSON: {message}"))
}

struct Fields<'f, F>(&'f mut F);

impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue)> Visitor<'a> for Fields<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'a>>()? {
            (self.0)(key.0, map.next_value()?);
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Where `json`, which is valid, first nests deeper than [`MAX_DEPTH`].
fn too_deep(json: &str) -> Option<usize> {
    let brackets = json.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    // Hardly any body has so many, and counting them is cheaper than reading along.
    if brackets <= MAX_DEPTH {
        return None;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_text => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The text of a JSON string, a lone surrogate escape in it read as U+FFFD; none when `raw` is no string.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let raw = raw.get();
    if !raw.starts_with('"') {
        return None;
    }
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(&raw[1..raw.len() - 1]));
    }
    // Only a lone surrogate can fail here: the grammar was checked before.
    let read = |raw: &str| serde_json::from_str::<String>(raw).ok();
    read(raw).or_else(|| read(&without_lone_surrogates(raw))).map(Cow::Owned)
}

fn without_lone_surrogates(raw: &str) -> String {
    let mut fixed = raw.to_owned();
    let mut at = 0;
    while let Some(backslash) = fixed[at..].find('\\').map(|found| at + found) {
        let escape = |from: usize| {
            let hex = fixed.get(from..)?.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(hex, 16).ok()
        };
        at = match (escape(backslash), escape(backslash + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => backslash + 12,
            (Some(0xd800..=0xdfff), _) => {
                fixed.replace_range(backslash..backslash + 6, "\\ufffd");
                backslash + 6
            }
            _ => backslash + 2,
        };
    }
    fixed
}

/// A whole number, also one sent as text; none for anything else, fractions included.
pub(crate) fn integer(raw: &RawValue) -> Option<i64> {
    match text(raw) {
        Some(text) => text.trim().parse().ok(),
        None => raw.get().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &[u8]) -> Fault {
        read_object(body, |_, _| {}).unwrap_err()
    }

    #[test]
    fn a_masked_number_is_named_with_its_byte() {
        let body = b"{\n    \"SdkAppId\":1400xxx214,\n    \"SessionId\":\"x\"}";
        let fault = fault(body);
        assert_eq!(&body[fault.byte..fault.byte + 3], b"xxx");
        assert_eq!((fault.line, fault.column), (2, 20));
        assert!(fault.to_string().contains("at byte 21 (line 2, column 20), near 1400xxx214"), "{fault}");
        assert!(!fault.without_excerpt().contains("1400"));
    }

    #[test]
    fn what_is_not_one_object_is_refused_with_its_place() {
        assert!(fault(b"").message.contains("empty"));
        assert!(fault(b" \n").message.contains("blank"));
        assert!(fault(b"[{}]").message.contains("array"));
        assert!(fault(b"a=1&b=2").message.contains("not JSON"));
        assert_eq!(fault(b"{\"a\":1} x").byte, 8);
        assert_eq!(fault(b"{\"a\":1").byte, 6);
        assert_eq!(fault(b"{\"a\":\"\xff\"}").byte, 6);
        assert_eq!(fault(b"\xef\xbb\xbf{\"a\":x}").byte, 8);
    }

    #[test]
    fn nesting_is_bounded_inside_unknown_fields_too() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(read_object(nested(127).as_bytes(), |_, _| {}).is_ok());
        assert_eq!(fault(nested(128).as_bytes()).byte, 5 + 127);
        assert!(fault(nested(5000).as_bytes()).message.contains("deeper"));
        let brackets_in_text = format!("{{\"a\":[\"{}\\\"\"]}}", "[".repeat(500));
        assert!(read_object(brackets_in_text.as_bytes(), |_, _| {}).is_ok());
    }

    #[test]
    fn lone_surrogates_and_a_byte_order_mark_pass() {
        let mut seen = Vec::new();
        let body = "\u{feff}{\"a\":\"\\ud83d\\ude00 \\ud83d x\\\\ud83d\"}";
        read_object(body.as_bytes(), |key, raw| seen.push((key, text(raw).unwrap()))).unwrap();
        assert_eq!(seen, [("a".into(), "😀 \u{fffd} x\\ud83d".into())]);
    }
}
