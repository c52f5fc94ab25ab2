//! What can be known of an expression before there is a push: names, types, known values.

mod compare;

use std::collections::BTreeSet;

use cdr_core::{Cdr, cdr::Shape, setting};
use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators as op,
    },
};
use regex::Regex;

use super::{
    fault::ExpressionFault,
    functions,
    vocabulary::{self, FUNCTIONS, Function, MACROS, Names, TYPES, Type},
};

/// Levels of an expression. An evaluation takes some 20 KB of stack a level in a debug build, and runs on threads
/// that have 2 MB.
const MAX_DEPTH: usize = 32;

/// What an expression is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// To be true or false.
    Condition,
    /// To give something.
    Value,
}

/// What a check without faults found.
pub(super) struct Checked {
    /// The variables that are named.
    pub(super) names: BTreeSet<String>,
    pub(super) warnings: Vec<ExpressionFault>,
}

/// Checks an expression as it was written.
pub(super) fn check(
    text: &str,
    program: &IdedExpr,
    places: &SourceInfo,
    own: &Names,
    wanted: Wanted,
) -> Result<Checked, Vec<ExpressionFault>> {
    let mut checker = Checker {
        text,
        places,
        own,
        depth: 0,
        scope: Vec::new(),
        names: BTreeSet::new(),
        faults: Vec::new(),
        warnings: Vec::new(),
    };
    match wanted {
        Wanted::Condition => checker.condition(program),
        Wanted::Value => drop(checker.type_of(program)),
    }
    let sorted = |mut list: Vec<ExpressionFault>| {
        list.sort();
        list.dedup();
        list
    };
    match checker.faults.is_empty() {
        true => Ok(Checked { names: checker.names, warnings: sorted(checker.warnings) }),
        false => Err(sorted(checker.faults)),
    }
}

struct Checker<'e> {
    text: &'e str,
    places: &'e SourceInfo,
    own: &'e Names,
    depth: usize,
    /// Names that macros bring, innermost last.
    scope: Vec<(String, Type)>,
    names: BTreeSet<String>,
    faults: Vec<ExpressionFault>,
    warnings: Vec<ExpressionFault>,
}

