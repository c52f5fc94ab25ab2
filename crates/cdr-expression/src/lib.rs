//! Expressions over pushes: one language for routes, `replay --where`, `tail --where`, search, and the mappings of sinks.
//!
//! An [`Expression`] is a condition on a push, or gives a value made of it. Whoever has more to look at than a push, such as
//! the answer of a receiver, adds [`Names`] when it is read and their values to the [`Variables`] when it is evaluated.
//!
//! The language is [CEL](https://cel.dev) as the crate `cel` has it, with two rules of our own. An expression is
//! compiled once, so that whatever can be known before the first push comes (a misspelled name, a text outside a
//! closed set, a comparison that can never hold) is a fault at `check` and not a route that silently never matches.
//!
//! # Names
//! | name | value |
//! |---|---|
//! | every name in [`Cdr::FIELDS`](cdr_core::Cdr::FIELDS) | the published field; null when absent, wrongly typed, or when the action has no published fields |
//! | `action` `origin` | text; `action` in its published spelling |
//! | `version` `sender` | text, or null when unknown |
//! | `received_at` | text, UTC to the millisecond: `2026-03-01T08:30:00.000Z`. It sorts as time does, so `received_at >= "2026-03-01"` works |
//! | `result` `wait` `ring` `talk` `transfers` | what the gateway derives of a session (`cdr`, `imcdr`, `videoCdr`): a text and four numbers; null of any other push, times also when they did not happen |
//! | `customer` | the customer's number: `Caller` of an inbound call, `Callee` of an outbound one |
//! | `cdr.X` | any member of the body as it came, published or not |
//!
//! # Functions
//! CEL's own, and [ours](functions): `e164`, `local` and `phones` for numbers, `time`, `words`, `join`.
//!
//! # Our two rules
//! * **A member that is not there is null**, of null too: `SeatUser.Mail` is null for a call without an agent, and
//!   so are `cdr.X`, `cdr.X.Y` and `ServeParticipants[7]`. CEL would fail, and most calls lack something.
//!   `has(a.b)` means `a.b != null`.
//! * **Optional syntax (`a.?b`) and messages (`Type{}`) are not there**: the first is not needed, of the second
//!   there are none.
//!
//! # What null and other types do
//! | expression | with a null field | why |
//! |---|---|---|
//! | `Duration == 0`, `EndStatusString == "ok"` | false | null equals only null |
//! | `Duration != 0` | **true** | so say `Duration != null && Duration != 0` |
//! | `EndStatusString in ["ok", "busy"]` | false | unless the list holds null |
//! | `"1" in IVRKeyPressed` | fails | null is no list |
//! | `Duration > 30`, `Duration + 1 > 30` | fails | null has no order and no sum |
//! | `Caller.startsWith("0086")`, `size(Caller) > 0`, `IVRKeyPressed.exists(k, k == "1")` | fails | null is no text and no list |
//! | `Duration > 30 && action == "record"` | false if one side is false | `&&` and `\|\|` ignore a side that fails when the other decides, in either order |
//! | `Duration == "30"`, `Duration > "30"` | fault at `check` | a number is never a text |
//! | `cdr.X == 1` where X is `"1"` | false | the type of an unpublished field is not known before |
//! | `cdr.X > 1` where X is `"1"` | fails | the same |
//!
//! *Fails* means [`EvalError`]: the expression does not match, and the failure is counted. Its text names the fields
//! that were null, and never holds a value.

#![forbid(unsafe_code)]

mod check;
mod fault;
pub mod functions;
mod rewrite;
mod variables;
mod vocabulary;

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    thread,
};

use cdr_core::Push;
use cel::{
    Context, IdedExpr,
    common::{types::CelBool, value::Val},
    parser::Parser,
};

use self::{check::Wanted, variables::Scope};
pub use self::{
    fault::ExpressionFault,
    variables::Variables,
    vocabulary::{Kind, Names},
};

/// The longest expression, in bytes. Longer ones want to be several routes.
pub const MAX_LENGTH: usize = 8 * 1024;

/// cel's parser descends once per operator of a chain (`1+1+1…`), some 30 KB of stack each in a debug build; the
/// longest expression must not overflow it. Only what is used gets committed.
const PARSER_STACK: usize = 256 * 1024 * 1024;

/// A condition or a value, checked and ready to be evaluated.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: IdedExpr,
    /// What the expression spells out, made once: lists of literals, regular expressions.
    constants: Vec<Box<dyn Val>>,
    /// The variables it names.
    names: Vec<String>,
    warnings: Vec<ExpressionFault>,
}

impl Expression {
    /// Reads and checks a condition on a push.
    ///
    /// # Errors
    /// Every fault there is, in the order of the text; of syntax errors only the first, as the others follow from it.
    pub fn compile(text: &str) -> Result<Self, Vec<ExpressionFault>> {
        Self::condition(text, &Names::default())
    }

    /// The same on a push and what else these names stand for.
    ///
    /// # Errors
    /// As for [`compile`](Self::compile).
    pub fn condition(text: &str, own: &Names) -> Result<Self, Vec<ExpressionFault>> {
        Self::read(text, own, Wanted::Condition)
    }

