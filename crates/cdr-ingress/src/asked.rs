//! What the URL asks: the `action` and the `version` that TCCC appends to the push URL.
//!
//! Nobody has published how TCCC joins `?action=cdr&version=1` to a URL that has a query already, so both ways
//! are read: `?token=X&action=cdr` and `?token=X?action=cdr`.

use std::borrow::Cow;

use cdr_core::Action;
use http::Uri;

use crate::answer::Rejection;

/// What a push says about itself in its URL.
#[derive(Debug)]
pub(crate) struct Asked {
    pub action: Action,
    /// None for voicemail pushes, which have none (product page 679/86651).
    pub version: Option<String>,
}

impl Asked {
    /// Reads it from the query; of repeated keys the last counts, since TCCC appends its own at the end.
    pub fn of(uri: &Uri) -> Result<Self, Rejection> {
        let query = uri.query().unwrap_or_default();
        let action = last(query, "action").ok_or(Rejection::NoAction)?;
        let action: Action = action.parse().map_err(|_| Rejection::InvalidAction)?;
        if action.is_question() {
            return Err(Rejection::Question);
        }
        Ok(Self { action, version: last(query, "version") })
    }
}

/// The last value that is not empty; the case of the key does not matter.
fn last(query: &str, wanted: &str) -> Option<String> {
    pairs(query)
        .filter(|(key, value)| key.eq_ignore_ascii_case(wanted) && !value.is_empty())
        .map(|(_, value)| value.into_owned())
        .next()
}

/// The parameters of a query, the last first, however others were appended to it.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split(['&', '?']).rev().flat_map(|pair| form_urlencoded::parse(pair.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(uri: &str) -> (String, Option<String>) {
        let asked = Asked::of(&uri.parse().unwrap()).unwrap();
        (asked.action.as_str().to_owned(), asked.version)
    }

    #[test]
    fn a_query_joined_in_either_way_is_read() {
        let expected = ("cdr".to_owned(), Some("1".to_owned()));
        for uri in [
            "/?action=cdr&version=1",
            "/?token=X&action=cdr&version=1",
            "/?token=X?action=cdr&version=1",
            "/?version=1&action=CDR",
            "/?%61ction=c%64r&version=%31",
            "/?action=record&action=cdr&version=9&version=1",
            "http://example.com/?action=cdr&version=1",
            "/?&&action=cdr&&version=1&action=",
        ] {
            assert_eq!(asked(uri), expected, "{uri}");
        }
    }

    #[test]
    fn a_version_may_be_missing() {
        assert_eq!(asked("/?action=voicemail"), ("voicemail".to_owned(), None));
        assert_eq!(asked("/?action=voicemail&version="), ("voicemail".to_owned(), None));
    }

    #[test]
    fn what_names_no_action_is_refused() {
        let refused = |uri: &str| Asked::of(&uri.parse().unwrap()).unwrap_err();
        assert!(matches!(refused("/"), Rejection::NoAction));
        assert!(matches!(refused("/?action="), Rejection::NoAction));
        assert!(matches!(refused("/?action=c%20dr"), Rejection::InvalidAction));
        assert!(matches!(refused("/?action=%E7%94%B5"), Rejection::InvalidAction));
        assert!(matches!(refused("/?action=SpecifiedSeat&version=1"), Rejection::Question));
    }

    proptest! {
        #[test]
        fn what_stands_before_the_appended_query_never_changes_it(custom in "[a-zA-Z0-9=&?%._~-]{0,40}") {
            for joint in ['&', '?'] {
                let uri: Uri = format!("/?{custom}{joint}action=cdr&version=1").parse().unwrap();
                let asked = Asked::of(&uri).unwrap();
                prop_assert_eq!((asked.action.as_str(), asked.version.as_deref()), ("cdr", Some("1")));
            }
        }
    }
}
