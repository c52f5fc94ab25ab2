//! Everything of the door that reads bytes, as functions that take any bytes: what the targets of `fuzz/` call millions
//! of times, and a test here calls for every seed, every attack and every sample.
//!
//! It is no part of the gateway: only tests have it, and builds with the feature `fuzzing`.
//!
//! # What it promises
//! * A function here panics when what must hold of all bytes does not hold of these, and has no other result.
//! * The same bytes do the same every time: no clock, no randomness, no network. Time is virtual, so that a sender who
//!   stops in the middle costs nothing, and whoever would wait for ever panics.
//!
//! # Reading order
//! * `parsers`: pieces of a request, without the connection around them.
//! * `proofs`: no bytes prove who sent them, nor get an access token; the secrets stand in no seed.
//! * `door`: a whole connection, from its first byte to its last, through the code that serves sockets.

mod door;
mod parsers;
mod proofs;
#[cfg(test)]
mod seeds;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use jiff::Timestamp;

pub use door::{door, guarded_door, http2};
pub use parsers::{asked, body, gzip, proxies, proxy_protocol};
pub use proofs::{proof, token};

/// What can be done with any bytes.
pub type Target = fn(&[u8]);

/// All of them, by their names in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("asked", asked),
    ("proxies", proxies),
    ("proxy_protocol", proxy_protocol),
    ("body", body),
    ("gzip", gzip),
    ("proof", proof),
    ("token", token),
    ("door", door),
    ("guarded_door", guarded_door),
    ("http2", http2),
];

/// When it is.
const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// A request as far as its lines can be read, so that whole requests are seeds for targets that look at pieces of them.
struct Raw<'a> {
    uri: Option<Uri>,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (first, mut rest) = line(bytes);
        let uri = first.split(|&byte| byte == b' ').nth(1).and_then(|target| Uri::try_from(target).ok());
        let mut headers = HeaderMap::new();
        while !rest.is_empty() {
            let (header, others) = line(rest);
            rest = others;
            if header.is_empty() {
                break;
            }
            let Some((name, value)) = named(header) else { continue };
            // Full, as hyper's never is.
            if headers.try_append(name, value).is_err() {
                break;
            }
        }
        Self { uri, headers, body: rest }
    }
}

fn named(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

/// Up to the end of a line, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}
