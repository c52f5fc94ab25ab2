//! What lanes tell the gateway, so that it can tell its operators.

use cdr_core::{Origin, Position, SinkName};

/// Something happened to a lane that a person may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A sink is away; its lane is paused.
    Paused {
        /// The sink.
        sink: SinkName,
        /// Why, in words for the operator.
        reason: String,
    },
    /// A sink is back.
    Resumed {
        /// The sink.
        sink: SinkName,
    },
    /// A delivery became a dead letter.
    Died {
        /// The sink.
        sink: SinkName,
        /// The push.
        position: Position,
        /// The session it tells of.
        session_id: Option<String>,
        /// Where the push came from: the death of an alert must not raise another one.
        origin: Origin,
        /// Why.
        reason: String,
    },
}
