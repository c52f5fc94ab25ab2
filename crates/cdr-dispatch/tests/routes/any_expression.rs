//! Whatever is written and whatever is pushed: faults and failures, never a panic.

use cdr_core::{Cdr, Push};
use cdr_dispatch::expression::Expression;
use proptest::{prelude::*, sample::select};

use crate::push;

/// A random expression over the grammar, well typed or not.
fn expressions() -> impl Strategy<Value = String> {
    let ours = ["action", "result", "wait", "sender", "transfers", "cdr.X", "p"];
    let names: Vec<&str> = Cdr::FIELDS.iter().copied().chain(ours).collect();
    let literals = vec![
        "null",
        "true",
        "\"ok\"",
        "\"answered\"",
        "\"75\"",
        "\"(\"",
        "0",
        "75",
        "-1",
        "1u",
        "1.5",
        "[]",
        "{}",
        "b\"x\"",
        "9223372036854775807",
        "int",
    ];
    let leaf = prop_oneof![select(names), select(literals)].prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = || (inner.clone(), inner.clone());
        let operators = vec!["==", "!=", "<", ">=", "&&", "||", "in", "+", "-", "*", "/", "%"];
        let on_value = vec!["startsWith", "matches", "contains", "exists", "has", "size"];
        let plain =
            vec!["size", "int", "string", "bool", "double", "uint", "bytes", "type", "dyn", "matches"];
        let macros = vec!["exists", "all", "map", "filter", "exists_one"];
        prop_oneof![
            4 => (two(), select(operators)).prop_map(|((a, b), sign)| format!("({a} {sign} {b})")),
            1 => inner.clone().prop_map(|a| format!("!{a}")),
            1 => inner.clone().prop_map(|a| format!("-{a}")),
            1 => (two(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            1 => two().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => two().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            1 => two().prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => inner.clone().prop_map(|a| format!("{a}.Mail")),
            1 => inner.clone().prop_map(|a| format!("has({a}.Mail)")),
            1 => (two(), select(on_value)).prop_map(|((a, b), name)| format!("{a}.{name}({b})")),
            1 => (inner.clone(), select(plain)).prop_map(|(a, name)| format!("{name}({a})")),
            2 => (two(), select(macros)).prop_map(|((a, b), name)| format!("{a}.{name}(p, {b})")),
        ]
    })
}

fn pushes() -> impl Strategy<Value = Push> {
    let values = vec![
        "null",
        "0",
        "75",
        "-1",
        "\"ok\"",
        "\"\"",
        "\"75\"",
        "[]",
        "[\"1\"]",
        "[{\"Mail\":\"x\"}]",
        "{}",
        "{\"Mail\":\"x\"}",
        "true",
        "1.5",
        "\"\\ud83d\"",
        "18446744073709551615",
        "1e300",
    ];
    let names: Vec<&str> =
        Cdr::FIELDS.iter().copied().chain(["X"]).filter(|name| *name != "SessionId").collect();
    let fields = prop::collection::vec((select(names), select(values)), 0..12);
    (fields, select(vec!["cdr", "record", "other"])).prop_map(|(fields, action)| {
        let fields: String = fields.into_iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        push::of(action, &format!(r#"{{"SessionId":"s"{fields}}}"#))
    })
}

/// That the parser panicked is a fault too; here it must not have.
fn broke_off(text: &str) -> bool {
    let faults = Expression::compile(text).err().unwrap_or_default();
    faults.iter().any(|fault| fault.message.contains("broke off"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_expression_over_the_grammar_panics_on_any_push(text in expressions(), push in pushes()) {
        match Expression::compile(&text) {
            Ok(expression) => drop(expression.eval(&push)),
            Err(_) => prop_assert!(!broke_off(&text), "{text}"),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        text in r#"([a-z"'\[\](){}.,?:!&|=<>+*/% 0-9\\\n-]|exists\(|has\(|null|cdr|广|&&){0,30}"#
    ) {
        prop_assert!(!broke_off(&text), "{text}");
    }
}
