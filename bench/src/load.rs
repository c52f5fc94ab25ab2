//! The load: a process that pushes as TCCC does, and tells how it was answered.

use std::io;

use bytes::Bytes;
use cdr_simulator::{
    calls::CallCentre,
    sender::{Sender, SenderSettings},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::process::{self, Role};

/// Calls that met an agent, whose CDRs are the long ones: 1.4 KB on average, as a test says.
const MIX: &str = "answered=7,transferred=1,outbound=2";

/// Different bodies of a run; behind them they come again under new UUIDs, which makes them other pushes.
const BODIES: u64 = 50_000;

/// Bodies of CDRs of 1.4 KB on average, the same ones for the same seed.
pub fn bodies(seed: u64) -> impl Iterator<Item = Bytes> {
    let mix = MIX.parse().unwrap_or_else(|error| unreachable!("a mix of known kinds: {error}"));
    CallCentre::new(seed).with_mix(mix).calls().map(|call| call.body)
}

/// How a run's pushes were answered.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// Pushes answered with `ErrCode` 0.
    pub taken: u64,
    /// All others.
    pub refused: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// From the first push to the last answer.
    pub seconds: f64,
    /// Half of the pushes were answered within this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were.
    pub p99_ms: f64,
}

/// The role: makes the bodies, waits for the word, pushes each once, as fast as it is answered.
///
/// # Errors
/// The settings cannot be.
pub fn run(url: Url, pushes: u64, connections: usize, seed: u64) -> anyhow::Result<()> {
    process::die_with_parent()?;
    let pool: Vec<Bytes> = bodies(seed).take(usize::try_from(pushes.min(BODIES))?).collect();
    let settings = SenderSettings { connections, retry_waits: Vec::new(), ..SenderSettings::new(url) };
    let sender = Sender::new(settings)?;
    let runtime = Runtime::new()?;
    println!("\"ready\"");
    io::stdin().read_line(&mut String::new())?;

    let bytes = (0..pushes).zip(pool.iter().cycle()).map(|(_, body)| body.len() as u64).sum();
    let source = (0..usize::try_from(pushes)?).map(move |number| pool[number % pool.len()].clone());
    let summary = runtime.block_on(sender.run(source, |_, _| {}, CancellationToken::new()));
    let ms = |share| summary.latency(share).as_secs_f64() * 1e3;
    let answered = Answered {
        taken: summary.taken,
        refused: summary.given_up,
        bytes,
        seconds: summary.elapsed.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    };
    println!("{}", serde_json::to_string(&answered)?);
    Ok(())
}

/// A load that is ready to begin.
pub struct Load(Role);

impl Load {
    /// Starts the process and waits until it has its bodies.
    pub fn prepare(url: &str, pushes: u64, connections: usize, seed: u64) -> anyhow::Result<Self> {
        let arguments = [pushes.to_string(), connections.to_string(), seed.to_string()];
        let mut role = Role::start(&[["load".to_owned(), url.to_owned()].as_slice(), &arguments].concat())?;
        let _: String = role.hear()?;
        Ok(Self(role))
    }

    /// Pushes all. Refusals are an error: a run that lost something measures nothing.
    pub fn push(mut self) -> anyhow::Result<Answered> {
        self.0.tell("go")?;
        let answered: Answered = self.0.hear()?;
        let Answered { taken, refused, .. } = answered;
        anyhow::ensure!(refused == 0, "{refused} of {} pushes were not answered with 0", taken + refused);
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_1_4_kb_on_average() {
        let bytes: usize = bodies(1).take(10_000).map(|body| body.len()).sum();
        assert!((1350..1450).contains(&(bytes / 10_000)), "{}", bytes / 10_000);
    }
}
