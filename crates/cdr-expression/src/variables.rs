//! A push as the variables of an expression. Nothing is converted but what an expression looks at: binding the
//! whole document was measured 50 times dearer than evaluating.

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use cdr_core::{Cdr, Push, cdr, json};
use cel::{
    ExecutionError,
    common::{
        traits::Indexer,
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt, Type},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use serde_json::value::RawValue;

use crate::rewrite;

static NULL: CelNull = CelNull;

/// The variables of one push, for any number of expressions.
pub struct Variables<'p> {
    push: &'p Push,
    body: OnceLock<Body<'p>>,
    own: Vec<(Cow<'static, str>, Box<dyn Val>)>,
}

impl<'p> Variables<'p> {
    /// The variables of this push.
    pub fn of(push: &'p Push) -> Self {
        Self { push, body: OnceLock::new(), own: Vec::new() }
    }

    /// Sets one of the [`Names`](crate::Names) beside those of a push, in the place of an earlier value.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: serde_json::Value) {
        let name = name.into();
        self.own.retain(|(own, _)| *own != name);
        self.own.push((name, from_json(value)));
    }

    /// The push.
    pub fn push(&self) -> &'p Push {
        self.push
    }

    /// A value as JSON; none for what JSON cannot hold, such as bytes and infinity.
    pub(super) fn to_json(&self, value: &dyn Val) -> Option<serde_json::Value> {
        use serde_json::Value;
        if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            return Some(text.inner().into());
        }
        if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            return list.inner().iter().map(|value| self.to_json(value.as_ref())).collect();
        }
        if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
            let mut members = serde_json::Map::new();
            for (key, value) in map.inner() {
                let key = match self.to_json(key.inner())? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                members.insert(key, self.to_json(value.as_ref())?);
            }
            return Some(Value::Object(members));
        }
        if value.get_type().name() == BODY.name() {
            return serde_json::from_slice(self.push.body()).ok();
        }
        if value.downcast_ref::<CelNull>().is_some() {
            return Some(Value::Null);
        }
        (value.downcast_ref::<CelInt>().map(|number| (*number.inner()).into()))
            .or_else(|| value.downcast_ref::<CelBool>().map(|holds| (*holds.inner()).into()))
            .or_else(|| value.downcast_ref::<CelUInt>().map(|number| (*number.inner()).into()))
            .or_else(|| {
                let number = value.downcast_ref::<CelDouble>()?;
                serde_json::Number::from_f64(*number.inner()).map(Value::Number)
            })
    }

    /// Whether this is a variable, and null now.
    pub fn is_null(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.downcast_ref::<CelNull>().is_some())
    }

    /// The value of a variable, as it would be written in an expression; none for the whole body.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        if let Some(value) = self.push.cdr().and_then(|cdr| cdr.get(name)) {
            return Some(value.to_string());
        }
        let value = self.get(name)?;
        if let Some(text) = value.downcast_ref::<CelString>() {
            return Some(serde_json::Value::from(text.inner()).to_string());
        }
        if let Some(number) = value.downcast_ref::<CelInt>() {
            return Some(number.inner().to_string());
        }
        value.downcast_ref::<CelNull>().map(|_| "null".to_owned())
    }

    fn get<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some((_, value)) = self.own.iter().find(|(own, _)| own == name) {
            return Some(CowVal::Borrowed(value.as_ref()));
        }
        let facts = self.push.facts();
        let (cdr, session) = (self.push.cdr(), self.push.session());
        let derived = |number: fn(&Cdr) -> Option<i64>| session.and_then(number).map(integer);
        let value = match name {
            "action" => Some(text(facts.action.as_str())),
            "version" => facts.version.as_deref().map(text),
            "received_at" => Some(text(format!("{:.3}", facts.received_at))),
            "sender" => facts.sender.map(|address| text(address.to_string())),
            "origin" => Some(text(facts.origin.as_str())),
            "result" => session.map(|cdr| text(cdr.result().as_str())),
            "wait" => derived(Cdr::wait),
            "ring" => derived(Cdr::ring),
            "talk" => derived(Cdr::talk),
            "transfers" => derived(|cdr| i64::try_from(cdr.transfers()).ok()),
            "customer" => cdr.and_then(Cdr::customer).map(text),
            "cdr" => Some(CowVal::Borrowed(self.body.get_or_init(|| Body::of(self.push)))),
            _ => match cdr {
                Some(cdr) => Some(field(cdr.value(name)?)),
                None => return Cdr::FIELDS.contains(&name).then_some(CowVal::Borrowed(&NULL)),
            },
        };
        Some(value.unwrap_or(CowVal::Borrowed(&NULL)))
    }
}

