//! The command line: the benchmark itself, and the roles that its processes play.

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

use crate::{
    backlog, crowd, door, gateway, load, machine, pipe, process, receiver, report, run::Rig, schedule,
};

/// What the gateway costs, beside two references that do less. See docs/performance.md.
#[derive(Parser)]
#[command(name = "bench")]
struct Line {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    settings: Settings,
    /// Cargo says this to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// What is measured, and how long.
#[derive(Args)]
pub struct Settings {
    /// Pushes in each run.
    #[arg(long, env = "BENCH_PUSHES", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub pushes: u64,
    /// How often everything is run; the tables tell medians.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Connections of the load, a part of the table for each.
    #[arg(long, env = "BENCH_CONNECTIONS", default_value = "64,256", value_delimiter = ',')]
    pub connections: Vec<usize>,
    /// Undelivered pushes of the backlog's part; 0 leaves it out.
    #[arg(long, env = "BENCH_BACKLOG", default_value_t = 200_000)]
    pub backlog: u64,
    /// Idle connections of the crowd's part; 0 leaves it out.
    #[arg(long, env = "BENCH_IDLE", default_value_t = 10_000)]
    pub idle: usize,
    /// One part instead of all.
    #[arg(long, env = "BENCH_ONLY", value_enum)]
    pub only: Option<Part>,
    /// The gateway's `log.level`; its lines go nowhere, and at info there are a few a minute.
    #[arg(long, env = "BENCH_LOG", default_value = "info")]
    pub log: String,
    /// Where the spools lie while they are measured; a disk like the one that they will lie on. `target/tmp`.
    #[arg(long, env = "BENCH_FOLDER")]
    pub folder: Option<PathBuf>,
    /// A built gateway; without it the release build is made and measured.
    #[arg(long, env = "BENCH_GATEWAY")]
    pub gateway: Option<PathBuf>,
    /// A page that gets the tables, between its two marks.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// The parts of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Part {
    /// Beside the references.
    Throughput,
    /// A sink that is away for long.
    Backlog,
    /// Idle connections and slow senders.
    Idle,
}

/// What a process that the benchmark starts does.
#[derive(Subcommand)]
enum Role {
    /// Becomes another program, in a session of its own with a large share of the processor.
    #[command(hide = true)]
    Measured {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
    /// The reference that only stores.
    #[command(hide = true)]
    Door { folder: PathBuf },
    /// The reference that stores and passes on.
    #[command(hide = true)]
    Pipe { folder: PathBuf, receiver: Url },
    /// Pushes.
    #[command(hide = true)]
    Load { url: Url, pushes: u64, connections: usize, seed: u64 },
    /// Connects and says next to nothing.
    #[command(hide = true)]
    Crowd { address: SocketAddr, idle: usize },
    /// Takes what is delivered.
    #[command(hide = true)]
    Receiver { listen: Vec<SocketAddr> },
}

/// The whole program.
pub fn main() -> ExitCode {
    let Line { role, settings, .. } = Line::parse();
    let done = match role {
        None => measure(&settings),
        Some(Role::Measured { program }) => process::become_measured(&program),
        Some(Role::Door { folder }) => door::run(&folder),
        Some(Role::Pipe { folder, receiver }) => pipe::run(&folder, &receiver),
        Some(Role::Load { url, pushes, connections, seed }) => load::run(url, pushes, connections, seed),
        Some(Role::Crowd { address, idle }) => crowd::stand(address, idle),
        Some(Role::Receiver { listen }) => receiver::run(&listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(settings: &Settings) -> anyhow::Result<()> {
    // Cargo runs a benchmark in its package's folder; whoever names a file means the one that is seen from the top.
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    let page = settings.write.as_deref().map(report::Page::open).transpose()?;
    let rig = Rig::new(gateway::built(settings.gateway.as_deref())?, settings)?;
    let machine = machine::describe(&rig.folder)?;
    let wants = |part| settings.only.is_none_or(|only| only == part);
    let throughput = if wants(Part::Throughput) { schedule::run(&rig, settings)? } else { Vec::new() };
    let wants_backlog = wants(Part::Backlog) && settings.backlog > 0;
    let backlog = wants_backlog.then(|| backlog::run(&rig, settings)).transpose()?;
    let wants_crowd = wants(Part::Idle) && settings.idle > 0;
    let crowd = wants_crowd.then(|| crowd::run(&rig, settings)).transpose()?;
    let report = report::Report { machine, throughput, backlog, crowd };
    println!("{}", report.text(settings));
    page.map_or(Ok(()), |page| page.write(&report.markdown(settings)))
}
