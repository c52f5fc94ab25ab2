//! `--where`: a condition on pushes, in the language of routes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use cdr_core::Push;
use cdr_expression::Expression;

/// A condition on pushes.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    expression: Expression,
    has_told: AtomicBool,
}

impl Condition {
    /// Reads what stands behind `--where`. What is allowed and probably not meant is told to stderr.
    ///
    /// # Errors
    /// Every fault, as `check` would tell it of a route.
    pub fn read(text: &str) -> Result<Self, String> {
        let expression = Expression::compile(text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        expression.warnings().iter().for_each(|doubt| eprintln!("--where: {doubt}"));
        Ok(Self(Arc::new(Asked { expression, has_told: AtomicBool::new(false) })))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        self.0.expression.text()
    }

    /// Whether it holds for a push. One on which it fails does not match; the first is told to stderr.
    pub fn holds(&self, push: &Push) -> bool {
        self.0.expression.eval(push).unwrap_or_else(|error| {
            if !self.0.has_told.swap(true, Relaxed) {
                let number = push.position();
                eprintln!("--where has no answer for push {number}, so it is left out, like others: {error}");
            }
            false
        })
    }
}
