//! From the configuration as written to the plan as meant.
//!
//! ```text
//!  gateway.yaml ─┐                    ┌─ sections (types of their crates) ─┐
//!                ├─ layers (figment) ─┤                                    ├─ checks ─▶ Plan, warnings
//!  environment  ─┘                    └─ sinks: kind, then its settings ───┘      └──▶ all faults, each with its place
//! ```
//!
//! [`load`] reads the file, the environment and secrets, and touches nothing else: `check` stops after it, and
//! start and reload both begin with it. It promises
//! * all faults at once, each as `gateway.yaml:14:7: …` or `CDR_GATEWAY_INGRESS__LISTEN: …`;
//! * that no fault, warning or digest contains a secret;
//! * that relative paths are relative to the file, or to the current folder where there is none.
//!
//! # Reading order
//! [`sections`] and [`sinks`] say what there is to set; [`plan`] puts it together; [`checks`] compares; [`layers`]
//! merges what was written; [`places`] and [`finding`] tell where a fault stands. Commands that only look at what a
//! gateway keeps read less: [`look`]. [`archives`] are what can be read back. [`schema`] tells editors what there is to set.

mod archives;
mod checks;
mod faults;
mod finding;
mod layers;
mod look;
mod places;
mod plan;
mod schema;
mod secrets;
mod sections;
mod sinks;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use cdr_core::{
    SettingFault, Sinks,
    setting::{self, Surroundings},
};

use self::layers::Layers;
pub use self::{
    archives::Archive,
    finding::{Finding, Standing},
    look::{Whereabouts, admin, archives, door, whereabouts},
    places::Place,
    plan::Plan,
    schema::schema,
    sections::{Admin, Alerts, Log, LogFormat, LogLevel},
    sinks::PlannedSink,
};

/// The configuration that is used when there is none, and that `init` writes.
pub const SHIPPED: &str = include_str!("../../../../gateway.yaml");

/// What a configuration is called that nobody named.
const FILE: &str = "gateway.yaml";

/// Where the configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// [`SHIPPED`], since there is no file.
    Shipped,
}

impl Source {
    /// The file that was named; else `gateway.yaml` of the current folder; else what ships with the program.
    pub fn find(named: Option<PathBuf>) -> Self {
        match named {
            Some(path) => Self::File(path),
            None if Path::new(FILE).exists() => Self::File(FILE.into()),
            None => Self::Shipped,
        }
    }

    /// As it is named to the operator.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Shipped => format!("the built-in {FILE}"),
        }
    }

    /// Where relative paths begin.
    fn base(&self) -> &Path {
        match self {
            Self::File(path) => path.parent().unwrap_or(Path::new("")),
            Self::Shipped => Path::new(""),
        }
    }

    fn text(&self) -> Result<String, Finding> {
        let path = match self {
            Self::File(path) => path,
            Self::Shipped => return Ok(SHIPPED.to_owned()),
        };
        let about = |message: String| Finding::about(&self.name(), message);
        let bytes = fs::read(path).map_err(|error| about(format!("cannot be read: {error}")))?;
        String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            about(format!("is no UTF-8 text, from line {line} on"))
        })
    }
}

/// The environment as far as it is text; what is none cannot be a setting.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads and checks a configuration for a program that knows these kinds of sinks. The second value is its warnings.
///
/// # Errors
/// Every fault there is, in the order of the file; what the environment sets comes last.
pub fn load(
    source: &Source,
    kinds: &Sinks,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Plan, Vec<Finding>), Vec<Finding>> {
    read(source, environment, |layers| plan::plan(layers, kinds, source.base()))
}

/// A value, and what is to say about the settings that it was made of.
type Made<T, Told> = Result<(T, Vec<Told>), Vec<Told>>;

/// Reads the layers and makes something of them in the world of their source; faults and warnings get their places.
fn read<T>(
    source: &Source,
    environment: impl IntoIterator<Item = (String, String)>,
    make: impl FnOnce(&Layers) -> Made<T, SettingFault>,
) -> Made<T, Finding> {
    let text = source.text().map_err(|fault| vec![fault])?;
    let layers = Layers::read(&source.name(), &text, environment)?;
    let told = |faults: Vec<_>| {
        let mut findings: Vec<Finding> = faults.iter().map(|fault| layers.finding(fault)).collect();
        findings.sort();
        findings.dedup();
        findings
    };
    let timezone = plan::inherited_timezone(&layers);
    let surroundings = Surroundings { base: source.base().to_owned(), timezone, secret: secrets::fetch };
    match setting::with_surroundings(surroundings, || make(&layers)) {
        Ok((made, warnings)) => Ok((made, told(warnings))),
        Err(faults) => Err(told(faults)),
    }
}
