//! What an expression may say: variables and their types, sets of known values, functions.

use std::{borrow::Cow, fmt};

use cdr_core::{Action, CallResult, Cdr, Origin, cdr::Shape, end_status};

/// The type of a part of an expression, as far as it is known before there is a push.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Type {
    /// Known only when there is a push.
    Any,
    Null,
    Condition,
    /// A number, maybe of a known set.
    Number(Option<&'static Set>),
    /// A text, maybe of a known set.
    Text(Option<&'static Set>),
    Bytes,
    List(Box<Type>),
    /// An object with published fields.
    Object(&'static [(&'static str, Shape)]),
    Map,
    /// The whole body as it came.
    Body,
}

impl Type {
    pub(super) const NUMBER: Self = Self::Number(None);
    pub(super) const TEXT: Self = Self::Text(None);

    /// The known values that it is one of.
    pub(super) fn set(&self) -> Option<&'static Set> {
        match self {
            Self::Number(set) | Self::Text(set) => *set,
            _ => None,
        }
    }

    /// Whether a value of this type can equal, or stand beside, one of the other. Null can equal anything.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let open = |kind: &Self| matches!(kind, Self::Any | Self::Null);
        let object = |kind: &Self| matches!(kind, Self::Object(_) | Self::Map | Self::Body);
        open(self)
            || open(other)
            || (object(self) && object(other))
            || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl From<Shape> for Type {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Integer => Self::NUMBER,
            Shape::Text => Self::TEXT,
            Shape::Status => Self::Text(Some(&STATUSES)),
            Shape::Object(members) => Self::Object(members),
            Shape::List(elements) => Self::List(Box::new((*elements).into())),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Condition => "a condition",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bytes => "bytes",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Map => "a map",
            Self::Body => "the whole body",
        })
    }
}

/// What is known of a variable that is not one of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing.
    Any,
    /// It is a number.
    Number,
    /// It is a text.
    Text,
    /// It has members.
    Map,
}

/// Variables beside those of a push.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(Cow<'static, str>, Kind)>);

impl Names {
    /// The same with another one. A name that a push has too stands for this one from now on.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        self.0.push((name.into(), kind));
        self
    }

    /// Whether an expression that knows these names would know this one: so that nobody gives it a second meaning.
    pub fn is_taken(&self, name: &str) -> bool {
        self.get(name).or_else(|| variable(name)).is_some() || TYPES.contains(&name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub(super) fn get(&self, name: &str) -> Option<Type> {
        let (_, kind) = self.0.iter().rev().find(|(own, _)| own == name)?;
        Some(match kind {
            Kind::Any => Type::Any,
            Kind::Number => Type::NUMBER,
            Kind::Text => Type::TEXT,
            Kind::Map => Type::Map,
        })
    }
}

/// What a variable's values are known to be.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) values: fn() -> Vec<&'static str>,
    pub(super) others: Others,
}

/// What a value outside a set is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Others {
    /// A mistake.
    Never,
    /// Worth a warning: the sender adds some without notice.
    Unpublished,
    /// Welcome, unless it looks like a misspelled one.
    Welcome,
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

static STATUSES: Set = Set {
    values: || end_status::PUBLISHED.iter().map(|status| status.name).collect(),
    others: Others::Unpublished,
};
static ACTIONS: Set = Set { values: || Action::PUBLISHED.to_vec(), others: Others::Welcome };
static RESULTS: Set =
    Set { values: || CallResult::ALL.map(CallResult::as_str).to_vec(), others: Others::Never };
static ORIGINS: Set =
    Set { values: || [Origin::Push, Origin::Alert].map(Origin::as_str).to_vec(), others: Others::Never };
static DIRECTIONS: Set = Set { values: || vec!["0", "1"], others: Others::Never };
static SIDES: Set = Set { values: || vec!["user", "seat", "system"], others: Others::Unpublished };

/// Variables that are ours rather than fields of a CDR.
const OURS: [&str; 12] = [
    "action",
    "version",
    "received_at",
    "sender",
    "origin",
    "result",
    "wait",
    "ring",
    "talk",
    "transfers",
    "customer",
    "cdr",
];

/// The type of a variable; none when there is no such variable.
pub(super) fn variable(name: &str) -> Option<Type> {
    Some(match name {
        "action" => Type::Text(Some(&ACTIONS)),
        "result" => Type::Text(Some(&RESULTS)),
        "origin" => Type::Text(Some(&ORIGINS)),
        "version" | "received_at" | "sender" | "customer" => Type::TEXT,
        "wait" | "ring" | "talk" | "transfers" => Type::NUMBER,
        "cdr" => Type::Body,
        "Direction" => Type::Number(Some(&DIRECTIONS)),
        "HungUpSide" => Type::Text(Some(&SIDES)),
        _ => Cdr::SHAPES.iter().find(|(field, _)| *field == name)?.1.into(),
    })
}

