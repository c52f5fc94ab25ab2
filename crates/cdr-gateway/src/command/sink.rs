//! `cdr-gateway sink`: how the lanes are doing, and what becomes of a sink that left the configuration.

use clap::Subcommand;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Common, Ended, running};

/// How the lanes are doing, and what becomes of a sink that left the configuration.
#[derive(Subcommand)]
pub enum Sink {
    /// Lists the sinks of the running gateway: what each owes, whether it is away, and which are parked.
    ///
    /// Example: cdr-gateway sink list
    List,
    /// Hands over to the sink NEW all that the parked sink OLD owes: its pushes, dead letters and replays. The gateway
    /// must run.
    ///
    /// Write the new name into the configuration, reload, then: cdr-gateway sink rename old-crm crm
    Rename {
        /// The name that the configuration does not have any more.
        old: String,
        /// The name that the sink has now.
        new: String,
    },
    /// Forgets a parked sink and every push that still waits for it; the gateway must run.
    ///
    /// A sink that disappears from the configuration is parked: its pushes wait, and the spool keeps them. This
    /// decides that it does not come back. Example: cdr-gateway sink retire old-crm
    Retire {
        /// Its name.
        name: String,
    },
}

impl Sink {
    /// Lists, renames or retires.
    pub async fn run(self, common: &Common) -> Ended {
        let admin = common.admin()?;
        match self {
            Self::List => {
                let (status, answer) = running::ask(&admin, Method::GET, "/api/v1/lanes", None).await?;
                if status != StatusCode::OK {
                    return Err(running::message(status, &answer));
                }
                match common.wants_json() {
                    true => say!("{answer}"),
                    false => list(&answer),
                }
            }
            Self::Rename { old, new } => {
                let (path, body) = (format!("/api/v1/sinks/{old}/rename"), json!({ "to": new }));
                let (status, answer) = running::ask(&admin, Method::POST, &path, Some(body)).await?;
                match status {
                    StatusCode::OK if common.wants_json() => say!("{answer}"),
                    StatusCode::OK if answer["parked"] == true => say!(
                        "{new} owes what {old} owed; it waits until the configuration has a sink of this name"
                    ),
                    StatusCode::OK => say!(
                        "{new} owes what {old} owed; cdr-gateway sink list shows how it gets on, there and below {new}~"
                    ),
                    status => return Err(running::message(status, &answer)),
                }
            }
            Self::Retire { name } => {
                let path = format!("/api/v1/sinks/{name}/retire");
                let (status, answer) = running::ask(&admin, Method::POST, &path, None).await?;
                if status != StatusCode::OK {
                    return Err(running::message(status, &answer));
                }
                say!("{name} is forgotten; what only waited for it may go when it is older than spool.keep");
            }
        }
        Ok(())
    }
}

fn list(answer: &Value) {
    let all = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    for lane in all("lanes") {
        let (name, unread, open) =
            (lane["sink"].as_str().unwrap_or_default(), &lane["unread"], &lane["open"]);
        let oldest = lane["oldest_undelivered_s"].as_f64().map(|age| format!(", the oldest for {age:.0} s"));
        let state = match lane["paused"]["reason"].as_str() {
            Some(reason) => format!("away: {reason}"),
            None if lane["rate_limit"]["holds_back"] == true => {
                format!("held to {} by rate_limit", lane["rate_limit"]["rate"].as_str().unwrap_or_default())
            }
            None => "runs".to_owned(),
        };
        let oldest = oldest.unwrap_or_default();
        let unmended = lane["unmended"]["reason"]
            .as_str()
            .map(|reason| format!("; {} wait for a person: {reason}", lane["unmended"]["pushes"]));
        let unmended = unmended.unwrap_or_default();
        say!(
            "{name:<16} {unread} unread, {open} open{oldest}; {} delivered, {} dead; {state}{unmended}",
            lane["delivered"],
            lane["dead"]
        );
    }
    for lane in all("parked") {
        let name = lane["name"].as_str().unwrap_or_default();
        let why = lane["why"].as_str().unwrap_or_default();
        say!("{name:<16} {} unread, {} open; parked: {why}", lane["unread"], lane["open"]);
    }
}
