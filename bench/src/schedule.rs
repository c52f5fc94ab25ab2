//! In which order candidates run: references, gateway, references, gateway, references. The machine's drift then
//! shows in the references, and the gateway is divided by those right before and after it.

use crate::{
    command::Settings,
    run::{Candidate, Lanes, Measured, Rig},
};

/// The gateways that are measured. The first one does what door does, and reads, checks and routes. The third is what
/// the processor's target is about, as pipe does the same job; the last one writes nothing but its spool.
pub const GATEWAYS: [Lanes; 5] = [
    Lanes { http: 0, archive: false },
    Lanes { http: 1, archive: false },
    Lanes { http: 1, archive: true },
    Lanes { http: 2, archive: true },
    Lanes { http: 3, archive: false },
];

/// All runs with one number of connections.
pub struct Part {
    /// Of the load.
    pub connections: usize,
    /// Runs of door.
    pub door: Vec<Measured>,
    /// Runs of pipe.
    pub pipe: Vec<Measured>,
    /// Runs of each of [`GATEWAYS`].
    pub gateways: Vec<Vec<Beside>>,
}

/// A run of the gateway, and the references that ran right before and after it.
#[derive(Clone, Copy)]
pub struct Beside {
    /// The gateway.
    pub gateway: Measured,
    before: References,
    after: References,
}

#[derive(Clone, Copy)]
struct References {
    door: Measured,
    pipe: Measured,
}

impl Beside {
    /// A number of the gateway divided by door's.
    pub fn over_door(&self, number: impl Fn(&Measured) -> f64) -> f64 {
        number(&self.gateway) / f64::midpoint(number(&self.before.door), number(&self.after.door))
    }

    /// A number of the gateway divided by pipe's.
    pub fn over_pipe(&self, number: impl Fn(&Measured) -> f64) -> f64 {
        number(&self.gateway) / f64::midpoint(number(&self.before.pipe), number(&self.after.pipe))
    }
}

/// Runs everything but the backlog.
pub fn run(rig: &Rig, settings: &Settings) -> anyhow::Result<Vec<Part>> {
    settings.connections.iter().map(|&connections| part(rig, settings, connections)).collect()
}

fn part(rig: &Rig, settings: &Settings, connections: usize) -> anyhow::Result<Part> {
    let gateways = vec![Vec::new(); GATEWAYS.len()];
    let mut part = Part { connections, door: Vec::new(), pipe: Vec::new(), gateways };
    for round in 1..=settings.rounds {
        eprintln!("{connections} connections, round {round} of {}", settings.rounds);
        let mut before = part.references(rig, settings.pushes)?;
        for (number, lanes) in GATEWAYS.into_iter().enumerate() {
            let gateway = told(rig, Candidate::Gateway(lanes), settings.pushes, connections)?;
            let after = part.references(rig, settings.pushes)?;
            part.gateways[number].push(Beside { gateway, before, after });
            before = after;
        }
    }
    Ok(part)
}

impl Part {
    fn references(&mut self, rig: &Rig, pushes: u64) -> anyhow::Result<References> {
        let door = told(rig, Candidate::Door, pushes, self.connections)?;
        let pipe = told(rig, Candidate::Pipe, pushes, self.connections)?;
        self.door.push(door);
        self.pipe.push(pipe);
        Ok(References { door, pipe })
    }
}

fn told(rig: &Rig, candidate: Candidate, pushes: u64, connections: usize) -> anyhow::Result<Measured> {
    let measured = candidate.run(rig, pushes, connections)?;
    let Measured { accepted, delivered, p99_ms, cpu, .. } = measured;
    let name = candidate.name();
    eprintln!(
        "  {name:<30} {accepted:>6.0}/s  p99 {p99_ms:>6.1} ms  {delivered:>6.0}/s delivered  {cpu:.2} s"
    );
    Ok(measured)
}
