//! What happens in the demo, told as it happens.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use cdr_core::{CallResult, EndStatus};
use cdr_simulator::{
    calls::{Call, CallCentre},
    crm::Behaviour,
    sender::{Outgoing, Sender, SenderSettings},
};
use tokio_util::sync::CancellationToken;

use super::{Break, Demo, stage::Stage};

/// Everything is delivered well before this, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Calls a second; a busy centre.
const RATE: f64 = 25.0;

/// What was pushed and answered with ErrCode 0, once each.
pub struct SentCalls {
    /// All of them.
    pub calls: Vec<Call>,
    /// Pushes sent twice on purpose.
    pub repeats: usize,
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
    let story = Story { began: Instant::now() };
    let centre = CallCentre::new(demo.seed);
    let calls: Vec<Call> = centre.calls().take(usize::try_from(demo.calls)?).collect();
    let third = calls.len() / 3;
    let sender = sender(stage)?;
    if demo.r#break == Some(Break::CrmLoses) {
        story.tell("on purpose: the CRM will say that it took the next three calls, and lose them");
        stage.crm.lock().await.behave(Behaviour::loses().times(3));
    }

    story.tell(&format!("a call centre finishes {} calls; TCCC pushes a record for each", calls.len()));
    push(stage, &story, &sender, &calls[..third]).await?;

    story.tell("TCCC pushes one of them again, as it does when an answer gets lost");
    let again = Outgoing { body: calls[0].body.clone(), uuid: uuid::Uuid::new_v4() };
    for _ in 0..2 {
        let sent = sender.send_one(again.clone()).await;
        story.tell(&format!("    answered: {}", sent.answer));
    }

    story.tell("somebody pastes the published sample, whose SdkAppId is masked");
    let masked = Bytes::from_static(br#"{"SdkAppId":1400xxx214,"SessionId":"e97be0ab"}"#);
    story.tell(&format!("    answered: {}", impatient(stage)?.send_one(masked).await.answer));

    story.tell("the CRM goes away; calls go on, and TCCC notices nothing");
    stage.crm.lock().await.go_away().await;
    push(stage, &story, &sender, &calls[third..2 * third]).await?;
    tell_lanes(stage, &story);
    story.tell("the CRM is back");
    stage.crm.lock().await.come_back().await?;
    push(stage, &story, &sender, &calls[2 * third..]).await?;

    story.tell("no more calls; what waits is delivered");
    until_delivered(stage, &story).await?;
    // The repeat above was a push of its own first: another UUID than the call had.
    Ok(SentCalls { calls, repeats: 1 })
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

async fn push(stage: &Stage, story: &Story, sender: &Sender, calls: &[Call]) -> anyhow::Result<()> {
    let bodies: Vec<Outgoing> = calls.iter().map(|call| call.body.clone().into()).collect();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let counting = move |_: &Outgoing, sent: &cdr_simulator::sender::Sent| {
        count.fetch_add(u64::from(sent.is_taken()), Ordering::Relaxed);
    };
    let pushing = sender.run(bodies, counting, CancellationToken::new());
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
    for (sink, lane) in stage.gateway.inner().dispatcher.lanes() {
        let waiting = lane.now.open;
        let behind = stage.gateway.inner().dispatcher.pushes().end().0.saturating_sub(lane.now.next);
        if let Some(paused) = lane.now.paused {
            story.tell(&format!("    {sink} is paused: {}; {waiting} deliveries wait, {behind} positions unread", paused.reason));
        }
    }
}

/// Waits until no lane owes anything.
async fn until_delivered(stage: &Stage, story: &Story) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let dispatcher = &stage.gateway.inner().dispatcher;
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
}

impl Story {
    fn tell(&self, text: &str) {
        println!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
        // A pipe on the other side shall see it happen, too.
        let _ = std::io::stdout().flush();
    }

    async fn progress(&self, stage: &Stage, taken: u64) {
        let objects = stage.s3.objects(super::stage::BUCKET).len();
        let mails = stage.mailbox.mails().len();
        let calls = stage.crm.lock().await.kept();
        let pushes = if taken > 0 { format!("answered {taken:>4}   ") } else { String::new() };
        self.tell(&format!("    {pushes}S3 holds {objects} objects   CRM {calls} calls   mailbox {mails} mails"));
    }
}
