//! What a push is found by: its session, its UUID, and every phone number in it.
//!
//! A number has many spellings, and people search for the one before them. So each is brought into one form, the national one
//! without its leading zero, when it is stored and when it is looked for.
//!
//! The status and the time of a call are no terms: each would stand in the catalog for every push, at 20 bytes a push, and nobody
//! looks for all calls that went well.

use cdr_core::{Cdr, cdr};
use cdr_spool::{StoredPush, Terms};

/// The kind of a term: `SessionId`.
pub const SESSION: &str = "session";
/// The kind of a term: `X-TCCC-PUSH-UUID`.
pub const UUID: &str = "uuid";
/// The kind of a term: a phone number as [`national`] writes it.
pub const NUMBER: &str = "number";

/// Tells the terms of a push to the spool's catalog.
pub fn of(push: &StoredPush, terms: &mut Terms<'_>) {
    terms.add(UUID, push.key.uuid.as_deref().unwrap_or_default());
    let Some(cdr) = push.key.action.parse().ok().and_then(|action| cdr::read(&action, &push.body).ok()?)
    else {
        return;
    };
    terms.add(SESSION, cdr.session_id.as_deref().unwrap_or_default());
    for number in numbers(&cdr).filter_map(national) {
        terms.add(NUMBER, &number);
    }
}

/// The fields of a CDR in which a phone number may stand. In some of them an agent's address stands instead.
fn numbers(cdr: &Cdr) -> impl Iterator<Item = &str> {
    let whole = [&cdr.caller, &cdr.callee, &cdr.protected_caller, &cdr.protected_callee, &cdr.endpoint_user];
    let seat = cdr.seat_user.as_ref().and_then(|seat| seat.phone.as_ref());
    let location = cdr.tel_location.as_ref().and_then(|location| location.tel_number.as_ref());
    let served = cdr.serve_participants.iter().flatten();
    let served = served.flat_map(|part| [&part.phone, &part.transfer_from, &part.transfer_to]);
    (whole.into_iter().chain(served).flatten()).chain(seat).chain(location).map(|text| &**text)
}

/// The one form of a phone number: `13812345678` for `+86 138 1234 5678`, `008613812345678` and `13812345678`;
/// `7551234567` for `0755-1234567`. None for what is no phone number.
///
/// The mainland's country code goes, any other stays. A foreign number that begins with 86 at home loses it too: then a search
/// may find a number that only looks alike, which is better than none.
pub fn national(number: &str) -> Option<String> {
    let is_written = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | ' ' | '(' | ')');
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    if digits.len() < SHORTEST || !number.chars().all(is_written) {
        return None;
    }
    let local = digits.trim_start_matches('0');
    let national = match local.strip_prefix("86") {
        Some(national) if national.len() >= SHORTEST_WITH_CODE => national.trim_start_matches('0'),
        _ => local,
    };
    (!national.is_empty()).then(|| national.to_owned())
}

/// An extension or a service number has three digits; what is shorter says nothing.
const SHORTEST: usize = 3;
/// The mainland's numbers behind the country code: landlines have nine digits at least.
const SHORTEST_WITH_CODE: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_spellings_of_a_number_are_one() {
        let same = |spellings: &[&str], form: &str| {
            for spelling in spellings {
                assert_eq!(national(spelling).as_deref(), Some(form), "{spelling}");
            }
        };
        same(
            &["13812345678", "+8613812345678", "008613812345678", "+86 138-1234-5678", "86013812345678"],
            "13812345678",
        );
        same(&["0755-86123456", "+8675586123456", "0086075586123456", "75586123456"], "75586123456");
        same(&["4001234567", "00864001234567"], "4001234567");
        same(&["10086"], "10086");
        same(&["8610086"], "8610086");
        same(&["+85291234567", "0085291234567"], "85291234567");
        for none in ["", "12", "000", "agent@example.com", "sip:1001@host", "0"] {
            assert_eq!(national(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(number in "[0-9+ -]{0,16}") {
            if let Some(form) = national(&number) {
                // But for a code behind a code.
                prop_assume!(!form.starts_with("86"));
                prop_assert_eq!(national(&form).unwrap_or_default(), if form.len() < SHORTEST { String::new() } else { form });
            }
        }

        #[test]
        fn any_text_can_be_asked_for(text: String) {
            national(&text);
        }
    }
}
