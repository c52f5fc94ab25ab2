//! Pieces of a request: the URL, the headers of proxies, the PROXY protocol, bodies and how they are compressed.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use bytesize::ByteSize;
use cdr_core::{Action, Cdr, cdr};
use http::{HeaderMap, HeaderValue, Uri};
use serde::de::IgnoredAny;
use tokio::io::AsyncReadExt;

use super::Raw;
use crate::{
    Limits, Network,
    asked::Asked,
    body::{Charge, InFlight},
    client_address::{client_address, trail},
    connection::Begun,
    encoding::Encoding,
    proxy_protocol::take_header,
};

/// The target of a request: an action is one word and no question, and what is appended at the end is what counts.
pub fn asked(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    if let Ok(asked) = Asked::of(&uri) {
        let action = asked.action.as_str();
        let is_word = action.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        assert!(is_word && (1..=32).contains(&action.len()), "{action:?} is no word");
        assert!(!asked.action.is_question(), "{action:?} is a question");
    }
    let Some(target) = uri.path_and_query() else { return };
    let joints = if target.query().is_some() { &["&", "?"][..] } else { &["?"] };
    for joint in joints {
        let Ok(appended) = format!("{target}{joint}action=cdr&version=1").parse() else { continue };
        let Ok(asked) = Asked::of(&appended) else { panic!("{appended} has an action") };
        assert_eq!((asked.action.as_str(), asked.version.as_deref()), ("cdr", Some("1")));
    }
}

/// The headers that proxies write: whatever stands there, nobody is believed but trusted proxies, and they are.
pub fn proxies(bytes: &[u8]) {
    static TRUSTED: LazyLock<Vec<Network>> =
        LazyLock::new(|| ["10.0.0.0/8", "fd00::/8"].into_iter().flat_map(str::parse).collect());
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const SENDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    let Raw { headers, .. } = Raw::of(bytes);
    assert_eq!(client_address(SENDER, &headers, &TRUSTED), SENDER, "a sender was believed");
    let told = trail(PROXY, &headers, &TRUSTED);
    assert_eq!(client_address(PROXY, &headers, &TRUSTED), told.client);
    assert!(told.proxies.iter().all(|(proxy, by)| by.contains(*proxy)));

    let (name, entry) = match headers.contains_key("x-forwarded-for") {
        true => ("x-forwarded-for", "203.0.113.7"),
        false => ("forwarded", "for=203.0.113.7"),
    };
    for believed in
        [with_line(&headers, name, entry), with_entry(&headers, name, entry)].into_iter().flatten()
    {
        assert_eq!(client_address(PROXY, &believed, &TRUSTED), SENDER, "a proxy was not believed");
    }
}

/// As a proxy does that writes a line of its own.
fn with_line(headers: &HeaderMap, name: &'static str, entry: &'static str) -> Option<HeaderMap> {
    let mut headers = headers.clone();
    headers.try_append(name, HeaderValue::from_static(entry)).ok()?;
    Some(headers)
}

/// As a proxy does that joins its entry to the last line.
fn with_entry(headers: &HeaderMap, name: &'static str, entry: &'static str) -> Option<HeaderMap> {
    let mut lines: Vec<_> = headers.get_all(name).iter().map(|line| line.as_bytes().to_vec()).collect();
    let last = lines.last_mut()?;
    last.extend_from_slice(format!(", {entry}").as_bytes());
    let mut headers = headers.clone();
    headers.remove(name);
    for line in &lines {
        headers.try_append(name, HeaderValue::from_bytes(line).ok()?).ok()?;
    }
    Some(headers)
}

/// The first bytes behind a trusted proxy: however they are cut, they name the same sender, and what follows the header
/// is left as it is.
pub fn proxy_protocol(bytes: &[u8]) {
    let whole = beginning(bytes, &[]);
    let cut = bytes.len().min(bytes.last().map_or(0, |&last| usize::from(last)));
    let (one, other) = bytes.split_at(cut);
    assert_eq!(whole, beginning(one, other), "cut at {cut}");
    if let Ok((sender, rest)) = whole {
        assert!(bytes.ends_with(&rest));
        assert!(sender.is_none() || rest.len() < bytes.len(), "no header named a sender");
    }
}

/// Whom the header names, and what is read behind it; the error is a malformed one.
fn beginning(one: &[u8], other: &[u8]) -> Result<(Option<IpAddr>, Vec<u8>), ()> {
    at_once(async {
        let mut begun = Begun::new(one.chain(other));
        let Ok(taken) = take_header(&mut begun).await else { panic!("memory cannot break") };
        let sender = taken.map_err(drop)?;
        let mut rest = Vec::new();
        let Ok(_) = begun.read_to_end(&mut rest).await else { panic!("memory cannot break") };
        Ok((sender, rest))
    })
}

/// What reads from memory never waits.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

/// A body, as each kind of push: what is JSON to others is JSON to us, a fault has its place within the body, and every
/// field can be told.
pub fn body(bytes: &[u8]) {
    static ACTIONS: LazyLock<Vec<Action>> =
        LazyLock::new(|| ["cdr", "record", "else"].into_iter().flat_map(str::parse).collect());
    let object = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_object = std::str::from_utf8(object)
        .is_ok_and(|text| serde_json::from_str::<HashMap<String, IgnoredAny>>(text).is_ok());
    for action in &*ACTIONS {
        match cdr::read(action, bytes) {
            Ok(cdr) => {
                assert!(std::str::from_utf8(bytes).is_ok() && object.trim_ascii().ends_with(b"}"));
                assert!(!action.is_cdr() || cdr.as_ref().is_some_and(|cdr| cdr.session_id.is_some()));
                cdr.iter().for_each(|cdr| tell(cdr));
            }
            Err(fault) => {
                assert!(fault.byte <= bytes.len() && fault.line > 0 && fault.column > 0, "{fault:?}");
                assert!(!fault.to_string().is_empty() && !fault.without_excerpt().is_empty());
                let is_known = fault.message.contains("deeper") || fault.message.contains("SessionId");
                assert!(is_known || !is_object, "{fault}");
            }
        }
    }
}

fn tell(cdr: &Cdr) {
    for name in Cdr::FIELDS {
        assert!(cdr.get(name).is_some() && cdr.value(name).is_some(), "{name}");
    }
    let moments = [cdr.started_at(), cdr.ended_at()].into_iter().flatten();
    assert!(moments.min().is_none_or(|moment| moment.as_second() > 0), "1970");
    let spans = [cdr.wait(), cdr.ring(), cdr.talk()];
    assert!(spans.into_iter().flatten().all(|seconds| seconds >= 0), "{spans:?}");
    assert!(cdr.transfers() <= cdr.participants().len());
    assert!(!cdr.result().as_str().is_empty());
    assert!(cdr.odd_fields().all(|name| !name.is_empty()));
}

/// A compressed body: however far it unfolds, no more than the limit is held, and what is none stays as it was sent.
pub fn gzip(bytes: &[u8]) {
    let limits = Limits { body: ByteSize::kib(64), in_flight: ByteSize::kib(64), ..Limits::default() };
    let mut charge = Charge::new(&Arc::new(InFlight::default()));
    let sent = Bytes::copy_from_slice(bytes);
    let Ok((body, fault)) = Encoding::Gzip.decode(sent.clone(), &mut charge, &limits) else { return };
    match fault {
        Some(_) => assert_eq!(body, sent),
        None => assert!(body.len() as u64 <= limits.body.as_u64()),
    }
}
