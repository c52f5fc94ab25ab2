//! What would leave for a push, for `explain`.
//!
//! What only the answers tell stands there as its name: `{{contact}}`.

use cdr_core::{Delivery, Part, Preview};
use cdr_expression::Variables;

use crate::{
    request::{Body, Target, Unmade},
    sink::HttpSink,
    step::Step,
};

/// The requests; nothing where the push goes as it came.
pub(crate) fn of(sink: &HttpSink, delivery: &Delivery) -> Preview {
    let is_plain =
        matches!((&sink.last().request.target, &sink.last().request.body), (Target::Fixed(_), Body::Raw));
    if sink.steps.len() == 1 && is_plain {
        return Preview::default();
    }
    let taken: Vec<&str> =
        sink.steps.iter().flat_map(|step| &step.rules.take).map(|(name, _)| name.as_str()).collect();
    let mut variables = sink.variables(delivery);
    for name in &taken {
        variables.set((*name).to_owned(), format!("{{{{{name}}}}}").into());
    }
    let requests: Vec<String> =
        sink.steps.iter().map(|step| request(step, &taken, delivery, &variables)).collect();
    Preview(vec![Part { name: "requests", text: requests.join("\n"), is_plain: true }])
}

fn request(step: &Step, taken: &[&str], delivery: &Delivery, variables: &Variables<'_>) -> String {
    let name = step.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    let condition = match &step.when {
        Some(when) if when.names().any(|name| taken.contains(&name)) => format!("if {}: ", when.text()),
        Some(when) if when.holds(variables) != Ok(true) => {
            return format!("{name}not sent, its when does not hold");
        }
        _ => String::new(),
    };
    match step.request.shown(&delivery.push, variables) {
        Ok(request) => format!("{name}{condition}{request}"),
        Err(Unmade::Never(why) | Unmade::NotNow(why)) => format!("{name}{condition}no request: {why}"),
    }
}
