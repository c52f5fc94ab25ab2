//! The gateway's process: the built binary, started in a folder of its own, stopped in all ways there are.

use std::{
    fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use crate::{
    FaultyDisk,
    secrecy::{Secrets, no_number_is_in},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The built binary.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("cdr-gateway", &["--workspace", "--bins"], SystemTime::UNIX_EPOCH))
}

/// The same gateway with a kind of sink more: `own_gateway.rs`.
fn own_gateway() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let what = ["--package", "cdr-tests", "--example", "own-gateway-of-tests"];
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/own_gateway.rs"));
    BINARY.get_or_init(|| built("examples/own-gateway-of-tests", &what, modified(source)))
}

/// A program in the target directory; builds it when it is missing or older than the crates' sources or `source`, as after
/// `cargo test -p cdr-tests`.
fn built(program: &str, what: &[&str], source: SystemTime) -> PathBuf {
    let deps = std::env::current_exe().expect("this test runs");
    let profile = deps.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").to_owned();
    let program = profile.join(program);
    let built = fs::metadata(&program).and_then(|found| found.modified());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    if built.is_ok_and(|built| newest(&sources).max(source) <= built) {
        return program;
    }
    let mut build = Command::new(env!("CARGO"));
    build.arg("build").args(what).arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo starts").success(), "the gateway does not build");
    program
}

/// When the newest Rust file that becomes part of the program was changed.
fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).expect("sources are readable").flatten() {
        let path = entry.path();
        let changed = match path.is_dir() {
            true if path.ends_with("tests") => continue,
            true => self::newest(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => modified(&path),
            false => continue,
        };
        newest = newest.max(changed);
    }
    newest
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A run of the command line that ended.
pub struct Cli {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it said to stdout, byte for byte.
    pub bytes: Vec<u8>,
    /// The same as text.
    pub stdout: String,
    /// What it said to stderr.
    pub stderr: String,
}

/// Runs the command line in `folder` to its end, with these environment variables.
pub fn cli(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Cli {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).envs(environment.iter().copied()).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let secrets = Secrets::of(folder, environment);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        secrets.are_not_in(&format!("{arguments:?}"), &text);
        text
    };
    Cli { code: status.code(), stdout: text(&stdout), stderr: text(&stderr), bytes: stdout }
}

/// A command that goes on until it is stopped, such as `tail`; killed when it is dropped.
pub struct Following {
    child: Child,
    secrets: Secrets,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
    /// Runs the command line in `folder`.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                said.lock().expect("nobody panics here").push(line);
            }
        });
        Self { child, secrets: Secrets::of(folder, &[]), lines }
    }

    /// What it said to stdout so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics here").clone()
    }

    /// Waits for a line that contains all of this.
    pub fn until_said(&self, parts: &[&str]) -> String {
        let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
        until(&format!("{parts:?} is said"), || self.lines().into_iter().find(has_all))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.lines().join("\n");
        match thread::panicking() {
            true => eprintln!("what the command said:\n{said}"),
            false => self.secrets.are_not_in("a command", &said),
        }
    }
}

/// A gateway that runs; killed when it is dropped.
pub struct Process {
    child: Child,
    folder: PathBuf,
    /// As of the start.
    secrets: Secrets,
    log: Arc<Mutex<Vec<Value>>>,
    /// Ends with the process.
    reader: Option<thread::JoinHandle<()>>,
    /// Where pushes go.
    pub door: SocketAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
}

impl Process {
    /// Writes `gateway.yaml` into `folder`, runs the gateway there and waits until it is ready.
    pub fn start(folder: &Path, configuration: &str) -> Self {
        fs::write(folder.join("gateway.yaml"), configuration).expect("the folder is writable");
        Self::start_again(folder)
    }

    /// Runs the gateway on the `gateway.yaml` that is there.
    pub fn start_again(folder: &Path) -> Self {
        Self::spawn(folder, Command::new(binary()))
    }

    /// The same as [`start`](Self::start), with the sink that panics.
    pub fn start_own(folder: &Path, configuration: &str) -> Self {
        fs::write(folder.join("gateway.yaml"), configuration).expect("the folder is writable");
        Self::spawn(folder, Command::new(own_gateway()))
    }

