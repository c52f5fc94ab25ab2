//! What happens in the demo, told as it happens.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use cdr_core::{CallResult, EndStatus};
use cdr_simulator::{
    calls::{Call, CallCentre},
    crm::Behaviour,
    sender::{Outgoing, Sender, SenderSettings, Sent},
};
use tokio_util::sync::CancellationToken;

use super::{Break, Demo, stage::Stage};

/// Everything is delivered well before this, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Calls a second; a busy centre.
const RATE: f64 = 25.0;

/// A bad day: more failed sessions than one would like, so that there is something to tell.
const MIX: &str = "answered=38,transferred=9,outbound=16,aiAgent=4,notAnswer=7,busy=5,numberNotExist=3,\
                   ivrGiveUp=5,waitingGiveUp=3,ringingGiveUp=2,notWorkTime=2,noSeatOnline=4,error=2";

/// What was pushed and answered with ErrCode 0, once each.
pub struct SentCalls {
    /// All of them.
    pub calls: Vec<Call>,
}

impl SentCalls {
    /// Those that the routes send to the CRM.
    pub fn answered(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| EndStatus::new(call.end_status).result() == CallResult::Answered)
    }

    /// Those that raise a mail.
    pub fn failed(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| matches!(call.end_status, "error" | "noSeatOnline"))
    }
}

/// Plays all scenes, and waits until every sink has everything.
pub async fn play(stage: &Stage, demo: &Demo) -> anyhow::Result<SentCalls> {
    let story = Story { began: Instant::now(), mails_told: AtomicUsize::new(0) };
    let centre = CallCentre::new(demo.seed).with_mix(MIX.parse()?);
    let calls: Vec<Call> = centre.calls().take(usize::try_from(demo.calls)?).collect();
    let pushes: Vec<Outgoing> = calls.iter().map(|call| call.body.clone().into()).collect();
    let third = calls.len() / 3;
    let sender = sender(stage)?;
    if demo.r#break == Some(Break::CrmLoses) {
        story.tell("on purpose: the CRM will say that it took the next three calls, and lose them");
        stage.crm.lock().await.behave(Behaviour::loses().times(3));
    }

    story.tell(&format!("a call centre finishes {} calls: {}", calls.len(), kinds(&calls)));
    push(stage, &story, &sender, &pushes[..third]).await?;

    story.tell("TCCC pushes one of them again, as it does when an answer gets lost");
    let again = sender.send_one(pushes[0].clone()).await;
    story.tell(&format!("    {}; it is known, and not delivered twice", answered(&again)));

    story.tell("somebody pastes the published sample, whose SdkAppId is masked");
    let masked = Bytes::from_static(br#"{"SdkAppId":1400xxx214,"SessionId":"e97be0ab"}"#);
    story.tell(&format!("    {}", impatient(stage)?.send_one(masked).await.answer));

    story.tell("the CRM goes away; calls go on, and TCCC notices nothing");
    stage.crm.lock().await.go_away().await;
    push(stage, &story, &sender, &pushes[third..2 * third]).await?;
    tell_lanes(stage, &story);
    story.tell("the CRM is back");
    stage.crm.lock().await.come_back().await?;
    push(stage, &story, &sender, &pushes[2 * third..]).await?;

    story.tell("no more calls; what waits is delivered");
    until_delivered(stage, &story).await?;
    Ok(SentCalls { calls })
}

/// How many of which kind, most first.
fn kinds(calls: &[Call]) -> String {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        *counted.entry(call.kind.as_str()).or_default() += 1;
    }
    let mut counted: Vec<(&str, usize)> = counted.into_iter().collect();
    counted.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counted.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

fn answered(sent: &Sent) -> &'static str {
    if sent.is_taken() { "answered with ErrCode 0" } else { "not taken" }
}

fn sender(stage: &Stage) -> anyhow::Result<Sender> {
    let url = format!("http://{}/", stage.gateway.address()).parse()?;
    Sender::new(SenderSettings { connections: 4, rate: Some(RATE), ..SenderSettings::new(url) })
}

/// Tries once: what is no JSON does not become JSON by pushing it again.
fn impatient(stage: &Stage) -> anyhow::Result<Sender> {
    let url = format!("http://{}/", stage.gateway.address()).parse()?;
    Sender::new(SenderSettings { retry_waits: Vec::new(), ..SenderSettings::new(url) })
}

async fn push(stage: &Stage, story: &Story, sender: &Sender, pushes: &[Outgoing]) -> anyhow::Result<()> {
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let counting = move |_: &Outgoing, sent: &Sent| {
        count.fetch_add(u64::from(sent.is_taken()), Ordering::Relaxed);
    };
    let pushing = sender.run(pushes.to_vec(), counting, CancellationToken::new());
    tokio::pin!(pushing);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let summary = loop {
        tokio::select! {
            summary = &mut pushing => break summary,
            _ = tick.tick() => story.progress(stage, taken.load(Ordering::Relaxed)).await,
        }
    };
    story.progress(stage, summary.taken).await;
    if summary.given_up > 0 {
        bail!("{} pushes were not taken; the demo stops here", summary.given_up);
    }
    Ok(())
}

fn tell_lanes(stage: &Stage, story: &Story) {
    for (sink, lane) in stage.gateway.engine().dispatcher.lanes() {
        let waiting = lane.now.open;
        let behind = stage.gateway.engine().dispatcher.pushes().end().0.saturating_sub(lane.now.next);
        if let Some(paused) = lane.now.paused {
            story.tell(&format!(
                "    {sink} is paused: {}; {waiting} deliveries wait, {behind} positions unread",
                paused.reason
            ));
        }
    }
}

/// Waits until no lane owes anything.
async fn until_delivered(stage: &Stage, story: &Story) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let dispatcher = &stage.gateway.engine().dispatcher;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        let end = dispatcher.pushes().end().0;
        let owed = |lane: &cdr_dispatch::LaneSnapshot| lane.now.open > 0 || lane.now.next < end;
        if !dispatcher.lanes().iter().any(|(_, lane)| owed(lane)) {
            story.progress(stage, 0).await;
            return Ok(());
        }
        if Instant::now() > deadline {
            tell_lanes(stage, story);
            bail!("not everything was delivered within {} s", PATIENCE.as_secs());
        }
    }
}

/// Tells what happens, with the seconds since the beginning.
struct Story {
    began: Instant,
    mails_told: AtomicUsize,
}

impl Story {
    fn tell(&self, text: &str) {
        say!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    async fn progress(&self, stage: &Stage, taken: u64) {
        let objects = stage.s3.objects(super::stage::BUCKET).len();
        let mails = stage.mailbox.mails();
        for mail in &mails[self.mails_told.swap(mails.len(), Ordering::Relaxed)..] {
            self.tell(&format!("    a mail: {}", mail.subject));
        }
        let mails = mails.len();
        let calls = stage.crm.lock().await.kept();
        let pushes = if taken > 0 { format!("answered {taken:>4}   ") } else { String::new() };
        self.tell(&format!(
            "    {pushes}S3 holds {objects} objects   CRM {calls} calls   mailbox {mails} mails"
        ));
    }
}
