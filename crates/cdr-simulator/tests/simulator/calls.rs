//! What the call centre makes reads as TCCC's CDRs do, and adds up.

use std::collections::{HashMap, HashSet};

use cdr_core::{
    Action, CallResult, Cdr,
    cdr::{self, Text},
};
use cdr_simulator::calls::{Call, CallCentre, InvalidMix, Kind, Mix};
use jiff::Timestamp;
use proptest::prelude::*;

fn read(call: &Call) -> Box<Cdr> {
    let action: Action = "cdr".parse().unwrap();
    cdr::read(&action, &call.body).unwrap().unwrap()
}

/// Times that happened, in the order in which they must come.
fn times(times: [Option<i64>; 5]) -> Vec<i64> {
    times.into_iter().flatten().filter(|&time| time != 0).collect()
}

fn assert_consistent(call: &Call) {
    let cdr = read(call);
    let body = String::from_utf8_lossy(&call.body);
    assert_eq!(cdr.odd_fields().collect::<Vec<_>>(), [""; 0], "{body}");
    assert_eq!(cdr.session_id.as_deref(), Some(&*call.session_id.to_string()));
    assert_eq!(cdr.end_status.as_ref().unwrap().as_str(), call.end_status);
    assert_ne!(cdr.result(), CallResult::Other, "{body}");

    let times = times([
        cdr.start_timestamp,
        cdr.queued_timestamp,
        cdr.ring_timestamp,
        cdr.accept_timestamp,
        cdr.ended_timestamp,
    ]);
    assert!(times.is_sorted(), "{body}");
    let talk = match cdr.accept_timestamp.unwrap() {
        0 => 0,
        accepted => cdr.ended_timestamp.unwrap() - accepted,
    };
    assert_eq!(cdr.duration, Some(talk), "{body}");
    assert_eq!(talk > 0, cdr.result() == CallResult::Answered, "{body}");
    assert_chain(&cdr, &body);
}

/// Stretches follow each other within the session, and each transfer names both sides.
fn assert_chain(cdr: &Cdr, body: &str) {
    for (at, stretch) in cdr.participants().iter().enumerate() {
        let times = times([
            cdr.start_timestamp,
            stretch.start_timestamp,
            stretch.ring_timestamp,
            stretch.accept_timestamp,
            stretch.ended_timestamp,
        ]);
        assert!(times.is_sorted() && stretch.ended_timestamp <= cdr.ended_timestamp, "{body}");
        assert_eq!(stretch.sequence, Some(at as i64));
    }
    for pair in cdr.participants().windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        assert_eq!(from.ended_timestamp, to.start_timestamp, "{body}");
        if from.transfer_to.as_deref() != Some("") {
            assert_eq!(from.transfer_to_type, to.kind, "{body}");
            let address = |mail: &Option<Text>, phone: &Option<Text>| {
                mail.clone().filter(|mail| !mail.is_empty()).or(phone.clone())
            };
            assert_eq!(from.transfer_to, address(&to.mail, &to.phone), "{body}");
            assert_eq!(to.transfer_from, address(&from.mail, &from.phone), "{body}");
        }
    }
    let last_agent = cdr.participants().iter().rfind(|stretch| stretch.mail.as_deref() != Some(""));
    let seat_user = cdr.seat_user.as_ref().and_then(|seat| seat.mail.as_deref());
    assert_eq!(seat_user, last_agent.and_then(|stretch| stretch.mail.as_deref()), "{body}");
}

proptest! {
    #[test]
    fn every_call_reads_without_an_odd_field_and_adds_up(seed: u64, index: u64) {
        for &kind in Kind::ALL {
            let centre = CallCentre::new(seed).with_mix(Mix::new([(kind, 1)]).unwrap());
            let call = centre.call(index);
            prop_assert_eq!(call.kind, kind);
            assert_consistent(&call);
            let pretty = centre.pretty().call(index);
            prop_assert_eq!(read(&pretty), read(&call));
        }
    }

    #[test]
    fn seed_and_index_say_it_all(seed: u64, index in 0..1_000_000_u64) {
        let in_order = CallCentre::new(seed).calls().nth(index as usize % 50).unwrap();
        prop_assert_eq!(&CallCentre::new(seed).call(in_order.index), &in_order);
        prop_assert_ne!(CallCentre::new(seed ^ 1).call(index), CallCentre::new(seed).call(index));
    }
}

#[test]
fn no_session_comes_twice_whatever_the_seed() {
    let mut seen = HashSet::new();
    for seed in 0..10 {
        for call in CallCentre::new(seed).calls().take(1000) {
            assert!(seen.insert(call.session_id), "seed {seed}, call {}", call.index);
        }
    }
}

#[test]
fn sizes_are_those_of_tccc() {
    let calls: Vec<_> = CallCentre::new(1).calls().take(2000).collect();
    let mut sizes: Vec<_> = calls.iter().map(|call| call.body.len()).collect();
    sizes.sort_unstable();
    assert!(sizes[0] >= 400 && sizes[1999] <= 3200, "{} to {}", sizes[0], sizes[1999]);
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((1200..=1600).contains(&mean), "mean {mean}");
    assert!((1200..=1600).contains(&sizes[1000]), "median {}", sizes[1000]);
}

