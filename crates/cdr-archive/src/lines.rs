//! `ndjson`: a JSON line for each push, in the order of their positions.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use cdr_core::{Position, Push};
use serde::{Deserialize, Serialize};

use crate::{Record, Unreadable, record};

/// A push in an object of many. As JSON text every byte of a body comes back; the rare one that is no text, which the door
/// never lets in, is base64.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    spool: Cow<'a, str>,
    position: u64,
    #[serde(borrow)]
    action: Cow<'a, str>,
    version: Option<Cow<'a, str>>,
    uuid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    received_at: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<Cow<'a, str>>,
}

/// Writes the lines. Only one is in memory at a time.
pub(crate) fn write(pushes: &[Arc<Push>], out: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    for push in pushes {
        let facts = push.facts();
        let text = std::str::from_utf8(push.body()).ok();
        let line = Line {
            spool: push.spool().to_string().into(),
            position: push.position().0,
            action: push.action().as_str().into(),
            version: facts.version.as_deref().map(Cow::from),
            uuid: facts.uuid.as_deref().map(Cow::from),
            received_at: record::arrival(facts.received_at).into(),
            sha256: push.sha256_hex().into(),
            body: text.map(Cow::from),
            body_base64: text.is_none().then(|| BASE64.encode(push.body()).into()),
        };
        bytes.clear();
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
        out.write_all(&bytes)?;
    }
    Ok(())
}

pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Record>, Unreadable> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').enumerate();
    let mut records = Vec::new();
    for (index, line) in lines {
        let whole =
            line.strip_suffix(b"\n").ok_or_else(|| Unreadable::new("it ends in the middle of a line"))?;
        let record =
            record_of(whole).map_err(|error| Unreadable::new(format!("line {}: {error}", index + 1)))?;
        records.push(record);
    }
    Ok(records)
}

fn record_of(line: &[u8]) -> Result<Record, Unreadable> {
    let line: Line = serde_json::from_slice(line).map_err(|error| Unreadable::new(error.to_string()))?;
    let body = match (line.body, line.body_base64) {
        (Some(text), None) => Bytes::from(text.into_owned()),
        (None, Some(encoded)) => {
            Bytes::from(BASE64.decode(&*encoded).map_err(|error| Unreadable::new(error.to_string()))?)
        }
        _ => return Err(Unreadable::new("it has no body, or two")),
    };
    Ok(Record {
        spool: record::spool(&line.spool)?,
        position: Position(line.position),
        action: Some(line.action.parse().map_err(|error| Unreadable::new(format!("{error}")))?),
        version: line.version.map(Cow::into_owned),
        uuid: line.uuid.map(Cow::into_owned),
        received_at: Some(line.received_at.parse().map_err(|error| Unreadable::new(format!("{error}")))?),
        sha256: Some(record::sha256(&line.sha256)?),
        body,
    })
}
