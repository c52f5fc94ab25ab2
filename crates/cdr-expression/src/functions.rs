//! What expressions have beside CEL's own functions: what receivers of calls want to be told in their own way.
//!
//! | function | gives |
//! |---|---|
//! | `e164(number)` | `+8613800138000`; a number of which the country cannot be told, such as an extension, as it is |
//! | `local(number)` | as it is dialled inside mainland China: `13800138000`, `02151234567`; any other as `e164` |
//! | `phones(number)` | the forms under which a receiver may have stored it: `["+8613800138000", "008613800138000", "13800138000"]`; at most four, of digits with at most a `+` in front, so that they can stand in a query; the empty list when it is no number |
//! | `time(moment)` | RFC 3339 in UTC: `2026-03-01T08:30:00Z`. A moment is Unix seconds, or a text such as `received_at` |
//! | `time(moment, zone)` | the same in a time zone: `2026-03-01T16:30:00+08:00` |
//! | `time(moment, zone, format)` | as strftime has it: `time(StartTimestamp, "Asia/Shanghai", "%Y-%m-%d %H:%M:%S")` |
//! | `words(status)` | a status in plain English: `the caller hung up while waiting`; an unpublished one as it is |
//! | `words(status, language)` | the same in `"en"` or `"zh"`: `客户在排队时挂断` |
//! | `join(list, separator)` | its texts and numbers as one text |
//!
//! Of null each gives null, and so does `time` of 0 and below: in a CDR that means that it did not happen.

use cdr_core::{EndStatus, Language, cdr};
use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelInt, CelList, CelNull, CelString, CelUInt, DYN_TYPE},
        value::{CowVal, Val},
    },
};
use jiff::{Timestamp, tz::TimeZone};

type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Adds them to the functions of an expression.
pub(super) fn add_to(env: &mut Env) -> Result<(), DeclarationError> {
    let any = |arguments: usize| (0..arguments).map(|_| DYN_TYPE).collect();
    env.add_overload("e164", "e164", any(1), |args| of_text("e164", args, e164))?;
    env.add_overload("local", "local", any(1), |args| of_text("local", args, local))?;
    env.add_overload("words", "words", any(1), words)?;
    env.add_overload("words", "words in a language", any(2), words)?;
    env.add_overload("phones", "phones", any(1), forms)?;
    env.add_overload("time", "time", any(1), time)?;
    env.add_overload("time", "time in a zone", any(2), time)?;
    env.add_overload("time", "time in a zone and format", any(3), time)?;
    env.add_overload("join", "join", any(2), join)
}

/// What is wrong with arguments that are spelled out; none for those that are known only when there is a push.
pub(super) fn check(name: &str, args: &[Option<&str>]) -> Result<(), String> {
    match name {
        "time" => check_time(args),
        "words" => args.get(1).copied().flatten().map_or(Ok(()), |name| language(name).map(drop)),
        _ => Ok(()),
    }
}

fn check_time(args: &[Option<&str>]) -> Result<(), String> {
    let zone = match args.get(1).copied().flatten() {
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("\"{name}\" is no time zone; expected something like Asia/Shanghai"))?,
        None => TimeZone::UTC,
    };
    match args.get(2).copied().flatten() {
        Some(format) => formatted(Timestamp::UNIX_EPOCH, zone, format)
            .map(drop)
            .ok_or_else(|| format!("\"{format}\" is no format; expected something like %Y-%m-%d %H:%M:%S")),
        None => Ok(()),
    }
}

fn of_text<'b, 'v>(name: &str, args: Vec<CowVal<'b, 'v>>, make: impl Fn(&str) -> String) -> Answer<'b, 'v> {
    match args.into_iter().next() {
        Some(null) if is_null(null.as_ref()) => Ok(null),
        Some(value) => match value.downcast_ref::<CelString<'_>>() {
            Some(text) => Ok(owned_text(make(text.inner()))),
            None => Err(no_meaning(name, &[value])),
        },
        None => Err(ExecutionError::missing_argument_or_target()),
    }
}