    /// The same as [`start`](Self::start), but what the gateway sees in the folder `disk` is a real file system of
    /// its own, of so many MiB; nobody outside sees it, and it goes when the gateway ends.
    pub fn start_on_small_disk(folder: &Path, configuration: &str, disk: &Path, mib: u32) -> Self {
        fs::write(folder.join("gateway.yaml"), configuration).expect("the folder is writable");
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\"");
        let namespace = ["--user", "--map-root-user", "--mount", "sh", "-c", &mount];
        let allowed = Command::new("unshare").args(&namespace[..3]).arg("true").status();
        assert!(
            allowed.is_ok_and(|status| status.success()),
            "this test mounts a small file system where only the gateway sees it: it needs `unshare` of util-linux and \
             user namespaces (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
        );
        let mut command = Command::new("unshare");
        command.args(namespace).arg(disk).arg(binary());
        Self::spawn(folder, command)
    }

    /// `kill -9` so long after the start, ready or not.
    pub fn kill_while_starting(folder: &Path, after: Duration) {
        let mut child = launch(folder, Command::new(binary()));
        thread::sleep(after);
        child.kill().expect("it was ours");
        child.wait().expect("it was ours");
    }

    /// The same as [`start`](Self::start), on a disk that fails when it is told.
    pub fn start_on_faulty_disk(folder: &Path, configuration: &str, disk: &FaultyDisk) -> Self {
        fs::write(folder.join("gateway.yaml"), configuration).expect("the folder is writable");
        let mut command = Command::new(binary());
        command.envs(disk.environment());
        Self::spawn(folder, command)
    }

    fn spawn(folder: &Path, command: Command) -> Self {
        let mut child = launch(folder, command);
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().expect("nobody panics here").push(line);
            }
        });
        let (secrets, reader) = (Secrets::of(folder, &[]), Some(reader));
        let folder = folder.to_owned();
        let mut process = Self { child, folder, secrets, log, reader, door: unknown(), admin: unknown() };
        let ready = until("the gateway is ready", || {
            if let Ok(Some(status)) = process.child.try_wait() {
                panic!("the gateway ended with {status}: {:#?}", process.log());
            }
            process.log().into_iter().find(|line| line["message"] == "ready: pushes are taken")
        });
        let address =
            |name: &str| ready[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
        (process.door, process.admin) = (address("address"), address("admin"));
        process
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it logged so far, line by line.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().expect("nobody panics here").clone()
    }

    /// Waits for a line whose message begins like this.
    pub fn until_logged(&self, message: &str) -> Value {
        let begins = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with(message));
        until(message, || self.log().into_iter().find(|line| begins(line)))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
    }

    /// SIGTERM, and waits for the end; gives the exit code.
    pub fn terminate(self) -> Option<i32> {
        self.ask_to_end();
        self.ended()
    }

    /// SIGTERM, and goes on while it stops.
    pub fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// Waits for the end; gives the exit code.
    pub fn ended(mut self) -> Option<i32> {
        until("the gateway ends", || self.child.try_wait().expect("it was ours")).code()
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Pushes a body as TCCC does, with a UUID of its own unless one is given.
    pub fn push(&self, action: &str, body: &[u8], uuid: Option<&str>) -> Answer {
        let uuid = uuid.map(|uuid| format!("X-TCCC-PUSH-UUID: {uuid}\r\n")).unwrap_or_default();
        let target = format!("/?action={action}&version=1");
        let headers = format!("Host: {}\r\nContent-Type: application/json;charset=utf8\r\n{uuid}", self.door);
        let answer = exchange(self.door, "POST", &target, &headers, body);
        self.secrets.are_not_in("an answer", &format!("{}{}", answer.head, answer.body));
        answer
    }

    /// Asks the admin listener.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, &format!("Host: {}\r\n", self.admin))
    }

    /// The same with headers of one's own, each with its line end.
    pub fn ask_with(&self, method: &str, path: &str, headers: &str) -> Answer {
        let answer = exchange(self.admin, method, path, headers, b"");
        self.secrets.are_not_in(path, &format!("{}{}", answer.head, answer.body));
        answer
    }

    /// Waits until no lane owes anything, for as long as they owe less and less.
    pub fn until_delivered(&self) {
        let mut least = u64::MAX;
        while least > 0 {
            least = until("less is owed", || Some(self.owed()).filter(|&owed| owed < least));
        }
    }

    /// Waits until no lane owes anything but this one, which has seen everything.
    pub fn until_delivered_but(&self, sink: &str) {
        until("everything else is delivered", || {
            let lanes = self.ask("GET", "/api/v1/lanes").json();
            let idle = |lane: &Value| (lane["open"] == 0 || lane["sink"] == sink) && lane["unread"] == 0;
            lanes["lanes"].as_array()?.iter().all(idle).then_some(())
        });
    }

    /// A last look, if it still answers: some tests stop or hang it.
    fn look_at_metrics(&self) {
        let Ok(mut stream) = TcpStream::connect_timeout(&self.admin, Duration::from_secs(1)) else { return };
        let mut told = String::new();
        let asked = stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .and_then(|()| stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n"))
            .and_then(|()| stream.read_to_string(&mut told));
        if asked.is_ok() {
            self.secrets.are_not_in("/metrics", &told);
        }
    }

    fn owed(&self) -> u64 {
        let lanes = self.ask("GET", "/api/v1/lanes").json();
        let owed = |lane: &Value| lane["open"].as_u64().unwrap_or(1) + lane["unread"].as_u64().unwrap_or(1);
        lanes["lanes"].as_array().expect("a list of lanes").iter().map(owed).sum()
    }

    /// The state of a lane.
    pub fn lane(&self, sink: &str) -> Value {
        let lanes = self.ask("GET", "/api/v1/lanes").json();
        let lanes = lanes["lanes"].as_array().cloned().unwrap_or_default();
        lanes.into_iter().find(|lane| lane["sink"] == sink).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.look_at_metrics();
        }
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let log = self.log();
        let lines: Vec<String> = log.iter().map(ToString::to_string).collect();
        match thread::panicking() {
            true => eprintln!("what the gateway logged:\n{}", lines.join("\n")),
            false => {
                let secrets = [&self.secrets, &Secrets::of(&self.folder, &[])];
                secrets.iter().for_each(|of| lines.iter().for_each(|line| of.are_not_in("the log", line)));
                log.iter().for_each(no_number_is_in);
            }
        }
    }
}

fn launch(folder: &Path, mut command: Command) -> Child {
    command.args(["run", "--format", "json", "--log", "debug"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn unknown() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// `ErrCode` of the body.
    pub fn err_code(&self) -> i64 {
        self.json()["ErrCode"].as_i64().expect("an answer has an ErrCode")
    }

    /// `ErrMsg` of the body.
    pub fn err_msg(&self) -> String {
        self.json()["ErrMsg"].as_str().expect("an answer has an ErrMsg").to_owned()
    }
}

/// One request over a connection of its own, by hand: no client library smooths anything over.
pub fn exchange(address: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let answer = String::from_utf8(answer).expect("it speaks UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
