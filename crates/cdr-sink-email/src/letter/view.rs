//! What templates read: the pushes of a mail, counted, in words, and fit to be shown.

use cdr_core::{Delivery, Origin};
use serde::Serialize;

use super::{
    Style,
    alert::AlertView,
    call::{Call, CallView},
    plain::one_line,
    routes, table,
};

/// What templates read.
#[derive(Serialize)]
pub(crate) struct View {
    /// `call`, `calls` or `alerts`.
    kind: &'static str,
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
            calls: Vec::new(),
            alerts: Vec::new(),
            counts: Vec::new(),
            group: None,
            since: None,
            replay: deliveries.iter().all(|delivery| delivery.replay),
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
