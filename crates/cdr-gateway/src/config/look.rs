//! The parts of a configuration that commands beside the gateway need: where things lie, and whom to ask.
//!
//! Only these parts are read. So a command that looks works in a shell without the gateway's secrets, and beside
//! a file that somebody has just broken in another place; and nothing can be started with what it gets.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cdr_core::setting;
use cdr_dispatch::route::Routes;
use cdr_ingress::IngressSettings;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{
    Finding, Source,
    archives::{self, Archive},
    faults::{Faults, path},
    plan, read,
    sections::Admin,
};

/// What is to know of a spool without opening it.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The folder of the spool.
    pub spool: PathBuf,
    /// For how long it keeps what is delivered, at least.
    pub keep: Duration,
    /// In which times are told to people.
    pub timezone: TimeZone,
    /// The names of the sinks.
    pub sinks: Vec<String>,
    /// Which pushes go where; none if the routes have faults.
    pub routes: Option<Arc<Routes>>,
}

/// Where the configuration keeps its spool. No secret is fetched.
///
/// # Errors
/// The faults of `timezone` and `spool`, and of a file that cannot be read as a whole.
pub fn whereabouts(
    source: &Source,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Whereabouts, Vec<Finding>> {
    let looked = read(source, environment, |layers| {
        let mut faults = Faults::default();
        let timezone = faults.take(plan::timezone(layers));
        let spool = faults.take(layers.part(&path(["spool"]), setting::read));
        match (timezone, spool.map(|spool| plan::spool(spool, None, source.base()))) {
            (Some(timezone), Some(cdr_spool::Settings { path: spool, keep, .. })) => {
                let sinks = layers.names(&path(["sinks"]));
                let routes = plan::routes_alone(layers, &sinks).map(Arc::new);
                Ok((Whereabouts { spool, keep, timezone, sinks, routes }, Vec::new()))
            }
            _ => Err(faults.0),
        }
    });
    looked.map(|(whereabouts, _)| whereabouts)
}

/// Who may push, and where. No secret is fetched: `ingress.verify` is left out.
///
/// # Errors
/// The faults of the rest of `ingress`, and of a file that cannot be read as a whole.
pub fn door(
    source: &Source,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<IngressSettings, Vec<Finding>> {
    let without_proofs = |mut settings: Value| {
        settings.as_object_mut().map(|settings| settings.remove("verify"));
        plan::ingress(settings)
    };
    let looked = read(source, environment, |layers| {
        layers.part(&path(["ingress"]), without_proofs).map(|ingress| (ingress, Vec::new()))
    });
    looked.map(|(ingress, _)| ingress)
}

/// Where the running gateway listens for operators. Of all secrets only `admin.token` is fetched.
///
/// # Errors
/// The faults of `admin`, and of a file that cannot be read as a whole.
pub fn admin(
    source: &Source,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Admin, Vec<Finding>> {
    let looked = read(source, environment, |layers| {
        layers.part(&path(["admin"]), plan::admin).map(|admin| (admin, Vec::new()))
    });
    looked.map(|(admin, _)| admin)
}

/// The archives of the configuration, in its order. Only their own secrets are fetched.
///
/// # Errors
/// The faults of their settings, and of a file that cannot be read as a whole.
pub fn archives(
    source: &Source,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Archive>, Vec<Finding>> {
    let looked =
        read(source, environment, |layers| archives::all(layers).map(|archives| (archives, Vec::new())));
    looked.map(|(archives, _)| archives)
}
