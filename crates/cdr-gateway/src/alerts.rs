//! What the gateway tells its operators: each trouble once, when it begins and when it is over.
//!
//! One task looks at the lanes' events, and once a second at the spool and the door. Alerts go through the
//! spool like pushes (see [`cdr_core::alert`]), so a restart neither repeats nor forgets what was told; a
//! trouble that lasts over a restart is told again, which is better than silence.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cdr_core::{Alert, AlertKind, Origin, SinkName};
use cdr_dispatch::Event;
use cdr_ingress::Verdict;
use cdr_spool::Health;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::engine::Engine;

/// A sink that is back sooner was a hiccup; nobody is woken for it.
const PAUSED_FOR: Duration = Duration::from_secs(60);

/// Troubles that come one by one (dead letters, refusals, quarantine) are told at once, then summed up this often.
const SUM_UP: Duration = Duration::from_secs(600);

/// Shares of the spool that are worth telling, in percent of `spool.max_size`.
const DISK_STEPS: [u64; 3] = [70, 85, 95];

/// Requests that may have been TCCC's, and were not let in.
const REFUSALS: [Verdict; 3] = [Verdict::Network, Verdict::NoProof, Verdict::WrongProof];

/// What is being watched, and what was told of it.
pub struct Watch {
    engine: Arc<Engine>,
    /// Sinks that are away, since when, and whether that was told.
    paused: BTreeMap<SinkName, Away>,
    dead: BTreeMap<SinkName, Counted>,
    quarantined: Counted,
    refused: Counted,
    /// The highest step of [`DISK_STEPS`] that was told; 100 for a spool that cannot store.
    disk: u64,
    silent: bool,
    config_failed: bool,
}

struct Away {
    since: Instant,
    reason: String,
    told_at: Option<Instant>,
}

/// Troubles of one kind, summed up.
#[derive(Default)]
struct Counted {
    seen: u64,
    told: u64,
    told_at: Option<Instant>,
    last: String,
}

impl Counted {
    /// How many are new, when it is time to tell.
    fn due(&mut self) -> Option<u64> {
        let is_time = self.told_at.is_none_or(|at| at.elapsed() >= SUM_UP);
        let new = self.seen.saturating_sub(self.told);
        if new == 0 || !is_time {
            return None;
        }
        self.told = self.seen;
        self.told_at = Some(Instant::now());
        Some(new)
    }
}

