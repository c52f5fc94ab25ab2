//! What is wrong with an expression, in the words of those who write routes.

use std::{error::Error, fmt};

use cel::{ExecutionError, ParseErrors, Value, objects::ValueType};

/// What is wrong with an expression, or probably not meant, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ExpressionFault {
    /// The line, from 1, and the character in it, from 1; none when it is about the whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what would be right, in lower case, without the place.
    pub message: String,
}

impl ExpressionFault {
    /// A fault of the whole expression.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into() }
    }

    /// A fault at a byte of the expression.
    pub(super) fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Self { place: Some((line, before[line_start..].chars().count() + 1)), message: message.into() }
    }
}

impl fmt::Display for ExpressionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            None => f.write_str(&self.message),
            Some((1, column)) => write!(f, "{} (column {column})", self.message),
            Some((line, column)) => write!(f, "{} (line {line}, column {column})", self.message),
        }
    }
}

impl Error for ExpressionFault {}

/// The first syntax error; the parser's own words list what its grammar expects, which helps nobody.
pub(super) fn syntax(text: &str, errors: &ParseErrors) -> ExpressionFault {
    if text.trim().is_empty() {
        return ExpressionFault::whole("the expression is empty; leave `when` out to match every push");
    }
    // What the parser says while it walks a broken tree follows from the syntax error.
    let from_grammar = errors.errors.iter().find(|error| error.msg.starts_with("Syntax error:"));
    let Some(error) = from_grammar.or(errors.errors.first()) else {
        return ExpressionFault::whole("it cannot be read");
    };
    let byte = byte_at(text, error.pos);
    let message = match from_grammar {
        Some(_) => misreading(&text[..byte], &text[byte..]),
        None => grievance(&error.msg),
    };
    ExpressionFault::at(text, byte, message)
}

/// The byte of a line and a character, both from 1.
fn byte_at(text: &str, (line, column): (isize, isize)) -> usize {
    let from_one = |number: isize| usize::try_from(number - 1).unwrap_or(0);
    let line_start: usize = text.split_inclusive('\n').take(from_one(line)).map(str::len).sum();
    let rest = &text[line_start..];
    rest.char_indices().nth(from_one(column)).map_or(text.len(), |(at, _)| line_start + at)
}

/// What somebody most likely meant where the grammar fails.
fn misreading(before: &str, after: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let next: String = after.chars().take_while(|&c| is_word(c)).collect();
    let behind = before.trim_end();
    let previous = &behind[behind.trim_end_matches(is_word).len()..];
    let first = after.chars().next();
    let instead_of = |right: &str, wrong: &str| format!("write {right} instead of {wrong}");
    match (first, next.to_lowercase().as_str()) {
        (None, _) => "it ends in the middle".to_owned(),
        (_, "and") => instead_of("&&", &next),
        (_, "or") => instead_of("||", &next),
        (_, "is" | "equals") => instead_of("==", &next),
        (_, "not") => instead_of("!", &next),
        _ if previous.eq_ignore_ascii_case("not") => instead_of("!", previous),
        (Some('='), _) if behind.ends_with(['=', '!']) => instead_of("== or !=", "==="),
        (Some('='), _) => instead_of("==", "="),
        (Some('>'), _) if behind.ends_with('<') => instead_of("!=", "<>"),
        (Some('&'), _) => instead_of("&&", "&"),
        (Some('|'), _) => instead_of("||", "|"),
        (Some('"' | '\''), _) if behind.ends_with(['"', '\'']) => "a comma is missing here".to_owned(),
        (Some('"' | '\''), _) => {
            "this text has no end, or a \\ in it that stands for nothing; write \\\\ for one \\".to_owned()
        }
        (Some('‘' | '’' | '“' | '”' | '「' | '＂' | '＇'), _) => {
            "texts stand in straight quotes: \"…\" or '…'".to_owned()
        }
        (Some(c), "") => format!("unexpected {c}"),
        (Some(c), _) if !c.is_ascii() => format!("unexpected {next}; a text needs quotes"),
        (Some(_), _) => format!("unexpected {next}"),
    }
}

/// What the parser finds wrong beyond its grammar.
fn grievance(message: &str) -> String {
    match message {
        "invalid argument to has() macro" => {
            "has() takes a member: has(cdr.X); for a field write Duration != null"
        }
        "argument must be a simple name" => {
            "the first thing in the brackets is a name of your own: list.exists(x, x > 1)"
        }
        "unsupported syntax '.?'" | "unsupported syntax '[?'" => {
            "a member that is not there is null already: write . or [ without ?"
        }
        other => return other.to_lowercase(),
    }
    .to_owned()
}

/// Why an evaluation failed, without the values that it failed on: they may be phone numbers.
pub(super) fn reason(error: &ExecutionError) -> String {
    let types = |left: &Value, right: &Value| format!("{} and {}", value_type(left), value_type(right));
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<_> = overload.argument_types().iter().map(|name| type_name(name)).collect();
            format!("{} has no meaning for {}", operator(overload.function()), types.join(" and "))
        }
        ExecutionError::UnsupportedBinaryOperator(name, left, right) => {
            format!("{} has no meaning for {}", operator(name), types(left, right))
        }
        ExecutionError::UnexpectedType { got, want } => {
            format!("{} where {} is needed", type_name(got), type_name(want))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number outside 64 bits".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("{function}() cannot take this value"),
        ExecutionError::UndeclaredReference(name) => format!("there is no {name}"),
        ExecutionError::UnsupportedKeyType(key) => format!("{} cannot be the key of a map", value_type(key)),
        ExecutionError::DuplicateKey(_) => "a map with the same key twice".to_owned(),
        _ => "it has no answer for these values".to_owned(),
    }
}

fn value_type(value: &Value) -> &'static str {
    match value.type_of() {
        ValueType::Null => "null",
        ValueType::Int | ValueType::UInt | ValueType::Float => "a number",
        ValueType::String => "a text",
        ValueType::Bool => "a condition",
        ValueType::List => "a list",
        ValueType::Map => "a map",
        _ => "a value of another type",
    }
}

/// cel's names of types in our words.
pub(super) fn type_name(name: &str) -> &str {
    match name {
        "null_type" => "null",
        "int" | "uint" | "double" => "a number",
        "string" => "a text",
        "bool" => "a condition",
        "list" | "iterable" => "a list",
        "map" => "a map",
        other => other,
    }
}

fn operator(name: &str) -> &str {
    match name {
        "_?_:_" => "? :",
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other.trim_matches(|c| c == '_' || c == '@'),
    }
}
