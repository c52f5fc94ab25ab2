//! What the gateway tells its operators: each trouble once, when it begins and when it is over.
//!
//! One task hears the lanes' events, and looks once a second at lanes, spool and door. Alerts go through the
//! spool like pushes (see [`cdr_core::alert`]), so a restart neither repeats nor forgets what was told; a
//! trouble that lasts over a restart is told again, which is better than silence. Each stands in the log too,
//! whoever `alerts.to` names.

mod away;
mod counted;
mod disk;
mod fill;
mod growth;
mod refused;
mod unmended;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cdr_core::{Alert, AlertKind, Origin, SinkName, push};
use cdr_dispatch::Event;
use cdr_ingress::Verdict;
use cdr_spool::{Health, Holder};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::{
    away::{Absences, News},
    counted::Counted,
    disk::{Reading, Room},
    fill::{Change, Fill},
    growth::Growth,
    refused::Refusals,
    unmended::Mending,
};
use crate::engine::Engine;

/// What is being watched, and what was told of it.
pub struct Watch {
    engine: Arc<Engine>,
    absences: Absences,
    dead: BTreeMap<SinkName, DeadLetters>,
    quarantined: Counted,
    not_kept: Counted,
    refusals: Refusals,
    fill: Fill,
    growth: Growth,
    reading: Reading,
    mending: Mending,
    silence_told_at: Option<Instant>,
    config_failed: bool,
}

/// The dead letters of a sink.
#[derive(Default)]
struct DeadLetters {
    counted: Counted,
    last: String,
}

