//! A sink of your own: counts calls in StatsD. Read it top to bottom; this is all there is to a sink.
//!
//! ```yaml
//! sinks:
//!   numbers: { statsd: { address: "127.0.0.1:8125" } }
//! routes:
//!   - { name: every call is counted, when: 'action == "cdr"', to: [numbers] }
//! ```
//!
//! StatsD speaks UDP, which confirms nothing: "delivered" here means that the kernel took the datagram. For
//! counting calls on a dashboard that is enough; for anything else a sink waits for its receiver's answer.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::OnceLock,
};

use cdr_core::{
    Batch, BuildError, Failure, Outcome, Push, Receipt, Report, Sink, SinkConfig, SinkName, Unavailable,
};
use serde::Deserialize;

/// 1. The settings: what stands under `statsd:` in `gateway.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsdSettings {
    /// Where StatsD listens.
    address: SocketAddr,
    /// What all names begin with.
    #[serde(default = "default_prefix")]
    prefix: String,
}

fn default_prefix() -> String {
    "cdr".to_owned()
}

/// 2. From settings to sink: pure, so that `check` can do it on any machine.
impl SinkConfig for StatsdSettings {
    const KIND: &'static str = "statsd";
    type Sink = StatsdSink;

    fn build(self, _name: &SinkName) -> Result<StatsdSink, BuildError> {
        let is_plain = self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
        if !is_plain {
            return Err(BuildError::at(
                "prefix",
                "only letters, digits, dots and underscores can be part of a name",
            ));
        }
        Ok(StatsdSink { address: self.address, prefix: self.prefix, socket: OnceLock::new() })
    }
}

/// Counts calls in StatsD.
pub struct StatsdSink {
    address: SocketAddr,
    prefix: String,
    /// Opened at the first delivery: building a sink does no I/O.
    socket: OnceLock<UdpSocket>,
}

/// 3. One attempt, and an honest report. Queue, clock and retries are the gateway's.
impl Sink for StatsdSink {
    async fn deliver(&self, batch: &Batch) -> Report {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(error) => {
                return Report::unavailable(batch, Unavailable::new(format!("no UDP socket: {error}")));
            }
        };
        let mut report = Report::untried(batch);
        for (index, push) in batch.pushes().enumerate() {
            let outcome = match socket.send_to(self.datagram(push).as_bytes(), self.address) {
                Ok(_) => Outcome::Delivered(Receipt::new(format!("sent to {}", self.address))),
                Err(error) => {
                    Outcome::Retry(Failure::new(format!("cannot send to {}: {error}", self.address)))
                }
            };
            report.set(index, outcome);
        }
        report
    }

    fn describe(&self) -> String {
        format!("counts calls in StatsD at {}, which confirms nothing", self.address)
    }
}

impl StatsdSink {
    fn socket(&self) -> io::Result<&UdpSocket> {
        if let Some(socket) = self.socket.get() {
            return Ok(socket);
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An async task must not wait in the kernel; a full send buffer is a retry.
        socket.set_nonblocking(true)?;
        Ok(self.socket.get_or_init(|| socket))
    }

    /// A counter by what became of the call, and a timer of how long was talked. No numbers, no names: what is
    /// a label here is one of seven words.
    fn datagram(&self, push: &Push) -> String {
        let prefix = &self.prefix;
        let Some(cdr) = push.session() else { return format!("{prefix}.other:1|c") };
        let counter = format!("{prefix}.calls.{}:1|c", cdr.result());
        match cdr.talk() {
            Some(seconds) => format!("{counter}\n{prefix}.talk:{}|ms", seconds.saturating_mul(1000)),
            None => counter,
        }
    }
}