impl Checker<'_> {
    fn at(&self, expr: &IdedExpr, message: String) -> ExpressionFault {
        let Some((start, _)) = self.places.offset_for(expr.id) else {
            return ExpressionFault::whole(message);
        };
        // The parser places a member at its dot and a call at its bracket; people look for the name.
        let start = start as usize;
        let start = match &expr.expr {
            Expr::Select(_) => start + 1,
            Expr::Call(call)
                if self.text.get(..start).is_some_and(|before| before.ends_with(&call.func_name)) =>
            {
                start - call.func_name.len()
            }
            _ => start,
        };
        ExpressionFault::at(self.text, start, message)
    }

    /// Notes a fault; what follows from it is not known any more.
    fn fault(&mut self, expr: &IdedExpr, message: impl Into<String>) -> Type {
        let fault = self.at(expr, message.into());
        self.faults.push(fault);
        Type::Any
    }

    fn warn(&mut self, expr: &IdedExpr, message: String) {
        let warning = self.at(expr, message);
        self.warnings.push(warning);
    }

    /// What must be true or false.
    fn condition(&mut self, expr: &IdedExpr) {
        let found = self.type_of(expr);
        if !Type::Condition.meets(&found) || found == Type::Null {
            self.fault(expr, format!("{} is {found}, not a condition that is true or false", spoken(expr)));
        }
    }

    fn type_of(&mut self, expr: &IdedExpr) -> Type {
        if self.depth == MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels; split it into several routes");
            self.faults.push(ExpressionFault::whole(message));
            return Type::Any;
        }
        self.depth += 1;
        let found = match &expr.expr {
            Expr::Unspecified => self.fault(expr, "it cannot be read"),
            Expr::Literal(literal) => type_of_literal(literal),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => {
                let elements = list.elements.iter().map(|element| self.type_of(element));
                let elements: Vec<_> = elements.collect();
                Type::List(Box::new(common(elements)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.type_of(&entry.key);
                        self.type_of(&entry.value);
                    }
                }
                Type::Map
            }
            Expr::Comprehension(loops) => self.comprehension(expr, loops),
            Expr::Struct(message) => {
                self.fault(expr, format!("{}{{…}}: there are no messages", message.type_name))
            }
        };
        self.depth -= 1;
        found
    }

    fn name(&mut self, expr: &IdedExpr, written: &str) -> Type {
        let name = written.trim_start_matches('.');
        if name.len() == written.len()
            && let Some((_, of_macro)) = self.scope.iter().rev().find(|(own, _)| own == name)
        {
            return of_macro.clone();
        }
        if let Some(variable) = self.own.get(name).or_else(|| vocabulary::variable(name)) {
            self.names.insert(name.to_owned());
            return variable;
        }
        if TYPES.contains(&name) {
            return Type::Any;
        }
        let own = self.scope.iter().map(|(own, _)| own.as_str()).filter(|own| !own.starts_with('@'));
        let mut known: Vec<&str> = vocabulary::variables().collect();
        known.extend(self.own.iter());
        known.extend(own);
        let message = match setting::nearest(name, known) {
            _ if vocabulary::is_known_text(name) => format!("{name} is a text and needs quotes: \"{name}\""),
            Some(meant) => format!("there is no field \"{name}\", did you mean \"{meant}\"?"),
            None => format!("there is no field \"{name}\"; an unpublished one is written cdr.{name}"),
        };
        self.fault(expr, message)
    }

    fn select(&mut self, expr: &IdedExpr, select: &SelectExpr) -> Type {
        let whole = self.type_of(&select.operand);
        let member = self.member(expr, &select.operand, &whole, &select.field);
        match select.test {
            true => Type::Condition,
            false => member,
        }
    }

    fn member(&mut self, expr: &IdedExpr, operand: &IdedExpr, whole: &Type, field: &str) -> Type {
        match whole {
            Type::Object(members) => self.member_of(expr, operand, members, field),
            Type::Body => {
                let published = Cdr::FIELDS.iter().copied();
                if !Cdr::FIELDS.contains(&field)
                    && let Some(meant) = setting::nearest(field, published)
                {
                    self.warn(expr, format!("cdr.{field} is no published field, did you mean {meant}?"));
                }
                Type::Any
            }
            Type::Any | Type::Null | Type::Map => Type::Any,
            other => self.fault(expr, format!("{} is {other} and has no members", spoken(operand))),
        }
    }

    fn member_of(
        &mut self,
        expr: &IdedExpr,
        operand: &IdedExpr,
        members: &'static [(&'static str, Shape)],
        field: &str,
    ) -> Type {
        match members.iter().find(|(name, _)| *name == field) {
            Some((_, shape)) => (*shape).into(),
            None => {
                let what = format!("member of {}", spoken(operand));
                let message = setting::unknown(&what, field, members.iter().map(|(name, _)| *name));
                self.fault(expr, message)
            }
        }
    }

    fn comprehension(&mut self, expr: &IdedExpr, loops: &ComprehensionExpr) -> Type {
        let element = match self.type_of(&loops.iter_range) {
            Type::List(element) => *element,
            Type::Any | Type::Map => Type::Any,
            other => {
                let range = spoken(&loops.iter_range);
                self.fault(expr, format!("{range} is {other}; this goes over the elements of a list"))
            }
        };
        let gathered = self.type_of(&loops.accu_init);
        self.scope.push((loops.iter_var.clone(), element));
        self.scope.push((loops.accu_var.clone(), gathered));
        self.type_of(&loops.loop_cond);
        self.type_of(&loops.loop_step);
        let result = self.type_of(&loops.result);
        self.scope.truncate(self.scope.len() - 2);
        result
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Type {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, args) => {
                args.iter().for_each(|arg| self.condition(arg));
                Type::Condition
            }
            (op::CONDITIONAL, [condition, yes, no]) => {
                self.condition(condition);
                let sides = vec![self.type_of(yes), self.type_of(no)];
                common(sides)
            }
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => {
                self.comparison(expr, left, right);
                Type::Condition
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                self.order(expr, left, right);
                Type::Condition
            }
            (op::IN, [element, list]) => self.containment(expr, element, list),
            (op::INDEX, [whole, key]) => self.index(expr, whole, key),
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [left, right]) => {
                self.arithmetic(expr, &call.func_name, left, right)
            }
            (op::NEGATE, [value]) => {
                let found = self.type_of(value);
                match Type::NUMBER.meets(&found) {
                    true => Type::NUMBER,
                    false => self.fault(expr, format!("{} is {found} and has no minus", spoken(value))),
                }
            }
            (op::NOT_STRICTLY_FALSE, [value]) => {
                self.type_of(value);
                Type::Condition
            }
            (name, args) => self.function(expr, name, call.target.as_deref(), args),
        }
    }

    fn index(&mut self, expr: &IdedExpr, whole: &IdedExpr, key: &IdedExpr) -> Type {
        let (of_whole, of_key) = (self.type_of(whole), self.type_of(key));
        match (&of_whole, &key.expr) {
            (Type::List(element), _) if Type::NUMBER.meets(&of_key) => (**element).clone(),
            (Type::List(_), _) => {
                self.fault(expr, format!("{} is a list and needs a number in the brackets", spoken(whole)))
            }
            (_, Expr::Literal(LiteralValue::String(field))) => {
                self.member(expr, whole, &of_whole, field.inner())
            }
            (Type::Any | Type::Null | Type::Map | Type::Body | Type::Object(_), _) => Type::Any,
            (other, _) => self.fault(expr, format!("{} is {other} and has no members", spoken(whole))),
        }
    }

    fn arithmetic(&mut self, expr: &IdedExpr, name: &str, left: &IdedExpr, right: &IdedExpr) -> Type {
        let (of_left, of_right) = (self.type_of(left), self.type_of(right));
        let sums = name == op::ADD;
        match (&of_left, &of_right) {
            (Type::Any, Type::Any) => Type::Any,
            (Type::Any | Type::Number(_), Type::Any | Type::Number(_)) => Type::NUMBER,
            (Type::Any | Type::Text(_), Type::Any | Type::Text(_)) if sums => Type::TEXT,
            (Type::Any | Type::List(_), Type::Any | Type::List(_)) if sums => Type::List(Box::new(Type::Any)),
            _ => {
                let sign = name.trim_matches('_');
                self.fault(expr, format!("{sign} has no meaning for {of_left} and {of_right}"))
            }
        }
    }

    fn function(
        &mut self,
        expr: &IdedExpr,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Type {
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            return self.no_function(expr, name, target, args);
        };
        let expected = if target.is_some() { function.on_value } else { function.plain };
        if !expected.contains(&args.len()) {
            return self.fault(expr, format!("{name} is used so: {}", function.usage));
        }
        for value in target.into_iter().chain(args) {
            let found = self.type_of(value);
            if !takes(function, &found) {
                self.fault(
                    expr,
                    format!("{} is {found}; {name} is used so: {}", spoken(value), function.usage),
                );
            }
        }
        if name == "matches"
            && let Some(Expr::Literal(LiteralValue::String(pattern))) = args.last().map(|arg| &arg.expr)
            && let Err(error) = Regex::new(pattern.inner())
        {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            return self.fault(expr, format!("the pattern of matches is no regular expression: {why}"));
        }
        let literals: Vec<Option<&str>> = args.iter().map(literal_text).collect();
        if let Err(message) = functions::check(name, &literals) {
            return self.fault(expr, message);
        }
        function.gives.clone()
    }

    fn no_function(
        &mut self,
        expr: &IdedExpr,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Type {
        if let Some((_, usage)) = MACROS.iter().find(|(macro_name, _)| *macro_name == name) {
            return self.fault(expr, format!("{name} is used so: {usage}"));
        }
        for value in target.into_iter().chain(args) {
            self.type_of(value);
        }
        let known = FUNCTIONS.iter().map(|function| function.name).chain(MACROS.map(|(name, _)| name));
        self.fault(expr, setting::unknown("function", name, known))
    }
}

