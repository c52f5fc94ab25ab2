//! `Content-Encoding`: bodies that come compressed, and what they become.
//!
//! What is kept, hashed, compared and delivered is the decoded body: a proxy that compresses on the way must not
//! make a repeat look like another push. What cannot be decoded is kept as it came.

use std::io::{self, Read as _};

use bytes::Bytes;
use cdr_core::json::Fault;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};

use crate::{answer::Rejection, body::Charge, settings::Limits};

/// What is decoded at a time; the limit is looked at in between.
const PIECE: usize = 16 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    Identity,
    /// RFC 1952; several members in a row are one body (§2.2).
    Gzip,
}

impl Encoding {
    /// Reads it from the head, so that others are refused before their bodies are read. `x-gzip` is gzip
    /// (RFC 9110 §8.4.1.3). `deflate` means two formats in practice, and twice encoded bodies are nobody's.
    pub fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut encoding = Self::Identity;
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        for name in lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
        {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match encoding {
                _ if name.is_empty() || is("identity") => {}
                Self::Identity if is("gzip") || is("x-gzip") => encoding = Self::Gzip,
                _ => return Err(Rejection::Encoding),
            }
        }
        Ok(encoding)
    }

    /// The body that was meant, of at most `limits.body` bytes, which its charge then covers; or the one that was
    /// sent, and why it means none.
    ///
    /// However far it would unfold, no more than the limit is ever held. It takes the processor for some
    /// milliseconds for each MiB, on the thread of the connection: of senders who have proven who they are.
    pub fn decode(
        self,
        sent: Bytes,
        charge: &mut Charge,
        limits: &Limits,
    ) -> Result<(Bytes, Option<Fault>), Rejection> {
        if self == Self::Identity {
            return Ok((sent, None));
        }
        match gunzip(&sent, charge, limits) {
            Ok(body) => Ok((body, None)),
            Err(Undecoded::Refused(rejection)) => Err(rejection),
            Err(Undecoded::Broken(error)) => {
                let message = format!("the body is not the gzip that its Content-Encoding promises: {error}");
                Ok((sent, Some(Fault::whole(message))))
            }
        }
    }
}

enum Undecoded {
    Refused(Rejection),
    Broken(io::Error),
}

fn gunzip(sent: &[u8], charge: &mut Charge, limits: &Limits) -> Result<Bytes, Undecoded> {
    let mut decoder = MultiGzDecoder::new(sent);
    let (mut body, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        let read = decoder.read(&mut piece).map_err(Undecoded::Broken)?;
        if read == 0 {
            break;
        }
        let decoded = (body.len() + read) as u64;
        if decoded > limits.body.as_u64() {
            return Err(Undecoded::Refused(Rejection::TooLarge { limit: limits.body }));
        }
        charge.cover(decoded, limits.in_flight.as_u64()).map_err(Undecoded::Refused)?;
        body.extend_from_slice(&piece[..read]);
    }
    body.shrink_to_fit();
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use bytesize::ByteSize;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::body::InFlight;

    fn encoding(lines: &[&str]) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
        }
        Encoding::of(&headers).ok()
    }

    fn gzip(body: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap().into()
    }

    fn decode(sent: &Bytes, limits: &Limits) -> Result<(Bytes, Option<Fault>), Rejection> {
        let mut charge = Charge::new(&Arc::new(InFlight::default()));
        charge.grow(sent.len() as u64, limits.in_flight.as_u64()).unwrap();
        Encoding::Gzip.decode(sent.clone(), &mut charge, limits)
    }

    #[test]
    fn gzip_once_is_all_that_is_taken() {
        for lines in [&[][..], &[""], &["identity"], &["identity, ,", "Identity"]] {
            assert_eq!(encoding(lines), Some(Encoding::Identity), "{lines:?}");
        }
        for lines in [&["gzip"][..], &["X-GZIP"], &["identity, gzip"], &["identity", "gzip,"]] {
            assert_eq!(encoding(lines), Some(Encoding::Gzip), "{lines:?}");
        }
        for lines in
            [&["deflate"][..], &["br"], &["gzip, gzip"], &["gzip", "x-gzip"], &["gzip, br"], &["gzipp"]]
        {
            assert_eq!(encoding(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit_of_the_body_or_of_the_room() {
        let bomb = gzip(&vec![b' '; 8 << 20]);
        assert!(bomb.len() < 16 << 10, "{}", bomb.len());
        assert!(matches!(decode(&bomb, &Limits::default()), Err(Rejection::TooLarge { .. })));
        let narrow = Limits { body: ByteSize::mib(64), in_flight: ByteSize::mib(2), ..Limits::default() };
        assert!(matches!(decode(&bomb, &narrow), Err(Rejection::NotStored(_))));
    }

    #[test]
    fn a_body_as_large_as_all_the_room_fits_though_it_is_there_twice_for_a_moment() {
        let body = vec![b'x'; 100];
        let just = Limits { body: ByteSize::b(100), in_flight: ByteSize::b(100), ..Limits::default() };
        assert_eq!(decode(&gzip(&body), &just).unwrap(), (body.clone().into(), None));
        let less = Limits { body: ByteSize::b(99), ..just };
        assert!(matches!(decode(&gzip(&body), &less), Err(Rejection::TooLarge { .. })));
    }

    #[test]
    fn what_is_not_gzip_says_so() {
        let whole = gzip(br#"{"SessionId":"s"}"#);
        let mut flipped = whole.to_vec();
        flipped[15] ^= 0x20;
        let trailed = [&whole, b"more".as_slice()].concat();
        for sent in [b"".to_vec(), b"{}".to_vec(), whole[..whole.len() - 1].to_vec(), flipped, trailed] {
            let sent = sent.into();
            let (kept, fault) = decode(&sent, &Limits::default()).unwrap();
            assert_eq!(kept, sent);
            assert!(fault.unwrap().message.contains("not the gzip"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_compressed_comes_back_in_however_many_members(
            body in proptest::collection::vec(any::<u8>(), 0..3 * PIECE),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (one, other) = body.split_at(cut.index(body.len() + 1));
            for sent in [gzip(&body), [gzip(one), gzip(other)].concat().into()] {
                prop_assert_eq!(decode(&sent, &Limits::default()).unwrap(), (body.clone().into(), None));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(sent in proptest::collection::vec(any::<u8>(), 0..200)) {
            let named = [&[0x1f, 0x8b, 8][..], &sent].concat();
            drop((decode(&sent.into(), &Limits::default()), decode(&named.into(), &Limits::default())));
        }
    }
}
