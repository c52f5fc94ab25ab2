//! What templates read: the pushes of a mail, counted, in words, and fit to be shown.

use std::time::Duration;

use cdr_core::{Delivery, Origin};
use serde::Serialize;

use super::{
    Style,
    alert::AlertView,
    call::{Call, CallView},
    plain::one_line,
    routes, table,
};
use crate::incident::Incident;

/// What templates read.
#[derive(Serialize)]
pub(crate) struct View {
    /// `call`, `calls`, `alerts`, or `over` for the end of an incident.
    kind: &'static str,
    /// What was told before about the same thing.
    incident: Option<Told>,
    /// Whether the most mails that may leave in an hour held this one back.
    was_held: bool,
    calls: Vec<CallView>,
    alerts: Vec<AlertView>,
    /// How many of which status, the most frequent first.
    counts: Vec<Counted>,
    /// The skill group of all calls, if they have one in common.
    group: Option<String>,
    /// When the first call began, as a subject tells it.
    since: Option<String>,
    /// Whether all of them are sent again by an operator.
    replay: bool,
    routes: String,
    spool: String,
    /// The calls side by side, in plain text.
    table: String,
}

/// What was told about an incident, this mail included.
#[derive(Serialize)]
struct Told {
    /// All calls so far.
    total: u64,
    mails: u32,
    since: String,
    until: String,
    what: String,
    group: Option<String>,
    /// How long no such call came, if it is over.
    quiet: Option<String>,
}

/// How often a status came.
#[derive(Serialize)]
struct Counted {
    status: String,
    headline: String,
    words: String,
    result: &'static str,
    times: usize,
}

impl View {
    /// What there is to tell of these pushes, which are all alerts or none.
    pub(crate) fn of(deliveries: &[Delivery], style: &Style) -> Self {
        let is_alert = |delivery: &Delivery| delivery.push.facts().origin == Origin::Alert;
        let spool = deliveries.first().map(|first| first.push.spool().to_string()).unwrap_or_default();
        let mut view = Self {
            kind: "alerts",
            incident: None,
            was_held: false,
            calls: Vec::new(),
            alerts: Vec::new(),
            counts: Vec::new(),
            group: None,
            since: None,
            replay: !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery.replay),
            routes: one_line(&routes(deliveries), 500),
            spool,
            table: String::new(),
        };
        if deliveries.first().is_some_and(is_alert) {
            view.alerts = deliveries.iter().map(|delivery| AlertView::of(delivery, style)).collect();
            return view;
        }
        view.tell_calls(deliveries, style);
        view
    }

    /// The same as part of an incident that was told of before.
    pub(crate) fn going_on(mut self, before: Option<&Incident>, was_held: bool, style: &Style) -> Self {
        let calls = self.calls.len() as u64;
        self.incident = before.map(|before| Told {
            total: before.told + calls,
            mails: before.mails + 1,
            since: style.moment(before.since, before.until),
            until: style.moment(before.until, before.until),
            what: before.what.clone(),
            group: before.group.clone(),
            quiet: None,
        });
        self.was_held = was_held;
        self
    }

    /// The end of an incident: no such call came for so long.
    pub(crate) fn over(incident: &Incident, quiet: Duration, style: &Style) -> Self {
        let mut view = Self::of(&[], style);
        view.kind = "over";
        view.incident = Some(Told {
            total: incident.told,
            mails: incident.mails,
            since: style.moment(incident.since, incident.until),
            until: style.moment(incident.until, incident.until),
            what: incident.what.clone(),
            group: incident.group.clone(),
            quiet: Some(humantime_serde::re::humantime::format_duration(quiet).to_string()),
        });
        view
    }

    /// Whether it tells of calls, and not of the gateway.
    pub(super) fn is_about_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    fn tell_calls(&mut self, deliveries: &[Delivery], style: &Style) {
        let calls: Vec<Call<'_>> = deliveries.iter().map(|delivery| Call::of(delivery, style)).collect();
        let received = deliveries.iter().map(|delivery| delivery.push.facts().received_at).max();
        let since = calls.iter().map(Call::when).min();
        self.kind = if calls.len() == 1 { "call" } else { "calls" };
        self.since = since.zip(received).map(|(since, received)| style.moment(since, received));
        self.calls = calls.iter().map(|call| call.view(calls.len() == 1)).collect();
        self.counts = count(&self.calls);
        self.table = table::of(&self.calls, style);
        let group = self.calls.first().and_then(|call| call.group.clone());
        self.group = group.filter(|group| self.calls.iter().all(|call| call.group.as_ref() == Some(group)));
    }
}

/// The statuses, the most frequent first.
fn count(calls: &[CallView]) -> Vec<Counted> {
    let mut counted: Vec<Counted> = Vec::new();
    for call in calls {
        match counted.iter_mut().find(|counted| counted.status == call.status) {
            Some(counted) => counted.times += 1,
            None => counted.push(Counted {
                status: call.status.clone(),
                headline: call.headline.clone(),
                words: call.words.clone(),
                result: call.result,
                times: 1,
            }),
        }
    }
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.times));
    counted
}
