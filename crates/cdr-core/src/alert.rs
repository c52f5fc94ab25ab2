//! What the gateway tells its operators about itself.
//!
//! An alert is a push of [`Origin::Alert`](crate::Origin::Alert) with the action `alert` and this as its JSON
//! body: stored in the spool like any push, so that a restart neither repeats nor forgets it, and delivered to
//! the sinks that `alerts.to` names. No route applies to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Origin, Push};

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A sink is away: its lane is paused.
    Paused,
    /// Pushes wait until a person mends something; their sink goes on with the others.
    Unmended,
    /// A delivery was given up.
    DeadLetter,
    /// An authentic request was no push; its bytes are kept.
    Quarantine,
    /// Pushes were refused at the door; after three retries such a call is lost.
    RefusedSender,
    /// The spool fills up or cannot write.
    Disk,
    /// A configuration was not taken.
    Config,
    /// No push came for longer than usual.
    Silence,
}

impl AlertKind {
    /// As in the configuration's page, mails and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Unmended => "unmended",
            Self::DeadLetter => "dead_letter",
            Self::Quarantine => "quarantine",
            Self::RefusedSender => "refused_sender",
            Self::Disk => "disk",
            Self::Config => "config",
            Self::Silence => "silence",
        }
    }
}

/// Something an operator should know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub kind: AlertKind,
    /// The thing itself, such as a sink's name; the same thing is told once until it is over.
    pub about: String,
    /// One line that says it all.
    pub subject: String,
    /// What happened and what to do, in a few lines of plain text.
    pub text: String,
    /// Whether this says that it is over.
    pub resolved: bool,
    /// When it happened.
    pub at: Timestamp,
}

impl Alert {
    /// The action that alerts bear.
    pub const ACTION: &'static str = "alert";

    /// The alert that a push carries, if it is one.
    pub fn of(push: &Push) -> Option<Self> {
        if push.facts().origin != Origin::Alert {
            return None;
        }
        serde_json::from_slice(push.body()).ok()
    }
}