impl Watch {
    /// Watches a gateway.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            absences: Absences::default(),
            dead: BTreeMap::new(),
            quarantined: Counted::default(),
            not_kept: Counted::default(),
            refusals: Refusals::default(),
            fill: Fill::default(),
            growth: Growth::default(),
            reading: Reading::default(),
            mending: Mending::default(),
            silence_told_at: None,
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
            Event::Paused { sink, reason } => self.absences.paused(sink, reason, Instant::now()),
            Event::Resumed { sink } => {
                if let Some(news) = self.absences.resumed(&sink, Instant::now()) {
                    self.tell_of_absence(&sink, news).await;
                }
            }
            // The death of an alert must not raise another one.
            Event::Died { origin: Origin::Alert, .. } => {}
            Event::Died { sink, position, session_id, reason, .. } => {
                let session = session_id.map(|id| format!(" (session {})", push::short(&id)));
                let dead = self.dead.entry(sink).or_default();
                dead.counted.seen += 1;
                dead.last = format!("the last: push {position}{}: {reason}", session.unwrap_or_default());
                self.look_at_dead_letters().await;
            }
        }
    }

    async fn look(&mut self) {
        self.look_at_lanes().await;
        self.look_at_dead_letters().await;
        self.look_at_door().await;
        self.look_at_disk().await;
        self.look_at_reading().await;
        self.look_for_unmended().await;
        self.look_for_silence().await;
        self.look_at_configuration().await;
    }

    async fn look_at_lanes(&mut self) {
        let lanes = self.engine.dispatcher.lanes().into_iter();
        let lanes = lanes.map(|(sink, lane)| (sink, lane.now.paused.is_some())).collect();
        let repeat = self.engine.alert_settings().repeat;
        for (sink, news) in self.absences.look(&lanes, repeat, Instant::now()) {
            self.tell_of_absence(&sink, news).await;
        }
    }

    async fn tell_of_absence(&self, sink: &SinkName, news: News) {
        let (subject, text, resolved) = match news {
            News::Away { reason } => (
                format!("sink {sink} is away"),
                format!(
                    "{sink} takes nothing at present: {reason}\n\nIts pushes wait in the spool and are delivered when it is back; \
                     nothing is lost and nothing is given up meanwhile. The other sinks are not affected."
                ),
                false,
            ),
            News::Back { after } => (
                format!("sink {sink} is back after {} min", after.as_secs().div_ceil(60)),
                format!("{sink} takes pushes again. What waited is being delivered now, in order."),
                true,
            ),
            News::Removed => (
                format!("sink {sink} is not in the configuration any more"),
                format!(
                    "{sink} was away when a reload took it out. What it has not taken waits in the spool until a sink of this name is back."
                ),
                true,
            ),
        };
        self.tell(AlertKind::Paused, sink.as_str(), &subject, &text, resolved).await;
    }

    async fn look_at_dead_letters(&mut self) {
        let now = Instant::now();
        let due = |(sink, dead): (&SinkName, &mut DeadLetters)| {
            Some((sink.clone(), dead.counted.due(now)?, dead.last.clone()))
        };
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
        let (door, now) = (self.engine.door_counters(), Instant::now());
        self.quarantined.seen = door.of(Verdict::Quarantined);
        self.not_kept.seen = door.of(Verdict::QuarantineFull);
        if let Some(new) = self.quarantined.due(now) {
            let subject = format!("{new} request(s) in quarantine");
            let text = "An authentic request was no push: not one JSON object, or a cdr without a SessionId. Its bytes are kept.\n\n\
                        Look:    cdr-gateway quarantine list";
            self.tell(AlertKind::Quarantine, "quarantine", &subject, text, false).await;
        }
        if let Some(new) = self.not_kept.due(now) {
            let subject = format!("the quarantine is full: {new} request(s) not kept");
            let text = "Authentic requests were no pushes, and their bytes are NOT kept: quarantine fills its 5 % of spool.max_size. \
                        The log says what is wrong with them; whoever sends them should stop. More room: raise spool.max_size and restart.\n\n\
                        Look:    cdr-gateway quarantine list";
            self.tell(AlertKind::Quarantine, "quarantine", &subject, text, false).await;
        }
        let repeat = self.engine.alert_settings().repeat;
        if let Some(news) = self.refusals.look(self.engine.strangers(), repeat, now) {
            let (subject, text) = refused::letter(&news);
            let is_over = matches!(news, refused::News::Over(_));
            self.tell(AlertKind::RefusedSender, "door", &subject, &text, is_over).await;
        }
    }

    async fn look_at_disk(&mut self) {
        let spool = self.engine.dispatcher.pushes().spool();
        let stats = spool.stats();
        let max_size = self.engine.started_with.spool.max_size.max(1);
        let share = u64::try_from(u128::from(stats.owed_bytes) * 100 / u128::from(max_size)).unwrap_or(100);
        let now = Instant::now();
        self.growth.saw(stats.owed_bytes, now);
        let Some(change) = self.fill.look(share, stats.health != Health::Ok, now) else { return };
        let left = self.growth.left(max_size.saturating_sub(stats.owed_bytes), now);
        let holder = spool.holders().into_iter().next();
        let parked =
            |holder: &Holder| self.engine.dispatcher.parked().iter().any(|lane| lane.name == holder.lane);
        let room = Room { share, is_parked: holder.as_ref().is_some_and(parked), holder, left };
        let (subject, text) = disk::letter(&change, &stats.health, &room);
        self.tell(AlertKind::Disk, "spool", &subject, &text, change != Change::Worse).await;
    }

    async fn look_at_reading(&mut self) {
        let lanes = self.engine.dispatcher.lanes().into_iter();
        let unreadable = lanes.filter_map(|(sink, lane)| Some((sink, lane.now.unreadable?))).collect();
        let Some(news) = self.reading.look(&unreadable, Instant::now()) else { return };
        let (subject, text) = disk::reading_letter(&news);
        self.tell(AlertKind::Disk, "reading", &subject, &text, news.is_none()).await;
    }

    async fn look_for_unmended(&mut self) {
        let unmended = self.engine.dispatcher.unmended();
        let repeat = self.engine.alert_settings().repeat;
        for news in self.mending.look(&unmended, repeat, Instant::now()) {
            let (subject, text) = unmended::letter(&news);
            self.tell(AlertKind::Unmended, &news.0, &subject, &text, news.1.is_none()).await;
        }
    }

    async fn look_for_silence(&mut self) {
        let settings = self.engine.alert_settings();
        let Some(limit) = settings.silence else {
            self.silence_told_at = None;
            return;
        };
        let quiet = self.engine.since_last_push();
        let is_silent = quiet >= limit;
        let is_due = |told_at: Instant| settings.repeat.is_some_and(|repeat| told_at.elapsed() >= repeat);
        if is_silent && self.silence_told_at.is_none_or(is_due) {
            self.silence_told_at = Some(Instant::now());
            let subject = format!("no push for {} min", quiet.as_secs() / 60);
            let refused: u64 = self.engine.strangers().iter().map(|stranger| stranger.requests).sum();
            let text = format!(
                "No push has come for longer than alerts.silence; {refused} request(s) were refused at the door lately. \
                 Is data push still switched on in TCCC's console, and does its URL reach this gateway?\n\n\
                 Try the way from outside: cdr-gateway send --url URL"
            );
            self.tell(AlertKind::Silence, "pushes", &subject, &text, false).await;
        } else if !is_silent && self.silence_told_at.take().is_some() {
            self.tell(AlertKind::Silence, "pushes", "pushes come again", "The silence is over.", true).await;
        }
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
        match resolved {
            true => info!(kind = kind.as_str(), about, subject, "alert is over"),
            false => warn!(kind = kind.as_str(), about, subject, "alert"),
        }
        if self.engine.dispatcher.pushes().routing().alerts_to.is_empty() {
            return;
        }
        let (about, subject, text) = (about.to_owned(), subject.to_owned(), text.to_owned());
        let alert = Alert { kind, about, subject, text, resolved, at: Timestamp::now() };
        self.engine.dispatcher.raise(&alert).await;
    }
}
