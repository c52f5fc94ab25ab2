//! Behind real proxies, nginx and HAProxy as Debian ships them: the door judges the true client, whatever it claims.
//!
//! A client is an address of loopback: `INSIDE` is allowed and `OUTSIDE` is not. The proxies listen on an address of their
//! own, so that no port of theirs can be one that the system gives to another test.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use cdr_tests::{Process, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{
    certificate::{pair, write},
    configuration,
};

const INSIDE: &str = "127.0.0.2";
const OUTSIDE: &str = "127.0.0.3";

const ALLOWED: (u16, i64) = (200, 0);
const REFUSED: (u16, i64) = (403, 403);

/// A door for `INSIDE` alone, behind proxies on this machine.
fn door() -> Value {
    let mut settings = configuration("http://127.0.0.1:1/");
    settings["ingress"]["allow"] = json!({ "networks": [INSIDE] });
    settings["ingress"]["trusted_proxies"] = json!(["127.0.0.1"]);
    settings
}

/// A program that is installed, or else fetched from Debian's packages, which takes a network.
fn program(name: &str) -> PathBuf {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    if let Some(installed) = folders.find(|folder| folder.join(name).is_file()) {
        return installed.join(name);
    }
    let fetched = FETCHED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxies");
        let has_all = |folder: &Path| ["nginx", "haproxy"].iter().all(|name| folder.join(name).is_file());
        if !has_all(&folder.join("root/usr/sbin")) {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fetch-proxies");
            let fetched = Command::new(script).arg(&folder).output().expect("the script starts");
            let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
            assert!(
                fetched.status.success(),
                "this test needs nginx and HAProxy (apt-get install nginx-light haproxy), and {script} failed: {said}"
            );
        }
        folder.join("root/usr")
    });
    fetched.join("sbin").join(name)
}

/// A proxy that runs; killed when it is dropped.
struct Proxy {
    child: Child,
    /// Where each of its ports listens.
    at: Vec<SocketAddr>,
    folder: TempDir,
}

impl Proxy {
    /// Starts a proxy with ports of its own.
    fn start(ports: usize, launch: impl Fn(&Path, &[SocketAddr]) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let held: Vec<_> = (0..ports).map(|_| TcpListener::bind("127.0.0.10:0").unwrap()).collect();
        let at: Vec<SocketAddr> = held.iter().map(|port| port.local_addr().unwrap()).collect();
        drop(held);
        let mut command = launch(folder.path(), &at);
        let libraries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxies/root/usr/lib");
        let libraries = libraries.join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let told = fs::File::create(folder.path().join("told")).unwrap();
        command.env("LD_LIBRARY_PATH", libraries).stdin(Stdio::null()).stdout(Stdio::null()).stderr(told);
        let mut proxy = Self { child: command.spawn().expect("the proxy starts"), at, folder };
        until("the proxy listens", || {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none(), "the proxy ended: {}", proxy.told());
            proxy.at.iter().all(|port| std::net::TcpStream::connect(port).is_ok()).then_some(())
        });
        proxy
    }

    /// One server with these lines in its `http` and its `location`.
    fn nginx(http: &str, location: &str) -> Self {
        Self::start(1, |folder, at| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {kind};"))
                .concat();
            let configuration = format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{ worker_connections 64; }}\n\
                 http {{ access_log off; {temporary} {http}\n\
                 server {{ listen {}; location / {{ {location} }} }} }}\n",
                at[0]
            );
            fs::write(folder.join("nginx.conf"), configuration).unwrap();
            let mut command = Command::new(program("nginx"));
            command.arg("-p").arg(folder).args(["-e", "stderr", "-c", "nginx.conf"]);
            command
        })
    }

    /// One port for each pair of a mode and the line of its `server`, without address.
    fn haproxy(door: SocketAddr, ports: &[(&str, &str)]) -> Self {
        Self::start(ports.len(), |folder, at| {
            let mut configuration = String::from(
                "global\n maxconn 200\ndefaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n",
            );
            for (number, ((mode, server), at)) in ports.iter().zip(at).enumerate() {
                configuration +=
                    &format!("listen port{number}\n bind {at}\n {mode}\n server gateway {door} {server}\n");
            }
            fs::write(folder.join("haproxy.cfg"), configuration).unwrap();
            let mut command = Command::new(program("haproxy"));
            command.args(["-db", "-f"]).arg(folder.join("haproxy.cfg"));
            command
        })
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("told")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes from one address to another with curl; gives the status and the `ErrCode`.
fn push(from: &str, to: SocketAddr, options: &[&str]) -> (u16, i64) {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let body = json!({ "SessionId": format!("behind-a-proxy-{number}") }).to_string();
    // The certificate is one for this name.
    let scheme = if options.contains(&"--cacert") { "https" } else { "http" };
    let url = format!("{scheme}://localhost/?action=cdr&version=1");
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--noproxy",
        "*",
        "-m",
        "60",
        "--interface",
        from,
        "--connect-to",
        &format!("::{to}"),
        "-w",
        "\n%{http_code}",
        "-d",
        &body,
    ]);
    let said =
        curl.args(options).arg(url).output().expect("curl is needed for this test: apt-get install curl");
    assert!(said.status.success(), "{curl:?}: {}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).unwrap();
    let (answer, status) = said.rsplit_once('\n').expect("a status stands in the last line");
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    (status.parse().unwrap(), answer["ErrCode"].as_i64().unwrap_or(-1))
}

