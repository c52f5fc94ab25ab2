//! What is counted and told of a push when it is kept, noted before it is handed over.

use std::net::IpAddr;

use cdr_core::{Action, EndStatus, Incoming as Push, Stored, push};

use crate::{answer::Verdict, keeper::Keeper};

/// What will be told of a push when it is kept.
pub(crate) struct Notes {
    action: Action,
    sender: Option<IpAddr>,
    session_id: Option<String>,
    bytes: usize,
    odd_fields: Vec<&'static str>,
    unpublished_statuses: Vec<String>,
}

impl Notes {
    pub fn of(push: &Push) -> Self {
        let cdr = push.cdr.as_deref();
        let participants = cdr.into_iter().flat_map(|cdr| cdr.participants());
        let statuses = cdr
            .and_then(|cdr| cdr.end_status.as_ref())
            .into_iter()
            .chain(participants.filter_map(|participant| participant.end_status.as_ref()));
        let unpublished = statuses.filter_map(|status| match status {
            EndStatus::Known(_) => None,
            EndStatus::Unpublished(value) => Some(value.to_string()),
        });
        Self {
            action: push.facts.action.clone(),
            sender: push.facts.sender,
            session_id: cdr.and_then(|cdr| cdr.session_id.as_deref()).map(|id| push::short(id).to_owned()),
            bytes: push.body.len(),
            odd_fields: cdr.into_iter().flat_map(|cdr| cdr.odd_fields()).collect(),
            unpublished_statuses: unpublished.collect(),
        }
    }

    /// To be called once, when it is kept.
    pub fn tell(&self, keeper: &Keeper, stored: Stored) {
        let Self { action, session_id, bytes, .. } = self;
        let (position, repeat) = (stored.position.0, stored.repeat);
        // Not at info: see `summary`.
        tracing::debug!(position, session_id, action = action.as_str(), bytes, repeat, "stored");
        if keeper.counters.kept(*bytes) {
            tracing::info!(position, session_id, "the first push since the start is stored");
        }
        keeper.counters.count(verdict(stored));
        if let Some(sender) = self.sender {
            keeper.kept_from(sender);
        }
        if stored.uuid_reused {
            tracing::warn!(
                position,
                session_id,
                "its X-TCCC-PUSH-UUID came before with other bytes; both are kept"
            );
        }
        if !stored.repeat {
            self.tell_oddities(keeper, position);
        }
    }

    fn tell_oddities(&self, keeper: &Keeper, position: u64) {
        for &field in &self.odd_fields {
            if keeper.counters.odd_field(field) {
                tracing::warn!(position, field, "a field has a value of a wrong type and counts as missing");
            }
        }
        for status in &self.unpublished_statuses {
            if let Some(status) = keeper.counters.unpublished_status(status) {
                tracing::warn!(
                    position,
                    status,
                    "an EndStatusString that is not published; its result is other"
                );
            }
        }
    }
}

fn verdict(stored: Stored) -> Verdict {
    match stored {
        Stored { repeat: true, .. } => Verdict::Repeat,
        Stored { uuid_reused: true, .. } => Verdict::UuidReused,
        _ => Verdict::Stored,
    }
}
