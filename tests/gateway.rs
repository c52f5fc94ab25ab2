//! The gateway as its users have it: the built binary, its configuration file, real receivers.

mod alerts;
mod archive;
mod certificate;
mod configuration;
mod crash;
mod crm;
mod dead;
mod disk;
mod disk_faults;
mod finding;
mod hostile;
mod incidents;
mod looking;
mod main_job;
mod manifests;
mod operating;
mod other_pushes;
mod proofs;
mod proxies;
mod quarantine;
mod real_crm;
mod refusals;
mod reload;
mod rename;
mod replay;
mod senders;
mod set_aside;
mod sick_sinks;
mod tail;
mod told;

use std::path::{Path, PathBuf};

use cdr_core::{CallResult, cdr};
use cdr_tests::{Cli, Process, cli, sample, samples};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A configuration with a file archive, an outbox and a CRM, and the routes that ship.
fn configuration(crm: &str) -> Value {
    json!({
        "ingress": { "listen": "127.0.0.1:0" },
        "admin": { "listen": "127.0.0.1:0" },
        "spool": { "path": "data/spool", "max_size": "256MiB" },
        "sinks": {
            "archive": { "file": { "path": "data/archive", "layout": "raw" } },
            "on-call": { "email": {
                "outbox": "data/outbox", "from": "CDR gateway <cdr@example.com>", "to": ["on-call@example.com"],
                "group_interval": "2s",
            } },
            "crm": { "http": { "url": crm } },
        },
        "routes": [
            { "name": "every push is archived", "to": ["archive"] },
            { "name": "failed sessions alert", "when": r#"EndStatusString in ["error", "noSeatOnline"]"#, "to": ["on-call"] },
            { "name": "answered calls reach the CRM", "when": r#"action == "cdr" && result == "answered""#, "to": ["crm"] },
        ],
        "retry": { "initial": "100ms", "factor": 2, "max": "500ms" },
    })
}

/// All sample CDRs, by their file's name.
fn sample_cdrs() -> Vec<(String, bytes::Bytes)> {
    let mut names: Vec<String> = std::fs::read_dir(samples().join("cdr"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), sample(&format!("cdr/{name}")))).collect()
}

fn result(body: &[u8]) -> CallResult {
    cdr::read(&"cdr".parse().unwrap(), body).unwrap().unwrap().result()
}

fn session(body: &[u8]) -> String {
    cdr::read(&"cdr".parse().unwrap(), body).unwrap().unwrap().session_id.unwrap().into()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The contents of all files below a folder whose names end like this; none when it is not there.
fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    paths(folder, ending).into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn paths(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(paths(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The mails in an outbox, as text.
fn outbox(folder: &Path) -> Vec<String> {
    let text = |mail: Vec<u8>| {
        let mail = mail_parser::MessageParser::default().parse(&mail).unwrap().into_owned();
        format!("{}\n{}", mail.subject().unwrap_or_default(), mail.body_text(0).unwrap_or_default())
    };
    files(&folder.join("data/outbox"), ".eml").into_iter().map(text).collect()
}

fn call(session: &str, status: &str) -> String {
    json!({ "SessionId": session, "EndStatusString": status }).to_string()
}

/// Runs a command that asks this gateway, whose file leaves the port to the system.
fn ask(gateway: &Process, arguments: &[&str], environment: &[(&str, &str)]) -> Cli {
    let admin = gateway.admin.to_string();
    let environment: Vec<_> = [("CDR_GATEWAY_ADMIN__LISTEN", admin.as_str())]
        .into_iter()
        .chain(environment.iter().copied())
        .collect();
    cli(gateway.folder(), arguments, &environment)
}
