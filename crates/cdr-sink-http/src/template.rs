//! Texts and JSON that are made for each push: `{{…}}` holds an expression of the language of routes.
//!
//! A value is JSON from the moment it is made, and is written by what knows the rules of its place: a JSON writer, a query, a
//! path. It is never pasted into a text that somebody parses, so that no nickname makes a body invalid, no number adds a
//! parameter, and no remark leaves its path.

use cdr_core::setting::Step;
use cdr_expression::{Expression, Names, Variables};
use serde_json::{Map, Value};

use crate::place::Place;

/// A text with expressions in it: `call of {{Caller}}`.
#[derive(Debug)]
pub(crate) struct Text(Vec<Part>);

#[derive(Debug)]
enum Part {
    Fixed(String),
    Made(Expression),
}

impl Text {
    /// Reads it; none when it is faulty, which the place is told.
    pub fn read(text: &str, names: &Names, place: &Place<'_>) -> Option<Self> {
        let (mut parts, mut is_faulty, mut rest) = (Vec::new(), false, text);
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Fixed(before.to_owned()));
            }
            let Some(end) = end_of_expression(after) else {
                place.fault("a {{ without its }}; write {{\"{{\"}} for the braces themselves");
                return None;
            };
            let written = after[..end].trim();
            match read_expression(written, names) {
                Ok(expression) => parts.push(Part::Made(expression)),
                Err(faults) => {
                    is_faulty = true;
                    faults
                        .into_iter()
                        .for_each(|fault| place.fault(format!("in {{{{{written}}}}}: {fault}")));
                }
            }
            rest = &after[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(rest.to_owned()));
        }
        (!is_faulty).then_some(Self(parts))
    }

    /// What of it is the same for every push.
    pub fn fixed_parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Fixed(text) => Some(text.as_str()),
            Part::Made(_) => None,
        })
    }

    /// Whether one of its expressions looks at one of these names.
    pub fn looks_at(&self, names: &[String]) -> bool {
        self.0.iter().any(|part| match part {
            Part::Fixed(_) => false,
            Part::Made(expression) => expression.names().any(|name| names.iter().any(|own| own == name)),
        })
    }

    /// Its value: of a single expression whatever that gives, number or list; else a text, in which null is nothing.
    ///
    /// # Errors
    /// An expression has no answer for this push; the reason holds no value.
    pub fn give(&self, variables: &Variables<'_>) -> Result<Value, String> {
        if let [Part::Made(expression)] = self.0.as_slice() {
            return evaluate(expression, variables);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Fixed(fixed) => text.push_str(fixed),
                Part::Made(expression) => {
                    text.push_str(&as_text(evaluate(expression, variables)?).unwrap_or_default());
                }
            }
        }
        Ok(text.into())
    }

    /// The same as a text in which each made part was encoded; none when one of them is null or empty.
    ///
    /// # Errors
    /// As for [`give`](Self::give).
    pub fn encoded(
        &self,
        variables: &Variables<'_>,
        encode: impl Fn(&str) -> String,
    ) -> Result<Option<String>, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Fixed(fixed) => text.push_str(fixed),
                Part::Made(expression) => match as_text(evaluate(expression, variables)?) {
                    Some(made) if !made.is_empty() => text.push_str(&encode(&made)),
                    _ => return Ok(None),
                },
            }
        }
        Ok(Some(text))
    }
}

/// JSON as it stands in the settings, with expressions in its texts.
#[derive(Debug)]
pub(crate) enum Template {
    Fixed(Value),
    Text(Text),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Reads it; none when it is faulty, which the place is told, for all its parts.
    pub fn read(value: &Value, names: &Names, place: &Place<'_>) -> Option<Self> {
        match value {
            Value::String(text) => Text::read(text, names, place).map(Self::Text),
            Value::Array(list) => {
                let read = |(index, value)| Self::read(value, names, &place.below(Step::Index(index)));
                // All of them are read, so that all faults are told.
                let list: Vec<Option<Self>> = list.iter().enumerate().map(read).collect();
                list.into_iter().collect::<Option<_>>().map(Self::List)
            }
            Value::Object(members) => {
                let read = |(name, value): (&String, &Value)| {
                    let place = place.key(name);
                    if name.contains("{{") {
                        place.fault("names of members are fixed: expressions stand in values only");
                    }
                    Some((name.clone(), Self::read(value, names, &place)?))
                };
                let members: Vec<Option<_>> = members.iter().map(read).collect();
                members.into_iter().collect::<Option<_>>().map(Self::Object)
            }
            other => Some(Self::Fixed(other.clone())),
        }
    }

    /// Its value for a push.
    ///
    /// # Errors
    /// An expression has no answer for this push; the reason names its place and holds no value.
    pub fn give(&self, variables: &Variables<'_>) -> Result<Value, String> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Text(text) => text.give(variables),
            Self::List(list) => list.iter().map(|value| value.give(variables)).collect(),
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| {
                    let value = value.give(variables).map_err(|why| format!("{name}: {why}"))?;
                    Ok((name.clone(), value))
                };
                members.iter().map(member).collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
        }
    }
}

fn read_expression(text: &str, names: &Names) -> Result<Expression, Vec<String>> {
    if text.is_empty() {
        return Err(vec!["there is nothing between the braces".to_owned()]);
    }
    Expression::value(text, names).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn evaluate(expression: &Expression, variables: &Variables<'_>) -> Result<Value, String> {
    expression.give(variables).map_err(|error| format!("{{{{{}}}}} has no value: {error}", expression.text()))
}

/// A value inside a text; none of null.
pub(crate) fn as_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// Where the `}}` of an expression stands: not inside a text of it, nor where it closes braces of its own.
fn end_of_expression(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}
