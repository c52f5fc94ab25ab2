//! `cdr-gateway trace`: the life of pushes.

use anyhow::{Context as _, bail};
use cdr_dispatch::terms;
use cdr_spool::{Position, Query};
use clap::Args;
use hyper::Method;
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Common, Ended, kept::Kept, running};
use crate::traced::{Away, Traced};

/// Pushes that are read before the first of them is told.
const PAGE: usize = 64;

/// The life of pushes: those of a session, of a number, of a time.
#[derive(Args)]
pub struct Trace {
    /// The SessionId.
    session_id: Option<String>,
    /// The X-TCCC-PUSH-UUID, instead of a session.
    #[arg(long, conflicts_with = "session_id")]
    uuid: Option<String>,
    /// A phone number in any spelling, instead of a session: whoever called, was called or served.
    #[arg(long, conflicts_with_all = ["session_id", "uuid"])]
    number: Option<String>,
    /// Only what arrived since: 2h, 3days, 2026-11-22, 2026-11-22T08:30 or with an offset; alone everything since.
    #[arg(long)]
    since: Option<String>,
    /// Only what arrived before, written like --since.
    #[arg(long)]
    until: Option<String>,
    /// At most so many pushes.
    #[arg(long)]
    limit: Option<usize>,
    /// Only pushes behind this number: how to go on after --limit.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
}

impl Trace {
    /// Tells every push and, for each sink, a sentence.
    pub async fn run(&self, common: &Common) -> Ended {
        let term = self.term()?;
        if term.is_none() && self.since.is_none() {
            bail!("name a session, a push with --uuid, a number with --number, or a time with --since");
        }
        let kept = Kept::find(common)?;
        let now = Timestamp::now();
        let time = |text: &Option<String>, setting| {
            let read = text.as_deref().map(|text| since(text, now, &kept.at.timezone));
            read.transpose().with_context(|| format!("cannot read {setting}"))
        };
        let (since, until) = (time(&self.since, "--since")?, time(&self.until, "--until")?);
        let query = Query {
            term: term.as_ref().map(|(kind, text)| (*kind, text.as_str())),
            since_ms: since.map(Timestamp::as_millisecond),
            until_ms: until.map(Timestamp::as_millisecond),
            after: Position(self.after),
        };
        self.tell(&kept, query, &away(common).await, common.wants_json())
    }

    fn term(&self) -> anyhow::Result<Option<(&'static str, String)>> {
        Ok(match (&self.session_id, &self.uuid, &self.number) {
            (Some(session), ..) => Some((terms::SESSION, session.clone())),
            (None, Some(uuid), _) => Some((terms::UUID, uuid.clone())),
            (None, None, Some(number)) => {
                let national = terms::national(number);
                let national = national.with_context(|| format!("{number:?} is no phone number"))?;
                Some((terms::NUMBER, national))
            }
            (None, None, None) => None,
        })
    }

    fn tell(&self, kept: &Kept, mut query: Query, away: &Away, wants_json: bool) -> Ended {
        let mut search = kept.search()?;
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut found = 0;
        while left > 0 {
            let lives = search.find(&query, PAGE.min(left))?;
            for position in search.take_damaged() {
                eprintln!("passed over: push {position} is damaged on disk");
            }
            let Some(last) = lives.last() else { break };
            query.after = last.push.position;
            (found, left) = (found + lives.len(), left - lives.len());
            for life in lives {
                let (sinks, routes) = (&kept.at.sinks, kept.at.routes.as_deref());
                let traced = Traced::new(search.identity(), life, sinks, routes, away);
                match wants_json {
                    true => say!("{}", traced.json()),
                    false => say!("{}", traced.text(&kept.at.timezone)),
                }
            }
        }
        if found == 0 {
            bail!(
                "the spool keeps no such push; it may have come before spool.keep ({}), or never",
                humantime::format_duration(kept.at.keep)
            );
        }
        if left == 0 && !search.find(&query, 1)?.is_empty() {
            eprintln!("there are more: go on with --after {}", query.after);
        }
        Ok(())
    }
}

/// Who is away, if a gateway runs that can be asked; the spool tells all the rest.
async fn away(common: &Common) -> Away {
    let Ok(admin) = common.admin() else { return Away::new() };
    let Ok(answer) = running::ask_for(&admin, Method::GET, "/api/v1/lanes", None).await else {
        return Away::new();
    };
    let lanes = answer["lanes"].as_array().into_iter().flatten();
    let away = |lane: &serde_json::Value| {
        Some((lane["sink"].as_str()?.to_owned(), lane["paused"]["reason"].as_str()?.to_owned()))
    };
    lanes.filter_map(away).collect()
}

/// A moment as people write it: so long ago, a day or a time of the configuration's zone, or a time with an offset.
fn since(text: &str, now: Timestamp, timezone: &TimeZone) -> anyhow::Result<Timestamp> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.checked_sub(ago)?);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let local: civil::DateTime = text.parse().with_context(|| {
        format!("expected 2h, 2026-11-22, 2026-11-22T08:30 or 2026-11-22T08:30:00Z, found {text:?}")
    })?;
    Ok(local.to_zoned(timezone.clone())?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let read = |text| since(text, now, &zone).map(|moment| moment.to_string()).unwrap();
        assert_eq!(read("2h"), "2026-11-22T10:00:00Z");
        assert_eq!(read("3days"), "2026-11-19T12:00:00Z");
        assert_eq!(read("2026-11-22"), "2026-11-21T16:00:00Z");
        assert_eq!(read("2026-11-22T08:30"), "2026-11-22T00:30:00Z");
        assert_eq!(read("2026-11-22T08:30:00Z"), "2026-11-22T08:30:00Z");
        assert_eq!(read("2026-11-22T08:30:00+02:00"), "2026-11-22T06:30:00Z");
        assert!(since("yesterday", now, &zone).is_err());
    }
}
