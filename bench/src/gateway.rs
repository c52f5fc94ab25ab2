//! The gateway as it is measured: the built binary, told where to send everything.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::process::Process;

/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary to measure: the one that was named, or the release build, made when it is missing or old.
///
/// # Errors
/// There is none.
pub fn built(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return named.canonicalize().with_context(|| format!("no gateway at {}", named.display()));
    }
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--package", "cdr-gateway", "--bin", "cdr-gateway"]);
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the gateway does not build; see above");
    Ok(target()?.join("release/cdr-gateway"))
}

/// Cargo's target folder: benchmarks lie in `target/release/deps`.
pub fn target() -> anyhow::Result<PathBuf> {
    let own = env::current_exe()?;
    Ok(own.ancestors().nth(3).context("this is no benchmark that cargo built")?.to_owned())
}

/// A sink of the configuration.
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Its kind and settings.
    pub settings: Value,
}

impl Sink {
    /// A CRM.
    pub fn http(name: &str, url: &str) -> Self {
        Self { name: name.to_owned(), settings: json!({ "http": { "url": url } }) }
    }

    /// The file archive, many pushes in a file; a file is written after a second, so that the end of a run is not
    /// mostly waiting.
    pub fn archive() -> Self {
        Self {
            name: "archive".to_owned(),
            settings: json!({ "file": { "path": "archive", "layout": "ndjson", "batch": { "age": "1s" } } }),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    process: Process,
    /// Where pushes go.
    pub url: String,
    /// From starting the process to `/readyz` answering 200.
    pub ready_after: Duration,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts it in a folder, with these sinks and one route that sends every push to all of them, if any; returns when it
    /// is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        binary: &Path,
        folder: &Path,
        log: &str,
        sinks: &[Sink],
        limits: &Value,
    ) -> anyhow::Result<Self> {
        let (door, admin) = (free_address()?, free_address()?);
        let names: Vec<&str> = sinks.iter().map(|sink| &*sink.name).collect();
        let settings: serde_json::Map<_, _> =
            sinks.iter().map(|sink| (sink.name.clone(), sink.settings.clone())).collect();
        // A route goes somewhere.
        let routes = match names.is_empty() {
            true => json!([]),
            false => json!([{ "name": "every push goes everywhere", "to": names }]),
        };
        let configuration = json!({
            "ingress": { "listen": door.to_string(), "limits": limits },
            "spool": { "path": "spool" },
            "sinks": settings,
            "routes": routes,
            // A receiver that comes back is noticed within a second; waiting is not what is measured.
            "retry": { "initial": "1s", "max": "1s" },
            "alerts": { "to": [] },
            "admin": { "listen": admin.to_string() },
            "log": { "level": log },
        });
        let file = folder.join("gateway.yaml");
        fs::write(&file, configuration.to_string())?;
        check(binary, &file)?;
        let began = Instant::now();
        let file = file.to_str().context("the folder's name is no text")?;
        let mut process = Process::measured(binary, &["run", "--config", file])?;
        while !ask(admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
            if let Some(status) = process.ended()? {
                bail!("the gateway ended with {status}; see why: {} run --config {file}", binary.display());
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "the gateway is not ready after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { process, url: format!("http://{door}/"), ready_after: began.elapsed(), admin })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until these lanes owe nothing. Asks seldom, as each question costs what is being measured.
    ///
    /// # Errors
    /// One of them stands still.
    pub fn until_idle(&self, sinks: &[&str]) -> anyhow::Result<()> {
        let (mut owed_before, mut changed) = (0, Instant::now());
        loop {
            let owed: u64 = sinks.iter().map(|sink| self.owed(sink)).sum::<anyhow::Result<_>>()?;
            if owed == 0 {
                return Ok(());
            }
            if owed != owed_before {
                (owed_before, changed) = (owed, Instant::now());
            }
            anyhow::ensure!(
                changed.elapsed() < PATIENCE,
                "{owed} deliveries are left, and none is made any more"
            );
            thread::sleep(Duration::from_millis(25));
        }
    }

    /// Positions that a lane has not read, and deliveries that it has not closed: 0 when it owes nothing.
    fn owed(&self, sink: &str) -> anyhow::Result<u64> {
        let (_, lanes) = ask(self.admin, "/api/v1/lanes")?;
        let lanes: Value = serde_json::from_str(&lanes)?;
        let mut known = lanes["lanes"].as_array().into_iter().flatten();
        let lane = known.find(|lane| lane["sink"] == sink);
        let lane = lane.with_context(|| format!("the gateway knows no lane {sink}: {lanes}"))?;
        let number =
            |name: &str| lane[name].as_u64().with_context(|| format!("a lane without {name}: {lane}"));
        Ok(number("unread")? + number("open")?)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

/// Faults of the configuration are told here, as the measured process has nobody to tell.
fn check(binary: &Path, file: &Path) -> anyhow::Result<()> {
    let mut check = Command::new(binary);
    check.arg("check").arg("--config").arg(file).stdout(Stdio::null()).stderr(Stdio::piped());
    let checked = check.output().with_context(|| format!("cannot run {}", binary.display()))?;
    let said = String::from_utf8_lossy(&checked.stderr);
    anyhow::ensure!(checked.status.success(), "the gateway does not take its configuration: {said}");
    Ok(())
}

/// A port that nobody has at present.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Status and body.
fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
