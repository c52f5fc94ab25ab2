//! `cdr-gateway reload`: the running gateway reads its configuration again.

use cdr_core::Sinks;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{Common, Ended, Said, running};

/// Asks for a reload and tells what came of it; fails when the configuration was not taken.
pub async fn run(common: &Common, sinks: &Sinks) -> Ended {
    // A faulty file says so here, with the same lines, and the gateway is not even asked.
    let (plan, _) = common.plan(sinks)?;
    let (status, answer) = running::ask(&plan.admin, Method::POST, "/api/v1/reload", None).await?;
    let lines = |name: &str| -> Vec<String> {
        let list = answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    match status {
        StatusCode::OK => {
            lines("notes").iter().for_each(|note| println!("note: {note}"));
            println!("reloaded");
            Ok(())
        }
        StatusCode::UNPROCESSABLE_ENTITY => {
            lines("faults").iter().for_each(|fault| eprintln!("{fault}"));
            Err(Said.into())
        }
        status => Err(running::message(status, &answer)),
    }
}
