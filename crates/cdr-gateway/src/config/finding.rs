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

/// serde's words for a value of the wrong type, put as people say it. The value itself does not appear: it may
/// be a password that stands one line too high.
pub(super) fn in_words(message: &str) -> String {
    let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message
            .replace(EMPTY_CHOICE, "expected one of its kinds with its settings, such as { basic: { … } }")
            .replace("expected parsable string", "expected a size such as 20GiB")
            .replace("expected a duration", "expected a duration such as 30s")
            .replace("invalid value: integer `0`, expected a nonzero usize", "must be at least 1");
    };
    let found = match found.split([' ', '`']).next().unwrap_or_default() {
        "integer" | "floating" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        "null" | "unit" | "Option" => "nothing",
        "map" => "a group of settings",
        "sequence" => "a list",
        other => other,
    };
    let advice = match (expected, found) {
        ("a string", "a number" | "true or false") => "; put it in quotes",
        _ => "",
    };
    let expected = match expected {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a group of settings",
        "u8" | "u16" | "u32" | "u64" | "usize" | "a nonzero usize" => "a whole number",
        "a duration" => "a duration such as 30s",
        "an integer or string" => "a size such as 20GiB",
        other if other.starts_with("struct ") => "a group of settings",
        other => other,
    };
    format!("expected {expected}, found {found}{advice}")
}
