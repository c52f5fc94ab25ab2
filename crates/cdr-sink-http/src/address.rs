//! Which addresses are connected to.
//!
//! The host of a receiver stands in the settings and is never made of a push, so that nobody outside chooses where pushes go.
//! Two ways are left to be led astray: a public name that somebody has lead to an inner address (DNS rebinding), and the
//! addresses at which clouds hand credentials to their machines. Whoever writes an address, `localhost` or a name that only an
//! inner DNS can know means an inner receiver; small installations have nothing else.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use http::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// Why an address is not connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Link-local: where clouds hand out credentials.
    Metadata(IpAddr),
    /// A public name leads to an inner address.
    Private(IpAddr),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(address) => write!(
                f,
                "{address} is where clouds hand out credentials; set allow_private: true if that is meant"
            ),
            Self::Private(address) => write!(
                f,
                "its public name leads to the private address {address}; set allow_private: true if that is meant"
            ),
        }
    }
}

impl Error for Refused {}

/// Whether an address that is written in the settings may be connected to; a name is looked at by [`Guard`].
pub(crate) fn literal(uri: &Uri, allow_private: bool) -> Result<(), Refused> {
    match address_of(uri) {
        Some(address) => look_at(address, true, allow_private),
        None => Ok(()),
    }
}

/// The address of a host that is written as one.
pub(crate) fn address_of(uri: &Uri) -> Option<IpAddr> {
    let host = uri.host()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn look_at(address: IpAddr, may_be_private: bool, allow_private: bool) -> Result<(), Refused> {
    match address.to_canonical() {
        _ if allow_private => Ok(()),
        address if is_metadata(address) => Err(Refused::Metadata(address)),
        address if is_private(address) && !may_be_private => Err(Refused::Private(address)),
        _ => Ok(()),
    }
}

/// Link-local addresses, and those of the clouds that use others (Alibaba; AWS by IPv6).
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.octets() == [100, 100, 100, 200],
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // Behind a carrier's NAT (RFC 6598), and "this network".
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_loopback() || address.is_private() || is_shared || first == 0 || address.is_multicast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_multicast()
        }
    }
}

/// Whether only an inner DNS can know a name: it has no dot, or a last part that is reserved for that.
fn is_inner(host: &str) -> bool {
    const INNER: [&str; 10] =
        ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "svc", "arpa"];
    let host = host.trim_end_matches('.');
    host.rsplit_once('.').is_none_or(|(_, last)| INNER.iter().any(|inner| inner.eq_ignore_ascii_case(last)))
}

/// Looks names up, and lets no address pass that is not connected to: at the moment of connecting, so that a name cannot lead
/// elsewhere between look and use.
#[derive(Clone)]
pub(crate) struct Guard {
    resolver: GaiResolver,
    may_be_private: bool,
    allow_private: bool,
}

impl Guard {
    pub fn new(uri: &Uri, allow_private: bool) -> Self {
        let may_be_private = uri.host().is_none_or(is_inner);
        Self { resolver: GaiResolver::new(), may_be_private, allow_private }
    }
}

impl Service<Name> for Guard {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.resolver.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (may_be_private, allow_private) = (self.may_be_private, self.allow_private);
        let found = self.resolver.call(name);
        Box::pin(async move {
            let mut refused = None;
            let mut good = Vec::new();
            for address in found.await? {
                match look_at(address.ip(), may_be_private, allow_private) {
                    Ok(()) => good.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if good.is_empty() => Err(io::Error::other(why)),
                _ => Ok(good.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: &str, address: &str) -> Option<Refused> {
        look_at(address.parse().unwrap(), is_inner(host), false).err()
    }

    #[test]
    fn a_public_name_may_not_lead_inside() {
        for inner in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0"] {
            assert!(matches!(refused("crm.example.com", inner), Some(Refused::Private(_))), "{inner}");
            assert_eq!(refused("crm", inner), None);
            assert_eq!(refused("crm.internal", inner), None);
        }
        for inner in ["::1", "fd12::1", "::ffff:10.0.0.1", "::"] {
            assert!(matches!(refused("crm.example.com", inner), Some(Refused::Private(_))), "{inner}");
        }
        assert_eq!(refused("crm.example.com", "203.0.113.7"), None);
        assert_eq!(refused("crm.example.com", "2001:db8::1"), None);
    }

    #[test]
    fn no_name_leads_to_where_clouds_keep_credentials() {
        for metadata in [
            "169.254.169.254",
            "169.254.0.23",
            "100.100.100.200",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
        ] {
            for host in ["crm.example.com", "metadata.google.internal", "crm"] {
                assert!(matches!(refused(host, metadata), Some(Refused::Metadata(_))), "{host} {metadata}");
            }
            assert_eq!(look_at(metadata.parse().unwrap(), false, true), Ok(()), "unless it is allowed");
        }
    }

    #[test]
    fn an_address_in_the_settings_is_meant_unless_it_is_that_of_metadata() {
        let literal = |uri: &str| literal(&uri.parse().unwrap(), false);
        assert_eq!(literal("http://127.0.0.1:9000/calls"), Ok(()));
        assert_eq!(literal("http://[::1]/"), Ok(()));
        assert_eq!(literal("http://crm.example.com/"), Ok(()));
        assert!(literal("http://169.254.169.254/latest").is_err());
        assert!(literal("http://[fe80::1]/").is_err());
    }

    #[tokio::test]
    async fn a_refused_name_is_told() {
        let uri: Uri = "http://localhost.example.com/".parse().unwrap();
        let mut guard = Guard::new(&uri, false);
        // What the public name leads to is the resolver's business: here it leads to this machine.
        let error = guard.call("localhost".parse().unwrap()).await.unwrap_err();
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()).copied();
        assert!(matches!(refused, Some(Refused::Private(_))), "{error}");
        let mut guard = Guard::new(&"http://localhost/".parse().unwrap(), false);
        assert!(guard.call("localhost".parse().unwrap()).await.is_ok());
    }
}