#[test]
fn a_usual_day_has_every_kind_in_its_share() {
    let mut counts: HashMap<Kind, u32> = HashMap::new();
    for call in CallCentre::new(3).calls().take(20_000) {
        *counts.entry(call.kind).or_default() += 1;
    }
    for &kind in Kind::ALL {
        let expected = kind.usual() * 20;
        let count = counts.get(&kind).copied().unwrap_or_default();
        assert!(count.abs_diff(expected) <= expected / 2, "{kind}: {count}, not about {expected}");
    }
}

#[test]
fn a_hundred_calls_show_every_quirk() {
    let bodies: Vec<_> = CallCentre::new(5)
        .calls()
        .take(100)
        .map(|call| String::from_utf8(call.body.to_vec()).unwrap())
        .collect();
    let some = |what: &dyn Fn(&String) -> bool| bodies.iter().any(what);
    assert!(some(&|body| body.matches(r#","Duration":"#).count() == 2), "a repeated Duration");
    assert!(some(&|body| body.contains(r#""IVRKeyPressed":null"#)), "null for an empty array");
    assert!(some(&|body| body.contains(r#""IVRKeyPressed":[]"#)), "an empty array");
    assert!(some(&|body| body.contains(r#"{"key":"#)), "key");
    assert!(some(&|body| body.contains(r#"{"Key":"#)), "Key");
    assert!(some(&|body| !body.contains("CallType")), "an absent field");
    assert!(some(&|body| body.contains(r#""Uui":"{\"crm_id\":"#)), "JSON in Uui");
    assert!(some(&|body| body.chars().any(|c| c as u32 > 0xffff)), "emoji");
    assert!(some(&|body| body.contains("TelLocation")), "TelLocation");
}

#[test]
fn quiet_calls_come_in_the_night_before_the_opening() {
    let opening = 1_800_000_000;
    let opened_at = Timestamp::from_second(opening).unwrap();
    let mix: Mix = "notWorkTime".parse().unwrap();
    for call in CallCentre::new(1).with_mix(mix).opened_at(opened_at).calls().take(50) {
        let started = read(&call).start_timestamp.unwrap();
        assert!((opening - 15 * 3600..opening).contains(&started));
    }
    let first = CallCentre::new(1).with_mix("answered".parse().unwrap()).opened_at(opened_at).call(0);
    assert!((opening..opening + 10).contains(&read(&first).start_timestamp.unwrap()));
}

#[test]
fn recordings_belong_to_those_who_talked() {
    let record: Action = "record".parse().unwrap();
    let centre = CallCentre::new(9);
    for call in centre.calls().take(300) {
        let cdr = read(&call);
        let talked = cdr.participants().iter().filter(|stretch| stretch.accept_timestamp != Some(0)).count();
        let customer = usize::from(cdr.result() == CallResult::Answered);
        let recordings = centre.recordings(call.index);
        assert_eq!(recordings.len(), talked + customer, "{}", call.kind);
        for body in &recordings {
            let recording = cdr::read(&record, body).unwrap().unwrap();
            assert_eq!(recording.session_id, cdr.session_id);
            assert!(recording.record_url.unwrap().starts_with("https://"));
            assert!(!recording.endpoint_user.unwrap().is_empty());
            assert_eq!(recording.odd, [""; 0]);
        }
    }
}

#[test]
fn voicemails_are_of_callers_who_met_nobody() {
    let voicemail: Action = "voicemail".parse().unwrap();
    let centre = CallCentre::new(9);
    for call in centre.calls().take(300) {
        let cdr = read(&call);
        let met_nobody = cdr.direction == Some(0) && cdr.result() != CallResult::Answered;
        let Some(body) = centre.voicemail(call.index) else {
            assert!(!met_nobody, "{}", call.kind);
            continue;
        };
        assert!(met_nobody, "{}", call.kind);
        let message = cdr::read(&voicemail, &body).unwrap().unwrap();
        assert_eq!(message.session_id, cdr.session_id);
        let (caller, endpoint) = (cdr.caller.unwrap(), message.endpoint_user.unwrap());
        assert_eq!(caller.trim_start_matches('0'), &*endpoint);
        assert_eq!(message.odd, [""; 0]);
    }
}

#[test]
fn a_mix_is_read_from_text_and_its_faults_are_told() {
    let mix: Mix = "noseatonline=3, busy".parse().unwrap();
    let kinds: HashSet<_> =
        CallCentre::new(1).with_mix(mix).calls().take(100).map(|call| call.kind).collect();
    assert_eq!(kinds, [Kind::NoSeatOnline, Kind::Busy].into());

    let fault = |text: &str| text.parse::<Mix>().unwrap_err();
    assert_eq!(fault("busy=0"), InvalidMix::NoCalls);
    assert_eq!(fault("busy=many"), InvalidMix::NotAWeight("busy=many".to_owned()));
    assert!(fault("buzy").to_string().contains("there are answered, transferred"));
}
