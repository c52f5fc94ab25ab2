//! What is wrong or doubtful in a configuration, and where it stands.

use std::fmt;

use super::places::Place;

/// A fault or a warning. It prints as `gateway.yaml:14:7: unknown setting "bukcet", did you mean "bucket"?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// Where it stands.
    pub source: Standing,
    /// The setting, dotted; empty for the whole, or when the message names it.
    pub setting: String,
    /// What is wrong and what would be right, in lower case; never a secret.
    pub message: String,
}

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// The file, and the place in it if there is one.
    File(String, Option<Place>),
    /// An environment variable.
    Variable(String),
}

impl Finding {
    /// A finding about a file as a whole.
    pub(super) fn about(file: &str, message: impl Into<String>) -> Self {
        let source = Standing::File(file.to_owned(), None);
        Self { source, setting: String::new(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name, Some(Place { line, column })) => write!(f, "{name}:{line}:{column}"),
            Self::File(name, None) => f.write_str(name),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// serde's words for `auth: {}` where one of several is to be chosen.
pub(super) const EMPTY_CHOICE: &str = "invalid value: map, expected map with a single key";

/// serde's words for a wrong value, put as people say it. A text that stands in the file does not appear unless it
/// nearly is a right one: it may be a password that stands one line too high.
pub(super) fn in_words(message: &str) -> String {
    if message == EMPTY_CHOICE {
        return "expected one of its kinds with its settings, such as { basic: { … } }".to_owned();
    }
    if let Some((_, known)) =
        message.strip_prefix("unknown value ").and_then(|rest| rest.split_once("; there are: "))
    {
        return format!("unknown value; there are: {known}");
    }
    let split = |kind| message.strip_prefix(kind).and_then(|rest: &str| rest.rsplit_once(", expected "));
    if let Some((found, wanted)) = split("invalid type: ") {
        let (found, wanted) = (found_in_words(found), expected_in_words(wanted));
        let quotable = wanted == "a text" && matches!(found, "a number" | "a fraction" | "true or false");
        let advice = if quotable { "; put it in quotes" } else { "" };
        return format!("expected {wanted}, found {found}{advice}");
    }
    match split("invalid value: ") {
        Some((_, "a nonzero usize")) => "must be at least 1".to_owned(),
        Some((found, wanted)) => match found.split('`').nth(1) {
            Some(number) => format!("expected {}, found {number}", expected_in_words(wanted)),
            None => format!("expected {}", expected_in_words(wanted)),
        },
        None => message.to_owned(),
    }
}

fn found_in_words(found: &str) -> &str {
    match found.split([' ', '`']).next().unwrap_or_default() {
        "integer" => "a number",
        "floating" => "a fraction",
        "string" => "a text",
        "boolean" => "true or false",
        "null" | "unit" | "Option" => "nothing",
        "map" => "a group of settings",
        "sequence" => "a list",
        other => other,
    }
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "a string" | "path string" | "string or map" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a group of settings",
        "u8" | "u16" | "u32" | "u64" | "usize" | "a nonzero usize" => "a whole number",
        "a duration" => "a duration such as 30s",
        "an integer or string" | "parsable string" | "integer overflow" => "a size such as 20GiB",
        other if other.starts_with("struct ") => "a group of settings",
        other => other,
    }
}
