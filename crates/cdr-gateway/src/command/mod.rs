//! The command line: one file a command, each does one thing and says how it went.
//!
//! Exit codes: 0 good, 1 failed, 2 used wrongly. What people asked for goes to stdout, everything else to
//! stderr; with `--format json` stdout holds JSON, an object a line.

/// A line to stdout; see [`told`].
macro_rules! say {
    ($($text:tt)*) => { $crate::command::told::line(format_args!($($text)*)) };
}

mod archive;
mod check;
mod condition;
mod dead;
mod demo;
mod explain;
mod init;
mod kept;
mod logging;
mod quarantine;
mod reload;
mod replay;
mod running;
mod schema;
mod send;
mod serve;
mod sink;
mod tail;
mod told;
mod trace;
mod when;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use cdr_core::Sinks;
use cdr_ingress::IngressSettings;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Admin, Finding, LogLevel, Plan, Source, Whereabouts};

/// Receives Tencent Cloud Contact Center's call records, keeps each before it answers, and delivers it to
/// archive, CRM and mailbox.
#[derive(Parser)]
#[command(name = "cdr-gateway", version, max_term_width = 100, arg_required_else_help = false)]
struct Line {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Clone)]
struct Common {
    /// The configuration; without it gateway.yaml of this folder, and without that the built-in one.
    #[arg(long, short, global = true, value_name = "FILE", env = "CDR_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
    /// How answers and log lines look.
    #[arg(long, global = true, value_enum)]
    format: Option<Format>,
    /// From which level on to log; without it as `log.level` says.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level)]
    log: Option<LogLevel>,
}

/// How answers look.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway; this is what happens without a command, too.
    ///
    /// Example: cdr-gateway run --config /etc/cdr-gateway/gateway.yaml
    Run,
    /// Writes a gateway.yaml to start from.
    ///
    /// Example: cdr-gateway init
    Init(init::Init),
    /// Checks the configuration and says every fault with its line; does nothing else.
    ///
    /// Example: cdr-gateway check --config gateway.yaml
    ///
    /// With --client it says whether a sender may push, and why: cdr-gateway check --client 10.0.0.1 --header
    /// 'X-Forwarded-For: 203.0.113.9'. With --senders it lists the addresses that `mode: log` has learned.
    Check(check::Check),
    /// Makes the running gateway read its configuration again; SIGHUP does the same.
    ///
    /// Example: cdr-gateway reload
    Reload,
    /// Shows the whole thing at work in one process, with receivers of its own; needs nothing.
    ///
    /// Example: cdr-gateway demo
    ///
    /// `demo crm` runs nothing but the CRM receiver, where the default configuration forwards to.
    Demo(demo::Demo),
    /// Pushes files or made-up calls to a URL as TCCC would: query, headers, UUID, up to 3 retries.
    ///
    /// Example: cdr-gateway send call.json --url http://127.0.0.1:8080/
    ///
    /// It proves who it is in any way that `ingress.verify` asks for: TOKEN=… cdr-gateway send --bearer-env TOKEN
    Send(Box<send::Send>),
    /// Tells what would become of a push: how it is read, and which routes and sinks take it. Sends nothing.
    ///
    /// Example: cdr-gateway explain call.json
    Explain(explain::Explain),
    /// Tells the life of pushes, found by session, number, UUID or time: when each came, and what became of it at every sink.
    ///
    /// Works with the gateway stopped, too. Example: cdr-gateway trace --number 13800138000 --since 2h
    Trace(trace::Trace),
    /// Tells what arrives and what becomes of it, a line each, as it happens; Ctrl-C ends it.
    ///
    /// Reads the disk, so it goes on over a restart of the gateway. No line holds a phone number.
    ///
    /// Example: cdr-gateway tail --since 10m --where 'result == "abandoned"'
    Tail(tail::Tail),
    /// Deliveries that were given up: look at them, send them again, or discard them.
    ///
    /// Example: cdr-gateway dead list --sink crm
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Authentic requests that were no pushes: their bytes are kept here.
    ///
    /// Example: cdr-gateway quarantine show 17
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// What an archive holds: check it, note what it holds of each day, send it to a sink again.
    ///
    /// Example: cdr-gateway archive verify
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Writes the JSON Schema of gateway.yaml, by which editors check and complete it.
    ///
    /// Example: cdr-gateway schema > gateway.schema.json, and in the first line of gateway.yaml:
    /// `# yaml-language-server: $schema=gateway.schema.json`
    Schema,
    /// Sends pushes that the spool keeps to a sink again, and follows how it goes; the gateway must run.
    ///
    /// Example: cdr-gateway replay --sink crm --from 2h --where 'EndStatusString == "busy"'
    ///
    /// All that are kept, arrived in the time and match are sent, not only those that a route sends there. The sink hears
    /// that they are a replay. `--dry-run` counts them first.
    Replay(replay::Replay),
    /// How the sinks' lanes are doing, and what becomes of a sink that left the configuration.
    ///
    /// Example: cdr-gateway sink list
    #[command(subcommand)]
    Sink(sink::Sink),
}

