//! What makes CEL our dialect: the tree of an expression is changed once, after it was checked.
//!
//! | as written | as evaluated |
//! |---|---|
//! | `a.b`, `a["b"]`, `a[0]` | `@member(a, "b")`: null where CEL would fail |
//! | `has(a.b)` | `a.b != null` |
//! | `["ok", "busy"]` | a constant, made once and not per push |
//! | `a.matches("^0086")` | `@matches(a, constant)`: cel would compile the pattern at every evaluation |

use std::sync::{Arc, LazyLock};

use cel::{
    Env, ExecutionError, IdedExpr,
    common::{
        ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
        types::{CelBool, CelList, CelNull, CelString, DYN_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use regex::Regex;

const MEMBER: &str = "@member";
const MATCHES: &str = "@matches";

/// Names of constants; no expression can spell them.
const CONSTANT: &str = "@constant";

static NULL: CelNull = CelNull;

/// The functions of the dialect: cel's own, without optional values, and the two above.
pub(super) fn dialect() -> Arc<Env> {
    static DIALECT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::default().with_optional_support(false).with_stdlib();
        let ours = crate::functions::add_to(&mut env);
        let own = [
            ours,
            env.add_overload(MEMBER, MEMBER, vec![DYN_TYPE, DYN_TYPE], member),
            env.add_overload(MATCHES, MATCHES, vec![DYN_TYPE, DYN_TYPE], matches),
        ];
        debug_assert!(own.iter().all(Result::is_ok), "these names are ours");
        Arc::new(env)
    });
    Arc::clone(&DIALECT)
}

/// The number of a constant by its name.
pub(super) fn constant_of(name: &str) -> Option<usize> {
    name.strip_prefix(CONSTANT)?.parse().ok()
}

/// Changes a checked expression into our dialect; gives its constants.
pub(super) fn rewrite(program: &mut IdedExpr) -> Vec<Box<dyn Val>> {
    let mut constants = Vec::new();
    each(program, &mut constants);
    constants
}

fn each(expr: &mut IdedExpr, constants: &mut Vec<Box<dyn Val>>) {
    for child in children(&mut expr.expr) {
        each(child, constants);
    }
    let id = expr.id;
    expr.expr = match std::mem::take(&mut expr.expr) {
        Expr::Select(select) => {
            let name = Expr::Literal(LiteralValue::String(select.field.into()));
            let member = call(MEMBER, vec![*select.operand, IdedExpr { id, expr: name }]);
            match select.test {
                false => member,
                true => {
                    let null = Expr::Literal(LiteralValue::Null);
                    let sides = vec![IdedExpr { id, expr: member }, IdedExpr { id, expr: null }];
                    call(operators::NOT_EQUALS, sides)
                }
            }
        }
        Expr::Call(index) if index.func_name == operators::INDEX => call(MEMBER, index.args),
        Expr::Call(mut matches) if matches.func_name == "matches" => match pattern(&matches) {
            None => Expr::Call(matches),
            Some(pattern) => {
                let subject =
                    matches.target.take().map_or_else(|| matches.args.swap_remove(0), |target| *target);
                let pattern = IdedExpr { id, expr: constant(constants, Box::new(pattern)) };
                call(MATCHES, vec![subject, pattern])
            }
        },
        Expr::List(list) => {
            let literals: Option<Vec<_>> = list.elements.iter().map(literal).collect();
            match literals {
                // An empty list begins what `map` and `filter` gather, which cel knows how to do fast.
                Some(literals) if !literals.is_empty() => {
                    constant(constants, Box::new(CelList::from(literals)))
                }
                _ => Expr::List(list),
            }
        }
        other => other,
    };
}

fn children(expr: &mut Expr) -> Vec<&mut IdedExpr> {
    match expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Comprehension(loops) => vec![
            &mut loops.iter_range,
            &mut loops.accu_init,
            &mut loops.loop_cond,
            &mut loops.loop_step,
            &mut loops.result,
        ],
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect(),
        Expr::Struct(message) => {
            message.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect()
        }
    }
}

fn entry_parts(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
        EntryExpr::StructField(field) => vec![&mut field.value],
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn constant(constants: &mut Vec<Box<dyn Val>>, value: Box<dyn Val>) -> Expr {
    constants.push(value);
    Expr::Ident(format!("{CONSTANT}{}", constants.len() - 1))
}

fn literal(expr: &IdedExpr) -> Option<Box<dyn Val>> {
    match &expr.expr {
        Expr::Literal(literal) => Some(literal.to_val().into_owned()),
        _ => None,
    }
}

/// The pattern of a call of `matches`, when it is spelled out.
fn pattern(matches: &CallExpr) -> Option<Pattern> {
    match &matches.args.last()?.expr {
        Expr::Literal(LiteralValue::String(text)) => Regex::new(text.inner()).ok().map(Pattern),
        _ => None,
    }
}

/// A regular expression as a value.
#[derive(Clone, Debug)]
struct Pattern(Regex);

static PATTERN: Type = Type::new_unspecified_type("a pattern");

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let subject = args.first().and_then(|subject| subject.downcast_ref::<CelString<'_>>());
    match (subject, args.get(1).and_then(|pattern| pattern.downcast_ref::<Pattern>())) {
        (Some(subject), Some(pattern)) => {
            Ok(CowVal::owned(CelBool::from(pattern.0.is_match(subject.inner()))))
        }
        _ => {
            let subject = args.first().map(|subject| subject.get_type().name().to_owned());
            Err(ExecutionError::no_such_overload("matches", subject.into_iter().collect()))
        }
    }
}

fn member<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut args = args.into_iter();
    let (Some(whole), Some(key)) = (args.next(), args.next()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let no_members = |whole: &dyn Val| {
        let types = [whole, key.as_ref()].map(|value| value.get_type().name().to_owned());
        Err(ExecutionError::no_such_overload("[]", types.to_vec()))
    };
    let found = match &whole {
        CowVal::Borrowed(whole) => match whole.as_indexer() {
            Some(indexer) => indexer.get(key.as_ref()),
            None if whole.downcast_ref::<CelNull>().is_some() => return Ok(CowVal::Borrowed(&NULL)),
            None => return no_members(*whole),
        },
        CowVal::Owned(owned) => match owned.as_indexer() {
            Some(indexer) => indexer.get(key.as_ref()).map(|value| CowVal::Owned(value.into_owned())),
            None if owned.downcast_ref::<CelNull>().is_some() => return Ok(CowVal::Borrowed(&NULL)),
            None => return no_members(owned.as_ref()),
        },
    };
    match found {
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => {
            Ok(CowVal::Borrowed(&NULL))
        }
        Err(ExecutionError::UnexpectedType { .. } | ExecutionError::UnsupportedIndex(..)) => {
            no_members(whole.as_ref())
        }
        found => found,
    }
}
