//! Whatever is written and whatever is pushed: faults and failures, never a panic.

use cdr_core::{Cdr, Push};
use cdr_expression::Expression;
use proptest::{prelude::*, sample::select};

use crate::push;

/// A random expression over the grammar, well typed or not; half of its leaves are of a type that is not known
/// before there is a push, so that many pass the check and are evaluated.
fn expressions() -> impl Strategy<Value = String> {
    let ours = ["action", "result", "wait", "sender", "transfers", "customer"];
    let names: Vec<&str> = Cdr::FIELDS.iter().copied().chain(ours).collect();
    let literals = r#"null true "ok" "answered" "75" "(" 0 75 -1 1u 1.5 [] {} b"x" 9223372036854775807 int"#;
    let literals: Vec<&str> = literals.split(' ').collect();
    let leaf = prop_oneof![
        1 => select(names),
        2 => select(literals),
        6 => select(vec!["cdr.X", "cdr.Y", "cdr.Z.Mail"]),
    ];
    let part = leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
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
            2 => (two(), select(macros)).prop_map(|((a, b), name)| {
                format!("{a}.{name}(p, {})", b.replace("cdr.Y", "p"))
            }),
        ]
    });
    part.prop_map(|part| format!("{part} != null"))
}

fn pushes() -> impl Strategy<Value = Push> {
    let values = r#"null 0 75 -1 "ok" "" "75" [] ["1"] [{"Mail":"x"}] {} {"Mail":"x"} true 1.5 "\ud83d"
        18446744073709551615 1e300"#;
    let values: Vec<&str> = values.split_whitespace().collect();
    let names: Vec<&str> = Cdr::FIELDS.iter().copied().filter(|name| *name != "SessionId").collect();
    let published = prop::collection::vec((select(names), select(values.clone())), 0..12);
    let unpublished = ["X", "Y", "Z"].map(|name| (Just(name), select(values.clone())));
    (published, unpublished, select(vec!["cdr", "record", "other"])).prop_map(
        |(published, unpublished, action)| {
            let fields = published.into_iter().chain(unpublished);
            let fields: String = fields.map(|(name, value)| format!(",\"{name}\":{value}")).collect();
            push::of(action, &format!(r#"{{"SessionId":"s"{fields}}}"#))
        },
    )
}

/// A panic inside cel is caught and told in these words; here there must be none.
const BROKE_OFF: &str = "broke off";

fn parser_broke_off(text: &str) -> bool {
    let faults = Expression::compile(text).err().unwrap_or_default();
    faults.iter().any(|fault| fault.message.contains(BROKE_OFF))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_expression_over_the_grammar_panics_on_any_push(text in expressions(), push in pushes()) {
        match Expression::compile(&text).map(|expression| expression.eval(&push)) {
            Ok(answer) => {
                let reason = answer.err().map(|error| error.to_string()).unwrap_or_default();
                prop_assert!(!reason.contains(BROKE_OFF), "{text}");
            }
            Err(_) => prop_assert!(!parser_broke_off(&text), "{text}"),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        text in r#"([a-z"'\[\](){}.,?:!&|=<>+*/% 0-9\\\n-]|exists\(|has\(|null|cdr|广|&&){0,30}"#
    ) {
        prop_assert!(!parser_broke_off(&text), "{text}");
    }
}
