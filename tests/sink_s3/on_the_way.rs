//! Trouble between the sink and the server: connections that are cut in mid-upload, somebody who throttles, long ways.
//!
//! The server behind is the one of the tests or, with `CDR_S3`, one of your own.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use cdr_tests::{Process, cli};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, copy},
    net::TcpStream,
};

use super::*;

/// What a connection meets.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// It is cut when so many bytes of it have reached the server.
    Cut(u64),
    /// Its first request is answered with 503 `SlowDown`, and the server hears nothing of it.
    SlowDown,
    /// What the server says first comes so much later, and all that it says then.
    Late(Duration, Duration),
}

/// A proxy before a server, for connections of which each meets the next trouble; none, when none is left.
struct Proxy {
    endpoint: String,
    troubles: Arc<Mutex<VecDeque<Trouble>>>,
}

impl Proxy {
    async fn before(server: &str, troubles: impl IntoIterator<Item = Trouble>) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let troubles = Arc::new(Mutex::new(VecDeque::from_iter(troubles)));
        let left = troubles.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let trouble = left.lock().unwrap().pop_front();
                let server = server.clone();
                tokio::spawn(async move { pass(client, &server, trouble).await });
            }
        });
        Self { endpoint, troubles }
    }

    fn left(&self) -> usize {
        self.troubles.lock().unwrap().len()
    }
}

/// An error is an end as good as any.
async fn pass(mut client: TcpStream, server: &str, trouble: Option<Trouble>) -> io::Result<()> {
    if let Some(Trouble::SlowDown) = trouble {
        return slow_down(client).await;
    }
    let mut server = TcpStream::connect(server).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let most = if let Some(Trouble::Cut(most)) = trouble { most } else { u64::MAX };
    let (first, then) =
        if let Some(Trouble::Late(first, then)) = trouble { (first, then) } else { Default::default() };
    tokio::select! {
        ended = copy_up_to(most, from_client, to_server) => ended,
        ended = copy_later([first, then], from_server, to_client) => ended,
    }
}

async fn copy_up_to(
    most: u64,
    from: impl AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
) -> io::Result<()> {
    copy(&mut from.take(most), &mut to).await.map(drop)
}

async fn copy_later(
    [mut late, then]: [Duration; 2],
    mut from: impl AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::mem::replace(&mut late, then)).await;
        to.write_all(&piece[..length]).await?;
    }
}

async fn slow_down(client: TcpStream) -> io::Result<()> {
    const SAID: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your \
                        request rate.</Message></Error>";
    let mut client = BufReader::new(client);
    let (_, _) = read_request(&mut client).await?;
    let length = SAID.len();
    let head = format!(
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(format!("{head}{SAID}").as_bytes()).await
}

/// Head, up to the empty line, and body of a request.
pub(super) async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while stream.read_line(&mut head).await? > 2 {}
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok((head, body))
}

/// An object of so many bodies goes in parts.
const TOGETHER: usize = 12;
const BODY: usize = 450_000;
/// A second object, which does not.
const PUSHES: usize = TOGETHER + 2;

/// Brings pushes through the whole gateway to `server` while the way is bad; then the bucket itself says that each is there once.
async fn each_push_arrives_once(settings: Value, layouts: &[&str]) {
    for &layout in layouts {
        let troubles = [
            Trouble::SlowDown,
            // In the second part, where objects go in parts.
            Trouble::Cut((5 << 20) + (1 << 16)),
            Trouble::SlowDown,
            Trouble::SlowDown,
            Trouble::Cut(1 << 20),
            Trouble::Cut(100_000),
        ];
        let proxy = Proxy::before(settings["endpoint"].as_str().unwrap(), troubles).await;
        let mut s3 = with(
            settings.clone(),
            json!({ "endpoint": proxy.endpoint, "layout": layout, "part_size": "5MiB", "timeout": "20s" }),
        );
        s3["prefix"] = json!(format!("{}{layout}/", s3["prefix"].as_str().unwrap()));
        if layout != "raw" {
            s3["compression"] = json!("none");
            s3["batch"] = json!({ "pushes": TOGETHER, "age": "2s" });
        }
        let configuration = json!({
            "ingress": { "listen": "127.0.0.1:0" }, "admin": { "listen": "127.0.0.1:0" },
            "spool": { "path": "data/spool" },
            "sinks": { "archive": { "s3": s3 } },
            "routes": [{ "name": "every push is archived", "to": ["archive"] }],
            "retry": { "initial": "50ms", "factor": 2, "max": "200ms" },
        });
        let folder = tempfile::tempdir().unwrap();
        let gateway = Process::start(folder.path(), &configuration.to_string());
        let folder = folder.path().to_owned();
        let pushing = tokio::task::spawn_blocking(move || {
            for number in 0..PUSHES {
                let body = json!({ "SessionId": format!("s-{number}"), "Uui": "x".repeat(BODY) }).to_string();
                assert_eq!(gateway.push("cdr", body.as_bytes(), None).err_code(), 0);
            }
            gateway.until_delivered();
            drop(gateway);
            cli(&folder, &["archive", "verify", "--format", "json"], &[])
        });
        let verified = pushing.await.unwrap();
        assert_eq!(verified.code, Some(0), "{layout}: {} {}", verified.stdout, verified.stderr);
        let findings: Value = serde_json::from_str(&verified.stdout).unwrap();
        assert_eq!((&findings["pushes"], &findings["expected"]), (&json!(PUSHES), &json!(PUSHES)));
        assert_eq!(proxy.left(), 0, "{layout}: all troubles were met");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_cut_and_throttled_bring_each_push_once() {
    let server = server().await;
    each_push_arrives_once(settings(&server), &["ndjson"]).await;
    assert!(server.objects(BUCKET).iter().all(|object| object.puts == 1 && !object.overwritten));
    assert!(server.objects(BUCKET).iter().any(|object| object.kept.in_parts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_has_each_push_once_though_uploads_are_cut_and_throttled() {
    let Some(settings) = own_server::server() else { return };
    each_push_arrives_once(settings, &["ndjson", "parquet", "raw"]).await;
}

/// The lane ends an attempt after its own deadline; before that the sink must be able to say what was slow.
#[tokio::test]
async fn one_time_limit_covers_all_parts_of_an_object() {
    let server = server().await;
    // The answer to the beginning alone keeps the limit, and so do those to two parts and the end.
    let late = Trouble::Late(Duration::from_millis(2700), Duration::from_millis(300));
    let proxy = Proxy::before(&server.endpoint(), [late; 9]).await;
    let late = json!({ "endpoint": proxy.endpoint, "timeout": "3s" });
    let sink = sink(with(many::lines(&server), late));
    let report = sink.deliver(&many::sealed(&sink, (1..=4).map(many::large))).await;
    for outcome in report.outcomes() {
        let Outcome::Retry(failure) = outcome else { panic!("{report:?}") };
        assert!(failure.reason.ends_with("within 3 s"), "{failure:?}");
    }
}
