//! The one judge of HTTP answers: what a status says about this push, and what about the receiver.
//!
//! Shared by every sink that speaks HTTP, so that a 429 means the same to all of them.

use std::time::{Duration, SystemTime};

/// What an HTTP status means for a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// 2xx: taken.
    Delivered,
    /// This push was not taken now; another time it may be.
    Retry,
    /// This push will never be taken as it is.
    Reject,
    /// The receiver takes nothing at present, whatever the push.
    Unavailable,
}

/// Judges a status.
///
/// | status | verdict | why |
/// |---|---|---|
/// | 2xx | delivered | |
/// | 401, 403, 407 | unavailable | our credentials are wrong for every push; a person can mend them |
/// | 429 | unavailable | it asks us to slow down |
/// | 503 with `Retry-After` | unavailable | it says that it is away |
/// | 400, 411, 413, 414, 415, 422, 431 | reject | it read this push and does not want it |
/// | 3xx | unavailable | the address in the settings is out of date; those that may be followed were |
/// | the rest: 404, 408, 409, 425, 5xx … | retry | may be this push, may be a passing fault |
pub fn judge(status: u16, has_retry_after: bool) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        300..=399 | 401 | 403 | 407 | 429 => Verdict::Unavailable,
        503 if has_retry_after => Verdict::Unavailable,
        400 | 411 | 413 | 414 | 415 | 422 | 431 => Verdict::Reject,
        _ => Verdict::Retry,
    }
}

/// Reads a `Retry-After` header (RFC 9110 §10.2.3): seconds or a date; a date in the past is zero. None when
/// it is neither. The caller caps it.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("", now), None);
        assert_eq!(retry_after("-5", now), None);
    }

    #[test]
    fn every_status_has_one_verdict() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                300..=399 | 401 | 403 | 407 | 429 => Verdict::Unavailable,
                400 | 411 | 413 | 414 | 415 | 422 | 431 => Verdict::Reject,
                _ => Verdict::Retry,
            };
            assert_eq!(judge(status, false), expected, "{status}");
        }
        assert_eq!(judge(503, true), Verdict::Unavailable);
        assert_eq!(judge(500, true), Verdict::Retry);
    }
}
