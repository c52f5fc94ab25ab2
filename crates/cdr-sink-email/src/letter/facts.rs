//! Everything about one push that helps to decide what to do, a line each.

use cdr_core::{Cdr, cdr::moment};
use serde::Serialize;

use super::{
    Style,
    call::{Call, some_text},
    plain::one_line,
    routes,
};

/// A line of a mail about one push.
#[derive(Serialize)]
pub(super) struct Fact {
    name: &'static str,
    value: String,
    /// Whether a gap stands before it.
    apart: bool,
}

pub(super) fn of(call: &Call<'_>) -> Vec<Fact> {
    let mut facts = Facts { list: Vec::new(), style: call.style };
    if let Some(session) = call.session() {
        facts.add("Session", session);
    }
    facts.add(if call.end_status().is_some() { "Status" } else { "What" }, &call.headline());
    if let Some(cdr) = call.cdr {
        add_parties(&mut facts, call, cdr);
        add_times(&mut facts, cdr);
        add_rest(&mut facts, call, cdr);
    }
    let about_the_push = facts.list.len();
    facts.add("Routes", &routes(std::slice::from_ref(call.delivery)));
    facts.add("Push", call.push.action().as_str());
    facts.add("Received", &call.style.local(call.push.facts().received_at));
    let of_spool = call.style.say("of spool");
    facts.add("Position", &format!("{} {of_spool} {}", call.push.position(), call.push.spool()));
    if call.replay {
        facts.add("Replay", call.style.say("yes: an operator sent it again"));
    }
    facts.list[about_the_push].apart = true;
    facts.list
}

fn add_parties(facts: &mut Facts<'_>, call: &Call<'_>, cdr: &Cdr) {
    let direction = cdr.direction.map(|direction| match direction {
        0 => call.style.say("inbound").to_owned(),
        1 => call.style.say("outbound").to_owned(),
        other => other.to_string(),
    });
    let caller = call.caller().or(some_text(cdr.protected_caller.as_deref()));
    let callee = some_text(cdr.callee.as_deref()).or(some_text(cdr.protected_callee.as_deref()));
    let caller = caller.map(|number| match some_text(cdr.caller_location.as_deref()) {
        Some(place) => format!("{} ({place})", call.number(number)),
        None => call.number(number),
    });
    facts.maybe("Direction", direction.as_deref());
    facts.maybe("Caller", caller.as_deref());
    facts.maybe("Callee", callee.map(|number| call.number(number)).as_deref());
    facts.written("Customer", some_text(cdr.user_nick_name.as_deref()).or(cdr.user_id.as_deref()));
    facts.maybe("Agent", call.agent().as_deref());
    facts.maybe("AI agent", cdr.ai_agent_name.as_deref());
    facts.maybe("Skill group", call.skill_group().as_deref());
}

fn add_times(facts: &mut Facts<'_>, cdr: &Cdr) {
    let moments = [
        ("Started", cdr.start_timestamp),
        ("Queued", cdr.queued_timestamp),
        ("Rang", cdr.ring_timestamp),
        ("Answered", cdr.accept_timestamp),
        ("Ended", cdr.ended_timestamp),
        ("Recorded", cdr.timestamp),
    ];
    for (name, seconds) in moments {
        facts.maybe(name, moment(seconds).map(|time| facts.style.local(time)).as_deref());
    }
    for (name, seconds) in [("Waited", cdr.wait()), ("Rang for", cdr.ring()), ("Talked", cdr.talk())] {
        facts.maybe(name, seconds.map(|seconds| duration(seconds, facts.style)).as_deref());
    }
}

fn add_rest(facts: &mut Facts<'_>, call: &Call<'_>, cdr: &Cdr) {
    let satisfaction = cdr.satisfaction.as_ref();
    let satisfaction =
        satisfaction.and_then(|chosen| some_text(chosen.content.as_deref()).or(chosen.id.as_deref()));
    let keys = cdr.ivr_key_pressed.as_deref().map(|keys| keys.join(" "));
    let transfers = Some(cdr.transfers()).filter(|&times| times > 0).map(|times| times.to_string());
    facts.written("IVR keys", keys.as_deref());
    facts.maybe("Transfers", transfers.as_deref());
    facts.maybe("Hung up by", cdr.hung_up_side.as_deref());
    facts.written("Remark", cdr.user_remark.as_deref());
    facts.maybe("Satisfaction", satisfaction);
    facts.written("Of", cdr.endpoint_user.as_deref().filter(|_| !call.is_voicemail()));
    facts.maybe("Recording", some_text(cdr.custom_record_url.as_deref()).or(cdr.record_url.as_deref()));
}

/// `1 h 2 min 5 s`, from the largest unit that is there.
fn duration(seconds: i64, style: &Style) -> String {
    let (h, min, s) = (style.say("h"), style.say("min"), style.say("s"));
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} {s}"),
        (0, minutes, seconds) => format!("{minutes} {min} {seconds} {s}"),
        (hours, minutes, seconds) => format!("{hours} {h} {minutes} {min} {seconds} {s}"),
    }
}

/// Lines of a name and a value each.
struct Facts<'a> {
    list: Vec<Fact>,
    style: &'a Style,
}

impl Facts<'_> {
    /// Longest value, in characters: more than any number, name or id has, less than what a hostile one may.
    const VALUE: usize = 500;

    fn add(&mut self, name: &'static str, value: &str) {
        let name = self.style.say(name);
        self.list.push(Fact { name, value: one_line(value, Self::VALUE), apart: false });
    }

    fn maybe(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = some_text(value) {
            self.add(name, value);
        }
    }

    /// What people wrote or typed, where a number may stand.
    fn written(&mut self, name: &'static str, value: Option<&str>) {
        let value = value.map(|text| self.style.numbers.shown_in(text));
        self.maybe(name, value.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use cdr_core::Language;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn durations_read_from_the_largest_unit() {
        let style =
            Style { zone: TimeZone::UTC, language: Language::En, numbers: Default::default(), link: None };
        let duration = |seconds| duration(seconds, &style);
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(60), "1 min 0 s");
        assert_eq!(duration(3725), "1 h 2 min 5 s");
        assert_eq!(duration(90_000), "25 h 0 min 0 s");
    }
}
