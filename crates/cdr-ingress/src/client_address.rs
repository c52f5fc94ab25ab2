//! Who sent a request, when proxies stand in between.
//!
//! Whoever connects may write anything into a header, so a header counts only as far as trusted proxies wrote
//! it: from the right, each trusted proxy vouches for the entry before its own, and the first address that is
//! no trusted proxy is the sender. Entries further left are what that sender claims, and are never read.
//!
//! `X-Forwarded-For` wins over `Forwarded` (RFC 7239) where both are there, since few proxies remove the one
//! that they do not write. A proxy that writes only `Forwarded` must therefore remove `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::Network;

/// The address that a request counts as sent from: the peer's, or behind `trusted` proxies the rightmost
/// address in their headers that is not one of them.
///
/// An entry that is no address ends the search: the last address before it counts. So does the end of the
/// list. IPv4 addresses in IPv6 notation become IPv4.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    walk(peer, headers, trusted, |_, _| {}).0
}

/// How the sender of a request was found, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    /// The trusted proxies that were passed over, from the peer on, each with the network that names it.
    pub proxies: Vec<(IpAddr, Network)>,
    /// The header whose entries counted.
    pub header: &'static str,
    /// Why the search ended.
    pub end: TrailEnd,
    /// The address that counts.
    pub client: IpAddr,
    /// Entries further left, from the right: what the sender claims, and nobody reads.
    pub unread: Vec<String>,
}

/// Why the search for the sender ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrailEnd {
    /// At an address that is no trusted proxy.
    Untrusted,
    /// Before this entry, which is no address: the proxy behind it counts as the sender.
    NoAddress(String),
    /// At the end of the header: the last proxy counts as the sender.
    NoEntry,
}

/// The same search as [`client_address`], with what it saw on the way.
pub(crate) fn trail(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Trail {
    let mut proxies = Vec::new();
    let (client, end) = walk(peer, headers, trusted, |proxy, network| proxies.push((proxy, *network)));
    let header = counting_header(headers);
    let text = |entry: &[u8]| String::from_utf8_lossy(entry).into_owned();
    let mut unread = entries(headers, header).map(text);
    // The peer is no entry.
    let mut read = unread.by_ref().take(proxies.len());
    let end = match end {
        End::Untrusted => TrailEnd::Untrusted,
        End::NoAddress => TrailEnd::NoAddress(read.by_ref().last().unwrap_or_default()),
        End::NoEntry => TrailEnd::NoEntry,
    };
    read.for_each(drop);
    let unread = unread.collect();
    Trail { proxies, header, end, client, unread }
}

enum End {
    Untrusted,
    NoAddress,
    NoEntry,
}

/// Goes from the peer from proxy to proxy, telling of each, up to the first address that is none.
fn walk(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[Network],
    mut pass: impl FnMut(IpAddr, &Network),
) -> (IpAddr, End) {
    let proxy = |address: IpAddr| trusted.iter().find(|network| network.contains(address));
    let mut client = peer.to_canonical();
    // Most stand behind no proxy: then no header is looked at.
    let Some(network) = proxy(client) else { return (client, End::Untrusted) };
    pass(client, network);
    for address in claimed(headers) {
        let Some(address) = address else { return (client, End::NoAddress) };
        client = address;
        let Some(network) = proxy(client) else { return (client, End::Untrusted) };
        pass(client, network);
    }
    (client, End::NoEntry)
}

/// The entries of the header that counts, from the right; none for one that is no address.
fn claimed(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    match counting_header(headers) {
        X_FORWARDED_FOR => Box::new(entries(headers, X_FORWARDED_FOR).map(address)),
        forwarded => Box::new(entries(headers, forwarded).map(|entry| address(node(entry)?))),
    }
}

const X_FORWARDED_FOR: &str = "X-Forwarded-For";

fn counting_header(headers: &HeaderMap) -> &'static str {
    if headers.contains_key(X_FORWARDED_FOR) { X_FORWARDED_FOR } else { "Forwarded" }
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

    fn trail_of(peer: &str, lines: &[(&'static str, &str)]) -> Trail {
        let trusted: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
        trail(peer.parse().unwrap(), &headers(lines), &trusted)
    }

    #[test]
    fn a_trail_names_each_proxy_the_end_and_what_was_not_read() {
        let told = trail_of("10.0.0.1", &[(XFF, "x, 198.51.100.9"), (XFF, "203.0.113.7:80, 10.2.2.2")]);
        let proxies: Vec<_> = told.proxies.iter().map(|(proxy, by)| format!("{proxy} {by}")).collect();
        assert_eq!(proxies, ["10.0.0.1 10.0.0.0/8", "10.2.2.2 10.0.0.0/8"]);
        assert_eq!((told.header, told.end), ("X-Forwarded-For", TrailEnd::Untrusted));
        assert_eq!(
            (told.client.to_string(), told.unread),
            ("203.0.113.7".to_owned(), vec!["198.51.100.9".to_owned(), "x".to_owned()])
        );

        let spoofed = trail_of("203.0.113.7", &[(XFF, "198.51.100.9")]);
        assert_eq!((spoofed.proxies, spoofed.unread), (vec![], vec!["198.51.100.9".to_owned()]));

        let garbage = trail_of("10.0.0.1", &[("forwarded", "for=203.0.113.7, for=_hidden, for=10.0.0.2")]);
        assert_eq!(garbage.end, TrailEnd::NoAddress("for=_hidden".to_owned()));
        assert_eq!((garbage.client.to_string().as_str(), garbage.unread.len()), ("10.0.0.2", 1));

        let none = trail_of("10.0.0.1", &[(XFF, "10.0.0.2")]);
        assert_eq!((none.end, none.proxies.len(), none.unread.len()), (TrailEnd::NoEntry, 2, 0));
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

        #[test]
        fn every_entry_is_in_the_trail_once(
            list in proptest::collection::vec(entry(), 0..6),
            peer in prop_oneof![Just("10.0.0.1"), Just("203.0.113.7")],
        ) {
            let Ok(value) = list.join(",").parse::<http::HeaderValue>() else { return Ok(()) };
            let mut map = HeaderMap::new();
            map.insert(XFF, value);
            let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
            let peer: IpAddr = peer.parse().unwrap();
            let told = trail(peer, &map, &trusted);
            prop_assert_eq!(told.client, client_address(peer, &map, &trusted));
            let from_peer = usize::from(!told.proxies.is_empty());
            let at_the_end = match told.end {
                TrailEnd::Untrusted => from_peer,
                TrailEnd::NoAddress(_) => 1,
                TrailEnd::NoEntry => 0,
            };
            let read = told.proxies.len() - from_peer + at_the_end;
            prop_assert_eq!(read + told.unread.len(), entries(&map, XFF).count());
        }
    }
}
