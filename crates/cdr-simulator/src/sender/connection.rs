//! One HTTP/1.1 connection at a time, from the name of a host to an answer.

use std::{error::Error as _, io, path::Path, pin::Pin, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{ClientCertificate, SenderSettings};

/// An answer needs two fields; whoever sends more than this sends something else.
const LONGEST_ANSWER: usize = 64 * 1024;

/// HTTP status and body, or why there is none.
pub(super) type Answered = Result<(StatusCode, Bytes), NoAnswer>;

/// Why an attempt met no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The host's name has no address.
    Unresolved(io::Error),
    /// Nothing listens at the address.
    NobodyListens,
    /// Any other trouble on the way there.
    Unreachable(io::Error),
    /// No TLS with this host.
    Tls(io::Error),
    /// The host ended TLS, and why.
    Alert(rustls::Error),
    /// The access token that a push needs was not given, and why.
    NoToken(String),
    /// The time for an attempt was over.
    TimedOut { after: Duration },
    /// The connection ended, or no HTTP came.
    HungUp(String),
    /// A kept connection had ended before the request was written.
    NeverLeft,
}

/// Whom to connect to.
pub(super) struct Host {
    name: String,
    port: u16,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Host {
    pub fn of(url: &Url, settings: &SenderSettings) -> anyhow::Result<Self> {
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            other => anyhow::bail!("url: TCCC pushes to http or https, not to \"{other}\""),
        };
        let name = match url.host().context("url: has no host")? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        // As it stands in the URL: an IPv6 address in its brackets, no port where it is the usual one.
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let port = url.port_or_known_default().context("url: has no port")?;
        anyhow::ensure!(
            secure || settings.certificate.is_none(),
            "certificate: is shown in TLS only; the URL has to begin with https"
        );
        let tls = if secure { Some((tls(settings)?, ServerName::try_from(name.clone())?)) } else { None };
        Ok(Self { name, port, authority, tls })
    }

    /// Host and port as in the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub async fn connect(&self) -> Result<Connection, NoAnswer> {
        let addresses = tokio::net::lookup_host((self.name.as_str(), self.port)).await;
        let addresses: Vec<_> = addresses.map_err(NoAnswer::Unresolved)?.collect();
        let tcp = TcpStream::connect(&*addresses).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => NoAnswer::NobodyListens,
            _ => NoAnswer::Unreachable(error),
        })?;
        tcp.set_nodelay(true).map_err(NoAnswer::Unreachable)?;
        match &self.tls {
            None => Connection::over(tcp).await,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await.map_err(no_tls)?;
                Connection::over(tls).await
            }
        }
    }
}

fn tls(settings: &SenderSettings) -> anyhow::Result<TlsConnector> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted(settings.extra_ca.as_deref())?);
    let config = match &settings.certificate {
        Some(ClientCertificate { certificate, key }) => {
            let unreadable = || format!("key: {} cannot be read", key.display());
            let shown = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).with_context(unreadable)?;
            config.with_client_auth_cert(shown, key).context("certificate: does not fit its key")?
        }
        None => config.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The system's certificates, and those of a file.
fn trusted(extra_ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // A machine without certificates can still reach a host whose authority is in the file.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in extra_ca.map(certificates).transpose()?.into_iter().flatten() {
        roots.add(certificate).context("certificates: none that an authority could have")?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.with_context(|| format!("certificates: {} cannot be read", path.display()))?;
    anyhow::ensure!(!read.is_empty(), "certificates: {} holds none; expected PEM", path.display());
    Ok(read)
}

/// A kept connection.
///
/// Whoever exchanges drives it too: a task of its own would cost two wake-ups a push, often across threads.
pub(super) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    ended: bool,
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, NoAnswer> {
        let (requests, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(hung_up)?;
        Ok(Self { requests, driver: Box::pin(driver), ended: false })
    }

    /// Itself, unless the other side has closed it meanwhile.
    pub fn if_open(mut self) -> Option<Self> {
        let open = !self.ended && (&mut self.driver).now_or_never().is_none();
        open.then_some(self)
    }

    /// Sends a request and reads the answer. Not to be used again when it is dropped before its end.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Answered {
        let mut answer = pin!(ask(&mut self.requests, request));
        let ended = tokio::select! {
            biased;
            answer = &mut answer => return answer,
            ended = &mut self.driver => ended,
        };
        self.ended = true;
        // What had been read before the end is still to be had.
        answer.await.map_err(|why| ended.err().as_ref().and_then(told_alert).map_or(why, NoAnswer::Alert))
    }
}

async fn ask(requests: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Answered {
    requests.ready().await.map_err(never_left)?;
    let answer = requests.send_request(request).await.map_err(never_left)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| NoAnswer::HungUp(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

fn never_left(error: hyper::Error) -> NoAnswer {
    if error.is_canceled() || error.is_closed() { NoAnswer::NeverLeft } else { hung_up(error) }
}

fn hung_up(error: hyper::Error) -> NoAnswer {
    if error.is_incomplete_message() {
        return NoAnswer::HungUp("the connection was closed before the answer".to_owned());
    }
    if let Some(alert) = told_alert(&error) {
        return NoAnswer::Alert(alert);
    }
    NoAnswer::HungUp(format!("{:#}", anyhow::Error::new(error)))
}

/// Since TLS 1.3 the other side tells after the handshake whether it takes a certificate.
fn told_alert(error: &hyper::Error) -> Option<rustls::Error> {
    alert(error.source()?.downcast_ref()?)
}

fn no_tls(error: io::Error) -> NoAnswer {
    alert(&error).map_or(NoAnswer::Tls(error), NoAnswer::Alert)
}

fn alert(error: &io::Error) -> Option<rustls::Error> {
    let error: &rustls::Error = error.get_ref()?.downcast_ref()?;
    matches!(error, rustls::Error::AlertReceived(_)).then(|| error.clone())
}
