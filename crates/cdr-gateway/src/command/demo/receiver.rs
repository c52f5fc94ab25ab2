//! `cdr-gateway demo crm`: the simulator's CRM receiver on its own, to see a gateway deliver to something.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use cdr_simulator::crm::Crm;
use clap::Args;

use crate::command::Ended;

/// Nothing but the CRM receiver.
#[derive(Args)]
pub struct CrmReceiver {
    /// Where it listens; the default configuration forwards to 127.0.0.1:9000.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

impl CrmReceiver {
    /// Tells each request on a line: SHA-256 of its body, bytes, path, and whether it came before. Until Ctrl-C.
    pub async fn run(self) -> Ended {
        let crm =
            Crm::start(self.listen).await.with_context(|| format!("cannot listen at {}", self.listen))?;
        say!("a CRM listens at {}; every body is answered with 200 and told here", crm.url());
        let mut told = 0;
        loop {
            let received = crm.received();
            for one in &received[told..] {
                let repeat = if one.repeat { "  repeat" } else { "" };
                say!("{}  {:>6} bytes  {}{repeat}", sha256(&one.sha256), one.body.len(), one.uri);
            }
            told = received.len();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
        }
        say!("{told} requests, {} of them repeats", crm.repeats());
        Ok(())
    }
}

fn sha256(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