    /// The same for an expression that gives a value of any kind.
    ///
    /// # Errors
    /// As for [`compile`](Self::compile).
    pub fn value(text: &str, own: &Names) -> Result<Self, Vec<ExpressionFault>> {
        Self::read(text, own, Wanted::Value)
    }

    fn read(text: &str, own: &Names, wanted: Wanted) -> Result<Self, Vec<ExpressionFault>> {
        if text.len() > MAX_LENGTH {
            let message = format!("longer than {MAX_LENGTH} bytes; split it into several routes");
            return Err(vec![ExpressionFault::whole(message)]);
        }
        // On a thread of its own for the depth of the parser, and so that a panic inside it is a fault of this
        // expression and no more.
        let parser = thread::Builder::new().name("expression".to_owned()).stack_size(PARSER_STACK);
        thread::scope(|scope| match parser.spawn_scoped(scope, || Self::read_here(text, own, wanted)) {
            Ok(parser) => parser.join().unwrap_or_else(|_| {
                Err(vec![ExpressionFault::whole(
                    "it cannot be read: the parser broke off; write it differently",
                )])
            }),
            Err(error) => Err(vec![ExpressionFault::whole(format!(
                "it cannot be read: no thread for the parser: {error}"
            ))]),
        })
    }

    fn read_here(text: &str, own: &Names, wanted: Wanted) -> Result<Self, Vec<ExpressionFault>> {
        let (mut program, places) = Parser::default()
            .parse_with_source_info(text)
            .map_err(|errors| vec![fault::syntax(text, &errors)])?;
        let checked = check::check(text, &program, &places, own, wanted)?;
        let constants = rewrite::rewrite(&mut program);
        Ok(Self {
            text: text.to_owned(),
            program,
            constants,
            names: checked.names.into_iter().collect(),
            warnings: checked.warnings,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is allowed and probably not meant, such as a status that is not published.
    pub fn warnings(&self) -> &[ExpressionFault] {
        &self.warnings
    }

    /// Whether it holds for a push.
    ///
    /// # Errors
    /// It has no answer for this push, see the table above.
    pub fn eval(&self, push: &Push) -> Result<bool, EvalError> {
        self.holds(&Variables::of(push))
    }

    /// The same, sharing what was read of the push with other expressions.
    ///
    /// # Errors
    /// As for [`eval`](Self::eval).
    pub fn holds(&self, variables: &Variables<'_>) -> Result<bool, EvalError> {
        self.answer(variables, |value| {
            let holds = value.downcast_ref::<CelBool>().map(|holds| *holds.inner());
            holds.ok_or_else(|| {
                format!("it gives {}, not true or false", fault::type_name(value.get_type().name()))
            })
        })
    }

    /// What it gives, as JSON.
    ///
    /// # Errors
    /// It has no answer for these variables, or one that JSON cannot hold.
    pub fn give(&self, variables: &Variables<'_>) -> Result<serde_json::Value, EvalError> {
        self.answer(variables, |value| {
            let json = variables.to_json(value);
            json.ok_or_else(|| format!("it gives {}, which JSON has not", value.get_type().name()))
        })
    }

    /// Evaluates it and makes something of the value.
    fn answer<T>(
        &self,
        variables: &Variables<'_>,
        make: impl Fn(&dyn Val) -> Result<T, String>,
    ) -> Result<T, EvalError> {
        // Routes are decided on the thread that commits pushes: a panic inside cel may cost a match, never that
        // thread. Nothing that is looked at is changed by an evaluation.
        panic::catch_unwind(AssertUnwindSafe(|| self.evaluate(variables, make)))
            .unwrap_or_else(|_| Err("the evaluation broke off".to_owned()))
            .map_err(|reason| EvalError::new(reason, self.nulls(variables)))
    }

    fn evaluate<T>(
        &self,
        variables: &Variables<'_>,
        make: impl Fn(&dyn Val) -> Result<T, String>,
    ) -> Result<T, String> {
        let scope = Scope { variables, constants: &self.constants };
        let mut context = Context::with_env(rewrite::dialect());
        context.set_variable_resolver(&scope);
        let value =
            cel::Value::resolve_val(&self.program, &context).map_err(|error| fault::reason(&error))?;
        make(value.as_ref())
    }

    /// The variables it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The variables it names and what they hold for a push, as they would be written in an expression. The whole body, `cdr`, is
    /// left out.
    pub fn values(&self, variables: &Variables<'_>) -> Vec<(String, String)> {
        self.names.iter().filter_map(|name| Some((name.clone(), variables.shown(name)?))).collect()
    }

    /// The variables it names that are null now: what most failures come from.
    fn nulls(&self, variables: &Variables<'_>) -> Vec<&str> {
        self.names.iter().map(String::as_str).filter(|name| variables.is_null(name)).collect()
    }
}

/// Why an expression has no answer for a push. Names fields and types, never a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvalError {
    reason: String,
}

impl EvalError {
    fn new(reason: String, nulls: Vec<&str>) -> Self {
        match nulls.is_empty() {
            true => Self { reason },
            false => Self { reason: format!("{reason}; null in this push: {}", nulls.join(", ")) },
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for EvalError {}
