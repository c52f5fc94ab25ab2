//! Where dead letters are read: from the running gateway, a page at a time, or from disk when none runs.

use std::collections::VecDeque;

use anyhow::Context as _;
use cdr_core::{Position, setting};
use hyper::Method;
use serde_json::{Value, json};

use super::{super::running, Common, Filter, Kept, on_disk::OnDisk};
use crate::{
    config::{self, Admin},
    dead::{Letter, Page, Which},
};

/// Dead letters by sink, oldest push first.
pub struct Letters(From);

enum From {
    /// The running gateway: it knows where each lies, and gives them in pages.
    Gateway { admin: Admin, sinks: VecDeque<String>, after: Position, which: Which },
    /// The disk, in pages as well.
    Disk(OnDisk),
}

impl Letters {
    /// From the running gateway, or from disk if it cannot be asked; that is said to stderr.
    pub async fn anywhere(common: &Common, kept: &Kept, filter: &Filter) -> anyhow::Result<Self> {
        // A file that has a fault there, or a secret that this shell does not have, must not keep anybody from looking.
        match config::admin(&common.source(), config::environment()) {
            Ok(admin) if running::is_there(&admin).await => Self::of_gateway(admin, filter).await,
            Ok(admin) => {
                eprintln!("no gateway answers at {} (admin.listen); reading the disk", admin.listen);
                Self::on_disk(kept, filter)
            }
            Err(_) => {
                eprintln!("`admin` of the configuration cannot be read here; reading the disk");
                Self::on_disk(kept, filter)
            }
        }
    }

    /// From the running gateway, of all sinks or of the one that is named; parked ones too.
    pub async fn of_gateway(admin: Admin, filter: &Filter) -> anyhow::Result<Self> {
        let lanes = running::ask_for(&admin, Method::GET, "/api/v1/lanes", None).await?;
        let lanes = [("lanes", "sink"), ("replays", "sink"), ("parked", "name")].map(|(list, name)| {
            let lanes = lanes[list].as_array().into_iter().flatten();
            lanes.filter_map(move |lane| Some((lane[name].as_str()?, lane["set_aside_of"].is_null())))
        });
        let lanes: Vec<(&str, bool)> = lanes.into_iter().flatten().collect();
        let known: Vec<&str> = lanes.iter().map(|(name, _)| *name).collect();
        let sinks: VecDeque<String> = match &filter.sink {
            Some(sink) if !known.contains(&sink.as_str()) => {
                anyhow::bail!(setting::unknown("sink", sink, known.into_iter()))
            }
            Some(sink) => [sink.clone()].into(),
            // What was set aside is told of as its sink's.
            None => {
                lanes.iter().filter(|(_, is_whole)| *is_whole).map(|(name, _)| (*name).to_owned()).collect()
            }
        };
        let which = filter.which();
        Ok(Self(From::Gateway { admin, sinks, after: Position(0), which }))
    }

    fn on_disk(kept: &Kept, filter: &Filter) -> anyhow::Result<Self> {
        Ok(Self(From::Disk(OnDisk::open(kept, filter)?)))
    }

    /// Some more, all of one sink; none at the end.
    ///
    /// # Errors
    /// The gateway does not answer any more, or its disk cannot be read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Letter>>> {
        let (admin, sinks, after, which) = match &mut self.0 {
            From::Disk(letters) => return letters.next(),
            From::Gateway { admin, sinks, after, which } => (admin, sinks, after, which),
        };
        while let Some(sink) = sinks.front() {
            let path = format!("/api/v1/dead/{sink}/find");
            let asked: Value = json!({ "after": after, "which": which });
            let answer = running::ask_for(admin, Method::POST, &path, Some(asked)).await?;
            let page: Page = serde_json::from_value(answer)
                .context("the gateway is of another version than this command")?;
            *after = page.next.unwrap_or(Position(0));
            if page.next.is_none() {
                sinks.pop_front();
            }
            if !page.letters.is_empty() {
                return Ok(Some(page.letters));
            }
        }
        Ok(None)
    }
}
