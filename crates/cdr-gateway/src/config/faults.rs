//! Gathering faults, so that all of them are told at once.

use std::fmt::Display;

use cdr_core::{SettingFault, setting::Step};

/// Faults found so far.
#[derive(Default)]
pub(super) struct Faults(pub Vec<SettingFault>);

impl Faults {
    /// The value, or nothing and one more fault or several.
    pub fn take<T>(&mut self, result: Result<T, impl IntoFaults>) -> Option<T> {
        result.map_err(|faults| self.0.extend(faults.into_faults())).ok()
    }
}

/// One fault or several.
pub(super) trait IntoFaults {
    fn into_faults(self) -> Vec<SettingFault>;
}

impl IntoFaults for SettingFault {
    fn into_faults(self) -> Vec<SettingFault> {
        vec![self]
    }
}

impl IntoFaults for Vec<SettingFault> {
    fn into_faults(self) -> Vec<SettingFault> {
        self
    }
}

/// A fault at a path such as `retry.max`.
pub(super) fn at(path: &str, message: impl Display) -> SettingFault {
    SettingFault::at(path, message.to_string())
}

/// A path such as `sinks`, `crm`.
pub(super) fn path<const N: usize>(names: [&str; N]) -> Vec<Step> {
    names.into_iter().map(|name| Step::Key(name.to_owned())).collect()
}