fn level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err("expected error, warn, info, debug or trace".to_owned()),
    }
}

/// What a command ends with; the message has been told by then.
type Ended = Result<(), anyhow::Error>;

/// A command failed, and everything about it was said already.
#[derive(Debug, thiserror::Error)]
#[error("")]
struct Said;

/// Threads that still wait for a disk or a name server when everything has ended get so long. By then nothing that
/// matters depends on them, and one that hangs must not hold the process.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// Reads the command line and does what it says.
pub fn run(sinks: Sinks) -> ExitCode {
    // clap itself ends the process with 2 when the words are off, with 0 for --help.
    let Line { common, command } = Line::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cdr-gateway: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(dispatch(command.unwrap_or(Command::Run), common, sinks));
    runtime.shutdown_timeout(STRAGGLERS);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Said>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cdr-gateway: {}", told::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command, common: Common, sinks: Sinks) -> Ended {
    match command {
        Command::Run => serve::run(common, sinks).await,
        Command::Init(init) => init.run(),
        Command::Check(check) => check.run(&common, &sinks).await,
        Command::Reload => reload::run(&common).await,
        Command::Demo(demo) => demo.run(&common, sinks).await,
        Command::Send(send) => send.run(&common).await,
        Command::Trace(trace) => trace.run(&common).await,
        Command::Tail(tail) => tail.run(&common).await,
        Command::Dead(dead) => dead.run(&common).await,
        Command::Quarantine(quarantine) => quarantine.run(&common).await,
        Command::Archive(archive) => archive.run(&common, &sinks).await,
        Command::Explain(explain) => explain.run(&common, &sinks),
        Command::Schema => schema::run(&sinks),
        Command::Sink(sink) => sink.run(&common).await,
        Command::Replay(replay) => replay.run(&common).await,
    }
}

impl Common {
    fn source(&self) -> Source {
        Source::find(self.config.clone())
    }

    fn wants_json(&self) -> bool {
        self.format == Some(Format::Json)
    }

    /// The plan of the configuration; its faults are told to stderr, a line each.
    fn plan(&self, sinks: &Sinks) -> Result<(Plan, Vec<Finding>), anyhow::Error> {
        told(config::load(&self.source(), sinks, config::environment()))
    }

    /// Where the configuration keeps its spool; faults are told like those of a plan.
    fn whereabouts(&self) -> Result<Whereabouts, anyhow::Error> {
        told(config::whereabouts(&self.source(), config::environment()))
    }

    /// Who may push; faults are told like those of a plan.
    fn door(&self) -> Result<IngressSettings, anyhow::Error> {
        told(config::door(&self.source(), config::environment()))
    }

    /// Where the running gateway is asked; faults are told like those of a plan.
    fn admin(&self) -> Result<Admin, anyhow::Error> {
        told(config::admin(&self.source(), config::environment()))
    }
}

/// Tells faults to stderr, a line each.
fn told<T>(read: Result<T, Vec<Finding>>) -> Result<T, anyhow::Error> {
    read.map_err(|faults| {
        faults.iter().for_each(|fault| eprintln!("{fault}"));
        Said.into()
    })
}

/// Whether colours and bars make sense on stderr.
fn has_people_at_stderr() -> bool {
    std::io::stderr().is_terminal()
}
