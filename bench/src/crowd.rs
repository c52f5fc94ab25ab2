//! A crowd that wants nothing: connections that say nothing, and senders of a byte a second. What they cost those who
//! push, and in memory.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream as Socket, runtime::Runtime, task::JoinSet};
use url::Url;

use crate::{
    command::Settings,
    process::{self, Role},
    receiver::Receiver,
    run::{Measured, Rig, Subject},
};

/// Senders of a byte a second.
const SLOW: usize = 200;

/// Files of the process that holds the crowd, and of the gateway, beside its connections.
const OTHER_FILES: u64 = 1000;

/// What was found.
pub struct Crowd {
    /// Connections that say nothing.
    pub idle: usize,
    /// Of the load.
    pub connections: usize,
    /// Runs without the crowd.
    pub without: Vec<Measured>,
    /// The same with it, each right after the run without, on the same gateway.
    pub with: Vec<Measured>,
}

/// As in tables: `10000 idle connections and 200 senders of a byte a second`.
pub fn name(idle: usize) -> String {
    format!("{idle} idle connections and {SLOW} senders of a byte a second")
}

/// Measures with and without the crowd, in turn.
pub fn run(rig: &Rig, settings: &Settings) -> anyhow::Result<Crowd> {
    let connections = settings.connections.first().copied().unwrap_or(64);
    // For the gateway and the crowd, which inherit it.
    let all = settings.idle + SLOW + connections;
    raise_open_files(all)?;
    eprintln!("{}", name(settings.idle));
    let mut crowd = Crowd { idle: settings.idle, connections, without: Vec::new(), with: Vec::new() };
    for _ in 0..settings.rounds {
        let folder = rig.fresh()?;
        // The crowd stays for as long as a run takes, and is not turned away.
        let limits = json!({ "connections": all + 100, "header_timeout": "1h", "body_timeout": "1h" });
        let gateway = rig.gateway_with(folder.path(), &[], &limits)?;
        let address = gateway.url.parse::<Url>()?.socket_addrs(|| None)?[0];
        let subject = Subject::Gateway(gateway, Vec::new());
        let without = subject.measure(&mut Receiver::start(0)?, settings.pushes, connections)?;
        let here = gather(address, settings.idle)?;
        let with = subject.measure(&mut Receiver::start(0)?, settings.pushes, connections)?;
        drop(here);
        subject.stop()?;
        eprintln!("  p99 without {:.1} ms, with {:.1} ms", without.p99_ms, with.p99_ms);
        crowd.without.push(without);
        crowd.with.push(with);
    }
    Ok(crowd)
}

/// Starts the process that holds the crowd, and waits until it is whole.
fn gather(address: SocketAddr, idle: usize) -> anyhow::Result<Role> {
    let mut role = Role::start(&["crowd".to_owned(), address.to_string(), idle.to_string()])?;
    let _: String = role.hear()?;
    Ok(role)
}

/// The role: connects, says that it is ready, and stays until it is killed.
///
/// # Errors
/// A connection was refused or closed.
pub fn stand(address: SocketAddr, idle: usize) -> anyhow::Result<()> {
    process::die_with_parent()?;
    let connect = |_| TcpStream::connect(address);
    let idlers: Vec<TcpStream> =
        (0..idle).map(connect).collect::<io::Result<_>>().context("a connection was refused")?;
    Runtime::new()?
        .block_on(async {
            let mut slow = JoinSet::new();
            for _ in 0..SLOW {
                let mut socket = Socket::connect(address).await?;
                socket.write_all(b"POST /?action=cdr HTTP/1.1\r\nX-Slow: ").await?;
                slow.spawn(trickle(socket));
            }
            println!("\"ready\"");
            slow.join_next().await.context("no slow sender")??
        })
        .with_context(|| format!("one of {} connections was closed", idlers.len() + SLOW))
}

/// A byte a second, of a head that never ends.
async fn trickle(mut socket: Socket) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        socket.write_all(b"x").await?;
    }
}

/// Lets this process and its children open so many connections.
fn raise_open_files(connections: usize) -> anyhow::Result<()> {
    let needed = u64::try_from(connections)? + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|limit| limit >= needed) {
        return Ok(());
    }
    let may = maximum.is_none_or(|limit| limit >= needed);
    anyhow::ensure!(may, "{connections} connections need {needed} open files; see ulimit -Hn, or BENCH_IDLE");
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?)
}
