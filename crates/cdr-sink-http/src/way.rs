//! Which way connections take: straight to the receiver, or through a proxy.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use crate::address;

/// Which way connections take.
pub(crate) enum Way {
    Direct,
    /// The proxy takes requests for others, as it does for plain HTTP.
    Forwarded(Proxy),
    /// The proxy connects us through: it sees nothing of what is sent.
    Tunnelled(Proxy),
}

/// A proxy, and how to log in there.
pub(crate) struct Proxy {
    pub uri: Uri,
    pub login: Option<HeaderValue>,
}

impl Way {
    /// The settings' way, else that of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. No proxy of the environment
    /// stands between this machine and itself.
    pub fn to(uri: &Uri, proxy: Option<&str>) -> Result<Self, String> {
        let matcher = match proxy {
            Some("none") => return Ok(Self::Direct),
            Some(proxy) => Matcher::builder().all(proxy.to_owned()).build(),
            None if is_this_machine(uri) => return Ok(Self::Direct),
            None => Matcher::from_env(),
        };
        let Some(found) = matcher.intercept(uri) else { return Ok(Self::Direct) };
        if found.uri().scheme_str() != Some("http") {
            return Err("the proxy is no http:// address, and no other kind is known: set proxy".to_owned());
        }
        let proxy = Proxy { uri: found.uri().clone(), login: found.basic_auth().cloned() };
        Ok(match uri.scheme_str() {
            Some("https") => Self::Tunnelled(proxy),
            _ => Self::Forwarded(proxy),
        })
    }
}

fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let is_loopback = address::address_of(uri).is_some_and(|address| address.to_canonical().is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_needs_no_proxy() {
        let is = |uri: &str| is_this_machine(&uri.parse().unwrap());
        assert!(is("http://127.0.0.1:9000/calls") && is("http://[::1]/") && is("http://LocalHost/"));
        assert!(!is("http://10.0.0.1/") && !is("http://localhost.example.com/"));
    }
}
