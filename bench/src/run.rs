//! One run: a subject and its receivers come up, are warmed, take pushes as fast as they answer, and have delivered
//! all of them before the account is closed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    command::Settings,
    cost::{self, Cost},
    gateway::{self, Gateway, Sink},
    load::{Answered, Load},
    pipe,
    process::{self, Role},
    receiver::Receiver,
};

/// When an archive has not grown for so long, it will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all runs stand on.
pub struct Rig {
    /// The gateway's binary.
    pub binary: PathBuf,
    /// On the disk that is measured.
    pub folder: PathBuf,
    /// The gateway's `log.level`.
    log: String,
}

impl Rig {
    /// Makes the folder when it is not there.
    pub fn new(binary: PathBuf, settings: &Settings) -> anyhow::Result<Self> {
        let folder =
            settings.folder.clone().map_or_else(|| Ok(gateway::target()?.join("tmp")), anyhow::Ok)?;
        fs::create_dir_all(&folder)?;
        Ok(Self { binary, folder: folder.canonicalize()?, log: settings.log.clone() })
    }

    /// A folder of its own, for as long as it is held.
    pub fn fresh(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(&self.folder)?)
    }

    /// A gateway in this folder.
    pub fn gateway(&self, folder: &Path, sinks: &[Sink]) -> anyhow::Result<Gateway> {
        self.gateway_with(folder, sinks, &json!({}))
    }

    /// A gateway in this folder, with `ingress.limits` of its own.
    pub fn gateway_with(&self, folder: &Path, sinks: &[Sink], limits: &Value) -> anyhow::Result<Gateway> {
        Gateway::start(&self.binary, folder, &self.log, sinks, limits)
    }
}

/// What can stand between load and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Candidate {
    /// The reference that only stores.
    Door,
    /// The reference that stores and passes on.
    Pipe,
    /// The gateway.
    Gateway(Lanes),
}

/// The sinks of a gateway, each of which gets every push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    /// CRMs.
    pub http: usize,
    /// And the file archive.
    pub archive: bool,
}

impl Lanes {
    /// How many there are.
    pub fn count(self) -> usize {
        self.http + usize::from(self.archive)
    }

    /// As in tables: `3 lanes (2 http, archive)`.
    pub fn name(self) -> String {
        let Self { http, archive } = self;
        if self.count() == 0 {
            return "no sinks".to_owned();
        }
        let count = self.count();
        let lanes = if count == 1 { "lane" } else { "lanes" };
        format!("{count} {lanes} ({http} http{})", if archive { ", archive" } else { "" })
    }
}

impl Candidate {
    /// As it is called in tables.
    pub fn name(self) -> String {
        match self {
            Self::Door => "door".to_owned(),
            Self::Pipe => "pipe".to_owned(),
            Self::Gateway(lanes) => format!("gateway, {}", lanes.name()),
        }
    }

    fn crms(self) -> usize {
        match self {
            Self::Door => 0,
            Self::Pipe => 1,
            Self::Gateway(lanes) => lanes.http,
        }
    }

    /// Runs it from nothing.
    pub fn run(self, rig: &Rig, pushes: u64, connections: usize) -> anyhow::Result<Measured> {
        let folder = rig.fresh()?;
        let mut receiver = Receiver::start(self.crms())?;
        let subject = self.start(rig, folder.path(), &receiver.urls)?;
        subject.measure(&mut receiver, pushes, connections)
    }

    fn start(self, rig: &Rig, folder: &Path, crms: &[String]) -> anyhow::Result<Subject> {
        let own = |name: &str| vec![name.to_owned(), folder.display().to_string()];
        Ok(match self {
            Self::Door => Subject::door(&own("door"))?,
            Self::Pipe => Subject::pipe(&[own("pipe"), crms.to_vec()].concat(), folder)?,
            Self::Gateway(lanes) => {
                let numbered = crms.iter().enumerate();
                let mut sinks: Vec<Sink> =
                    numbered.map(|(number, url)| Sink::http(&format!("crm-{number}"), url)).collect();
                sinks.extend(lanes.archive.then(Sink::archive));
                let names = sinks.iter().map(|sink| sink.name.clone()).collect();
                Subject::Gateway(rig.gateway(folder, &sinks)?, names)
            }
        })
    }
}

/// What is measured.
pub enum Subject {
    /// Answers, and is done.
    Door(Role, String),
    /// Answers, passes on, and writes to this archive.
    Pipe(Role, String, PathBuf),
    /// A gateway, and the lanes that have to be idle before a run is over.
    Gateway(Gateway, Vec<String>),
}

