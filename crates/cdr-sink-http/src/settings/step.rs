//! The settings of a request, and how they become a [`Step`].

use std::{collections::BTreeMap, sync::Arc};

use cdr_core::setting;
use cdr_expression::{Expression, ExpressionFault, Kind, Names};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Method, Success};
use crate::{
    answer::Rules,
    place::Place,
    request::{Body, RequestTemplate, Target},
    step::{Find, Step},
    template::{Template, Text},
};

/// One of several requests that a push leads to; the last of them is the delivery.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// What receipts and failures call it.
    pub name: String,
    /// Whether it is sent for this push, over its fields and what earlier steps took; always unless set.
    pub when: Option<String>,
    /// What earlier steps must have taken, or the push is tried again later.
    #[serde(default)]
    pub needs: Vec<String>,
    /// POST with a `body`, else GET, unless set.
    pub method: Option<Method>,
    /// Below the path of `url`; `{{…}}` in it is encoded.
    pub path: Option<String>,
    /// Parameters; one whose value is null is left out, one whose value is a list is repeated.
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    /// `raw`, or JSON with `{{…}}` in its texts; nothing unless set.
    pub body: Option<Value>,
    /// Names for later steps, each with an expression over `status`, `headers` and `body` of the answer. Null takes nothing.
    #[serde(default)]
    pub take: BTreeMap<String, String>,
    /// What counts as taken beyond a status of 2xx.
    #[serde(default)]
    pub success: Success,
    /// An expression over the answer: it has it already, which is as good as taken.
    pub already_there: Option<String>,
    /// What answers mean instead of what their status says.
    #[serde(default)]
    pub classify: Vec<Classify>,
    /// How to ask whether an earlier attempt was stored; of the last step only.
    pub find: Option<FindSettings>,
}

/// How to ask whether the receiver has a push already. Asked before it is sent when it may have been sent before.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindSettings {
    /// POST with a `body`, else GET, unless set.
    pub method: Option<Method>,
    /// As in a step.
    pub path: Option<String>,
    /// As in a step.
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    /// As in a step.
    pub body: Option<Value>,
    /// An expression over `status`, `headers` and `body` of the answer: it is there.
    pub found: String,
}

/// What an answer means instead of what its status says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// An expression over `status`, `headers` and `body` of the answer.
    pub when: String,
    /// What it means.
    #[serde(rename = "as")]
    pub class: As,
}

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum As {
    /// It was taken.
    Delivered,
    /// Another time it may be.
    Retry,
    /// It never will be.
    Reject,
    /// The receiver takes nothing at present.
    Away,
}

impl As {
    /// As in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Away => "away",
        }
    }
}

/// What the requests of a sink have in common.
pub(super) struct Common {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub made_headers: Arc<[(HeaderName, Text)]>,
    /// Of a body.
    pub content_type: Option<HeaderValue>,
    pub keep_query: bool,
    /// What every expression may name beside the fields of a push.
    pub names: Names,
}

/// The part of a step that makes a request.
struct Asked<'s> {
    method: Option<Method>,
    path: Option<&'s str>,
    query: &'s BTreeMap<String, Value>,
    body: Option<&'s Value>,
    key_suffix: String,
}

impl Common {
    /// Reads the steps of a sink, in their order.
    pub fn steps(&self, settings: &[StepSettings], place: &Place<'_>) -> Vec<Step> {
        let mut taken: Vec<String> = Vec::new();
        let mut steps = Vec::new();
        for (index, step) in settings.iter().enumerate() {
            let place = place.below(setting::Step::Index(index));
            let is_last = index + 1 == settings.len();
            if step.name.trim().is_empty() || settings[..index].iter().any(|other| other.name == step.name) {
                place.key("name").fault("each step has a name of its own: receipts and failures tell it");
            }
            if step.find.is_some() && !is_last {
                place.key("find").fault("this is of the last step only; an earlier one looks for itself");
            }
            let suffix = utf8_percent_encode(&step.name, NON_ALPHANUMERIC);
            let key_suffix = if is_last { String::new() } else { format!("-{suffix}") };
            steps.extend(self.step(step, Some(&step.name), key_suffix, &taken, &place));
            taken.extend(step.take.keys().cloned());
        }
        steps
    }

    /// Reads one; none when it is faulty, which the place is told.
    pub fn step(
        &self,
        settings: &StepSettings,
        name: Option<&str>,
        key_suffix: String,
        taken: &[String],
        place: &Place<'_>,
    ) -> Option<Step> {
        let names = taken.iter().fold(self.names.clone(), |names, name| names.and(name.clone(), Kind::Any));
        for needed in settings.needs.iter().filter(|needed| !taken.contains(needed)) {
            let known = taken.iter().map(String::as_str);
            place.key("needs").fault(setting::unknown("name taken by an earlier step", needed, known));
        }
        let asked = Asked {
            method: settings.method,
            path: settings.path.as_deref(),
            query: &settings.query,
            body: settings.body.as_ref(),
            key_suffix,
        };
        let request = self.request(&asked, &names, taken, place);
        let when = optional(settings.when.as_deref(), &names, &place.key("when"));
        let mut rules = rules(settings, &names, taken, place);
        rules.may_store = request.as_ref().is_some_and(|request| request.method != http::Method::GET);
        let find = settings.find.as_ref().map(|find| self.find(find, &names, taken, &place.key("find")));
        Some(Step {
            name: name.map(str::to_owned),
            when,
            needs: settings.needs.clone(),
            find: find.flatten(),
            request: request?,
            rules,
        })
    }

