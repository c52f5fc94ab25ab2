//! Which push goes where: expressions and routes through their public interfaces.

mod any_expression;
mod check;
mod eval;
mod push;
mod route;
