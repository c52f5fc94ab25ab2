//! Who gets what, and when again: routes, lanes, retry, pause.
//!
//! ```text
//!  door ──Intake──▶ Dispatcher ──append──▶ spool ──commit──▶ routes (once) ──▶ live window
//!                                            │                                    │ fresh
//!                                            └────────── backlog ──────────▶ Lane ◀┘ ──▶ sink
//!                                            ◀───────── outcomes ───────────┘
//! ```
//!
//! # Reading order
//! * [`dispatcher`]: what the door hands its pushes to; starts, hands over and stops lanes.
//! * [`store`]: the spool in the words of pushes; routes each push once, right after its commit.
//! * [`lane`]: what drives one sink: reads ahead, tries, settles, waits. The heart of this crate.
//! * [`errand`]: what a temporary lane is for: a replay, or what a renamed sink left.
//! * [`retry`]: the arithmetic of back-off. [`rate`]: `rate_limit`.
//! * [`mask`]: what a sink does not get to see.
//! * [`quarantine`]: a second look at what was no push.
//! * [`routing`] and [`route`]: which push goes where; conditions are [`cdr_expression`]s.
//! * [`window`], [`stored`], [`terms`], [`event`]: what is live, how facts lie in the spool, what a push is found by, what
//!   operators are told.
#![forbid(unsafe_code)]

pub mod dispatcher;
pub mod errand;
pub mod event;
pub mod lane;
pub mod mask;
pub mod quarantine;
pub mod rate;
pub mod retry;
pub mod route;
pub mod routing;
pub mod store;
pub mod stored;
pub mod terms;
pub mod window;

pub use dispatcher::{
    Dispatcher, ErrandNow, ErrandState, Parked, Plan, ReloadError, RenameError, ReplayError, RetireError,
    StillEnding,
};
pub use errand::{Errand, Replay, Wish};
pub use event::Event;
pub use lane::{LanePlan, LaneSnapshot};
pub use mask::{Mask, MaskSettings, Masked};
pub use rate::Rate;
pub use retry::{RetryPolicy, RetrySettings};