fn words<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let language = match args.get(1).map(|language| language.downcast_ref::<CelString<'_>>()) {
        None => Language::En,
        Some(Some(name)) => {
            language(name.inner()).map_err(|why| ExecutionError::function_error("words", why))?
        }
        Some(None) if is_null(args[1].as_ref()) => return Ok(CowVal::owned(CelNull)),
        Some(None) => return Err(no_meaning("words", &args)),
    };
    of_text("words", args, |status| EndStatus::new(status).words_in(language).to_owned())
}

fn language(name: &str) -> Result<Language, String> {
    name.parse().map_err(|_| format!("\"{name}\" is no language; expected en or zh"))
}

fn forms<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    match args.into_iter().next() {
        Some(null) if is_null(null.as_ref()) => Ok(null),
        Some(value) => match value.downcast_ref::<CelString<'_>>() {
            Some(text) => {
                let forms = phones(text.inner()).into_iter();
                let forms = forms.map(|form| Box::new(CelString::from(form)) as Box<dyn Val>);
                Ok(CowVal::owned(CelList::from(forms.collect::<Vec<_>>())))
            }
            None => Err(no_meaning("phones", &[value])),
        },
        None => Err(ExecutionError::missing_argument_or_target()),
    }
}

fn time<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let Some(moment) = args.first() else { return Err(ExecutionError::missing_argument_or_target()) };
    if args.iter().any(|arg| is_null(arg.as_ref())) {
        return Ok(CowVal::owned(CelNull));
    }
    let moment = match (number(moment.as_ref()), moment.downcast_ref::<CelString<'_>>()) {
        (Some(seconds), _) => cdr::moment(Some(seconds)),
        (None, Some(text)) => text.inner().parse().ok(),
        (None, None) => return Err(no_meaning("time", &args)),
    };
    let Some(moment) = moment else { return Ok(CowVal::owned(CelNull)) };
    let text = |at: usize| args.get(at).and_then(|arg| arg.downcast_ref::<CelString<'_>>());
    let told = match (args.len(), text(1), text(2)) {
        (1, ..) => Some(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        (2, Some(zone), _) => {
            TimeZone::get(zone.inner()).ok().and_then(|zone| formatted(moment, zone, "%Y-%m-%dT%H:%M:%S%:z"))
        }
        (3, Some(zone), Some(format)) => {
            TimeZone::get(zone.inner()).ok().and_then(|zone| formatted(moment, zone, format.inner()))
        }
        _ => return Err(no_meaning("time", &args)),
    };
    told.map(owned_text).ok_or_else(|| ExecutionError::function_error("time", "no such zone or format"))
}

fn formatted(moment: Timestamp, zone: TimeZone, format: &str) -> Option<String> {
    jiff::fmt::strtime::format(format, &moment.to_zoned(zone)).ok()
}

fn join<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let separator = args.get(1).and_then(|separator| separator.downcast_ref::<CelString<'_>>());
    match (args.first(), separator) {
        (Some(list), _) if is_null(list.as_ref()) => Ok(CowVal::owned(CelNull)),
        (Some(list), Some(separator)) => {
            let list = list.downcast_ref::<CelList<'_>>().ok_or_else(|| no_meaning("join", &args))?;
            let texts = list.inner().iter().map(|element| match element.downcast_ref::<CelString<'_>>() {
                Some(text) => Some(text.inner().to_owned()),
                None => number(element.as_ref()).map(|number| number.to_string()),
            });
            let texts: Option<Vec<String>> = texts.collect();
            let texts = texts.ok_or_else(|| {
                ExecutionError::function_error("join", "only texts and numbers can be joined")
            })?;
            Ok(owned_text(texts.join(separator.inner())))
        }
        _ => Err(no_meaning("join", &args)),
    }
}

