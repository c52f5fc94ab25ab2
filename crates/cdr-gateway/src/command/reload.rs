//! `cdr-gateway reload`: the running gateway reads its configuration again.

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{Common, Ended, Said, running};

/// Asks for a reload and tells what came of it; fails when the configuration was not taken.
///
/// The gateway judges the file: it has the secrets in its environment, which the operator's shell has not.
pub async fn run(common: &Common) -> Ended {
    let (status, answer) = running::ask(&common.admin()?, Method::POST, "/api/v1/reload", None).await?;
    let lines = |name: &str| -> Vec<String> {
        let list = answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    match status {
        StatusCode::OK => {
            lines("notes").iter().for_each(|note| say!("note: {note}"));
            say!("reloaded");
            Ok(())
        }
        StatusCode::UNPROCESSABLE_ENTITY => {
            lines("faults").iter().for_each(|fault| eprintln!("{fault}"));
            Err(Said.into())
        }
        status => Err(running::message(status, &answer)),
    }
}
