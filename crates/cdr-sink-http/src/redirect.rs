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
    let nowhere = || "; check url".to_owned();
    let base = Url::parse(&format!("{origin}{asked}")).map_err(|_| nowhere())?;
    let target = location.and_then(|location| base.join(location).ok());
    let target = target.filter(leads_somewhere).ok_or_else(nowhere)?;
    if target.origin() != base.origin() {
        let elsewhere = target.origin().ascii_serialization();
        return Err(format!(" to {elsewhere}; it is not followed, as the login would go along: correct url"));
    }
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return Err(" to another path; only 307 and 308 keep method and body: correct url or path".to_owned());
    }
    path_and_query(&target).map_err(|_| nowhere())
}

/// Whether it has a scheme and a host that could be meant, and told (RFC 1035 §2.3.4).
fn leads_somewhere(target: &Url) -> bool {
    target.origin().is_tuple() && target.host_str().is_some_and(|host| host.len() <= 255)
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
