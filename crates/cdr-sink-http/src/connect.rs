//! The way to the receiver: connections, and words for the operator when there is none.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{net::TcpStream, sync::OnceCell};
use tower_service::Service;

use crate::pool::{Connection, Pool};

/// Where pushes go.
pub(crate) struct Receiver {
    uri: Uri,
    connect_timeout: Duration,
    // Made at the first attempt: reading the system's certificates is no job for `build`, which does no I/O.
    connector: OnceCell<Connector>,
    pool: Pool,
}

/// Why a request got no answer.
pub(crate) enum NoAnswer {
    /// There was no connection: the receiver has not seen the push.
    NotConnected(String),
    /// The connection broke: the receiver may have taken the push.
    Broken(String),
}

impl Receiver {
    pub fn new(uri: Uri, connect_timeout: Duration) -> Self {
        Self { uri, connect_timeout, connector: OnceCell::new(), pool: Pool::default() }
    }

    /// Scheme, host and port; the path may be a secret.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.uri.scheme_str().unwrap_or_default(), self.host_and_port())
    }

    fn host_and_port(&self) -> String {
        let default = if self.is_https() { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(default);
        format!("{}:{port}", self.uri.host().unwrap_or_default())
    }

    fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Connects and hangs up.
    pub async fn probe(&self) -> Result<(), String> {
        let connector = self.connector().await?;
        let connected = connector.connect(&self.uri).await;
        connected.map(drop).map_err(|fault| fault.at(&self.host_and_port()))
    }

    /// Sends a request on a connection that is free, or on a new one. Whoever has read the answer to its end gives the
    /// connection [back](Self::give_back).
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), NoAnswer> {
        while let Some(mut connection) = self.pool.take() {
            if connection.ready().await.is_err() {
                continue;
            }
            let mut error = match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) => error,
            };
            // It was closed before a byte of the request was written: the next one may do.
            match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(self.broken(&error.into_error())),
            }
        }
        let mut connection = self.connect().await?;
        match connection.send_request(request).await {
            Ok(response) => Ok((response, connection)),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// A connection whose answer was read to its end.
    pub fn give_back(&self, connection: Connection) {
        self.pool.give_back(connection);
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let connector = self.connector().await.map_err(NoAnswer::NotConnected)?;
        let connected = connector.connect(&self.uri).await;
        let stream = connected.map_err(|fault| NoAnswer::NotConnected(fault.at(&self.host_and_port())))?;
        let shaken = http1::handshake(stream).await;
        let (requests, connection) = shaken.map_err(|error| self.broken(&error))?;
        // Its errors reach the request that meets them.
        tokio::spawn(connection);
        Ok(requests)
    }

    fn broken(&self, error: &hyper::Error) -> NoAnswer {
        let how = match error {
            _ if error.is_incomplete_message() => "it was closed".to_owned(),
            _ if error.is_parse() => "what came is not HTTP/1.1".to_owned(),
            _ => root(error),
        };
        NoAnswer::Broken(format!("the connection to {} broke before an answer: {how}", self.host_and_port()))
    }

    async fn connector(&self) -> Result<&Connector, String> {
        self.connector.get_or_try_init(|| self.make_connector()).await
    }

    async fn make_connector(&self) -> Result<Connector, String> {
        let tls = match self.is_https() {
            false => tls(|builder| Ok(builder.with_root_certificates(RootCertStore::empty()))),
            true => tokio::task::spawn_blocking(|| tls(ConfigBuilderExt::with_native_roots))
                .await
                .map_err(|_| "stopping while the trusted certificates were read".to_owned())?,
        };
        let tls = tls.map_err(|error| {
            format!("{error}: install the system's ca-certificates or name a file of them in SSL_CERT_FILE")
        })?;
        Ok(Connector::new(tls, self.connect_timeout))
    }
}

type WantsRoots = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;
type HasRoots = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

/// Names the provider instead of relying on the process's default: a library must not depend on what `main` does.
fn tls(roots: impl FnOnce(WantsRoots) -> io::Result<HasRoots>) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(roots(builder)?.with_no_client_auth())
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connects by TCP, and TLS where the address says so, within a time; its errors are [`ConnectFault`]s.
struct Connector {
    https: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    fn new(tls: ClientConfig, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self { https, timeout }
    }

    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectFault> {
        let connecting = self.https.clone().call(uri.clone());
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| ConnectFault::of(&*error)),
            Err(_) => Err(ConnectFault::Timeout(self.timeout)),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum ConnectFault {
    Refused,
    NoSuchHost(String),
    Timeout(Duration),
    UntrustedCertificate(String),
    Tls(String),
    Other(String),
}

impl ConnectFault {
    fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(tls) = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
            return match tls {
                rustls::Error::InvalidCertificate(_) => Self::UntrustedCertificate(tls.to_string()),
                _ => Self::Tls(tls.to_string()),
            };
        }
        // hyper-util tells the failed lookup of a host by this text alone.
        if error.to_string() == "dns error" {
            return Self::NoSuchHost(root(error));
        }
        let io = chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).last();
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            _ => Self::Other(root(error)),
        }
    }

    /// In the operator's words.
    fn at(&self, host: &str) -> String {
        match self {
            Self::Refused => format!("nobody listens at {host}"),
            Self::NoSuchHost(why) => {
                format!("the host of {host} was not found ({why}); check url and the DNS")
            }
            Self::Timeout(after) => {
                format!(
                    "no connection to {host} within {after:?}; a firewall may swallow it, or it is overloaded"
                )
            }
            Self::UntrustedCertificate(why) => {
                format!(
                    "the certificate of {host} is not trusted ({why}); check url, the receiver's certificate, and the trusted ones in SSL_CERT_FILE or the system"
                )
            }
            Self::Tls(why) => format!("no TLS with {host} ({why}); check that it speaks https on that port"),
            Self::Other(why) => format!("no connection to {host}: {why}"),
        }
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at("the receiver"))
    }
}

impl Error for ConnectFault {}

/// An error and all that lies below it. `io::Error` hides what it wraps from `source`, which gives the source
/// of that instead.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// The text of the deepest error.
fn root(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
