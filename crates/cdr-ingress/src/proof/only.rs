//! A value that stands in one place only. Two of them prove nothing: which one counts would depend on who reads them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Uri};

use super::Failure;
use crate::asked;

/// The one header of this name, without blanks around it.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], Failure> {
    let line = only(headers.get_all(name).iter())?;
    Ok(line.as_bytes().trim_ascii())
}

/// The one parameter of this name in the query, which TCCC may have joined its own to in either way.
pub(super) fn query<'a>(uri: &'a Uri, name: &str) -> Result<Cow<'a, str>, Failure> {
    let pairs = asked::pairs(uri.query().unwrap_or_default());
    only(pairs.filter(|(key, _)| key == name)).map(|(_, value)| value)
}

pub(super) fn only<T>(mut all: impl Iterator<Item = T>) -> Result<T, Failure> {
    let first = all.next().ok_or(Failure::Absent)?;
    match all.next() {
        None => Ok(first),
        Some(_) => Err(Failure::Wrong),
    }
}
