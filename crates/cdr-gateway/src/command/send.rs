//! `cdr-gateway send`: pushes files or made-up calls as TCCC would.

mod proving;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use cdr_core::Action;
use cdr_simulator::{
    calls::CallCentre,
    sender::{Outgoing, Sender, SenderSettings, Sent},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::{Common, Ended, Said, has_people_at_stderr};
use proving::Proving;

/// Pushes files or made-up calls to a URL as TCCC would.
#[derive(Args)]
pub struct Send {
    /// Files, each the body of one push; without any, calls are made up.
    files: Vec<PathBuf>,
    /// Where to push; `action` and `version` are appended to its query.
    #[arg(long, default_value = "http://127.0.0.1:8080/")]
    url: Url,
    /// What is pushed.
    #[arg(long, default_value = "cdr")]
    action: Action,
    /// How many made-up pushes: calls, or with --action record or voicemail what calls leave behind.
    #[arg(long, default_value_t = 1, conflicts_with = "files")]
    count: u64,
    /// Which made-up calls: the same seed makes the same ones.
    #[arg(long, default_value_t = 1, conflicts_with = "files")]
    seed: u64,
    /// The number of the first made-up call; recordings and voicemails are of this one and those after it.
    #[arg(long, default_value_t = 0, conflicts_with = "files")]
    first: u64,
    /// Pushes a second; without it as fast as they are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// How many pushes are under way at once.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// X-TCCC-PUSH-UUID for all of them, to send a push again; without it each gets a fresh one.
    #[arg(long)]
    uuid: Option<Uuid>,
    /// How often to try again; TCCC does up to 3 times.
    #[arg(long, default_value_t = 3)]
    retries: usize,
    /// How long an attempt may take.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// A PEM file of certificates to trust beside those of the system.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Say nothing of each push, only the sum.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    proving: Proving,
}

impl Send {
    /// Pushes them all; fails when one was not taken.
    pub async fn run(self, common: &Common) -> Ended {
        let sender = Sender::new(self.settings()?)?;
        let pushes = self.pushes()?;
        let bar = self.bar(pushes.len);
        let stop = CancellationToken::new();
        tokio::spawn(stop_at_interrupt(stop.clone()));
        let tell = {
            // A line each is for reading; beyond that the bar tells, and only what failed is worth a line.
            let (bar, json, every) = (bar.clone(), common.wants_json(), !self.quiet && pushes.len <= 100);
            let names = pushes.names;
            move |outgoing: &Outgoing, sent: &Sent| {
                bar.inc(1);
                if every || (!self.quiet && !sent.is_taken()) {
                    let line = line(names.get(&outgoing.uuid).map(String::as_str), outgoing, sent, json);
                    bar.suspend(|| say!("{line}"));
                }
            }
        };
        let summary = sender.run(pushes.bodies, tell, stop).await;
        bar.finish_and_clear();
        eprintln!("{summary}");
        match summary.given_up == 0 && summary.pushes() > 0 {
            true => Ok(()),
            false => Err(Said.into()),
        }
    }

    fn settings(&self) -> anyhow::Result<SenderSettings> {
        let waits = [1, 2].into_iter().chain(std::iter::repeat(5)).map(Duration::from_secs);
        Ok(SenderSettings {
            action: self.action.clone(),
            proof: self.proving.proof()?,
            certificate: self.proving.certificate(),
            extra_ca: self.ca.clone(),
            connections: self.connections,
            rate: self.rate,
            retry_waits: waits.take(self.retries).collect(),
            timeout: self.timeout,
            ..SenderSettings::new(self.url.clone())
        })
    }

    fn pushes(&self) -> anyhow::Result<Pushes> {
        if self.files.is_empty() {
            return self.made_up();
        }
        let mut names = std::collections::HashMap::new();
        let mut bodies = Vec::with_capacity(self.files.len());
        for path in &self.files {
            let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let outgoing = self.outgoing(body.into());
            names.insert(outgoing.uuid, path.display().to_string());
            bodies.push(outgoing);
        }
        Ok(Pushes { len: bodies.len() as u64, names, bodies: Box::new(bodies.into_iter()) })
    }

    fn made_up(&self) -> anyhow::Result<Pushes> {
        let centre = CallCentre::new(self.seed);
        let calls = self.first..=u64::MAX;
        let bodies: Box<dyn Iterator<Item = Bytes> + std::marker::Send> = match self.action.as_str() {
            "cdr" => Box::new(calls.map(move |index| centre.call(index).body)),
            "record" => Box::new(calls.flat_map(move |index| centre.recordings(index))),
            "voicemail" => Box::new(calls.filter_map(move |index| centre.voicemail(index))),
            other => bail!("cdr, record and voicemail can be made up; name files to push them as {other}"),
        };
        let (count, uuid) = (usize::try_from(self.count).unwrap_or(usize::MAX), self.uuid);
        let made_up = move |body| Outgoing { body, uuid: uuid.unwrap_or_else(Uuid::new_v4) };
        let bodies = Box::new(bodies.take(count).map(made_up));
        Ok(Pushes { len: self.count, names: std::collections::HashMap::new(), bodies })
    }

    fn outgoing(&self, body: Bytes) -> Outgoing {
        Outgoing { body, uuid: self.uuid.unwrap_or_else(Uuid::new_v4) }
    }

    fn bar(&self, len: u64) -> ProgressBar {
        if !has_people_at_stderr() || len < 2 {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(len);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

/// What is pushed.
struct Pushes {
    len: u64,
    /// Which file a push is of.
    names: std::collections::HashMap<Uuid, String>,
    bodies: Box<dyn Iterator<Item = Outgoing> + std::marker::Send>,
}

fn line(name: Option<&str>, outgoing: &Outgoing, sent: &Sent, json: bool) -> String {
    let name = name.map_or_else(|| outgoing.uuid.to_string(), str::to_owned);
    let (attempts, ms) = (sent.attempts(), sent.latency.as_secs_f64() * 1e3);
    if json {
        let answer = sent.answer.to_string();
        let uuid = outgoing.uuid.to_string();
        return json!({ "push": name, "uuid": uuid, "taken": sent.is_taken(), "answer": answer, "attempts": attempts, "ms": ms })
            .to_string();
    }
    let tries = if attempts > 1 { format!(", attempt {attempts}") } else { String::new() };
    format!("{name}: {} ({ms:.1} ms{tries})", sent.answer)
}

async fn stop_at_interrupt(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
    }
}
