//! How numbers and texts are written into entries.
//!
//! Our own and tiny, because the bytes are a format that outlives any crate's taste: fixed little-endian numbers, LEB128
//! for those that are mostly small, and length-prefixed bytes. Reading never panics: bytes that do not fit are `None`.

/// Writing.
pub(crate) trait Put {
    fn put_fixed64(&mut self, value: u64);
    fn put_varint(&mut self, value: u64);
    fn put_bytes(&mut self, value: &[u8]);
    /// A signed number, small in either direction.
    fn put_signed(&mut self, value: i64);
}

impl Put for Vec<u8> {
    fn put_fixed64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }
}

/// Reading, from the front.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn raw(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn fixed64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn varint32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?.try_into().ok()?;
        self.raw(length)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken(a: u64, b: i64, c: u64, d: Vec<u8>, e: String) {
            let mut bytes = Vec::new();
            bytes.put_varint(a);
            bytes.put_signed(b);
            bytes.put_fixed64(c);
            bytes.put_bytes(&d);
            bytes.put_bytes(e.as_bytes());
            let mut take = Take(&bytes);
            prop_assert_eq!(take.varint(), Some(a));
            prop_assert_eq!(take.signed(), Some(b));
            prop_assert_eq!(take.fixed64(), Some(c));
            prop_assert_eq!(take.bytes(), Some(&d[..]));
            prop_assert_eq!(take.text(), Some(&e[..]));
            prop_assert!(take.is_empty());
        }

        #[test]
        fn any_bytes_can_be_read_without_a_panic(bytes: Vec<u8>) {
            let mut take = Take(&bytes);
            while take.bytes().is_some() && take.varint().is_some() {}
        }
    }
}
