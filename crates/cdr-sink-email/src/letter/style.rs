//! How a sink writes: its language, its time zone, how much of a number it shows, where a link leads.

use cdr_core::Language;
use jiff::{Timestamp, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::words;

/// How a sink writes.
pub(crate) struct Style {
    pub(crate) zone: TimeZone,
    pub(crate) language: Language,
    pub(crate) numbers: Numbers,
    pub(crate) link: Option<Link>,
}

impl Style {
    /// An English word of ours in the style's language.
    pub(super) fn say(&self, english: &'static str) -> &'static str {
        words::in_language(english, self.language)
    }

    /// Local time with its offset, to the second: `2026-11-22 02:51:07 +08:00`.
    pub(super) fn local(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// For a subject: `02:51 (+08:00)`, and the date before it when it is not that of `today`.
    pub(super) fn moment(&self, time: Timestamp, today: Timestamp) -> String {
        let (time, today) = (time.to_zoned(self.zone.clone()), today.to_zoned(self.zone.clone()));
        let format = if time.date() == today.date() { "%H:%M (%:z)" } else { "%Y-%m-%d %H:%M (%:z)" };
        time.strftime(format).to_string()
    }
}

/// How much of a phone number a mail shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// The last four digits, and never more than half of them.
    #[default]
    Last4,
    /// All of it.
    Full,
    /// Nothing of it.
    Hidden,
}

/// Shorter runs of digits in a text are codes and keys, not phone numbers.
const SHORTEST_NUMBER: usize = 7;

impl Numbers {
    /// A field that is a number.
    pub(super) fn shown(self, number: &str) -> String {
        let length = number.chars().count();
        match self {
            Self::Full => number.to_owned(),
            Self::Hidden => "***".to_owned(),
            Self::Last4 => {
                let shown: String = number.chars().skip(length - 4.min(length / 2)).collect();
                format!("***{shown}")
            }
        }
    }

    /// A text that people or programs wrote, in which numbers may stand.
    pub(super) fn shown_in(self, text: &str) -> String {
        if self == Self::Full {
            return text.to_owned();
        }
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            let length = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (digits, after) = from.split_at(length);
            shown += before;
            shown += &if length < SHORTEST_NUMBER { digits.to_owned() } else { self.shown(digits) };
            rest = after;
        }
        shown + rest
    }
}

/// Where more is to be read about a session: an address with `{session}` in it.
pub(crate) struct Link(String);

/// What stands in the address where the session goes.
const PLACE: &str = "{session}";

/// What a part of an address may hold as it is (RFC 3986 §2.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Link {
    /// An address that a session can be put into behind its host.
    pub(crate) fn new(address: String) -> Result<Self, &'static str> {
        const EXPECTED: &str = "is no address with {session} in its path or query; write https://ops.example.com/trace/{session}";
        let (before, _) = address.split_once(PLACE).ok_or(EXPECTED)?;
        let url = Url::parse(before).map_err(|_| EXPECTED)?;
        // Behind the host: a push must never choose where its reader goes.
        let is_behind_the_host =
            before.splitn(3, '/').nth(2).is_some_and(|rest| rest.contains(['/', '?', '#']));
        match matches!(url.scheme(), "http" | "https") && is_behind_the_host {
            true => Ok(Self(address)),
            false => Err(EXPECTED),
        }
    }

    pub(super) fn to(&self, session: &str) -> String {
        // A path of dots would climb; no session is one.
        let session = if session.chars().all(|c| c == '.') { "-" } else { session };
        self.0.replace(PLACE, &utf8_percent_encode(session, PLAIN).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_four_digits_and_half_of_a_number_are_shown() {
        let shown = |number| Numbers::Last4.shown(number);
        assert_eq!(shown("008613800138000"), "***8000");
        assert_eq!(shown("10086"), "***86");
        assert_eq!(shown("1"), "***");
        assert_eq!(shown(""), "***");
        assert_eq!(Numbers::Hidden.shown("10086"), "***");
        assert_eq!(Numbers::Full.shown("10086"), "10086");
    }

    #[test]
    fn a_number_within_a_text_is_masked_and_short_codes_are_not() {
        let text = "回电 +8613800138000 或 4008，工单 123456";
        assert_eq!(Numbers::Last4.shown_in(text), "回电 +***8000 或 4008，工单 123456");
        assert_eq!(Numbers::Full.shown_in(text), text);
        assert_eq!(Numbers::Hidden.shown_in("13800138000"), "***");
    }

    #[test]
    fn a_session_stays_within_its_place_in_a_link() {
        let link = Link::new("https://ops.example.com/trace/{session}".to_owned()).ok().unwrap();
        assert_eq!(link.to("a-1"), "https://ops.example.com/trace/a-1");
        assert_eq!(
            link.to("../x?y=\"><b>会"),
            "https://ops.example.com/trace/..%2Fx%3Fy%3D%22%3E%3Cb%3E%E4%BC%9A"
        );
        assert_eq!(link.to(".."), "https://ops.example.com/trace/-");
        for bad in [
            "",
            "https://ops.example.com/",
            "https://{session}/",
            "https://x{session}",
            "javascript:alert({session})",
            "ops/{session}",
        ] {
            assert!(Link::new(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
