//! Expressions through their public interface.

mod any_expression;
mod check;
mod eval;
mod push;
mod values;
