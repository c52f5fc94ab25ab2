//! A run of calls about the same thing: told once, counted, and closed when no more come.
//!
//! It is what the lane keeps for a partition between two batches (a memo): small, since it is rewritten with each mail.

use std::{borrow::Cow, collections::BTreeSet};

use cdr_core::{Alert, Batch, Delivery, EndStatus, Origin, Partition, Push};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::letter::{Call, Style, one_line};

/// What calls have in common that are told together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// `EndStatusString`; unpublished ones share a group, since nobody knows how many a sender invents.
    Status,
    /// The skill group that they were queued for.
    SkillGroup,
    /// The number that was called.
    Callee,
}

/// Longest name of a partition in bytes; a longer one is a digest of itself.
const NAME: usize = 200;

/// Most bytes of the routes' names that are remembered, so that a memo stays small.
const ROUTES: usize = 300;

/// Alerts by kind, recordings and voicemails apart, and sessions by what the settings say: what is told about one does not
/// hold back the other.
pub(crate) fn partition(push: &Push, group_by: &BTreeSet<GroupBy>) -> Partition {
    if push.facts().origin == Origin::Alert {
        return Partition(Cow::Borrowed(Alert::of(push).map_or(Alert::ACTION, |alert| alert.kind.as_str())));
    }
    let name: Vec<String> = group_by.iter().map(|by| value(push, *by)).collect();
    let name = format!("calls {}", name.join(" "));
    Partition(match name.len() <= NAME {
        true => name.into(),
        false => format!("calls {}", hex::encode(Sha256::digest(name))).into(),
    })
}

/// Whether a partition is one of calls, and not of the gateway's own alerts.
pub(crate) fn is_of_calls(partition: &Partition) -> bool {
    partition.0.starts_with("calls ")
}

fn value(push: &Push, by: GroupBy) -> String {
    let cdr = push.cdr();
    match by {
        GroupBy::Status => match cdr.and_then(|cdr| cdr.end_status.as_ref()) {
            Some(EndStatus::Known(status)) => status.name.to_owned(),
            Some(EndStatus::Unpublished(_)) => "other".to_owned(),
            None => match push.action().as_str() {
                action @ ("record" | "voicemail") => action.to_owned(),
                _ => "other".to_owned(),
            },
        },
        GroupBy::SkillGroup => {
            let id = cdr.and_then(|cdr| cdr.queued_skill_group_id).filter(|&id| id != 0);
            let name = cdr.and_then(|cdr| cdr.queued_skill_group_name.as_deref());
            id.map(|id| id.to_string()).or(name.map(|name| one_line(name, 100))).unwrap_or("-".to_owned())
        }
        GroupBy::Callee => one_line(cdr.and_then(|cdr| cdr.callee.as_deref()).unwrap_or("-"), 40),
    }
}

/// What was told so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Incident {
    /// The `Message-ID` of its first mail: what the others answer, so that mail programs show them together.
    pub(crate) first_id: String,
    /// Mails so far.
    pub(crate) mails: u32,
    /// Calls told so far.
    pub(crate) told: u64,
    /// When the first call began.
    pub(crate) since: Timestamp,
    /// When the last call began.
    pub(crate) until: Timestamp,
    /// The status of its first call, in its own words where they are known.
    pub(crate) what: String,
    /// The skill group of all calls, if they have one in common.
    pub(crate) group: Option<String>,
    /// The routes that took them: who was told is told of the end.
    pub(crate) routes: BTreeSet<String>,
}

impl Incident {
    /// What the lane kept with the last mail; none before the first, or if it is of another version.
    pub(crate) fn before(batch: &Batch) -> Option<Self> {
        Self::read(batch.memo()?)
    }

    pub(crate) fn read(memo: &[u8]) -> Option<Self> {
        serde_json::from_slice(memo).ok()
    }

    pub(crate) fn memo(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// How things stand after a mail of this id told of these calls; none without calls.
    pub(crate) fn after(
        before: Option<&Self>,
        told: &[Delivery],
        mails: u32,
        id: &str,
        style: &Style,
    ) -> Option<Self> {
        let calls: Vec<Call<'_>> = told.iter().map(|delivery| Call::of(delivery, style)).collect();
        let (first, since) = (calls.first()?, calls.iter().map(Call::when).min()?);
        let until = calls.iter().map(Call::when).max()?;
        let begun = || Self {
            first_id: id.to_owned(),
            mails: 0,
            told: 0,
            since,
            until,
            what: one_line(&first.headline(), 80),
            group: first.skill_group(),
            routes: BTreeSet::new(),
        };
        let mut incident = before.cloned().unwrap_or_else(begun);
        incident.mails = incident.mails.saturating_add(mails);
        incident.told = incident.told.saturating_add(calls.len() as u64);
        incident.since = incident.since.min(since);
        incident.until = incident.until.max(until);
        incident.group = incident
            .group
            .filter(|group| calls.iter().all(|call| call.skill_group().as_ref() == Some(group)));
        for route in told.iter().flat_map(|delivery| delivery.routes.iter()) {
            let size: usize = incident.routes.iter().map(String::len).sum();
            if size + route.len() <= ROUTES {
                incident.routes.insert(route.clone());
            }
        }
        Some(incident)
    }
}
