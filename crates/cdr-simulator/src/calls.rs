//! A call centre that makes CDRs as TCCC's look, from a seed.
//!
//! * **Deterministic**: the same seed, mix, opening time and index give the same bytes on every machine, so a
//!   receiver's copy can be checked without keeping what was sent.
//! * **Consistent**: start ≤ queued ≤ ring ≤ accept ≤ ended where they happened, `Duration` is ended −
//!   accept, the agent is the last one of a chain of transfers. Every session has an id of its own.
//! * **With TCCC's quirks**: a repeated `Duration`, null for empty arrays, `key` for `Key`, absent optional
//!   fields, JSON inside `Uui`, emoji. [`cdr_core::cdr::read`] reads them all without an odd field.
//! * **Nobody's data**: people are invented, mail addresses end in `example.com`, and numbers are ones that
//!   nobody has (the mobile prefix 154 was never given out; no local number begins with 0).
//!
//! ```
//! use cdr_simulator::calls::CallCentre;
//!
//! let centre = CallCentre::new(7);
//! for call in centre.calls().take(3) {
//!     println!("{} {} {} bytes", call.session_id, call.end_status, call.body.len());
//! }
//! ```

mod body;
mod mix;
mod session;
mod staff;

use bytes::Bytes;
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::Serialize;
use uuid::Uuid;

pub use mix::{InvalidMix, Kind, Mix};

/// 2026-11-02 09:00 in Shanghai, a Monday.
const DEFAULT_OPENING: Timestamp = Timestamp::constant(1_793_581_200, 0);

/// Calls begin this many seconds apart while the centre is open.
const SPACING: i64 = 9;

/// Nine hours from opening to closing.
const CALLS_A_DAY: u64 = 9 * 3600 / SPACING as u64;

/// One finished call, as its CDR tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its number at its call centre, from 0.
    pub index: u64,
    /// What happened.
    pub kind: Kind,
    /// `SessionId` of the body.
    pub session_id: Uuid,
    /// `EndStatusString` of the body.
    pub end_status: &'static str,
    /// What is pushed with `action=cdr`: 1.2 to 1.6 KB for most, less for calls that met no agent.
    pub body: Bytes,
}

/// A call centre; cheap to clone, and without state: [`call`](Self::call) can be asked in any order.
#[derive(Clone, Debug)]
pub struct CallCentre {
    seed: u64,
    mix: Mix,
    opening: Timestamp,
    pretty: bool,
}

impl CallCentre {
    /// The call centre of this seed, with the [default mix](Mix::default), that opened in November 2026.
    pub fn new(seed: u64) -> Self {
        Self { seed, mix: Mix::default(), opening: DEFAULT_OPENING, pretty: false }
    }

    /// Calls of other kinds, or of the same in other shares.
    pub fn with_mix(self, mix: Mix) -> Self {
        Self { mix, ..self }
    }

    /// When its first day began. Calls begin every 9 s for 9 hours a day, those outside of working hours in
    /// the night before; after a hundred years the dates begin again.
    pub fn opened_at(self, opening: Timestamp) -> Self {
        Self { opening, ..self }
    }

    /// Bodies in lines with an indent of 4, as the published pages print them; compact otherwise.
    pub fn pretty(self) -> Self {
        Self { pretty: true, ..self }
    }

    /// The call with this number.
    pub fn call(&self, index: u64) -> Call {
        let (kind, session_id, body) = self.session(index);
        Call { index, kind, session_id, end_status: body.end_status(), body: self.json(&body) }
    }

    /// All its calls in order, from number 0; there is no last one.
    pub fn calls(&self) -> impl Iterator<Item = Call> + Send + use<> {
        let centre = self.clone();
        (0..).map(move |index| centre.call(index))
    }

    /// The bodies of the `action=record` pushes that follow this call: one for the customer's side and one
    /// for each agent who talked; none when nobody did.
    pub fn recordings(&self, index: u64) -> Vec<Bytes> {
        let (_, _, body) = self.session(index);
        body.recordings().iter().map(|recording| self.json(recording)).collect()
    }

    /// The body of the `action=voicemail` push of a caller who met nobody; none when somebody answered, or when the
    /// centre called. Its `EndpointUser` is a bare number, as in the published sample.
    pub fn voicemail(&self, index: u64) -> Option<Bytes> {
        let (_, _, body) = self.session(index);
        body.voicemail().map(|voicemail| self.json(&voicemail))
    }

    fn session(&self, index: u64) -> (Kind, Uuid, body::Body) {
        // People choose small numbers for both: the first step keeps (1, 2) and (2, 1) apart.
        let apart: u64 = Xoshiro256PlusPlus::seed_from_u64(self.seed).random();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(apart ^ index);
        // First of all, so that another mix does not change it.
        let session_id = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        let kind = self.mix.choose(&mut rng);
        let body = session::tell(kind, session_id, self.begins_at(index), rng);
        (kind, session_id, body)
    }

    fn begins_at(&self, index: u64) -> session::Begin {
        let day = index / CALLS_A_DAY % (100 * 365);
        session::Begin {
            opening: self.opening.as_second() + day as i64 * 24 * 3600,
            after_opening: (index % CALLS_A_DAY) as i64 * SPACING,
        }
    }

    fn json(&self, body: &impl Serialize) -> Bytes {
        let mut json = Vec::with_capacity(2048);
        let written = if self.pretty {
            let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            body.serialize(&mut serde_json::Serializer::with_formatter(&mut json, format))
        } else {
            serde_json::to_writer(&mut json, body)
        };
        // Neither a vector nor structs of texts and numbers can fail.
        debug_assert!(written.is_ok(), "{written:?}");
        Bytes::from(json)
    }
}
