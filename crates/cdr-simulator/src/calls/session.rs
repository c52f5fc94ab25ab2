//! What happens in one session, from the first second to the last.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};
use uuid::Uuid;

use super::{
    Kind,
    body::{Array, Body, Key, Participant, Quirks, Seat, TelLocation},
    staff::{self, Agent, GROUPS, Group, OPERATORS, PLACES, REMARKS, SATISFACTION},
};

/// The instance of the published samples, unmasked.
const SDK_APP_ID: i64 = 1_400_000_214;

/// When a session begins: its day's opening, and how many seconds after that.
pub(super) struct Begin {
    pub opening: i64,
    pub after_opening: i64,
}

/// The CDR of a session of this kind.
pub(super) fn tell(kind: Kind, session_id: Uuid, begin: Begin, rng: impl Rng) -> Body {
    let mut session = Session::new(kind, session_id, begin, rng);
    match kind {
        Kind::Answered => session.inbound_answered(),
        Kind::Transferred => session.inbound_transferred(),
        Kind::IvrGiveUp => session.ends_in_the_ivr(),
        Kind::WaitingGiveUp => session.ends_in_the_queue("waitingGiveUp", 10..=180),
        Kind::NoSeatOnline => session.ends_in_the_queue("noSeatOnline", 3..=20),
        Kind::RingingGiveUp => session.ends_while_it_rings(),
        Kind::NotWorkTime => session.closed(),
        Kind::AiAgent => session.ai_agent(),
        Kind::Outbound => session.outbound_answered(),
        Kind::NotAnswer => session.outbound_unreached("notAnswer", true, 20..=45),
        Kind::Busy => session.outbound_unreached("busy", false, 2..=8),
        Kind::NumberNotExist => session.outbound_unreached("numberNotExist", false, 3..=12),
        Kind::Error => session.outbound_unreached("error", true, 5..=20),
    }
    session.finish()
}

/// Who serves a stretch of a session.
struct Party {
    mail: String,
    phone: String,
    kind: &'static str,
}

impl From<&Agent> for Party {
    fn from(agent: &Agent) -> Self {
        Self { mail: agent.mail(), phone: agent.phone.to_owned(), kind: agent.kind() }
    }
}

struct Session<R> {
    rng: R,
    group: Group,
    now: i64,
    participants: Vec<Participant>,
    keys: Vec<(&'static str, &'static str)>,
    body: Body,
}

impl<R: Rng> Session<R> {
    fn new(kind: Kind, session_id: Uuid, begin: Begin, mut rng: R) -> Self {
        let outbound = matches!(
            kind,
            Kind::Outbound | Kind::NotAnswer | Kind::Busy | Kind::NumberNotExist | Kind::Error
        );
        let start = match kind {
            // From 15 hours to 10 minutes before opening: the night.
            Kind::NotWorkTime => begin.opening - rng.random_range(600..15 * 3600),
            _ => begin.opening + begin.after_opening + rng.random_range(0..5),
        };
        let (customer, line) = (staff::customer(&mut rng), staff::line(&mut rng));
        let place = staff::one_of(&mut rng, PLACES);
        let tel_location = rng.random_bool(0.7).then(|| TelLocation {
            tel_number: customer.clone(),
            country: "中国",
            province: place.province,
            city: place.city,
            operator: staff::one_of(&mut rng, OPERATORS),
        });
        let (caller, callee) = if outbound { (line, customer) } else { (customer, line) };
        let body = Body {
            sdk_app_id: SDK_APP_ID,
            session_id,
            queued_skill_group_id: 0,
            queued_skill_group_name: Some(""),
            direction: outbound.into(),
            call_type: Some(if outbound { 1 } else { 2 }),
            start_timestamp: start,
            queued_timestamp: 0,
            ring_timestamp: 0,
            accept_timestamp: 0,
            ended_timestamp: start,
            duration_before: None,
            duration: 0,
            ivr_duration: 0,
            end_status_string: "ok",
            hung_up_side: "user",
            caller,
            callee,
            caller_location: Some(format!("{}{}", place.province, place.city)),
            ivr_key_pressed: Vec::new().into(),
            ivr_key_pressed_ex: Vec::new().into(),
            post_ivr_key_pressed: Vec::new().into(),
            seat_user: None,
            serve_participants: Vec::new().into(),
            user_remark: Some(""),
            record_id: String::new(),
            uui: Some(String::new()),
            tel_location,
            ai_agent_id: None,
            ai_agent_name: None,
        };
        let group = staff::one_of(&mut rng, GROUPS);
        Self { rng, group, now: start, participants: Vec::new(), keys: Vec::new(), body }
    }