fn takes(function: &Function, found: &Type) -> bool {
    match function {
        Function { of_texts: true, .. } => matches!(found, Type::Any | Type::Text(_)),
        Function { name: "size", .. } => {
            matches!(
                found,
                Type::Any | Type::Text(_) | Type::Bytes | Type::List(_) | Type::Map | Type::Object(_)
            )
        }
        Function { name: "type" | "dyn" | "join" | "time", .. } => true,
        _ => !matches!(found, Type::Null | Type::List(_) | Type::Map | Type::Object(_) | Type::Body),
    }
}

fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn type_of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Condition,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::NUMBER,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::TEXT,
    }
}

/// The type that all have, or any.
fn common(types: Vec<Type>) -> Type {
    let mut types = types.into_iter();
    let Some(first) = types.next() else { return Type::Any };
    match types.all(|other| other == first) {
        true => first,
        false => Type::Any,
    }
}

/// A part of an expression as people would call it.
fn spoken(expr: &IdedExpr) -> String {
    match &expr.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) if !select.test => format!("{}.{}", spoken(&select.operand), select.field),
        Expr::Literal(LiteralValue::String(text)) => format!("\"{}\"", text.inner()),
        Expr::Literal(LiteralValue::Int(number)) => number.inner().to_string(),
        Expr::Literal(LiteralValue::Null) => "null".to_owned(),
        _ => "this".to_owned(),
    }
}
