//! What kinds of calls come in, and how many of each.

use std::{fmt, str::FromStr};

use rand::{
    Rng,
    distr::{Distribution, weighted::WeightedIndex},
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $weight:literal;)*) => {
        /// What happens in a call. Its name is the `EndStatusString` wherever that says it all.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Of 1,000 calls of a usual day, how many are of this kind; a guess that nobody has published.
            pub fn usual(self) -> u32 {
                match self {
                    $(Self::$kind => $weight,)*
                }
            }

            /// As in [`Mix::from_str`].
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Inbound: an agent answers; now and then only the second one who is rung.
    Answered = "answered", 430;
    /// Inbound: answered, and handed on to one or two others.
    Transferred = "transferred", 60;
    /// Inbound: the caller hangs up in the IVR.
    IvrGiveUp = "ivrGiveUp", 70;
    /// Inbound: the caller hangs up in the queue.
    WaitingGiveUp = "waitingGiveUp", 50;
    /// Inbound: the caller hangs up while an agent's phone rings.
    RingingGiveUp = "ringingGiveUp", 25;
    /// Inbound: no agent is online.
    NoSeatOnline = "noSeatOnline", 15;
    /// Inbound: outside of working hours.
    NotWorkTime = "notWorkTime", 25;
    /// Inbound: an AI agent takes it from beginning to end.
    AiAgent = "aiAgent", 20;
    /// Outbound: the customer answers.
    Outbound = "outbound", 190;
    /// Outbound: nobody answers.
    NotAnswer = "notAnswer", 70;
    /// Outbound: the line is busy.
    Busy = "busy", 25;
    /// Outbound: there is no such number.
    NumberNotExist = "numberNotExist", 15;
    /// Outbound: the system fails.
    Error = "error", 5;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each kind of call comes; the default is a usual day.
///
/// As text: `noSeatOnline` for only these, `answered=9,busy=1` for nine to one; kinds that are not named do
/// not come.
#[derive(Clone, Debug)]
pub struct Mix {
    kinds: Vec<Kind>,
    shares: WeightedIndex<u64>,
}

impl Mix {
    /// Calls of these kinds in proportion to these weights.
    ///
    /// # Errors
    /// No kind is left: there is none, or all weights are 0.
    pub fn new(weights: impl IntoIterator<Item = (Kind, u32)>) -> Result<Self, InvalidMix> {
        let (kinds, weights): (Vec<_>, Vec<_>) =
            weights.into_iter().map(|(kind, weight)| (kind, u64::from(weight))).unzip();
        let shares = WeightedIndex::new(weights).map_err(|_| InvalidMix::NoCalls)?;
        Ok(Self { kinds, shares })
    }

    pub(super) fn choose(&self, rng: &mut impl Rng) -> Kind {
        self.kinds[self.shares.sample(rng)]
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self::new(Kind::ALL.iter().map(|&kind| (kind, kind.usual())))
            .expect("the usual day has calls: a test of this module takes it")
    }
}

impl FromStr for Mix {
    type Err = InvalidMix;

    fn from_str(text: &str) -> Result<Self, InvalidMix> {
        let weights: Result<Vec<_>, _> = text.split(',').map(|part| kind_and_weight(part.trim())).collect();
        Self::new(weights?)
    }
}

fn kind_and_weight(part: &str) -> Result<(Kind, u32), InvalidMix> {
    let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
    let kind = (Kind::ALL.iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name.trim())))
        .ok_or_else(|| InvalidMix::UnknownKind(name.trim().to_owned()))?;
    let weight = weight.trim().parse().map_err(|_| InvalidMix::NotAWeight(part.to_owned()))?;
    Ok((*kind, weight))
}

/// Why a mix cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InvalidMix {
    /// No kind is left to choose from.
    NoCalls,
    /// A name that is no kind of call.
    UnknownKind(String),
    /// What follows `=` is no whole number from 0 to 2³² − 1.
    NotAWeight(String),
}

impl fmt::Display for InvalidMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCalls => f.write_str("a mix needs at least one kind of call with a weight above 0"),
            Self::UnknownKind(name) => {
                let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
                write!(f, "\"{name}\" is no kind of call; there are {}", kinds.join(", "))
            }
            Self::NotAWeight(part) => {
                write!(f, "\"{part}\": a weight is a whole number, as in busy=3")
            }
        }
    }
}

impl std::error::Error for InvalidMix {}