    fn find(
        &self,
        settings: &FindSettings,
        names: &Names,
        taken: &[String],
        place: &Place<'_>,
    ) -> Option<Find> {
        let asked = Asked {
            method: settings.method,
            path: settings.path.as_deref(),
            query: &settings.query,
            body: settings.body.as_ref(),
            key_suffix: "-find".to_owned(),
        };
        let request = self.request(&asked, names, taken, place);
        let found = condition(&settings.found, &of_answer(names), &place.key("found"));
        Some(Find { request: request?, found: found? })
    }

    fn request(
        &self,
        asked: &Asked<'_>,
        names: &Names,
        taken: &[String],
        place: &Place<'_>,
    ) -> Option<RequestTemplate> {
        let body = body(asked.body, names, &place.key("body"));
        let target = self.target(asked, names, taken, place);
        let default = if asked.body.is_some() { Method::Post } else { Method::Get };
        let mut headers = self.headers.clone();
        if let Some(content_type) = self.content_type.clone().filter(|_| asked.body.is_some()) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        Some(RequestTemplate {
            method: asked.method.unwrap_or(default).into(),
            target: target?,
            headers,
            made_headers: Arc::clone(&self.made_headers),
            body: body?,
            keep_query: self.keep_query,
            key_suffix: asked.key_suffix.clone(),
        })
    }

    fn target(
        &self,
        asked: &Asked<'_>,
        names: &Names,
        taken: &[String],
        place: &Place<'_>,
    ) -> Option<Target> {
        let own = self.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        if asked.path.is_none() && asked.query.is_empty() {
            return Some(Target::Fixed(own));
        }
        let path = path(asked.path.unwrap_or_default(), names, &place.key("path"));
        let place = place.key("query");
        let query = asked.query.iter().map(|(name, value)| {
            let place = place.key(name);
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    place.fault(
                        "a parameter is a text; a list comes of an expression such as {{phones(customer)}}",
                    );
                    return None;
                }
            };
            Some((name.clone(), Text::read(&text, names, &place)?))
        });
        // All of them are read, so that all faults are told.
        let query: Vec<Option<_>> = query.collect();
        let (path, query) = (path?, query.into_iter().collect::<Option<Vec<_>>>()?);
        let base = match asked.path {
            Some(_) => self.uri.path().trim_end_matches('/'),
            None => self.uri.path(),
        };
        let taken = taken.iter().filter(|&name| path.looks_at(std::slice::from_ref(name)));
        Some(Target::Made {
            base: base.to_owned(),
            taken: taken.cloned().collect(),
            path,
            own_query: self.uri.query().unwrap_or_default().to_owned(),
            query,
        })
    }
}

fn path(text: &str, names: &Names, place: &Place<'_>) -> Option<Text> {
    if !text.is_empty() && !text.starts_with('/') {
        place.fault("a path begins with /; it is appended to that of url");
    }
    let path = Text::read(text, names, place)?;
    if path.fixed_parts().any(|part| part.contains(['?', '#'])) {
        place.fault("parameters do not belong in the path: name them in query");
    } else if path.fixed_parts().any(|part| PathAndQuery::try_from(format!("/{part}")).is_err()) {
        place.fault("a sign in it cannot stand in a path: percent-encode it");
    }
    Some(path)
}

fn body(body: Option<&Value>, names: &Names, place: &Place<'_>) -> Option<Body> {
    match body {
        None => Some(Body::Nothing),
        Some(Value::String(text)) if text == "raw" => Some(Body::Raw),
        Some(Value::String(text)) if !text.contains("{{") => {
            place.fault("expected raw, which sends the bytes as they came, or a mapping: { phone: \"{{e164(customer)}}\" }");
            None
        }
        Some(mapping) => Template::read(mapping, names, place).map(Body::Made),
    }
}

fn rules(settings: &StepSettings, names: &Names, taken: &[String], place: &Place<'_>) -> Rules {
    let of_answer = of_answer(names);
    let classify = settings.classify.iter().enumerate().filter_map(|(index, rule)| {
        let place = place.key("classify").below(setting::Step::Index(index)).key("when");
        Some((condition(&rule.when, &of_answer, &place)?, rule.class))
    });
    let take = settings.take.iter().filter_map(|(name, text)| {
        let place = place.key("take").key(name);
        // An earlier step may take the same thing: one finds it, another makes it.
        if of_answer.is_taken(name) && !taken.contains(name) {
            place.fault("this name means something else already; choose another one");
        } else if Expression::value(name, &names.clone().and(name.clone(), Kind::Any)).is_err() {
            place.fault("a name is letters, digits and _, a letter first, and no word of CEL");
        }
        match Expression::value(text, &of_answer) {
            Ok(expression) => Some((name.clone(), expression)),
            Err(faults) => {
                tell(&faults, &place);
                None
            }
        }
    });
    Rules {
        classify: classify.collect(),
        take: take.collect(),
        already_there: optional(settings.already_there.as_deref(), &of_answer, &place.key("already_there")),
        may_store: false,
        err_code: settings.success.err_code,
        success: optional(settings.success.when.as_deref(), &of_answer, &place.key("success").key("when")),
    }
}

fn of_answer(names: &Names) -> Names {
    names.clone().and("status", Kind::Number).and("headers", Kind::Map).and("body", Kind::Any)
}

fn optional(text: Option<&str>, names: &Names, place: &Place<'_>) -> Option<Expression> {
    text.and_then(|text| condition(text, names, place))
}

/// A condition; none when it is faulty, which the place is told.
pub(super) fn condition(text: &str, names: &Names, place: &Place<'_>) -> Option<Expression> {
    Expression::condition(text.trim(), names).map_err(|faults| tell(&faults, place)).ok()
}

pub(super) fn tell(faults: &[ExpressionFault], place: &Place<'_>) {
    faults.iter().for_each(|fault| place.fault(fault.to_string()));
}
