//! The way to the receiver: connections, and words for the operator when there is none.

use std::{error::Error, fmt, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header, uri::Parts};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector, proxy::Tunnel},
    rt::{TokioExecutor, TokioIo},
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, sync::OnceCell};
use tower_service::Service;

use crate::{
    address::{self, Guard, Refused},
    pool::{Connection, Pool},
    settings::Tls,
    trust,
    way::{Proxy, Way},
};

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub connect_timeout: Duration,
    pub tls: Tls,
    /// Whether any address will do, also those that only a mistake or an attack leads to.
    pub allow_private: bool,
    /// Through which proxy; none for that of the environment.
    pub proxy: Option<String>,
}

/// Where pushes go.
pub(crate) struct Receiver {
    uri: Uri,
    network: Network,
    // Made at the first attempt: reading certificates and the environment is no job for `build`, which does no I/O.
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
    pub fn new(uri: Uri, network: Network) -> Self {
        Self { uri, network, connector: OnceCell::new(), pool: Pool::default() }
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
            request = self.addressed(request, &connection).await?;
            let mut error = match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) => error,
            };
            // It was closed before a byte of the request was written: the next one may do.
            match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(self.lost(&error.into_error())),
            }
        }
        let mut connection = self.connect().await?;
        let request = self.addressed(request, &connection).await?;
        match connection.try_send_request(request).await {
            Ok(response) => Ok((response, connection)),
            Err(error) => Err(self.lost(&error.into_error())),
        }
    }

    /// HTTP/2 and proxies want the whole address; whoever speaks HTTP/1.1 with the receiver itself, path and query.
    async fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
        connection: &Connection,
    ) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let connector = self.connector().await.map_err(NoAnswer::NotConnected)?;
        let forwarded = connector.forwarded.as_ref();
        let is_http2 = matches!(connection, Connection::Http2(_));
        if !is_http2 && forwarded.is_none() {
            return Ok(request);
        }
        let mut parts = Parts::default();
        parts.scheme = self.uri.scheme().cloned();
        parts.authority = self.uri.authority().cloned();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(whole) = Uri::from_parts(parts) {
            *request.uri_mut() = whole;
        }
        if is_http2 {
            request.headers_mut().remove(header::HOST);
        }
        if let Some(login) = forwarded.and_then(|way| way.login.clone()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, login);
        }
        Ok(request)
    }

    /// A connection whose answer was read to its end.
    pub fn give_back(&self, connection: Connection) {
        self.pool.give_back(connection);
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let connector = self.connector().await.map_err(NoAnswer::NotConnected)?;
        let connected = connector.connect(&self.uri).await;
        let stream = connected.map_err(|fault| NoAnswer::NotConnected(fault.at(&self.host_and_port())))?;
        // Errors of a connection reach the request that meets them.
        if stream.connected().is_negotiated_h2() {
            let shaken = http2::handshake(TokioExecutor::new(), stream).await;
            let (requests, connection) = shaken.map_err(|error| self.lost(&error))?;
            tokio::spawn(connection);
            return Ok(Connection::Http2(requests));
        }
        let shaken = http1::handshake(stream).await;
        let (requests, connection) = shaken.map_err(|error| self.lost(&error))?;
        tokio::spawn(connection);
        Ok(Connection::Http1(requests))
    }

    /// What a connection that broke after it was made means.
    fn lost(&self, error: &hyper::Error) -> NoAnswer {
        // By TLS 1.3 it is known only after the request went out what the receiver thinks of our certificate. It reads no
        // request of whom it does not let in.
        let alert = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = alert.filter(|tls| is_refusal(tls)) {
            let host = self.host_and_port();
            let reason = format!("{host} does not let us in (TLS alert {alert:?}); check tls.certificate");
            return NoAnswer::NotConnected(reason);
        }
        let how = match error {
            _ if error.is_incomplete_message() => "it was closed".to_owned(),
            _ if error.is_parse() => format!("what came cannot be read as HTTP/1.1 ({error})"),
            _ => root(error),
        };
        NoAnswer::Broken(format!("the connection to {} broke before an answer: {how}", self.host_and_port()))
    }

    async fn connector(&self) -> Result<&Connector, String> {
        self.connector.get_or_try_init(|| self.make_connector()).await
    }

    async fn make_connector(&self) -> Result<Connector, String> {
        let tls = match self.is_https() {
            false => trust::trusting_nobody()?,
            true => {
                let settings = self.network.tls.clone();
                tokio::task::spawn_blocking(move || trust::trusting(&settings))
                    .await
                    .map_err(|_| "stopping while the trusted certificates were read".to_owned())??
            }
        };
        let way = Way::to(&self.uri, self.network.proxy.as_deref())?;
        Ok(Connector::new(tls, way, &self.uri, &self.network))
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connects by TCP, and TLS where the address says so, within a time; its errors are [`ConnectFault`]s.
struct Connector {
    direct: HttpsConnector<HttpConnector<Guard>>,
    tunnel: Option<HttpsConnector<Tunnel<HttpConnector>>>,
    /// The proxy that takes requests for the receiver.
    forwarded: Option<Proxy>,
    allow_private: bool,
    timeout: Duration,
}

impl Connector {
    fn new(tls: ClientConfig, way: Way, uri: &Uri, network: &Network) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Guard::new(uri, network.allow_private));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = || {
            HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .enable_http2()
        };
        let (tunnel, forwarded) = match way {
            Way::Direct => (None, None),
            Way::Forwarded(proxy) => {
                // The operator names the proxy, so that it may lie anywhere.
                let mut to_proxy = HttpConnector::new_with_resolver(Guard::new(&proxy.uri, true));
                to_proxy.set_nodelay(true);
                let direct = https().wrap_connector(to_proxy);
                let (allow_private, timeout) = (true, network.connect_timeout);
                return Self { direct, tunnel: None, forwarded: Some(proxy), allow_private, timeout };
            }
            Way::Tunnelled(proxy) => {
                let mut to_proxy = HttpConnector::new();
                to_proxy.set_nodelay(true);
                let tunnel = Tunnel::new(proxy.uri, to_proxy);
                let tunnel = match proxy.login {
                    Some(login) => tunnel.with_auth(login),
                    None => tunnel,
                };
                (Some(https().wrap_connector(tunnel)), None)
            }
        };
        let (allow_private, timeout) = (network.allow_private, network.connect_timeout);
        Self { direct: https().wrap_connector(tcp), tunnel, forwarded, allow_private, timeout }
    }

    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectFault> {
        let uri = self.forwarded.as_ref().map_or(uri, |proxy| &proxy.uri);
        // Names are looked at when they are looked up.
        address::literal(uri, self.allow_private).map_err(ConnectFault::Refuses)?;
        let connecting = async {
            match &self.tunnel {
                None => self.direct.clone().call(uri.clone()).await,
                Some(tunnel) => tunnel.clone().call(uri.clone()).await,
            }
        };
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
    Refuses(Refused),
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
        if let Some(refused) = chain(error).find_map(|error| error.downcast_ref::<Refused>()) {
            return Self::Refuses(*refused);
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
            Self::Refuses(refused) => format!("{host} is not connected to: {refused}"),
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

/// Whether a TLS error is the receiver's, about who we are.
fn is_refusal(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
        )
    )
}

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