    fn inbound_answered(&mut self) {
        self.ivr_then_queue();
        let [first, second] = staff::agents(&mut self.rng);
        self.pass(1..=40);
        self.body.ring_timestamp = self.now;
        let mut agent = first;
        if self.rng.random_bool(0.05) {
            self.lets_it_ring(first);
            agent = second;
        }
        self.picks_up_and_talks(agent, 15..=600);
        self.hangs_up(agent, 0.3);
        self.asks_for_satisfaction();
    }

    fn inbound_transferred(&mut self) {
        self.ivr_then_queue();
        let [first, second, third] = staff::agents(&mut self.rng);
        self.pass(1..=40);
        self.body.ring_timestamp = self.now;
        self.picks_up_and_talks(first, 20..=180);
        self.hands_on(second.mail(), second.kind(), "seatForward");
        self.picks_up_and_talks(second, 20..=300);
        if self.rng.random_bool(0.25) {
            self.hands_on(third.mail(), third.kind(), "seatForward");
            self.picks_up_and_talks(third, 20..=300);
            self.hangs_up(third, 0.3);
        } else if self.rng.random_bool(0.2) {
            let number = staff::line(&mut self.rng);
            self.hands_on(number.clone(), "outboundSeat", "outboundForward");
            self.outside_line_talks(number);
            self.hangs_up(second, 0.0);
        } else {
            self.hangs_up(second, 0.3);
        }
        self.asks_for_satisfaction();
    }

    fn ends_in_the_ivr(&mut self) {
        for _ in 0..self.rng.random_range(0..3) {
            let group = staff::one_of(&mut self.rng, GROUPS);
            self.keys.push((group.key, group.name));
        }
        self.pass(4..=45);
        self.body.end_status_string = "ivrGiveUp";
    }

    fn ends_in_the_queue(&mut self, status: &'static str, after: RangeInclusive<i64>) {
        self.ivr_then_queue();
        self.pass(after);
        self.body.end_status_string = status;
    }

    fn ends_while_it_rings(&mut self) {
        self.ivr_then_queue();
        let [agent] = staff::agents(&mut self.rng);
        self.pass(1..=40);
        self.body.ring_timestamp = self.now;
        let rang = self.now;
        self.pass(3..=25);
        self.body.end_status_string = "ringingGiveUp";
        self.body.seat_user = Some(self.seat(agent));
        self.serves(agent.into(), [rang, rang, 0], "ringingGiveUp");
    }

    fn closed(&mut self) {
        self.pass(8..=25);
        self.body.end_status_string = "notWorkTime";
        self.body.hung_up_side = "system";
    }

    fn ai_agent(&mut self) {
        self.ivr_then_queue();
        self.pass(0..=1);
        self.body.ring_timestamp = self.now;
        self.accepted(1..=2);
        self.pass(20..=240);
        let by_customer = self.rng.random_bool(0.4);
        self.body.end_status_string = if by_customer { "userHangupDuringAiCall" } else { "aiAgentEndCall" };
        self.body.hung_up_side = if by_customer { "user" } else { "system" };
        self.body.ai_agent_id = Some(388);
        self.body.ai_agent_name = Some("智能客服小云");
    }

    fn outbound_answered(&mut self) {
        let [agent] = staff::agents(&mut self.rng);
        self.belongs_to_the_group();
        self.campaign();
        self.pass(2..=8);
        self.body.ring_timestamp = self.now;
        self.picks_up_and_talks(agent, 10..=400);
        self.hangs_up(agent, 0.5);
    }

    fn outbound_unreached(&mut self, status: &'static str, rings: bool, after: RangeInclusive<i64>) {
        let [agent] = staff::agents(&mut self.rng);
        let started = self.now;
        self.belongs_to_the_group();
        self.campaign();
        self.pass(2..=5);
        if rings {
            self.body.ring_timestamp = self.now;
        }
        self.pass(after);
        self.body.end_status_string = status;
        self.body.hung_up_side = if status == "error" { "seat" } else { "user" };
        self.body.seat_user = Some(self.seat(agent));
        self.serves(agent.into(), [started, self.body.ring_timestamp, 0], status);
    }

    fn pass(&mut self, seconds: RangeInclusive<i64>) {
        self.now += self.rng.random_range(seconds);
    }

    fn belongs_to_the_group(&mut self) {
        self.body.queued_skill_group_id = self.group.id;
        self.body.queued_skill_group_name = Some(self.group.name);
    }

    fn ivr_then_queue(&mut self) {
        self.pass(5..=40);
        self.keys.push((self.group.key, self.group.name));
        self.belongs_to_the_group();
        self.body.queued_timestamp = self.now;
        self.body.ivr_duration = self.now - self.body.start_timestamp;
    }

