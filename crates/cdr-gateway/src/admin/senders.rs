//! Who pushes without being on the allowlist, for whoever writes it.

use cdr_ingress::{Allow, AllowMode};
use serde_json::{Value, json};

use crate::engine::Engine;

pub(super) fn list(engine: &Engine) -> Value {
    let senders = engine.newcomers().into_iter().map(|newcomer| {
        json!({
            "network": newcomer.network.to_string(), "requests": newcomer.requests, "pushes": newcomer.pushes,
            "last": newcomer.last,
        })
    });
    let allow = engine.allow().map(|Allow { networks, mode }| {
        let mode = match mode {
            AllowMode::Enforce => "enforce",
            AllowMode::Log => "log",
        };
        json!({ "mode": mode, "networks": networks.iter().map(ToString::to_string).collect::<Vec<_>>() })
    });
    json!({ "since": engine.started_at, "allow": allow, "senders": senders.collect::<Vec<_>>() })
}
