//! What several entries hold: lists, positions, seals, memos, errands.

use bytes::Bytes;

use crate::log::codec::{Put, Take};
use crate::{Errand, Memo, Position, Seal};

pub(super) fn put_seal(out: &mut Vec<u8>, seal: &Seal) {
    put_positions(out, seal.positions.iter().copied());
    out.put_bytes(seal.key.as_bytes());
    out.put_bytes(&seal.facts);
}

pub(super) fn take_seal(take: &mut Take) -> Option<Seal> {
    Some(Seal {
        positions: take_positions(take)?,
        key: take.text()?.to_owned(),
        facts: Bytes::copy_from_slice(take.bytes()?),
    })
}

pub(super) fn take_memo(take: &mut Take) -> Option<Memo> {
    Some(Memo { key: take.text()?.to_owned(), bytes: Bytes::copy_from_slice(take.bytes()?) })
}

pub(super) fn put_errand(out: &mut Vec<u8>, errand: &Errand) {
    out.put_bytes(errand.sink.as_bytes());
    out.put_varint(errand.until.0);
    out.put_bytes(&errand.facts);
}

pub(super) fn take_errand(take: &mut Take) -> Option<Errand> {
    Some(Errand {
        sink: take.text()?.to_owned(),
        until: Position(take.varint()?),
        facts: Bytes::copy_from_slice(take.bytes()?),
    })
}

pub(super) fn put_list<I>(out: &mut Vec<u8>, items: &[I], mut put: impl FnMut(&mut Vec<u8>, &I)) {
    out.put_varint(items.len() as u64);
    items.iter().for_each(|item| put(out, item));
}

pub(super) fn take_list<'a, I>(
    take: &mut Take<'a>,
    mut one: impl FnMut(&mut Take<'a>) -> Option<I>,
) -> Option<Vec<I>> {
    let count = take.varint()?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(one(take)?);
    }
    Some(items)
}

/// Growing positions, as differences.
pub(super) fn put_positions(out: &mut Vec<u8>, positions: impl ExactSizeIterator<Item = Position>) {
    out.put_varint(positions.len() as u64);
    let mut last = 0;
    for position in positions {
        out.put_varint(position.0 - last);
        last = position.0;
    }
}

pub(super) fn take_positions(take: &mut Take) -> Option<Vec<Position>> {
    let mut last = 0u64;
    take_list(take, |take| {
        last = last.checked_add(take.varint()?)?;
        Some(Position(last))
    })
}
