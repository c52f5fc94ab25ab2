//! The mail about the gateway itself: the alert's own words, and what is over.

use cdr_core::{Alert, Delivery};
use jiff::tz::TimeZone;

use super::{Letter, local, plain::one_line};

/// The latest alert speaks in the subject: it says how things stand.
pub(super) fn letter(deliveries: &[Delivery], zone: &TimeZone) -> Letter {
    let others = match deliveries.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    let latest = deliveries.last().map(subject).unwrap_or_default();
    let sections: Vec<String> = deliveries.iter().map(|delivery| section(delivery, zone)).collect();
    Letter { subject: format!("[cdr-gateway] {latest}{others}"), text: sections.join("\n---\n\n") }
}

fn subject(delivery: &Delivery) -> String {
    match Alert::of(&delivery.push) {
        Some(alert) if alert.resolved => format!("over: {}", one_line(&alert.subject, 200)),
        Some(alert) => one_line(&alert.subject, 200),
        // A later version's alert, read back after a step back to this one: still better told than kept.
        None => "an alert that this version cannot read".to_owned(),
    }
}

fn section(delivery: &Delivery, zone: &TimeZone) -> String {
    let push = &delivery.push;
    let position = format!("Position:     {} of spool {}\n", push.position(), push.spool());
    let Some(alert) = Alert::of(push) else {
        let body = String::from_utf8_lossy(push.body());
        return format!("{}\n\n{position}", one_line(&body, 2000));
    };
    let mut text = format!("{}\n\n", subject(delivery));
    for line in alert.text.lines() {
        text += &format!("{}\n", one_line(line, 500));
    }
    text += &format!("\nWhen:         {}\n", local(alert.at, zone));
    text += &format!("Kind:         {}\n", alert.kind.as_str());
    text += &format!("About:        {}\n", one_line(&alert.about, 200));
    text + &position
}
