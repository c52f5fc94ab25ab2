//! Where in the settings something stands, for telling what is wrong with it.

use std::cell::RefCell;

use cdr_core::{BuildError, SettingFault, setting::Step};

/// A place in the settings, and the list of faults that all places share.
pub(crate) struct Place<'f> {
    path: Vec<Step>,
    faults: &'f RefCell<BuildError>,
}

impl<'f> Place<'f> {
    /// The settings as a whole.
    pub fn whole(faults: &'f RefCell<BuildError>) -> Self {
        Self { path: Vec::new(), faults }
    }

    /// A setting of this one.
    pub fn key(&self, name: &str) -> Self {
        self.below(Step::Key(name.to_owned()))
    }

    /// An entry or a setting of this one.
    pub fn below(&self, step: Step) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { path, faults: self.faults }
    }

    /// Something is wrong here.
    pub fn fault(&self, message: impl Into<String>) {
        self.faults.borrow_mut().0.push(SettingFault { path: self.path.clone(), message: message.into() });
    }
}