impl Subject {
    fn door(arguments: &[String]) -> anyhow::Result<Self> {
        let mut role = Role::measured(arguments)?;
        let url = role.hear()?;
        Ok(Self::Door(role, url))
    }

    fn pipe(arguments: &[String], folder: &Path) -> anyhow::Result<Self> {
        let mut role = Role::measured(arguments)?;
        let url = role.hear()?;
        Ok(Self::Pipe(role, url, folder.join(pipe::ARCHIVE)))
    }

    fn url(&self) -> &str {
        match self {
            Self::Door(_, url) | Self::Pipe(_, url, _) => url,
            Self::Gateway(gateway, _) => &gateway.url,
        }
    }

    fn id(&self) -> u32 {
        match self {
            Self::Door(role, _) | Self::Pipe(role, ..) => role.id(),
            Self::Gateway(gateway, _) => gateway.id(),
        }
    }

    /// Pushes a tenth to warm it, then all, and closes the account when all is delivered. The receiver is a fresh
    /// one; it has to hold every push exactly once.
    pub fn measure(
        &self,
        receiver: &mut Receiver,
        pushes: u64,
        connections: usize,
    ) -> anyhow::Result<Measured> {
        let warm_up = warm_up(pushes, connections);
        let warmed = Load::prepare(self.url(), warm_up, connections, 1)?.push()?;
        self.until_delivered(receiver, warmed.taken, warmed.bytes)?;
        let load = Load::prepare(self.url(), pushes, connections, 2)?;

        let (before, began) = (Cost::of(self.id())?, Instant::now());
        let answered = load.push()?;
        self.until_delivered(receiver, warmed.taken + answered.taken, warmed.bytes + answered.bytes)?;
        let took = began.elapsed();
        let cost = Cost::of(self.id())?.since(before);

        let peak_rss = cost::peak_rss(self.id())?;
        let is_favoured = process::is_favoured(self.id());
        Ok(Measured::of(&answered, cost, took, peak_rss, is_favoured))
    }

    /// Stops a gateway in order, so that its spool can be opened again; references just end.
    pub fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Gateway(gateway, _) => gateway.stop(),
            Self::Door(..) | Self::Pipe(..) => Ok(()),
        }
    }

    fn until_delivered(&self, receiver: &mut Receiver, pushes: u64, bytes: u64) -> anyhow::Result<()> {
        receiver.until_kept(pushes)?;
        match self {
            Self::Door(..) => {}
            Self::Pipe(_, _, archive) => until_written(archive, bytes + pushes)?,
            Self::Gateway(gateway, lanes) => {
                gateway.until_idle(&lanes.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
        }
        receiver.expect(pushes)
    }
}

/// Pushes that warm a subject before its account is opened.
pub fn warm_up(pushes: u64, connections: usize) -> u64 {
    (pushes / 10).max(connections as u64)
}

fn until_written(archive: &Path, wanted: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    while fs::metadata(archive)?.len() < wanted {
        anyhow::ensure!(began.elapsed() < PATIENCE, "{} does not grow to {wanted} bytes", archive.display());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What a run showed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    /// Pushes answered a second, while what was answered before is being delivered.
    pub accepted: f64,
    /// Half of the answers came within this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
    /// Pushes a second from the first one's sending to the last one's last delivery.
    pub delivered: f64,
    /// Processor seconds, user and system, per 10,000 pushes, from socket to last delivery.
    pub cpu: f64,
    /// Bytes to the device per push.
    pub written: f64,
    /// Bytes of a body on average.
    pub body: f64,
    /// In MiB.
    pub peak_rss: f64,
    /// Whether the process had its own share of the processor.
    pub is_favoured: bool,
}

impl Measured {
    fn of(answered: &Answered, cost: Cost, took: Duration, peak_rss: u64, is_favoured: bool) -> Self {
        let pushes = answered.taken as f64;
        Self {
            accepted: pushes / answered.seconds,
            p50_ms: answered.p50_ms,
            p99_ms: answered.p99_ms,
            delivered: pushes / took.as_secs_f64(),
            cpu: cost.cpu.as_secs_f64() / pushes * 10_000.0,
            written: cost.written as f64 / pushes,
            body: answered.bytes as f64 / pushes,
            peak_rss: peak_rss as f64 / f64::from(1 << 20),
            is_favoured,
        }
    }
}
