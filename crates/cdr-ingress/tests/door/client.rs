//! A sender that writes what it is told, byte by byte, and reads what comes.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A push as TCCC sends it.
pub const CDR: &str = r#"{"SdkAppId":1400000214,"SessionId":"s-1","EndStatusString":"ok"}"#;

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Client<S = TcpStream>(pub S);

/// An answer, read to its announced end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    /// The one answer that tells TCCC that the push has arrived.
    #[track_caller]
    pub fn is_ok(&self) {
        assert_eq!((self.status, self.body.as_str()), (200, r#"{"ErrCode":0,"ErrMsg":"ok"}"#), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
    }

    /// A refusal as the table has it, whose text has these words in it.
    #[track_caller]
    pub fn is(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body["ErrCode"], status, "{self:?}");
        let said = body["ErrMsg"].as_str().expect("a text");
        assert!(said.contains(words), "{words:?} not in {said:?}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{self:?}");
    }

    pub fn closes(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value == "close")
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// From an address of its own.
    pub async fn connect_from(from: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        Self(socket.connect(address).await.expect("a connection"))
    }

    /// Vanishes with a reset, as a crashed machine's successor does.
    pub fn reset(self) {
        self.0.set_zero_linger().expect("a socket");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.expect("a reader");
    }

    /// Writes all, unless the door hangs up before.
    pub async fn write_if_heard(&mut self, bytes: &[u8]) {
        let written = tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await;
        drop(written.expect("the door reads or hangs up in time"));
    }

    /// Writes the same over and over, and reads nothing, until the door hangs up.
    pub async fn write_until_closed(&mut self, text: &[u8]) {
        let write = async { while self.0.write_all(text).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, write).await.expect("the door hangs up in time");
    }

    /// Everything that comes until the door closes, or loses patience with us.
    pub async fn all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        let read = async {
            while let Ok(bytes @ 1..) = self.0.read(&mut piece).await {
                all.extend_from_slice(&piece[..bytes]);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the door closes in time");
        all
    }

    /// Closes the direction towards the door.
    pub async fn half_close(&mut self) {
        self.0.shutdown().await.expect("open until now");
    }

    pub async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(
                self.byte()
                    .await
                    .unwrap_or_else(|| panic!("no answer, but {:?}", String::from_utf8_lossy(&head))),
            );
        }
        let head = String::from_utf8(head).expect("ASCII");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        let read = self.0.read_exact(&mut body);
        tokio::time::timeout(PATIENCE, read).await.expect("a body in time").expect("a whole body");
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    async fn byte(&mut self) -> Option<u8> {
        let read = self.0.read_u8();
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time").ok()
    }

    /// Nothing more comes: the door has closed.
    pub async fn is_closed(&mut self) {
        assert_eq!(self.byte().await, None, "the connection is still open");
    }
}

/// A push with these lines in its head, and a body of any bytes.
pub fn push_bytes(target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let lines: String =
        [&[length.as_str()], lines].concat().iter().map(|line| format!("{line}\r\n")).collect();
    [format!("POST {target} HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n").as_bytes(), body].concat()
}

/// A push with these lines in its head.
pub fn push(target: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {length}\r\n{lines}\r\n{body}")
}

/// A push as TCCC sends it, to the default path.
pub fn cdr() -> String {
    push("/?action=cdr&version=1", &["Content-Type: application/json;charset=utf8"], CDR)
}

/// The head of a push whose body, [`CDR`], the sender keeps until it is asked for it with a 100.
pub fn expecting(target: &str) -> String {
    let request = push(target, &["Expect: 100-continue"], CDR);
    request[..request.len() - CDR.len()].to_owned()
}

/// Sends one request on a connection of its own.
pub async fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.write(request).await;
    client.answer().await
}
