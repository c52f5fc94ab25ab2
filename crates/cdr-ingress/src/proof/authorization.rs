//! The one `Authorization` header of a request.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};

use super::{Failure, only};

/// Senders forget the padding now and then.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What follows this scheme; the case of its name does not matter (RFC 9110 §11.1).
pub(super) fn of_scheme<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a [u8], Failure> {
    let line = only::header(headers, &header::AUTHORIZATION)?;
    let (given, rest) = line.split_at_checked(scheme.len()).ok_or(Failure::Foreign)?;
    match rest.split_first() {
        Some((b' ', rest)) if given.eq_ignore_ascii_case(scheme.as_bytes()) => Ok(rest.trim_ascii()),
        _ => Err(Failure::Foreign),
    }
}

/// The `user:password` of Basic (RFC 7617).
pub(super) fn basic(headers: &HeaderMap) -> Result<Vec<u8>, Failure> {
    BASE64.decode(of_scheme(headers, "basic")?).map_err(|_| Failure::Wrong)
}
