//! How long a token of OAuth 2.0 is good (RFC 6749 §5.1), as token endpoints really say it.
//!
//! Shared by every sink that fetches tokens, so that an endpoint that serves one serves all of them.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};

/// `expires_in`: seconds, as a number or, against the RFC, as a text; with a fraction or not. Whatever else stands there is no
/// fault: the token beside it is good, for a time that nobody knows.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
pub enum Lifetime {
    /// As the RFC has it.
    Number(f64),
    /// As some have it.
    Text(String),
    /// As nobody should.
    Unreadable(IgnoredAny),
}

impl Lifetime {
    /// None when it cannot be read. A year at most, which is as good as longer, so that a sum of times never overflows; nothing
    /// when it is negative.
    pub fn read(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => *seconds,
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Unreadable(_) => return None,
        };
        Duration::try_from_secs_f64(seconds.clamp(0.0, 3.2e7)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Duration> {
        serde_json::from_str::<Lifetime>(json).unwrap().read()
    }

    #[test]
    fn a_lifetime_is_read_in_every_form_that_endpoints_write() {
        for json in ["3599", "3599.0", "\"3599\"", "\" 3599.0 \"", "3.599e3"] {
            assert_eq!(read(json), Some(Duration::from_secs(3599)), "{json}");
        }
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_no_lifetime_is_none_and_none_is_longer_than_a_year_or_so() {
        for json in ["\"soon\"", "\"\"", "\"NaN\"", "[]", "{\"in\":1}", "true"] {
            assert_eq!(read(json), None, "{json}");
        }
        for json in ["1e300", "\"inf\"", "18446744073709551615"] {
            assert_eq!(read(json), Some(Duration::from_secs(32_000_000)), "{json}");
        }
        assert_eq!(read("-1"), Some(Duration::ZERO));
    }
}