fn is_null(value: &dyn Val) -> bool {
    value.downcast_ref::<CelNull>().is_some()
}

fn number(value: &dyn Val) -> Option<i64> {
    let unsigned = || value.downcast_ref::<CelUInt>().and_then(|number| i64::try_from(*number.inner()).ok());
    value.downcast_ref::<CelInt>().map(|number| *number.inner()).or_else(unsigned)
}

fn owned_text<'b, 'v>(text: String) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn no_meaning(name: &str, args: &[CowVal<'_, '_>]) -> ExecutionError {
    ExecutionError::no_such_overload(name, args.iter().map(|arg| arg.get_type().name().to_owned()).collect())
}

/// A number as it may be dialled: digits, with a `+` in front when its country is told so.
struct Dialled {
    digits: String,
    has_plus: bool,
}

impl Dialled {
    /// None of what is no number: names, masked numbers, nothing.
    fn of(text: &str) -> Option<Self> {
        let bare: String =
            text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.' | '\u{a0}')).collect();
        let digits = bare.strip_prefix('+');
        let (digits, has_plus) = (digits.unwrap_or(&bare), digits.is_some());
        let is_number = (3..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| Self { digits: digits.to_owned(), has_plus })
    }

    /// Country and number (ITU-T E.164), without the `+`. The platform sends mainland numbers behind 0086, landlines maybe
    /// with the 0 of their area code; what bears no country is told by its form where that is certain.
    fn international(&self) -> Option<String> {
        let digits = &*self.digits;
        let abroad = if self.has_plus { Some(digits) } else { digits.strip_prefix("00") };
        if let Some(abroad) = abroad {
            let of_china = abroad.strip_prefix("86");
            return Some(of_china.map_or(abroad.to_owned(), |own| format!("86{}", without_trunk(own))));
        }
        let is_mobile = digits.len() == 11 && digits.starts_with('1') && digits.as_bytes()[1] >= b'3';
        let is_landline = (10..=12).contains(&digits.len()) && digits.starts_with('0');
        let is_hotline = digits.len() == 10 && (digits.starts_with("400") || digits.starts_with("800"));
        (is_mobile || is_landline || is_hotline).then(|| format!("86{}", without_trunk(digits)))
    }
}

fn without_trunk(digits: &str) -> &str {
    digits.strip_prefix('0').unwrap_or(digits)
}

/// A phone number with a `+` and its country in front where that is certain; else as it is.
pub fn e164(text: &str) -> String {
    let international = Dialled::of(text).and_then(|number| number.international());
    international.map_or_else(|| text.to_owned(), |number| format!("+{number}"))
}

fn local(text: &str) -> String {
    let international = Dialled::of(text).and_then(|number| number.international());
    match international.as_deref().and_then(|number| number.strip_prefix("86")) {
        Some(own) => in_china(own),
        None => e164(text),
    }
}

/// With the 0 in front of its area code, which mobiles and hotlines have not.
fn in_china(own: &str) -> String {
    let is_mobile = own.len() == 11 && own.starts_with('1');
    let is_hotline = own.len() == 10 && (own.starts_with("400") || own.starts_with("800"));
    let is_short = own.len() < 9;
    if is_mobile || is_hotline || is_short { own.to_owned() } else { format!("0{own}") }
}

fn phones(text: &str) -> Vec<String> {
    let Some(number) = Dialled::of(text) else { return Vec::new() };
    let plus = if number.has_plus { "+" } else { "" };
    let as_sent = format!("{plus}{}", number.digits);
    let mut forms = match number.international() {
        Some(international) => {
            vec![format!("+{international}"), format!("00{international}"), local(text), as_sent]
        }
        None => vec![as_sent],
    };
    let mut seen = Vec::new();
    forms.retain(|form| {
        let is_new = !seen.contains(form);
        seen.push(form.clone());
        is_new
    });
    forms
}
