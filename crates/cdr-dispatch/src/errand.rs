//! What a temporary lane is for: a replay, what a renamed sink left to another, or the backlog of an outage.
//!
//! A replay sends pushes that are kept to one sink again, because a person wants it: those that arrived in a time and for
//! which an expression holds, whatever the routes say. What it wants lies in the spool beside its lane, so that it goes on
//! after a restart and a crash.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use cdr_core::{Origin, Push};
use cdr_expression::{EvalError, Expression, ExpressionFault};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{rate::Rate, routing::Goes};

/// What a temporary lane is for.
#[derive(Debug)]
pub enum Errand {
    /// Pushes are sent again.
    Replay(Box<Replay>),
    /// It delivers what another sink owed.
    HandedOver {
        /// The name that the sink had before.
        by: String,
    },
    /// It delivers what waited while its sink was away, beside the fresh pushes.
    SetAside,
}

/// What a person wants to have sent again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Wish {
    /// Pushes that arrived then or later; none: the oldest that are kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// Pushes that arrived before; none: those that are kept when the replay begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
    /// An expression as routes have it; none: every push.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none", default)]
    pub condition: Option<String>,
    /// Most pushes in a time; none: one after the other, as fast as the sink takes them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<Rate>,
}

/// A replay, ready to look at pushes.
#[derive(Debug)]
pub struct Replay {
    wish: Wish,
    condition: Option<Expression>,
    /// When it was begun; none for one that is only thought of.
    pub started_at: Option<Timestamp>,
    /// Stands where routes stand for other deliveries.
    routes: Arc<[String]>,
    warned: AtomicBool,
}

/// How an errand lies in the spool.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Replay {
        started_at: Timestamp,
        #[serde(flatten)]
        wish: Wish,
    },
    HandedOver {
        by: String,
    },
    SetAside,
}

impl Errand {
    /// Whether it is a part of what its sink is owed by the routes, and no wish of a person.
    pub fn is_owed(&self) -> bool {
        !matches!(self, Self::Replay(_))
    }

    /// The errand of a lane, as the spool has it.
    ///
    /// # Errors
    /// Why nobody can run it, and what to do.
    pub fn from_spool(lane: &str, errand: &cdr_spool::Errand) -> Result<Self, String> {
        let kept = serde_json::from_slice(&errand.facts).map_err(|error| {
            format!("a newer version began it ({error}); go back to that version, or cancel it")
        })?;
        match kept {
            Kept::SetAside => Ok(Self::SetAside),
            Kept::HandedOver { by } => Ok(Self::HandedOver { by }),
            Kept::Replay { started_at, wish } => {
                let replay = Replay::of(wish, lane).map_err(|faults| {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    format!(
                        "this version does not take its condition any more: {}; cancel it and begin another",
                        faults.join("; ")
                    )
                })?;
                Ok(Self::Replay(Box::new(Replay { started_at: Some(started_at), ..replay })))
            }
        }
    }
}

/// How a replay that begins now lies in the spool.
pub(crate) fn replay_facts(wish: Wish) -> Bytes {
    facts(&Kept::Replay { started_at: Timestamp::now(), wish })
}

/// How what a sink left lies in the spool.
pub(crate) fn handed_over_facts(by: &str) -> Bytes {
    facts(&Kept::HandedOver { by: by.to_owned() })
}

/// How what is set aside lies in the spool.
pub(crate) fn set_aside_facts() -> Bytes {
    facts(&Kept::SetAside)
}

fn facts(kept: &Kept) -> Bytes {
    // Texts and times: nothing that JSON could refuse.
    Bytes::from(serde_json::to_vec(kept).unwrap_or_default())
}

impl Replay {
    /// Reads a wish. `name` is what the replay is called where routes have a name.
    ///
    /// # Errors
    /// Every fault of the condition.
    pub fn of(wish: Wish, name: &str) -> Result<Self, Vec<ExpressionFault>> {
        let condition = wish.condition.as_deref().map(|text| Expression::compile(text.trim())).transpose()?;
        let routes = Arc::from([format!("replay {name}")]);
        Ok(Self { wish, condition, started_at: None, routes, warned: AtomicBool::new(false) })
    }