/// What a client may write to pass for somebody else.
const CLAIMS: [&[&str]; 6] = [
    &["-H", "X-Forwarded-For: 127.0.0.2"],
    &["-H", "X-Forwarded-For: 127.0.0.2, 127.0.0.1"],
    &["-H", "X-Forwarded-For: 127.0.0.2", "-H", "X-Forwarded-For: 127.0.0.2"],
    &["-H", "Forwarded: for=127.0.0.2"],
    &["-H", "X-Real-IP: 127.0.0.2", "-H", "X-Client-IP: 127.0.0.2", "-H", "True-Client-IP: 127.0.0.2"],
    &["-H", "Connection: close, X-Forwarded-For", "-H", "X-Forwarded-For: 127.0.0.2"],
];

/// The true client decides, whatever it claims, also when clients take turns.
fn the_true_client_decides(at: SocketAddr, options: &[&str]) {
    for claim in CLAIMS {
        let claims = [options, claim].concat();
        assert_eq!(push(OUTSIDE, at, &claims), REFUSED, "{OUTSIDE} with {claim:?}");
        assert_eq!(push(INSIDE, at, options), ALLOWED);
        assert_eq!(push(OUTSIDE, at, options), REFUSED);
        let modest: Vec<String> = claims.iter().map(|text| text.replace(INSIDE, OUTSIDE)).collect();
        let modest: Vec<&str> = modest.iter().map(String::as_str).collect();
        assert_eq!(push(INSIDE, at, &modest), ALLOWED, "{INSIDE} with {modest:?}");
    }
}

fn connections(gateway: &Process) -> String {
    let metrics = gateway.ask("GET", "/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with("cdr_gateway_connections "));
    line.expect("connections are counted").to_owned()
}

#[test]
fn behind_nginx_the_true_client_decides() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &door().to_string());
    // As README shows it.
    let location = format!(
        "proxy_pass http://{}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        gateway.door
    );
    the_true_client_decides(Proxy::nginx("", &location).at[0], &[]);

    // All clients over one connection to the door.
    let upstream = format!("upstream gateway {{ server {}; keepalive 1; }}", gateway.door);
    let location = "proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
    let nginx = Proxy::nginx(&upstream, location);
    the_true_client_decides(nginx.at[0], &[]);
    assert_eq!(push(INSIDE, nginx.at[0], &[]), ALLOWED);
    assert_eq!(connections(&gateway), "cdr_gateway_connections 1.0");
}

#[test]
fn behind_haproxy_the_true_client_decides() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &door().to_string());
    let http = "mode http\n option forwardfor\n http-reuse always";
    let ports =
        [(http, ""), (http, "send-proxy-v2"), ("mode tcp", "send-proxy-v2"), ("mode tcp", "send-proxy")];
    let haproxy = Proxy::haproxy(gateway.door, &ports);
    for &at in &haproxy.at {
        the_true_client_decides(at, &[]);
    }
}

#[test]
fn through_haproxy_tls_and_http_2_are_the_doors_own_and_the_true_client_decides() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = pair("gateway");
    write(folder.path(), &certificate);
    let trusted = folder.path().join("cert.pem");
    let mut settings = door();
    settings["ingress"]["tls"] = json!({ "certificate": "cert.pem", "key": "key.pem" });
    let gateway = Process::start(folder.path(), &settings.to_string());
    let haproxy = Proxy::haproxy(gateway.door, &[("mode tcp", "send-proxy-v2")]);
    for version in ["--http1.1", "--http2"] {
        let options = ["--cacert", trusted.to_str().unwrap(), version];
        the_true_client_decides(haproxy.at[0], &options);
    }
}

/// Sends bytes from an address; gives what is answered.
async fn exchange(from: &str, to: SocketAddr, bytes: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn nobody_but_a_proxy_can_say_who_connects() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Process::start(folder.path(), &door().to_string());
    let haproxy =
        Proxy::haproxy(gateway.door, &[("mode tcp", "send-proxy-v2"), ("mode http\n option forwardfor", "")]);
    let request = b"POST /?action=cdr HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.2\r\nConnection: close\r\nContent-Length: 17\r\n\r\n{\"SessionId\":\"x\"}";
    let v1 = b"PROXY TCP4 127.0.0.2 127.0.0.1 4711 443\r\n".as_slice();
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x02\x7f\0\0\x01\x12\x67\x01\xbb".as_slice();
    for header in [v1, v2] {
        let bytes = [header, request].concat();
        for to in [gateway.door, haproxy.at[0], haproxy.at[1]] {
            let answer = exchange(OUTSIDE, to, &bytes).await;
            assert!(answer.starts_with("HTTP/1.") && answer.contains(" 400 "), "{to}: {answer}");
        }
    }
    assert!(exchange(OUTSIDE, gateway.door, request).await.contains(" 403 "));
    assert!(exchange(INSIDE, gateway.door, request).await.contains(" 200 "));
}
