//! Networks in CIDR notation, as `allow.networks` and `trusted_proxies` name them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A range of addresses: `203.0.113.0/24`, `2001:db8::/32`; a single address is a network of one.
///
/// IPv4 addresses written as IPv6 (`::ffff:203.0.113.7`) are the IPv4 addresses that they mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
pub struct Network(#[schemars(with = "String")] IpNet);

impl Network {
    /// Whether it holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// Whether it holds every address of its family.
    pub fn is_everybody(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// One sender: an IPv4 address, or the /64 within which an IPv6 machine changes its own.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 64 };
        Self(IpNet::new_assert(address, length).trunc())
    }

    /// The network around an address that usually belongs to one party: /24 or /64.
    pub fn around(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 24 } else { 64 };
        Self(IpNet::new_assert(address, length).trunc())
    }
}

/// A text that is neither an address nor a network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is neither an address nor a network such as 203.0.113.0/24")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address)),
            Err(_) => text.parse::<IpNet>(),
        };
        network.map(|network| Self(canonical(network).trunc())).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

/// Only a prefix of 96 bits or more lies within `::ffff:0:0/96` and has a meaning in IPv4.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), length @ 96..) if !network.addr().is_ipv4() => {
            IpNet::V4(Ipv4Net::new_assert(address, length - 96))
        }
        _ => network,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({self})")
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        assert!(network("203.0.113.7").contains(address("203.0.113.7")));
        assert!(!network("203.0.113.7").contains(address("203.0.113.8")));
        assert!(network("2001:db8::1").contains(address("2001:db8::1")));
    }

    #[test]
    fn ipv4_written_as_ipv6_is_ipv4_on_both_sides() {
        assert!(network("10.0.0.0/8").contains(address("::ffff:10.1.2.3")));
        assert!(network("::ffff:10.0.0.0/104").contains(address("10.1.2.3")));
        assert!(network("::ffff:10.1.2.3").contains(address("10.1.2.3")));
        assert!(!network("::/0").contains(address("10.1.2.3")));
    }

    #[test]
    fn host_bits_of_a_network_do_not_count() {
        assert_eq!(network("10.1.2.3/8"), network("10.0.0.0/8"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["10.0.0.300", "10.0.0.0/33", "", "example.com", "10.0.0.0/", "10.0.0/8"] {
            let fault = text.parse::<Network>().unwrap_err().to_string();
            assert!(fault.contains(&format!("\"{text}\"")), "{fault}");
        }
    }

    #[test]
    fn neighbours_share_a_network() {
        assert_eq!(Network::around(address("203.0.113.7")).to_string(), "203.0.113.0/24");
        assert_eq!(Network::around(address("2001:db8:1:2:3::4")).to_string(), "2001:db8:1:2::/64");
        assert_eq!(Network::around(address("::ffff:203.0.113.7")), network("203.0.113.0/24"));
    }
}