    /// What is wanted.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Whether this push is wanted. The gateway's own alerts never are.
    ///
    /// # Errors
    /// The condition has no answer for this push; then it is not.
    pub fn wants(&self, push: &Push) -> Result<bool, EvalError> {
        let facts = push.facts();
        let in_time = self.wish.from.is_none_or(|from| facts.received_at >= from)
            && self.wish.to.is_none_or(|to| facts.received_at < to);
        if facts.origin != Origin::Push || !in_time {
            return Ok(false);
        }
        self.condition.as_ref().map_or(Ok(true), |condition| condition.eval(push))
    }

    pub(crate) fn goes(&self, push: &Push) -> Goes {
        match self.wants(push) {
            Ok(true) => Goes::By(Arc::clone(&self.routes)),
            Ok(false) => Goes::Elsewhere,
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(position = %push.position(), reason = %error, "a replay's condition failed on a push, so it is not sent; said once");
                }
                Goes::Elsewhere
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cdr_core::{Facts, Position, SpoolId};

    use super::*;

    fn push(received_at: &str, origin: Origin, status: &str) -> Push {
        let body = format!(r#"{{"SessionId":"s","EndStatusString":"{status}"}}"#);
        let facts = Facts {
            action: "cdr".parse().unwrap(),
            version: None,
            uuid: None,
            received_at: received_at.parse().unwrap(),
            sender: None,
            origin,
            sha256: [0; 32],
        };
        Push::from_spool(SpoolId([0; 8]), Position(1), facts, body.into())
    }

    fn wish() -> Wish {
        Wish {
            from: Some("2026-11-01T00:00:00Z".parse().unwrap()),
            to: Some("2026-11-02T00:00:00Z".parse().unwrap()),
            condition: Some(r#"EndStatusString == "busy""#.to_owned()),
            rate: Some("10/s".parse().unwrap()),
        }
    }

    #[test]
    fn a_replay_wants_pushes_of_its_time_for_which_its_condition_holds_and_no_alerts() {
        let replay = Replay::of(wish(), "1").unwrap();
        let wants = |at, origin, status| replay.wants(&push(at, origin, status)).unwrap();
        assert!(wants("2026-11-01T00:00:00Z", Origin::Push, "busy"));
        assert!(!wants("2026-10-31T23:59:59.999Z", Origin::Push, "busy"));
        assert!(!wants("2026-11-02T00:00:00Z", Origin::Push, "busy"));
        assert!(!wants("2026-11-01T00:00:00Z", Origin::Push, "ok"));
        assert!(!wants("2026-11-01T00:00:00Z", Origin::Alert, "busy"));
        let all = Replay::of(Wish::default(), "1").unwrap();
        assert!(all.wants(&push("2001-01-01T00:00:00Z", Origin::Push, "ok")).unwrap());
    }

    #[test]
    fn a_replay_comes_back_from_the_spool_as_it_was_wished() {
        let facts = replay_facts(wish());
        let kept = cdr_spool::Errand { sink: "crm".into(), until: cdr_spool::Position(9), facts };
        match Errand::from_spool("crm~1", &kept) {
            Ok(Errand::Replay(replay)) => assert_eq!(*replay.wish(), wish()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_errand_that_cannot_be_run_says_why() {
        let read = |facts: &str| {
            let facts = Bytes::copy_from_slice(facts.as_bytes());
            let kept = cdr_spool::Errand { sink: "crm".into(), until: cdr_spool::Position(9), facts };
            Errand::from_spool("crm~1", &kept).unwrap_err()
        };
        let started = r#""started_at":"2026-11-01T00:00:00Z""#;
        let gone = read(&format!(r#"{{"replay":{{{started},"where":"Durations > 1"}}}}"#));
        assert!(gone.contains("Durations") && gone.contains("cancel it"), "{gone}");
        assert!(read(r#"{"something_newer":{}}"#).contains("a newer version began it"));
    }
}
