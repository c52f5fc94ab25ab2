//! The mail about several pushes: how many of which status, and a table that names every session.

use cdr_core::Delivery;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use super::{
    Letter,
    call::{Call, some_text},
    local, local_minute,
    plain::one_line,
    routes,
};

/// Statuses that a subject counts; the text counts all.
const IN_SUBJECT: usize = 3;

pub(super) fn letter(deliveries: &[Delivery], zone: &TimeZone) -> Letter {
    let calls: Vec<Call<'_>> = deliveries.iter().map(Call::of).collect();
    let statuses = count(&calls);
    Letter {
        subject: subject(&calls, &statuses, zone),
        text: text(&calls, &statuses, &routes(deliveries), zone),
    }
}

/// How often a status came.
struct Counted {
    status: String,
    headline: String,
    times: usize,
}

/// The statuses, the most frequent first.
fn count(calls: &[Call<'_>]) -> Vec<Counted> {
    let mut counted: Vec<Counted> = Vec::new();
    for call in calls {
        let status = call.status();
        match counted.iter_mut().find(|counted| counted.status == status) {
            Some(counted) => counted.times += 1,
            None => counted.push(Counted { status, headline: call.headline(), times: 1 }),
        }
    }
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.times));
    counted
}

/// `[CDR] 37 × noSeatOnline, 售后, since 2026-11-22 02:51 +08:00`
fn subject(calls: &[Call<'_>], statuses: &[Counted], zone: &TimeZone) -> String {
    let counts = statuses.iter().take(IN_SUBJECT).map(|c| format!("{} × {}", c.times, c.status));
    let mut parts: Vec<String> = counts.collect();
    let others: usize = statuses.iter().skip(IN_SUBJECT).map(|c| c.times).sum();
    if others > 0 {
        parts.push(format!("{others} others"));
    }
    let group = calls.first().and_then(Call::skill_group);
    if calls.iter().all(|call| call.skill_group() == group) {
        parts.extend(group);
    }
    parts
        .extend(calls.iter().map(Call::when).min().map(|time| format!("since {}", local_minute(time, zone))));
    let replay = if calls.iter().all(|call| call.replay) { "replay: " } else { "" };
    format!("[CDR] {replay}{}", parts.join(", "))
}

fn text(calls: &[Call<'_>], statuses: &[Counted], routes: &str, zone: &TimeZone) -> String {
    let mut text = String::new();
    for Counted { headline, times, .. } in statuses {
        text += &format!("{times:>5} × {headline}\n");
    }
    let header = ["Session", "Status", "Began", "Caller", "Callee", "Skill group", "Position"];
    let rows = calls.iter().map(|call| row(call, zone));
    text.push('\n');
    text += &aligned(header.map(str::to_owned), rows.collect());
    text += &format!("\nRoutes:       {}\n", one_line(routes, 500));
    if let Some(first) = calls.first() {
        text += &format!("Spool:        {}\n", first.push.spool());
    }
    text += "Find one with: cdr-gateway trace SESSION\n";
    text
}

fn row(call: &Call<'_>, zone: &TimeZone) -> [String; 7] {
    let number = |number: Option<&str>| some_text(number).map_or("-".to_owned(), |n| one_line(n, 32));
    let status = if call.replay { format!("{} (replay)", call.status()) } else { call.status() };
    [
        call.session().map_or("-".to_owned(), |session| one_line(session, 200)),
        status,
        local(call.when(), zone),
        number(call.caller()),
        number(call.cdr.and_then(|cdr| cdr.callee.as_deref())),
        call.skill_group().unwrap_or("-".to_owned()),
        call.push.position().to_string(),
    ]
}

/// Columns side by side. Widths are those of a terminal, where a Chinese character takes two places.
fn aligned<const N: usize>(header: [String; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += cell;
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_stand_under_each_other_in_any_script() {
        let rows = [["售后", "1"], ["sales", "2"]].map(|row| row.map(str::to_owned));
        let text = aligned(["Group", "No"].map(str::to_owned), rows.to_vec());
        assert_eq!(text, "Group  No\n售后   1\nsales  2\n");
    }
}
