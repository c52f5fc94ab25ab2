//! The JSON Schema of the configuration, for editors. It comes from the types that read the settings, their comments
//! included; only what is read in steps (the sections, and a sink's kind) is put together here.
//!
//! It is narrower than reading: a list of what an editor should offer. `check` alone says what is right.

use cdr_core::{Sinks, setting};
use cdr_dispatch::{MaskSettings, RetrySettings, route::RouteSettings};
use cdr_ingress::IngressSettings;
use serde_json::{Map, Value, json};

use super::sections::{Admin, AlertSettings, Log, SpoolSettings};

/// The schema for a program that knows these kinds of sinks.
pub fn schema(kinds: &Sinks) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gateway.yaml of cdr-gateway",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "timezone": text("In which days begin and times are told to people; logs and the API stay UTC. Asia/Shanghai."),
            "ingress": setting::schema::<IngressSettings>(),
            "spool": setting::schema::<SpoolSettings>(),
            "sinks": { "type": "object", "description": "Where pushes can go, by name.", "additionalProperties": sink(kinds) },
            "routes": { "type": "array", "description": "Which push goes where. Every route that matches applies.",
                "items": setting::schema::<RouteSettings>() },
            "retry": for_all_sinks(setting::schema::<RetrySettings>()),
            "alerts": setting::schema::<AlertSettings>(),
            "admin": setting::schema::<Admin>(),
            "log": setting::schema::<Log>(),
        },
    })
}

/// A kind and its settings, and what every sink may have.
fn sink(kinds: &Sinks) -> Value {
    let mut settings = Map::from_iter(kinds.kinds().map(|kind| {
        let own = kinds.schema(kind).unwrap_or_else(|| json!({ "type": "object" }));
        (kind.to_owned(), own)
    }));
    let one_kind: Vec<Value> = kinds.kinds().map(|kind| json!({ "required": [kind] })).collect();
    settings.insert("retry".to_owned(), setting::schema::<RetrySettings>());
    settings.insert(
        "rate_limit".to_owned(),
        text(
            "Most pushes in a time, retries and probes included: 10/s, 600/m or 1000/h. Without it no limit.",
        ),
    );
    settings.insert(
        "concurrency".to_owned(),
        json!({ "type": "integer", "minimum": 1, "description": "Attempts at once; 8." }),
    );
    settings.insert(
        "start_at".to_owned(),
        text("Where a sink begins that the spool does not know yet: now, beginning, a day such as 2026-11-22, or a time; now."),
    );
    settings.insert("mask".to_owned(), setting::schema::<MaskSettings>());
    json!({ "type": "object", "additionalProperties": false, "properties": settings, "oneOf": one_kind })
}

/// When a delivery is given up is each sink's own affair.
fn for_all_sinks(mut retry: Value) -> Value {
    if let Some(settings) = retry["properties"].as_object_mut() {
        settings.remove("give_up_after");
    }
    retry
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}
