//! Forwards pushes to a CRM, or to anything else that takes JSON over HTTP.
//!
//! ```yaml
//! crm:
//!   http:
//!     url: "https://crm.example.com/calls"
//!     auth: { bearer: { env: CRM_TOKEN } }
//! ```
//! One request a push, its body the very bytes that came, unless the settings say more:
//!
//! * `body`, `path`, `query` and `headers` are made of the push by [expressions](cdr_expression). Values are encoded for their
//!   place and never pasted; the host is never made of a push.
//! * `steps` are several requests, such as one that finds the contact and one that tells of the call. Pushes of one customer take
//!   turns. What may have been stored by an attempt that we know nothing of is looked for first.
//! * `batch` puts many pushes into one request.
//!
//! The receiver can tell a repeat from something new: `Idempotency-Key` is the same for every attempt on a push, and never the
//! same for two pushes.
//!
//! # Reading order
//! `settings` reads and checks, `sink` makes an attempt of `step`s (or a `bundle`), each a `request` on the `wire` whose `answer`
//! is judged; `preview` shows the requests. Below lie `oauth`, `signature`, `redirect`, and the way there: `connect` with `pool`,
//! `trust`, `way` and `address`.
//!
//! # Outcomes
//! What an answer means:
//!
//! | what happened | outcome |
//! |---|---|
//! | 2xx, and no `ErrCode` but 0 in it | delivered |
//! | 2xx with a non-zero `ErrCode`, or with an answer that is cut so that one may be missing; 404, 408, 5xx …; no answer in time; the connection broke | retry |
//! | 400, 413, 415, 422 … | reject |
//! | no connection (nobody listens, no such host, TLS), 401, 403, 429, 503 with `Retry-After`, a redirect | away |
//!
//! Statuses are judged by [`cdr_core::http_status`]. Whoever accepted the connection may have taken the push,
//! so whatever goes wrong from then on is a retry of this push; before that it is the receiver that is away.
//!
//! Certificates are checked against the system's trusted roots; `SSL_CERT_FILE` names others, for all sinks.
//!
//! Errors and logs show scheme, host and port of the receiver alone: paths of webhooks are often secrets.
#![forbid(unsafe_code)]

mod address;
mod answer;
mod bundle;
mod connect;
mod oauth;
mod place;
mod pool;
mod preview;
mod redirect;
mod request;
mod settings;
mod signature;
mod sink;
mod step;
mod template;
mod trust;
mod turns;
mod way;
mod wire;

pub use bundle::Format;
pub use redirect::Redirects;
pub use settings::{
    ApiKey, As, Auth, BatchSettings, Classify, CredentialsIn, FindSettings, HttpSettings, Method, Oauth2,
    Preset, SignatureSettings, StepSettings, Success, Tls,
};
pub use sink::HttpSink;
