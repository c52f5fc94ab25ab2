//! The receiver: the simulator's CRM in a process of its own, one for each HTTP lane.

use std::{io, net::SocketAddr, time::Duration};

use cdr_simulator::crm::{Crm, CrmOptions, Memory};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, time::timeout};

use crate::process::{self, Role};

/// When nothing came for so long, nothing will.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one CRM holds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Requests, repeats included.
    pub kept: usize,
    /// Those whose `Idempotency-Key` had come before.
    pub repeats: usize,
}

/// The role: tells the CRMs' addresses; then, for each number that it is told, waits until every CRM has kept so
/// many, and tells what they hold.
///
/// # Errors
/// An address cannot be listened at.
pub fn run(listen: &[SocketAddr]) -> anyhow::Result<()> {
    process::die_with_parent()?;
    let runtime = Runtime::new()?;
    let mut crms = Vec::new();
    for address in listen {
        let options = CrmOptions { memory: Memory::Digests, ..CrmOptions::default() };
        crms.push(runtime.block_on(Crm::start_with(address, options))?);
    }
    println!("{}", serde_json::to_string(&crms.iter().map(Crm::url).collect::<Vec<_>>())?);
    for line in io::stdin().lines() {
        let wanted = line?.parse()?;
        crms.iter().for_each(|crm| runtime.block_on(until_kept(crm, wanted)));
        let held: Vec<Held> =
            crms.iter().map(|crm| Held { kept: crm.kept(), repeats: crm.repeats() }).collect();
        println!("{}", serde_json::to_string(&held)?);
    }
    Ok(())
}

async fn until_kept(crm: &Crm, wanted: usize) {
    loop {
        let before = crm.kept();
        if timeout(PATIENCE, crm.until_kept(wanted)).await.is_ok() || crm.kept() == before {
            return;
        }
    }
}

/// The running receiver.
pub struct Receiver {
    role: Role,
    /// Where each of its CRMs takes calls.
    pub urls: Vec<String>,
}

impl Receiver {
    /// So many CRMs, anywhere on loopback.
    pub fn start(crms: usize) -> anyhow::Result<Self> {
        Self::at(&vec![SocketAddr::from(([127, 0, 0, 1], 0)); crms])
    }

    /// CRMs at these addresses.
    pub fn at(addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let addresses = addresses.iter().map(ToString::to_string);
        let arguments: Vec<String> = std::iter::once("receiver".to_owned()).chain(addresses).collect();
        let mut role = Role::start(&arguments)?;
        let urls = role.hear()?;
        Ok(Self { role, urls })
    }

    /// Waits until every CRM has kept at least so many, or nothing comes any more; tells what they hold.
    pub fn until_kept(&mut self, pushes: u64) -> anyhow::Result<Vec<Held>> {
        self.role.tell(pushes)?;
        self.role.hear()
    }

    /// Waits until every CRM has kept exactly so many, and none of them twice.
    pub fn expect(&mut self, pushes: u64) -> anyhow::Result<()> {
        let held = self.until_kept(pushes)?;
        let right = |held: &Held| held.kept as u64 == pushes && held.repeats == 0;
        anyhow::ensure!(
            held.iter().all(right),
            "{pushes} pushes were taken, but the receivers hold {held:?}"
        );
        Ok(())
    }
}
