//! A sink that is away for long: what its backlog costs those who push, how long a start takes with it, and how fast
//! it is delivered once the sink is back.

use std::{net::SocketAddr, path::Path, time::Instant};

use crate::{
    command::Settings,
    cost::{self, Cost},
    gateway::{self, Sink},
    load::Load,
    receiver::Receiver,
    run::{self, Measured, Rig, Subject},
};

/// The lane whose sink is away.
const AWAY: &str = "away";
/// The lane whose sink is there.
const THERE: &str = "crm";

/// What was found.
pub struct Backlog {
    /// Undelivered pushes that the runs with a backlog began with.
    pub pushes: u64,
    /// Of the load.
    pub connections: usize,
    /// Runs with one sink away and no backlog yet.
    pub without: Vec<Measured>,
    /// The same with the backlog, each right after the run without at its place.
    pub with: Vec<Measured>,
    /// From start to `/readyz` 200 with the backlog, in seconds.
    pub ready: Vec<f64>,
    /// Delivering it.
    pub drain: Drain,
}

/// How the backlog went when its sink was back.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Pushes that the sink had missed: the backlog, and what the runs added.
    pub pushes: u64,
    /// Pushes a second, from the first to the last.
    pub rate: f64,
    /// Processor seconds per 10,000 pushes.
    pub cpu: f64,
    /// In MiB.
    pub peak_rss: f64,
}

/// Fills a spool, and measures.
pub fn run(rig: &Rig, settings: &Settings) -> anyhow::Result<Backlog> {
    let connections = settings.connections.first().copied().unwrap_or(64);
    let full = rig.fresh()?;
    let away = gateway::free_address()?;
    eprintln!("backlog of {} pushes", settings.backlog);
    fill(rig, full.path(), away, settings.backlog, connections)?;
    let (mut without, mut with, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let (measured, _) = measure(rig, rig.fresh()?.path(), away, settings.pushes, connections)?;
        without.push(measured);
        let (measured, ready_after) = measure(rig, full.path(), away, settings.pushes, connections)?;
        with.push(measured);
        ready.push(ready_after);
        eprintln!(
            "  without {:.0}/s, with {:.0}/s, ready after {ready_after:.2} s",
            without[without.len() - 1].accepted,
            measured.accepted
        );
    }
    let run = settings.pushes + run::warm_up(settings.pushes, connections);
    let drain = drain(rig, full.path(), away, settings.backlog + settings.rounds * run)?;
    eprintln!("  {} delivered at {:.0}/s", drain.pushes, drain.rate);
    Ok(Backlog { pushes: settings.backlog, connections, without, with, ready, drain })
}

fn sink_away(address: SocketAddr) -> Sink {
    Sink::http(AWAY, &format!("http://{address}/calls"))
}

fn fill(rig: &Rig, folder: &Path, away: SocketAddr, pushes: u64, connections: usize) -> anyhow::Result<()> {
    let gateway = rig.gateway(folder, &[sink_away(away)])?;
    let filled = Load::prepare(&gateway.url, pushes, connections, 3)?.push()?;
    eprintln!("  filled at {:.0}/s", filled.taken as f64 / filled.seconds);
    gateway.stop()
}

/// A run with one sink away and one there, and how long the start took.
fn measure(
    rig: &Rig,
    folder: &Path,
    away: SocketAddr,
    pushes: u64,
    connections: usize,
) -> anyhow::Result<(Measured, f64)> {
    let mut receiver = Receiver::start(1)?;
    let sinks = [sink_away(away), Sink::http(THERE, &receiver.urls[0])];
    let gateway = rig.gateway(folder, &sinks)?;
    let ready_after = gateway.ready_after.as_secs_f64();
    let subject = Subject::Gateway(gateway, vec![THERE.to_owned()]);
    let measured = subject.measure(&mut receiver, pushes, connections)?;
    subject.stop()?;
    Ok((measured, ready_after))
}

/// The sink comes back at its address, and gets what it missed.
fn drain(rig: &Rig, folder: &Path, away: SocketAddr, owed: u64) -> anyhow::Result<Drain> {
    let gateway = rig.gateway(folder, &[sink_away(away)])?;
    let before = Cost::of(gateway.id())?;
    let mut receiver = Receiver::at(&[away])?;
    receiver.until_kept(1)?;
    let began = Instant::now();
    receiver.until_kept(owed)?;
    let took = began.elapsed();
    gateway.until_idle(&[AWAY])?;
    receiver.expect(owed)?;
    let cost = Cost::of(gateway.id())?.since(before);
    let peak_rss = cost::peak_rss(gateway.id())? as f64 / f64::from(1 << 20);
    gateway.stop()?;
    let pushes = owed as f64;
    Ok(Drain {
        pushes: owed,
        rate: pushes / took.as_secs_f64(),
        cpu: cost.cpu.as_secs_f64() / pushes * 10_000.0,
        peak_rss,
    })
}
