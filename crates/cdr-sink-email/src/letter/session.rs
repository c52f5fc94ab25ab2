//! The mail about one push: everything that helps to decide what to do, a line each.

use cdr_core::{Cdr, Delivery, cdr::moment};
use jiff::tz::TimeZone;

use super::{
    Letter,
    call::{Call, some_text},
    local, local_minute,
    plain::{one_line, shell_argument},
    routes,
};

pub(super) fn letter(delivery: &Delivery, zone: &TimeZone) -> Letter {
    let call = Call::of(delivery);
    Letter { subject: subject(&call, zone), text: text(&call, delivery, zone) }
}

/// `[CDR] noSeatOnline: no agent was online, 售后, 2026-11-22 02:51 +08:00 (session e97be0ab…)`
fn subject(call: &Call<'_>, zone: &TimeZone) -> String {
    let replay = if call.replay { "replay: " } else { "" };
    let mut subject = format!("[CDR] {replay}{}", call.headline());
    if let Some(group) = call.skill_group() {
        subject += &format!(", {group}");
    }
    subject += &format!(", {}", local_minute(call.when(), zone));
    if let Some(session) = call.session() {
        subject += &format!(" (session {})", one_line(session, 9));
    }
    subject
}

fn text(call: &Call<'_>, delivery: &Delivery, zone: &TimeZone) -> String {
    let mut facts = Facts::default();
    if let Some(session) = call.session() {
        facts.add("Session", session);
    }
    facts.add(if call.end_status().is_some() { "Status" } else { "What" }, &call.headline());
    if let Some(cdr) = call.cdr {
        add_parties(&mut facts, call, cdr);
        add_times(&mut facts, cdr, zone);
        add_rest(&mut facts, call, cdr);
    }
    facts.gap();
    facts.add("Routes", &routes(std::slice::from_ref(delivery)));
    facts.add("Push", call.push.action().as_str());
    facts.add("Received", &local(call.push.facts().received_at, zone));
    facts.add("Position", &format!("{} of spool {}", call.push.position(), call.push.spool()));
    if call.replay {
        facts.add("Replay", "yes: an operator sent it again");
    }
    let command = call.session().and_then(shell_argument);
    if let Some(argument) = command {
        facts.gap();
        facts.add("Find it with", &format!("cdr-gateway trace {argument}"));
    }
    facts.0
}

fn add_parties(facts: &mut Facts, call: &Call<'_>, cdr: &Cdr) {
    let direction = cdr.direction.map(|direction| match direction {
        0 => "inbound".to_owned(),
        1 => "outbound".to_owned(),
        other => other.to_string(),
    });
    let caller = call.caller().or(some_text(cdr.protected_caller.as_deref()));
    let callee = some_text(cdr.callee.as_deref()).or(some_text(cdr.protected_callee.as_deref()));
    let caller = caller.map(|number| match some_text(cdr.caller_location.as_deref()) {
        Some(place) => format!("{number} ({place})"),
        None => number.to_owned(),
    });
    facts.maybe("Direction", direction.as_deref());
    facts.maybe("Caller", caller.as_deref());
    facts.maybe("Callee", callee);
    facts.maybe("Customer", some_text(cdr.user_nick_name.as_deref()).or(cdr.user_id.as_deref()));
    facts.maybe("Agent", call.agent().as_deref());
    facts.maybe("AI agent", cdr.ai_agent_name.as_deref());
    facts.maybe("Skill group", call.skill_group().as_deref());
}

fn add_times(facts: &mut Facts, cdr: &Cdr, zone: &TimeZone) {
    let moments = [
        ("Started", cdr.start_timestamp),
        ("Queued", cdr.queued_timestamp),
        ("Rang", cdr.ring_timestamp),
        ("Answered", cdr.accept_timestamp),
        ("Ended", cdr.ended_timestamp),
        ("Recorded", cdr.timestamp),
    ];
    for (name, seconds) in moments {
        facts.maybe(name, moment(seconds).map(|time| local(time, zone)).as_deref());
    }
    for (name, seconds) in [("Waited", cdr.wait()), ("Rang for", cdr.ring()), ("Talked", cdr.talk())] {
        facts.maybe(name, seconds.map(duration).as_deref());
    }
}

fn add_rest(facts: &mut Facts, call: &Call<'_>, cdr: &Cdr) {
    let satisfaction = cdr.satisfaction.as_ref();
    let satisfaction =
        satisfaction.and_then(|chosen| some_text(chosen.content.as_deref()).or(chosen.id.as_deref()));
    let keys = cdr.ivr_key_pressed.as_deref().map(|keys| keys.join(" "));
    let transfers = Some(cdr.transfers()).filter(|&times| times > 0).map(|times| times.to_string());
    facts.maybe("IVR keys", keys.as_deref());
    facts.maybe("Transfers", transfers.as_deref());
    facts.maybe("Hung up by", cdr.hung_up_side.as_deref());
    facts.maybe("Remark", cdr.user_remark.as_deref());
    facts.maybe("Satisfaction", satisfaction);
    facts.maybe("Of", cdr.endpoint_user.as_deref().filter(|_| !call.is_voicemail()));
    facts.maybe("Recording", some_text(cdr.custom_record_url.as_deref()).or(cdr.record_url.as_deref()));
}

/// `1 h 2 min 5 s`, from the largest unit that is there.
fn duration(seconds: i64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, seconds) => format!("{hours} h {minutes} min {seconds} s"),
    }
}

/// Lines of a name and a value each.
#[derive(Default)]
struct Facts(String);

impl Facts {
    /// Longest value, in characters: more than any number, name or id has, less than what a hostile one may.
    const VALUE: usize = 500;

    fn add(&mut self, name: &str, value: &str) {
        let label = format!("{name}:");
        self.0 += &format!("{label:<14}{}\n", one_line(value, Self::VALUE));
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = some_text(value) {
            self.add(name, value);
        }
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_from_the_largest_unit() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(60), "1 min 0 s");
        assert_eq!(duration(3725), "1 h 2 min 5 s");
        assert_eq!(duration(90_000), "25 h 0 min 0 s");
    }
}
