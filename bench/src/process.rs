//! The processes of a run: the benchmark's own binary in one of its roles, or a gateway. Each is killed when it
//! is dropped, and by the system when the benchmark dies.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal, setsid};
use serde::de::DeserializeOwned;

/// What the kernel's autogroup scheduling gives a measured process, where it lets us: with it, the load and the
/// receiver on the same two cores do not decide how fast the subject looks.
const FAVOUR: &str = "-10";

/// A process that runs.
pub struct Process(Child);

impl Process {
    /// Runs a program as something that is measured. It says nothing and is told nothing.
    pub fn measured(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = own_binary()?;
        command.arg("measured").arg("--").arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("cannot run {}", program.display()))?))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "the process that was asked to stop ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of the roles, which answers in lines of JSON.
pub struct Role {
    process: Process,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Role {
    /// Starts a role beside what is measured.
    pub fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = own_binary()?;
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a role that is measured itself.
    pub fn measured(arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = own_binary()?;
        command.arg("measured").arg("--").arg(env::current_exe()?).args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a process of the benchmark")?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(tell), Some(said)) = pipes else { anyhow::bail!("a process without its pipes") };
        Ok(Self { process: Process(child), tell, said: BufReader::new(said) })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next thing that it says.
    pub fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        serde_json::from_str(&line)
            .with_context(|| format!("a process of the benchmark ended or said {line:?}"))
    }

    /// Tells it something.
    pub fn tell(&mut self, word: impl std::fmt::Display) -> anyhow::Result<()> {
        Ok(writeln!(self.tell, "{word}")?)
    }
}

fn own_binary() -> anyhow::Result<Command> {
    Ok(Command::new(env::current_exe()?))
}

/// Lets this process die with the benchmark.
///
/// # Errors
/// The system refuses.
pub fn die_with_parent() -> anyhow::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Turns this process into a program that is measured.
///
/// # Errors
/// There is no such program; this never returns otherwise.
pub fn become_measured(program: &[String]) -> anyhow::Result<()> {
    die_with_parent()?;
    // A session of its own is an autogroup of its own.
    setsid()?;
    // Only an administrator may; `is_favoured` tells whether it worked.
    let _ = fs::write("/proc/self/autogroup", FAVOUR);
    let (name, arguments) = program.split_first().context("no program to become")?;
    let error = Command::new(name).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {name}"))
}

/// Whether a measured process got its share.
pub fn is_favoured(id: u32) -> bool {
    let group = fs::read_to_string(format!("/proc/{id}/autogroup")).unwrap_or_default();
    group.trim().ends_with(&format!("nice {FAVOUR}"))
}
