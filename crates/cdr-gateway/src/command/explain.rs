//! `cdr-gateway explain`: what would become of a push?

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use cdr_core::{Action, Batch, Delivery, Facts, Incoming, Origin, Position, Preview, Push, Sinks, SpoolId};
use cdr_dispatch::route::Destination;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Common, Ended};
use crate::config::{Plan, PlannedSink};

/// What would become of a push: how it is read, which routes take it, and what each sink would do.
#[derive(Args)]
pub struct Explain {
    /// The body of a push.
    file: PathBuf,
    /// As it would be pushed.
    #[arg(long, default_value = "cdr")]
    action: Action,
}

impl Explain {
    /// Reads the file as the door would and asks the routes; nothing is sent or stored. Fails when it is no push.
    pub fn run(self, common: &Common, sinks: &Sinks) -> Ended {
        let (plan, _) = common.plan(sinks)?;
        let body =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let body = Bytes::from(body);
        let facts = Facts {
            action: self.action,
            version: Some("1".to_owned()),
            uuid: None,
            received_at: Timestamp::now(),
            sender: None,
            origin: Origin::Push,
            sha256: Sha256::digest(&body).into(),
        };
        let read =
            Incoming::read(facts, body).context("this would be answered with 400 and kept in quarantine")?;
        let push = Arc::new(Push::stored(SpoolId([0; 8]), Position(0), read));
        let decision = plan.routes.consider(&push);
        let masked = |sink: &PlannedSink| sink.mask.as_ref().and_then(|mask| mask.apply(&push));
        let to = |name: &str| decision.destinations().iter().find(|to| to.sink.as_str() == name);
        if common.wants_json() {
            let routed: serde_json::Map<_, _> = (decision.destinations().iter())
                .map(|to| (to.sink.to_string(), json!(to.routes.to_vec())))
                .collect();
            let failed: Vec<_> = decision
                .failures()
                .iter()
                .map(|f| json!({ "route": f.route, "why": f.error.to_string() }))
                .collect();
            let previews: serde_json::Map<_, _> = (decision.destinations().iter())
                .filter_map(|to| {
                    let parts = preview(&plan, &push, to)?.0;
                    let parts = parts.into_iter().map(|part| (part.name.to_owned(), json!(part.text)));
                    Some((to.sink.to_string(), parts.collect::<serde_json::Map<_, _>>().into()))
                })
                .collect();
            let seen: serde_json::Map<_, _> = (plan.sinks.iter())
                .filter(|sink| to(sink.lane.name.as_str()).is_some())
                .filter_map(|sink| Some((sink.lane.name.to_string(), json!(text_of(&masked(sink)?)))))
                .collect();
            say!(
                "{}",
                json!({
                    "action": push.action().as_str(), "session_id": push.session_id(), "sinks": routed,
                    "previews": previews, "failed": failed, "masked": seen,
                })
            );
            return Ok(());
        }
        describe(&push);
        for sink in &plan.sinks {
            let name = sink.lane.name.as_str();
            match to(name) {
                Some(to) => {
                    say!("{name}: by {}; it {}", quoted(&to.routes), sink.lane.sink.describe());
                    if let Some(masked) = masked(sink) {
                        say!("{name} gets to see, with its mask: {}", text_of(&masked));
                    }
                    preview(&plan, &push, to).into_iter().for_each(|preview| show(&preview));
                }
                None => say!("{name}: no"),
            }
        }
        for failure in decision.failures() {
            say!("the route \"{}\" could not decide, so it does not match: {}", failure.route, failure.error);
        }
        if decision.unrouted() {
            say!("no route takes it: it would be kept, and counted as unrouted");
        }
        Ok(())
    }
}

/// What would leave for the sink; none if it shows nothing of it.
fn preview(plan: &Plan, push: &Arc<Push>, to: &Destination) -> Option<Preview> {
    let sink = &plan.sinks.iter().find(|sink| sink.lane.name == to.sink)?.lane.sink;
    let delivery = Delivery {
        push: Arc::clone(push),
        routes: Arc::clone(&to.routes),
        attempt: 1,
        replay: false,
        may_be_there: false,
    };
    let preview = sink.preview(&Batch::new(vec![delivery])?);
    (!preview.0.is_empty()).then_some(preview)
}

/// The parts that people read, each below its name.
fn show(preview: &Preview) {
    for part in preview.0.iter().filter(|part| part.is_plain) {
        say!("  {}:", part.name);
        part.text.trim_end().lines().for_each(|line| say!("    {line}"));
    }
}

/// How the body is read, as far as routes mostly ask.
fn describe(push: &Push) {
    let Some(cdr) = push.cdr() else {
        return say!(
            "{}: an action whose fields are not published; routes can tell it by action and cdr.…",
            push.action()
        );
    };
    let odd: Vec<_> = cdr.odd_fields().collect();
    if !odd.is_empty() {
        say!("of a wrong type, so read as missing: {}", odd.join(", "));
    }
    if push.session().is_none() {
        return say!(
            "{} {}: EndpointUser {}, RecordURL {}",
            push.action(),
            push.session_id().unwrap_or("without a session").escape_debug(),
            cdr.endpoint_user.as_deref().unwrap_or("null").escape_debug(),
            cdr.record_url.as_deref().unwrap_or("null").escape_debug()
        );
    }
    let status = cdr.end_status.as_ref().map_or("none", |status| status.as_str());
    let seconds =
        |seconds: Option<i64>| seconds.map_or_else(|| "null".to_owned(), |seconds| seconds.to_string());
    say!(
        "{} {}: EndStatusString {}, result {}",
        push.action(),
        push.session_id().unwrap_or("without a session").escape_debug(),
        status.escape_debug(),
        cdr.result()
    );
    say!(
        "wait {}, ring {}, talk {}, transfers {}",
        seconds(cdr.wait()),
        seconds(cdr.ring()),
        seconds(cdr.talk()),
        cdr.transfers()
    );
}

fn text_of(push: &Push) -> Cow<'_, str> {
    String::from_utf8_lossy(push.body())
}

fn quoted(routes: &[String]) -> String {
    routes.iter().map(|route| format!("\"{route}\"")).collect::<Vec<_>>().join(", ")
}