impl Watch {
    /// Watches a gateway.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            paused: BTreeMap::new(),
            dead: BTreeMap::new(),
            quarantined: Counted::default(),
            refused: Counted::default(),
            disk: 0,
            silent: false,
            config_failed: false,
        }
    }

    /// Runs until the gateway drops the other end of `events`.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.hear(event).await,
                    None => return,
                },
                _ = tick.tick() => self.look().await,
            }
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Paused { sink, reason } => {
                let away = Away { since: Instant::now(), reason, told_at: None };
                self.paused.entry(sink).or_insert(away);
            }
            Event::Resumed { sink } => {
                if let Some(Away { since, told_at: Some(_), .. }) = self.paused.remove(&sink) {
                    let minutes = since.elapsed().as_secs().div_ceil(60);
                    let subject = format!("sink {sink} is back after {minutes} min");
                    let text =
                        format!("{sink} takes pushes again. What waited is being delivered now, in order.");
                    self.tell(AlertKind::Paused, sink.as_str(), &subject, &text, true).await;
                }
            }
            // The death of an alert must not raise another one.
            Event::Died { origin: Origin::Alert, .. } => {}
            Event::Died { sink, position, session_id, reason, .. } => {
                let session = session_id.map(|id| format!(" (session {id})")).unwrap_or_default();
                let dead = self.dead.entry(sink).or_default();
                dead.seen += 1;
                dead.last = format!("the last: push {position}{session}: {reason}");
                self.look_at_dead_letters().await;
            }
        }
    }

    async fn look(&mut self) {
        self.look_at_paused_sinks().await;
        self.look_at_dead_letters().await;
        self.look_at_door().await;
        self.look_at_disk().await;
        self.look_for_silence().await;
        self.look_at_configuration().await;
    }

    async fn look_at_paused_sinks(&mut self) {
        let repeat = self.engine.alert_settings().repeat;
        let is_due = |away: &Away| match away.told_at {
            None => away.since.elapsed() >= PAUSED_FOR,
            Some(told_at) => repeat.is_some_and(|repeat| told_at.elapsed() >= repeat),
        };
        let mut to_tell = Vec::new();
        for (sink, away) in self.paused.iter_mut().filter(|(_, away)| is_due(away)) {
            away.told_at = Some(Instant::now());
            to_tell.push((sink.clone(), away.reason.clone()));
        }
        for (sink, reason) in to_tell {
            let subject = format!("sink {sink} is away");
            let text = format!(
                "{sink} takes nothing at present: {reason}\n\nIts pushes wait in the spool and are delivered when it is back; \
                 nothing is lost and nothing is given up meanwhile. The other sinks are not affected."
            );
            self.tell(AlertKind::Paused, sink.as_str(), &subject, &text, false).await;
        }
    }

    async fn look_at_dead_letters(&mut self) {
        let due =
            |(sink, dead): (&SinkName, &mut Counted)| Some((sink.clone(), dead.due()?, dead.last.clone()));
        let due: Vec<_> = self.dead.iter_mut().filter_map(due).collect();
        for (sink, new, last) in due {
            let subject = format!("{new} dead letter(s) for sink {sink}");
            let text = format!(
                "{new} push(es) will not be delivered to {sink} unless someone decides so; {last}\n\n\
                 Look:    cdr-gateway dead list --sink {sink}\nRetry:   cdr-gateway dead retry --sink {sink}"
            );
            self.tell(AlertKind::DeadLetter, sink.as_str(), &subject, &text, false).await;
        }
    }

    async fn look_at_door(&mut self) {
        let door = self.engine.door_counters();
        self.quarantined.seen = door.of(Verdict::Quarantined) + door.of(Verdict::QuarantineFull);
        self.refused.seen = REFUSALS.iter().map(|&verdict| door.of(verdict)).sum();
        if let Some(new) = self.quarantined.due() {
            let subject = format!("{new} request(s) in quarantine");
            let text = "An authentic request was no push: not one JSON object, or a cdr without a SessionId. Its bytes are kept.\n\n\
                        Look:    cdr-gateway quarantine list";
            self.tell(AlertKind::Quarantine, "quarantine", &subject, text, false).await;
        }
        if let Some(new) = self.refused.due() {
            let subject = format!("{new} request(s) refused at the door");
            let text = "Requests came without the proof that ingress.verify asks for, or from a network that ingress.allow does not name. \
                        If they were TCCC's, those calls are lost after 3 retries: check user name and password in its console against the \
                        configuration, and the log for the reasons.";
            self.tell(AlertKind::RefusedSender, "door", &subject, text, false).await;
        }
    }

    async fn look_at_disk(&mut self) {
        let stats = self.engine.dispatcher.pushes().spool().stats();
        let max_size = self.engine.spool_max_size.max(1);
        let share = u64::try_from(u128::from(stats.owed_bytes) * 100 / u128::from(max_size)).unwrap_or(100);
        let holder = stats.owed_by_lane.first().map(|(lane, _)| lane.as_str()).unwrap_or("no sink");
        let (step, subject, text) = match &stats.health {
            Health::Failing { reason, .. } => (
                100,
                "the spool cannot write: pushes are refused".to_owned(),
                format!(
                    "The disk says: {reason}\n\nTCCC hears 503 and retries 3 times; calls that end meanwhile may be lost. \
                         The gateway tries again by itself and goes on when the disk is back."
                ),
            ),
            Health::Full { .. } => (
                100,
                "the spool is full: pushes are refused".to_owned(),
                format!(
                    "Pushes that sinks have not taken fill spool.max_size; most of them wait for {holder}. \
                         Mend that sink, or raise spool.max_size. TCCC hears 503 and retries 3 times."
                ),
            ),
            Health::Ok => {
                let step = DISK_STEPS.into_iter().rfind(|&step| share >= step).unwrap_or(0);
                let text = format!(
                    "Pushes that sinks have not taken fill {share} % of spool.max_size; most of them wait for {holder}. \
                                    When it is full, TCCC is refused. Mend that sink, or raise spool.max_size."
                );
                (step, format!("the spool is {share} % full"), text)
            }
        };
        let before = std::mem::replace(&mut self.disk, step);
        if step > before {
            self.tell(AlertKind::Disk, "spool", &subject, &text, false).await;
        } else if step == 0 && before > 0 {
            let text = "Pushes are stored as usual.";
            self.tell(AlertKind::Disk, "spool", "the spool has room again", text, true).await;
        }
    }

    async fn look_for_silence(&mut self) {
        let Some(limit) = self.engine.alert_settings().silence else { return };
        let quiet = self.engine.since_last_push();
        let silent = quiet >= limit;
        if silent == std::mem::replace(&mut self.silent, silent) {
            return;
        }
        let minutes = quiet.as_secs() / 60;
        let (subject, text) = match silent {
            true => (
                format!("no push for {minutes} min"),
                "No push has come for longer than alerts.silence. Is data push still switched on in TCCC's console, and does its URL reach this gateway?",
            ),
            false => ("pushes come again".to_owned(), "The silence is over."),
        };
        self.tell(AlertKind::Silence, "pushes", &subject, text, !silent).await;
    }

    async fn look_at_configuration(&mut self) {
        let failed = self.engine.last_reload().failed;
        if failed == std::mem::replace(&mut self.config_failed, failed) {
            return;
        }
        let (subject, text) = match failed {
            true => (
                "a changed configuration was not taken",
                "It has faults; the gateway goes on with the one before. See them: cdr-gateway check",
            ),
            false => ("the configuration is good again", "The last reload was taken."),
        };
        self.tell(AlertKind::Config, "configuration", subject, text, !failed).await;
    }

    async fn tell(&self, kind: AlertKind, about: &str, subject: &str, text: &str, resolved: bool) {
        if self.engine.dispatcher.pushes().routing().alerts_to.is_empty() {
            return;
        }
        let (about, subject, text) = (about.to_owned(), subject.to_owned(), text.to_owned());
        let alert = Alert { kind, about, subject, text, resolved, at: Timestamp::now() };
        self.engine.dispatcher.raise(&alert).await;
    }
}