    fn lets_it_ring(&mut self, agent: &'static Agent) {
        let rang = self.now;
        self.now += 20;
        self.serves(agent.into(), [rang, rang, 0], "seatGiveUp");
    }

    fn picks_up_and_talks(&mut self, agent: &'static Agent, talk: RangeInclusive<i64>) {
        let rang = self.now;
        self.accepted(2..=15);
        let accepted = self.now;
        self.pass(talk);
        self.serves(agent.into(), [rang, rang, accepted], "ok");
    }

    /// The session is answered when the first of a chain answers.
    fn accepted(&mut self, after: RangeInclusive<i64>) {
        self.pass(after);
        if self.body.accept_timestamp == 0 {
            self.body.accept_timestamp = self.now;
            self.body.record_id = self.now.to_string();
        }
    }

    fn outside_line_talks(&mut self, number: String) {
        let started = self.now;
        self.pass(4..=20);
        let accepted = self.now;
        self.pass(20..=200);
        let outside = Party { mail: String::new(), phone: number, kind: "outboundSeat" };
        self.serves(outside, [started, started + 2, accepted], "ok");
    }

    fn hands_on(&mut self, to: String, kind: &'static str, status: &'static str) {
        if let Some(last) = self.participants.last_mut() {
            last.transfer_to = to;
            last.transfer_to_type = kind;
            last.end_status_string = status;
        }
    }

    fn hangs_up(&mut self, agent: &'static Agent, likely: f64) {
        self.body.seat_user = Some(self.seat(agent));
        if self.rng.random_bool(likely) {
            self.body.hung_up_side = "seat";
        }
        if self.rng.random_bool(0.6) {
            self.body.user_remark = Some(staff::one_of(&mut self.rng, REMARKS));
        }
    }

    fn asks_for_satisfaction(&mut self) {
        if self.rng.random_bool(0.35) {
            let (key, label) = staff::one_of(&mut self.rng, SATISFACTION);
            self.body.post_ivr_key_pressed = vec![Key::new(key, label)].into();
        }
    }

    /// Outbound calls are often made by a CRM through the API, which gives along what it wants back.
    fn campaign(&mut self) {
        if self.rng.random_bool(0.6) {
            let customer = self.rng.random_range(10_000..99_999);
            let order = self.rng.random_range(1..10_000);
            self.body.uui = Some(format!(
                r#"{{"crm_id":{customer},"campaign":"双十一回访","order":"SO-2026-{order:05}","note":"\"加急\""}}"#
            ));
        }
    }

    fn seat(&self, agent: &Agent) -> Seat {
        Seat {
            mail: agent.mail(),
            name: agent.name,
            nick: agent.nick,
            phone: agent.phone,
            user_id: agent.mail(),
            staff_number: agent.staff_number,
            skill_group_name_list: vec![self.group.name, "全体客服"],
        }
    }

    /// A stretch of service that ends now; `accept` 0: nobody picked up.
    fn serves(&mut self, party: Party, [start, ring, accept]: [i64; 3], status: &'static str) {
        let handed_on_by = self.participants.last().filter(|last| !last.transfer_to.is_empty());
        let stretch = Participant {
            sequence: self.participants.len(),
            mail: party.mail,
            phone: party.phone,
            record_id: if accept == 0 { String::new() } else { start.to_string() },
            start_timestamp: start,
            ring_timestamp: ring,
            accept_timestamp: accept,
            ended_timestamp: self.now,
            kind: party.kind,
            transfer_from: handed_on_by.map(|last| last.address().to_owned()).unwrap_or_default(),
            transfer_to: String::new(),
            transfer_to_type: "",
            skill_group_id: self.group.id,
            skill_group_name: self.group.name,
            skill_group_priority: 1,
            end_status_string: status,
        };
        self.participants.push(stretch);
    }

    fn finish(mut self) -> Body {
        let body = &mut self.body;
        body.ended_timestamp = self.now;
        if body.accept_timestamp > 0 {
            body.duration = body.ended_timestamp - body.accept_timestamp;
        }
        body.ivr_key_pressed = self.keys.iter().map(|&(key, _)| key).collect::<Vec<_>>().into();
        body.ivr_key_pressed_ex =
            self.keys.iter().map(|&(key, label)| Key::new(key, label)).collect::<Vec<_>>().into();
        body.serve_participants = Array::from(self.participants);
        // Nobody has published how often they come; often enough that a hundred calls show each.
        let quirks = Quirks {
            repeated_duration: self.rng.random_bool(0.05),
            null_arrays: self.rng.random_bool(0.15),
            lower_case_keys: self.rng.random_bool(0.1),
            optional_fields_left_out: self.rng.random_bool(0.08),
        };
        self.body.with(&quirks)
    }
}