/// What one expression sees: the variables of a push and its own constants.
pub(super) struct Scope<'s, 'p> {
    pub(super) variables: &'s Variables<'p>,
    pub(super) constants: &'s [Box<dyn Val>],
}

impl VariableResolver for Scope<'_, '_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match rewrite::constant_of(name) {
            Some(number) => self.constants.get(number).map(|constant| CowVal::Borrowed(constant.as_ref())),
            None => self.variables.get(name),
        }
    }
}

fn text<'b>(text: impl Into<Cow<'b, str>>) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text.into()))
}

fn integer<'b>(number: i64) -> CowVal<'b, 'b> {
    CowVal::owned(CelInt::from(number))
}

fn field(value: cdr::Value<'_>) -> CowVal<'_, '_> {
    match value {
        cdr::Value::Null => CowVal::Borrowed(&NULL),
        value => CowVal::Owned(boxed(value)),
    }
}

fn boxed(value: cdr::Value<'_>) -> Box<dyn Val + '_> {
    match value {
        cdr::Value::Null => Box::new(CelNull),
        cdr::Value::Integer(number) => Box::new(CelInt::from(number)),
        cdr::Value::Text(text) => Box::new(CelString::from(text)),
        cdr::Value::List(values) => {
            Box::new(CelList::from(values.into_iter().map(boxed).collect::<Vec<_>>()))
        }
        cdr::Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name.into(), boxed(value)));
            Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
        }
    }
}

/// The body as it came: one pass finds its members, and a member is read when it is asked for.
#[derive(Clone, Debug)]
struct Body<'p>(Vec<(Cow<'p, str>, &'p RawValue)>);

impl<'p> Body<'p> {
    fn of(push: &'p Push) -> Self {
        let mut members = Vec::new();
        // The door took only bodies that pass; of any other there are no members.
        let read = json::read_object(push.body(), |key, raw| members.push((key, raw)));
        Self(if read.is_ok() { members } else { Vec::new() })
    }
}

static BODY: Type = Type::new_unspecified_type("the whole body");

impl<'p> Val for Body<'p> {
    fn get_type(&self) -> &Type {
        &BODY
    }

    fn cel_type() -> &'static Type {
        &BODY
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Indexer for Body<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let wanted: Option<&CelString<'_>> = key.downcast_ref();
        // Of repeated keys the last counts, as in the typed view.
        let raw = wanted.and_then(|wanted| self.0.iter().rev().find(|(name, _)| name == wanted.inner()));
        let (_, raw) = raw.ok_or_else(|| ExecutionError::no_such_key("member"))?;
        // What serde_json cannot hold (a text with half of a surrogate pair) is null, as a wrongly typed field is.
        let value = serde_json::from_str(raw.get()).unwrap_or(serde_json::Value::Null);
        Ok(CowVal::Owned(from_json(value)))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

fn from_json(value: serde_json::Value) -> Box<dyn Val> {
    use serde_json::Value;
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            // Larger ones are floats in serde_json; it has no number that is none of the three.
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text)),
        Value::Array(values) => {
            Box::new(CelList::from(values.into_iter().map(from_json).collect::<Vec<_>>()))
        }
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name.into(), from_json(value)));
            Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
        }
    }
}