/// The names of all variables.
pub(super) fn variables() -> impl Iterator<Item = &'static str> + Clone {
    Cdr::FIELDS.iter().copied().chain(OURS)
}

/// Names of types, which `type(x)` gives.
pub(super) const TYPES: [&str; 10] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Whether somebody wrote a known text without its quotes.
pub(super) fn is_known_text(word: &str) -> bool {
    [&STATUSES, &ACTIONS, &RESULTS, &ORIGINS, &SIDES].iter().any(|set| (set.values)().contains(&word))
}

/// A function that an expression may call.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// How many arguments `f(…)` may have, where it is called so.
    pub(super) plain: &'static [usize],
    /// How many `x.f(…)` may have, where it is called so.
    pub(super) on_value: &'static [usize],
    /// Whether it takes nothing but texts.
    pub(super) of_texts: bool,
    pub(super) gives: Type,
    /// How it is called.
    pub(super) usage: &'static str,
}

const fn conversion(name: &'static str, gives: Type, usage: &'static str) -> Function {
    Function { name, plain: &[1], on_value: &[], of_texts: false, gives, usage }
}

const fn of_text(name: &'static str, gives: Type, usage: &'static str) -> Function {
    Function { name, plain: &[1], on_value: &[], of_texts: true, gives, usage }
}

const fn on_text(name: &'static str, usage: &'static str) -> Function {
    Function { name, plain: &[], on_value: &[1], of_texts: true, gives: Type::Condition, usage }
}

/// cel's functions, and [`functions`](super::functions). Those that loop over a list are macros, and gone when an expression was read.
pub(super) static FUNCTIONS: [Function; 19] = [
    on_text("startsWith", r#"Caller.startsWith("0086")"#),
    on_text("endsWith", r#"Caller.endsWith("00")"#),
    on_text("contains", r#"UserRemark.contains("refund")"#),
    Function {
        name: "matches",
        plain: &[2],
        on_value: &[1],
        of_texts: true,
        gives: Type::Condition,
        usage: r#"Caller.matches("^0086(400|800)")"#,
    },
    Function {
        name: "size",
        plain: &[1],
        on_value: &[0],
        of_texts: false,
        gives: Type::NUMBER,
        usage: "size(ServeParticipants)",
    },
    conversion("int", Type::NUMBER, "int(cdr.X)"),
    conversion("uint", Type::NUMBER, "uint(cdr.X)"),
    conversion("double", Type::NUMBER, "double(cdr.X)"),
    conversion("string", Type::TEXT, "string(Duration)"),
    conversion("bool", Type::Condition, "bool(cdr.X)"),
    conversion("bytes", Type::Bytes, "bytes(Uui)"),
    conversion("type", Type::Any, "type(cdr.X) == string"),
    conversion("dyn", Type::Any, "dyn(cdr.X)"),
    of_text("e164", Type::TEXT, "e164(customer)"),
    of_text("local", Type::TEXT, "local(customer)"),
    of_text("phones", Type::Any, "phones(customer)"),
    Function {
        name: "words",
        plain: &[1, 2],
        on_value: &[],
        of_texts: true,
        gives: Type::TEXT,
        usage: r#"words(EndStatusString), words(EndStatusString, "zh")"#,
    },
    Function {
        name: "time",
        plain: &[1, 2, 3],
        on_value: &[],
        of_texts: false,
        gives: Type::TEXT,
        usage: r#"time(StartTimestamp), time(StartTimestamp, "Asia/Shanghai"), time(StartTimestamp, "Asia/Shanghai", "%Y-%m-%d %H:%M:%S")"#,
    },
    Function {
        name: "join",
        plain: &[2],
        on_value: &[],
        of_texts: false,
        gives: Type::TEXT,
        usage: r#"join(IVRKeyPressed, ", ")"#,
    },
];

/// Macros and how they are used; one that is used otherwise is still a call after reading.
pub(super) const MACROS: [(&str, &str); 7] = [
    ("has", "has(cdr.X)"),
    ("all", r#"IVRKeyPressed.all(key, key != "0")"#),
    ("exists", r#"IVRKeyPressed.exists(key, key == "1")"#),
    ("exists_one", r#"IVRKeyPressed.exists_one(key, key == "1")"#),
    ("existsOne", r#"IVRKeyPressed.existsOne(key, key == "1")"#),
    ("map", "ServeParticipants.map(part, part.Mail)"),
    ("filter", r#"IVRKeyPressed.filter(key, key != "0")"#),
];
