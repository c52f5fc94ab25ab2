//! Who sent a request, when proxies stand in between.
//!
//! Whoever connects may write anything into a header, so a header counts only as far as trusted proxies wrote
//! it: from the right, each trusted proxy vouches for the entry before its own, and the first address that is
//! no trusted proxy is the sender. Entries further left are what that sender claims, and are never read.
//!
//! `X-Forwarded-For` wins over `Forwarded` (RFC 7239) where both are there, since few proxies remove the one
//! that they do not write. A proxy that writes only `Forwarded` must therefore remove `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

use crate::Network;

/// The address that a request counts as sent from: the peer's, or behind `trusted` proxies the rightmost
/// address in their headers that is not one of them.
///
/// An entry that is no address ends the search: the last address before it counts. So does the end of the
/// list. IPv4 addresses in IPv6 notation become IPv4.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    // Most stand behind no proxy: then no header is looked at.
    if !is_trusted(client) {
        return client;
    }
    for address in claimed(headers) {
        let Some(address) = address else { return client };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// The entries of the header that counts, from the right; none for one that is no address.
fn claimed(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    match headers.contains_key("x-forwarded-for") {
        true => Box::new(entries(headers, "x-forwarded-for").map(address)),
        false => Box::new(entries(headers, header::FORWARDED.as_str()).map(|entry| address(node(entry)?))),
    }
}

/// All lines as if joined by commas (a proxy may add a line of its own below the sender's), from the right;
/// empty entries do not count (RFC 9110 §5.6.1).
///
/// A comma in quotes is taken for a separator all the same: if quotes counted, a sender could open one that
/// swallows what the proxy writes behind it.
fn entries<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    lines
        .into_iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

/// The `for=` of an entry of `Forwarded`.
fn node(entry: &[u8]) -> Option<&[u8]> {
    let mut pairs = entry.split(|&byte| byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        Some((pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()))
    });
    pairs.find(|(name, _)| name.eq_ignore_ascii_case(b"for")).map(|(_, value)| value)
}

/// An address in any of the forms that proxies write: bare, with a port, in brackets, in quotes.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let text = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
        client_address(peer.parse().unwrap(), &headers(lines), &trusted).to_string()
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn a_peer_that_is_no_trusted_proxy_is_the_sender_whatever_it_claims() {
        assert_eq!(client("203.0.113.7", &[(XFF, "198.51.100.1")]), "203.0.113.7");
        assert_eq!(client("203.0.113.7", &[("forwarded", "for=198.51.100.1")]), "203.0.113.7");
        assert_eq!(client("::ffff:203.0.113.7", &[]), "203.0.113.7");
    }

    #[test]
    fn the_rightmost_untrusted_entry_over_all_lines_is_the_sender() {
        assert_eq!(client("10.0.0.1", &[(XFF, "198.51.100.9"), (XFF, "203.0.113.7")]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &[(XFF, "198.51.100.9, 203.0.113.7, 10.2.2.2")]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &[(XFF, "203.0.113.7"), (XFF, " , 10.2.2.2,")]), "203.0.113.7");
    }

    #[test]
    fn among_trusted_proxies_alone_the_furthest_counts() {
        assert_eq!(client("10.0.0.1", &[(XFF, "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn garbage_ends_the_search_at_the_last_good_entry() {
        assert_eq!(client("10.0.0.1", &[(XFF, "203.0.113.7, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[(XFF, "203.0.113.7, _hidden")]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=203.0.113.7, by=10.0.0.2")]), "10.0.0.1");
    }

    #[test]
    fn ports_brackets_and_quotes_are_stripped() {
        for entry in ["203.0.113.7:4711", "\"203.0.113.7\"", "[::ffff:203.0.113.7]", "::ffff:203.0.113.7"] {
            assert_eq!(client("10.0.0.1", &[(XFF, entry)]), "203.0.113.7", "{entry}");
        }
        for entry in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:4711", "\"[2001:db8::7]:4711\""] {
            assert_eq!(client("fd00::1", &[(XFF, entry)]), "2001:db8::7", "{entry}");
            let forwarded = format!("proto=https; For={entry} ;by=10.0.0.1");
            assert_eq!(client("fd00::1", &[("forwarded", &forwarded)]), "2001:db8::7", "{forwarded}");
        }
    }

    #[test]
    fn an_open_quote_of_the_sender_does_not_swallow_what_the_proxy_wrote() {
        let spoofed = "for=198.51.100.9;host=\"x, for=203.0.113.7";
        assert_eq!(client("10.0.0.1", &[("forwarded", spoofed)]), "203.0.113.7");
    }

    #[test]
    fn x_forwarded_for_wins_over_forwarded() {
        let both = [("forwarded", "for=198.51.100.9"), (XFF, "203.0.113.7")];
        assert_eq!(client("10.0.0.1", &both), "203.0.113.7");
    }

    fn entry() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<IpAddr>().prop_map(|address| address.to_string()),
            any::<u8>().prop_map(|last| format!("10.0.0.{last}")),
            "[\\[\\]\"=;:. a-f0-9]{0,20}",
        ]
    }

    proptest! {
        #[test]
        fn what_a_sender_claims_never_changes_who_it_is(
            claims in proptest::collection::vec(entry(), 0..4),
            split in any::<bool>(),
            sender in any::<[u8; 3]>(),
        ) {
            let sender = IpAddr::from([203, sender[0], sender[1], sender[2]]).to_string();
            let claims = claims.join(",");
            let written = match split {
                true => vec![(XFF, claims.as_str()), (XFF, sender.as_str())],
                false => vec![],
            };
            let joined = format!("{claims},{sender}");
            let lines = if split { written } else { vec![(XFF, joined.as_str())] };
            prop_assert_eq!(client("10.0.0.1", &lines), sender);
        }

        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(0x20_u8..0xff, 0..60), name in 0..2_usize) {
            let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert([XFF, "forwarded"][name], value);
            let trusted = ["0.0.0.0/0".parse().unwrap()];
            client_address([10, 0, 0, 1].into(), &headers, &trusted);
        }
    }
}
