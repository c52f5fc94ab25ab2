//! Comparisons: whether they can hold at all, and whether what they compare with ever occurs.

use cdr_core::setting;
use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use super::{Checker, spoken, type_of_literal};
use crate::vocabulary::{Others, Set, Type};

impl Checker<'_> {
    /// `==` and `!=`.
    pub(super) fn comparison(&mut self, expr: &IdedExpr, left: &IdedExpr, right: &IdedExpr) {
        let (of_left, of_right) = (self.type_of(left), self.type_of(right));
        self.equality(expr, (left, &of_left), (right, &of_right));
    }

    /// Whether two things can be equal at all.
    fn equality(&mut self, expr: &IdedExpr, left: (&IdedExpr, &Type), right: (&IdedExpr, &Type)) {
        if !left.1.meets(right.1) {
            self.fault(expr, unequal(left, right, "never equal"));
            return;
        }
        for (set, literal) in [(left.1.set(), right.0), (right.1.set(), left.0)] {
            if let Some(set) = set {
                self.known_value(set, literal);
            }
        }
    }

    /// A literal that is compared with a variable of known values.
    fn known_value(&mut self, set: &Set, literal: &IdedExpr) {
        let value = match &literal.expr {
            Expr::Literal(LiteralValue::String(text)) => text.inner().to_owned(),
            Expr::Literal(LiteralValue::Int(number)) => number.inner().to_string(),
            _ => return,
        };
        let known = (set.values)();
        if known.contains(&value.as_str()) {
            return;
        }
        if let Some(spelling) = known.iter().find(|known| known.eq_ignore_ascii_case(&value)) {
            self.fault(literal, format!("\"{value}\" never occurs, it is always spelled \"{spelling}\""));
            return;
        }
        let nearest = setting::nearest(&value, known.iter().copied());
        let meant = nearest.map_or(String::new(), |meant| format!(", did you mean \"{meant}\"?"));
        match set.others {
            Others::Never => {
                // One digit is as near as any other.
                let is_text = matches!(literal.expr, Expr::Literal(LiteralValue::String(_)));
                let instead = match nearest {
                    Some(_) if is_text => meant,
                    _ => format!("; there are: {}", known.join(", ")),
                };
                self.fault(literal, format!("{} never occurs{instead}", spoken(literal)));
            }
            Others::Unpublished => {
                self.warn(literal, format!("\"{value}\" is no published value{meant}"));
            }
            Others::Welcome if nearest.is_some() => {
                self.warn(literal, format!("\"{value}\" is not published{meant}"));
            }
            Others::Welcome => {}
        }
    }

    /// `<`, `<=`, `>` and `>=`.
    pub(super) fn order(&mut self, expr: &IdedExpr, left: &IdedExpr, right: &IdedExpr) {
        let (of_left, of_right) = (self.type_of(left), self.type_of(right));
        for (side, found) in [(left, &of_left), (right, &of_right)] {
            if !matches!(found, Type::Any | Type::Number(_) | Type::Text(_)) {
                let what = spoken(side);
                self.fault(expr, format!("{what} is {found}; only numbers and texts are greater or less"));
                return;
            }
        }
        if !of_left.meets(&of_right) {
            self.fault(expr, unequal((left, &of_left), (right, &of_right), "neither greater nor less"));
        }
    }

    pub(super) fn containment(&mut self, expr: &IdedExpr, element: &IdedExpr, list: &IdedExpr) -> Type {
        let (of_element, of_list) = (self.type_of(element), self.type_of(list));
        match (&list.expr, &of_list) {
            (Expr::List(literal), _) => {
                for other in &literal.elements {
                    // Its faults were told when the list was looked at.
                    let of_other = match &other.expr {
                        Expr::Literal(literal) => type_of_literal(literal),
                        _ => Type::Any,
                    };
                    self.equality(other, (element, &of_element), (other, &of_other));
                }
            }
            (_, Type::List(of_elements)) => {
                self.equality(expr, (element, &of_element), (list, of_elements));
            }
            (_, Type::Any | Type::Map | Type::Object(_)) => {}
            (_, Type::Text(_)) => {
                let (part, whole) = (spoken(element), spoken(list));
                self.fault(expr, format!("{whole} is a text: write {whole}.contains({part})"));
            }
            (_, other) => {
                self.fault(expr, format!("{} is {other}; in needs a list", spoken(list)));
            }
        }
        Type::Condition
    }
}

fn unequal(left: (&IdedExpr, &Type), right: (&IdedExpr, &Type), verdict: &str) -> String {
    format!("{} is {} and {} {}: {verdict}", spoken(left.0), left.1, spoken(right.0), right.1)
}
