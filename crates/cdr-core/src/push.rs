//! What came in: one request from the sender, its bytes and what is known about it.
//!
//! The bytes are never changed. [`Facts`] are what the door learned; [`Push`] adds the place that the
//! spool gave it. The typed view of the body is read once and travels along.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr, sync::OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Cdr, cdr, json};

/// The place of a push in its spool: grows, is never reused within a spool, starts at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The random identity of a spool, made at its first start. A fresh or restored spool starts its positions
/// again, so whoever names things by position names the spool too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolId(pub [u8; 8]);

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpoolId({self})")
    }
}

/// The kind of a push: the `action` of its URL, 1 to 32 letters, digits or underscores.
///
/// A value that equals a published one but for its case bears the published spelling, so that
/// `action=CDR` and `action=cdr` are the same thing to every route.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Action(Cow<'static, str>);

impl Action {
    /// The pushes that TCCC documents (product pages 679/67257, 1229/59642, 679/86651, 679/67259, 679/82296).
    pub const PUBLISHED: [&'static str; 5] = ["cdr", "record", "voicemail", "imcdr", "videoCdr"];

    /// Synchronous questions, not pushes: an answer steers a live call, so a blanket "ok" would be wrong.
    pub const QUESTIONS: [&'static str; 1] = ["specifiedSeat"];

    /// As used in URLs and routes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A phone session's detail record, the main thing.
    pub fn is_cdr(&self) -> bool {
        self.0 == "cdr"
    }

    /// Whether its fields are published, so that there is a typed view of its body.
    pub fn is_published(&self) -> bool {
        Self::PUBLISHED.contains(&&*self.0)
    }

    /// Whether it tells of a whole session, so that there is a result to it; a recording or a voicemail has none.
    pub fn tells_of_a_session(&self) -> bool {
        matches!(&*self.0, "cdr" | "imcdr" | "videoCdr")
    }

    /// Whether it asks something instead of telling it.
    pub fn is_question(&self) -> bool {
        Self::QUESTIONS.contains(&&*self.0)
    }
}

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, InvalidAction> {
        let letters = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if text.is_empty() || text.len() > 32 || !text.bytes().all(letters) {
            return Err(InvalidAction);
        }
        let known = Self::PUBLISHED.iter().chain(&Self::QUESTIONS);
        let spelling = known.copied().find(|name| name.eq_ignore_ascii_case(text));
        Ok(Self(spelling.map_or_else(|| text.to_owned().into(), Cow::Borrowed)))
    }
}

impl TryFrom<String> for Action {
    type Error = InvalidAction;

    fn try_from(text: String) -> Result<Self, InvalidAction> {
        text.parse()
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.0.into_owned()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An `action` that is not 1 to 32 letters, digits or underscores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidAction;

impl fmt::Display for InvalidAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an action is 1 to 32 letters, digits or underscores, such as cdr")
    }
}

impl std::error::Error for InvalidAction {}

/// Where a push came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The sender pushed it.
    #[default]
    Push,
    /// The gateway tells its operators something: its body is an [`Alert`](crate::Alert), no route applies to it.
    Alert,
}

impl Origin {
    /// As in routes and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Alert => "alert",
        }
    }
}

/// The beginning of a text that the sender chose, such as a `SessionId`: at most 128 bytes, for logs and mails.
///
/// The protocol sets no length, so a body of 1 MiB may be one `SessionId`. The published ones have 36 characters.
pub fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(128)]
}

/// What is known about a push beside its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The `action` of the URL.
    pub action: Action,
    /// The `version` of the URL, as sent; voicemail pushes have none.
    pub version: Option<String>,
    /// The header `X-TCCC-PUSH-UUID`: the sender's retries repeat it (product page 679/67256).
    pub uuid: Option<String>,
    /// When the whole request had arrived.
    pub received_at: Timestamp,
    /// Who sent it, as far as trusted proxies tell.
    pub sender: Option<IpAddr>,
    /// Where it came from.
    pub origin: Origin,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
}

/// A push at the door: authentic, readable, not yet stored.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What is known beside the bytes.
    pub facts: Facts,
    /// The body as it came.
    pub body: Bytes,
    /// The typed view, for published actions.
    pub cdr: Option<Box<Cdr>>,
}

impl Incoming {
    /// Reads a body strictly and makes the push of it. The caller has verified the sender.
    ///
    /// # Errors
    /// The body is not one JSON object, or it is a `cdr` without a `SessionId`.
    pub fn read(facts: Facts, body: Bytes) -> Result<Self, json::Fault> {
        let cdr = cdr::read(&facts.action, &body)?;
        Ok(Self { facts, body, cdr })
    }
}

/// A push that the spool holds.
#[derive(Debug)]
pub struct Push {
    spool: SpoolId,
    position: Position,
    facts: Facts,
    body: Bytes,
    cdr: OnceLock<Option<Box<Cdr>>>,
}

impl Push {
    /// A push that was stored a moment ago: its body has been read already.
    pub fn stored(spool: SpoolId, position: Position, incoming: Incoming) -> Self {
        let Incoming { facts, body, cdr } = incoming;
        Self { spool, position, facts, body, cdr: OnceLock::from(cdr) }
    }

    /// A push read back from the spool: its body is read when somebody asks for it.
    pub fn from_spool(spool: SpoolId, position: Position, facts: Facts, body: Bytes) -> Self {
        Self { spool, position, facts, body, cdr: OnceLock::new() }
    }

    /// The spool that holds it.
    pub fn spool(&self) -> SpoolId {
        self.spool
    }

    /// Its place there.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What is known beside the bytes.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The `action` of its URL.
    pub fn action(&self) -> &Action {
        &self.facts.action
    }

    /// The body exactly as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// SHA-256 of the body in lower-case hex.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.facts.sha256)
    }

    /// The typed view of the body; none for unpublished actions and alerts.
    pub fn cdr(&self) -> Option<&Cdr> {
        let read = || cdr::read(&self.facts.action, &self.body).ok().flatten();
        self.cdr.get_or_init(read).as_deref()
    }

    /// The typed view, when the push tells of a whole session: only then there is a result, and what was derived.
    pub fn session(&self) -> Option<&Cdr> {
        self.cdr().filter(|_| self.facts.action.tells_of_a_session())
    }

    /// The session it tells of, when it names one.
    pub fn session_id(&self) -> Option<&str> {
        self.cdr().and_then(|cdr| cdr.session_id.as_deref())
    }
}
