//! Redirects: which are followed, and what is said of the others.
//!
//! Wherever a request goes, its login and the call go with it. So a redirect is followed only to another path of the same scheme,
//! host and port, which also keeps it to the addresses that may be connected to; only where method and body stay as they are; and
//! only where the settings say so. Any other means that `url` is out of date.

use http::{
    StatusCode, Uri,
    uri::{InvalidUri, PathAndQuery},
};
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Position, Url};

/// What becomes of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Redirects {
    /// None is followed.
    #[default]
    Refuse,
    /// 307 and 308 to the same scheme, host and port are followed, at most five in a row.
    Follow,
}

/// More than this many in a row lead in a circle.
pub(crate) const MOST: usize = 5;

/// Where a redirect leads, when it may be followed; else where it leads, as far as that is no secret, and what to do.
pub(crate) fn target(
    status: StatusCode,
    location: Option<&str>,
    origin: &str,
    asked: &Uri,
) -> Result<Uri, String> {
    let base = Url::parse(&format!("{origin}{asked}"));
    let (base, target) = match (base, location) {
        (Ok(base), Some(location)) => (base.clone(), base.join(location)),
        _ => return Err("; check url".to_owned()),
    };
    let Ok(target) = target else { return Err("; check url".to_owned()) };
    if target.origin() != base.origin() {
        let elsewhere = target.origin().ascii_serialization();
        return Err(format!(" to {elsewhere}; no login follows to another host: correct url"));
    }
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return Err(" to another path; only 307 and 308 keep method and body: correct url or path".to_owned());
    }
    path_and_query(&target).map_err(|_| "; check url".to_owned())
}

/// What is said of one that may be followed, when it is not to be.
pub(crate) fn refused(redirects: Redirects) -> String {
    match redirects {
        Redirects::Refuse => " to another path; correct url or path, or set redirects: follow".to_owned(),
        Redirects::Follow => format!(" after {MOST} others, as in a circle; check url"),
    }
}

/// Without a user and password, which would be somebody's idea of who we are.
fn path_and_query(target: &Url) -> Result<Uri, InvalidUri> {
    PathAndQuery::try_from(&target[Position::BeforePath..Position::AfterQuery]).map(Uri::from)
}
