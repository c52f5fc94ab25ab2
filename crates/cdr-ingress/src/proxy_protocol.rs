//! Who sent a connection, as a proxy in front says in the first bytes: HAProxy's PROXY protocol, versions 1 and 2
//! (haproxy.org, doc/proxy-protocol.txt).
//!
//! Only a trusted proxy's header counts, and such a proxy may also send none: what begins otherwise is left as it is. That
//! needs no setting, as it adds nothing to what the trust already means. A proxy of HTTP begins its connections with
//! requests of its own making, so that no sender can write the first bytes. Through a proxy that passes bytes on blindly a
//! sender could write them; it could also write the `X-Forwarded-For` that the trust lets count, so that such a proxy must
//! send the header, or not be trusted.

use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncRead;

use crate::connection::{BEGINNING, Begun};

/// How a version 1 header begins, up to the first byte that varies.
const V1: &[u8] = b"PROXY ";

/// No version 1 header is longer, its line end included (§2.1). The crate holds to that only while a header is
/// unfinished, so that a longer one would pass or not as the network cuts it.
const LONGEST_V1: usize = 107;

/// How a version 2 header begins. HTTP cannot begin like this.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the first bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beginning {
    /// No header; the connection begins with them.
    Other,
    /// More of them will tell.
    Unfinished,
    Header {
        /// Of the header.
        bytes: usize,
        /// None when the proxy speaks for itself: a health check, or a sender of whom it cannot tell.
        sender: Option<IpAddr>,
    },
    Malformed,
}

/// A header that begins as one and goes on otherwise, ends early, or is longer than [`BEGINNING`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// Whether bytes begin with a header of the PROXY protocol, whatever follows.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(V1) || bytes.starts_with(V2)
}

/// Takes the header off a connection, and gives the sender that it names.
///
/// # Errors
/// The connection broke. The inner error: the header is none that can be.
pub(crate) async fn take_header(
    begun: &mut Begun<impl AsyncRead + Unpin>,
) -> std::io::Result<Result<Option<IpAddr>, Malformed>> {
    loop {
        match beginning(begun.first()) {
            Beginning::Other => return Ok(Ok(None)),
            Beginning::Header { bytes, sender } => {
                begun.take(bytes);
                return Ok(Ok(sender));
            }
            Beginning::Malformed => return Ok(Err(Malformed)),
            Beginning::Unfinished => {}
        }
        if !begun.look_further().await? {
            return Ok(if begins(begun.first()) { Err(Malformed) } else { Ok(None) });
        }
    }
}

fn beginning(bytes: &[u8]) -> Beginning {
    if V1.starts_with(bytes) || V2.starts_with(bytes) {
        return Beginning::Unfinished;
    }
    if !begins(bytes) {
        return Beginning::Other;
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(bytes, config) {
        Ok((_, length)) if bytes.starts_with(V1) && length > LONGEST_V1 => Beginning::Malformed,
        Ok((header, bytes)) => {
            let sender = header.proxied_address().map(|address| address.source.ip().to_canonical());
            Beginning::Header { bytes, sender }
        }
        Err(Error::BufferTooShort) if bytes.len() < BEGINNING => Beginning::Unfinished,
        Err(_) => Beginning::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, Tlv};

    use super::*;

    fn header(source: &str, destination: &str) -> ProxyHeader<'static> {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        ProxyHeader::with_address(ProxiedAddress::stream(address(source), address(destination)))
    }

    fn encoded(header: &ProxyHeader<'_>, is_v2: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if is_v2 { header.encode_v2(&mut bytes) } else { header.encode_v1(&mut bytes) }.unwrap();
        bytes
    }

    fn sender(bytes: &[u8]) -> Option<String> {
        match beginning(bytes) {
            Beginning::Header { bytes: length, sender } if length <= bytes.len() => {
                sender.map(|sender| sender.to_string())
            }
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn both_versions_and_families_name_the_sender() {
        for is_v2 in [false, true] {
            let v4 = encoded(&header("203.0.113.7:4711", "192.0.2.1:443"), is_v2);
            assert_eq!(sender(&[&v4, b"POST / HTTP/1.1\r\n".as_slice()].concat()).unwrap(), "203.0.113.7");
            let v6 = encoded(&header("[2001:db8::7]:4711", "[2001:db8::1]:443"), is_v2);
            assert_eq!(sender(&v6).unwrap(), "2001:db8::7");
            let mapped = encoded(&header("[::ffff:203.0.113.7]:4711", "[2001:db8::1]:443"), is_v2);
            assert_eq!(sender(&mapped).unwrap(), "203.0.113.7");
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        let of_107 = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
        for bytes in [
            b"PROXY UNKNOWN\r\n".as_slice(),
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            &of_107,
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            // LOCAL with addresses, which must be ignored (§2.2).
            b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\0\x01\0\x02",
        ] {
            assert_eq!(sender(bytes), None);
        }
    }

    #[test]
    fn what_a_version_2_header_says_beside_the_addresses_is_skipped() {
        let mut header = header("203.0.113.7:4711", "192.0.2.1:443");
        header.append_tlv(Tlv::Authority("gateway.example.com".into()));
        header.append_tlv(Tlv::UniqueId(vec![7; 100].into()));
        let bytes = encoded(&header, true);
        assert_eq!(
            beginning(&[&bytes, b"POST".as_slice()].concat()),
            Beginning::Header { bytes: bytes.len(), sender: Some([203, 0, 113, 7].into()) }
        );
    }

    #[test]
    fn what_is_http_or_tls_is_left_alone() {
        for bytes in [
            b"POST / HTTP/1.1\r\n".as_slice(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXYX",
            b"\r\nPOST / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\0",
        ] {
            assert_eq!(beginning(bytes), Beginning::Other, "{:?}", String::from_utf8_lossy(bytes));
        }
        for bytes in [b"".as_slice(), b"P", b"PROXY", b"\r", b"\r\n\r\n\0\r\nQUI"] {
            assert_eq!(beginning(bytes), Beginning::Unfinished);
        }
    }

    #[test]
    fn a_header_that_cannot_be_is_no_request_either() {
        let endless = [b"PROXY ".as_slice(), &[b'x'; 200]].concat();
        let of_108 = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        let too_long = [V2, b"\x21\x11\xff\xff", &[0; BEGINNING]].concat();
        for bytes in [
            b"PROXY TCP4 203.0.113.300 192.0.2.1 1 2\r\n".as_slice(),
            b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n",
            b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c000000000000",
            &endless,
            &of_108,
            &too_long,
        ] {
            assert_eq!(beginning(bytes), Beginning::Malformed, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn a_header_in_pieces_is_the_same_header(source in any::<[u8; 4]>(), is_v2 in any::<bool>(), rest in any::<[u8; 9]>()) {
            let bytes = encoded(&header(&format!("{}:1", IpAddr::from(source)), "192.0.2.1:443"), is_v2);
            for cut in 0..bytes.len() {
                prop_assert_eq!(beginning(&bytes[..cut]), Beginning::Unfinished, "{}", cut);
            }
            let whole = Beginning::Header { bytes: bytes.len(), sender: Some(source.into()) };
            prop_assert_eq!(beginning(&[bytes.as_slice(), &rest].concat()), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(
            signature in prop::sample::select(vec![b"".as_slice(), V1, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", V2]),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [signature, &bytes].concat();
            if let Beginning::Header { bytes: length, .. } = beginning(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
