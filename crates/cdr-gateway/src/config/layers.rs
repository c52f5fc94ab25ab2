//! The configuration as written: the file, and over it the environment, as one tree of settings.
//!
//! Figment merges the layers. Around it stands what it does not do: YAML comes through serde-saphyr (duplicate
//! names are errors, `no` and `on` stay texts), variables come as texts and become numbers only where a setting
//! wants one (figment's own provider makes `0123` a number), and every setting knows its place.
//!
//! Defaults are no layer: each section's type knows its own, and merged sinks would come back after their deletion.

use cdr_core::{
    SettingFault,
    setting::{self, Step},
};
use figment::{Figment, providers::Serialized};
use serde_json::{Map, Value};
use serde_saphyr::{NonFiniteFloatPolicy, RenderOptions, SnippetMode, UserMessageFormatter};

use super::{
    finding::{EMPTY_CHOICE, Finding, Standing, in_words},
    places::{Place, Places},
    secrets,
};

/// What variables begin with; after it `__` stands between the names of settings. A name without `__` is none of
/// ours: Kubernetes sets `CDR_GATEWAY_PORT` for a service called cdr-gateway.
const PREFIX: &str = "CDR_GATEWAY_";

/// All settings as they were written, and where.
pub(super) struct Layers {
    settings: Value,
    places: Places,
    file: String,
    variables: Vec<Variable>,
    secrets: Vec<Vec<Step>>,
}

struct Variable {
    name: String,
    path: Vec<Step>,
    text: String,
}

impl Layers {
    /// Reads a file's text, and what the environment sets over it.
    pub fn read(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Finding>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let places = Places::of(text);
        let written = from_yaml(file, text).map_err(|finding| vec![finding])?;
        let (variables, faults) = variables(&written, environment);
        if !faults.is_empty() {
            return Err(faults);
        }
        let settings = merge(written, &variables).map_err(|message| vec![Finding::about(file, message)])?;
        let secrets = secrets::literals(&settings);
        Ok(Self { settings, places, file: file.to_owned(), variables, secrets })
    }

    /// The value at a path, if it is set.
    pub fn get(&self, path: &[Step]) -> Option<&Value> {
        path.iter().try_fold(&self.settings, |at, step| match step {
            Step::Key(key) => at.get(key),
            Step::Index(index) => at.get(index),
        })
    }

    /// The names of what is set in the group at a path.
    pub fn names(&self, path: &[Step]) -> Vec<String> {
        let group = self.get(path).and_then(Value::as_object);
        group.map(|group| group.keys().cloned().collect()).unwrap_or_default()
    }

    /// Reads what is set at a path, as no settings when nothing is.
    ///
    /// A variable's text is tried as a text first and then as the number, truth value or list that it spells.
    ///
    /// # Errors
    /// Every fault of it, with paths from the top.
    pub fn part<T>(
        &self,
        path: &[Step],
        read: impl Fn(Value) -> Result<T, Vec<SettingFault>>,
    ) -> Result<T, Vec<SettingFault>> {
        let mut value = self.get(path).cloned().unwrap_or(Value::Null);
        if value.is_null() {
            value = Value::Object(Map::new());
        }
        let mut outcome = read(value.clone());
        for variable in &self.variables {
            let (Err(faults), Some(way)) = (&outcome, variable.path.strip_prefix(path)) else { continue };
            if !faults.iter().any(|fault| fault.path.starts_with(way)) {
                continue;
            }
            let Some(spelled) = respelled(&value, way, &variable.text) else { continue };
            let again = read(spelled.clone());
            let better =
                again.as_ref().err().is_none_or(|faults| !faults.iter().any(|f| f.path.starts_with(way)));
            if better {
                (value, outcome) = (spelled, again);
            }
        }
        outcome.map_err(|faults| without_echoes(faults).into_iter().map(|fault| fault.below(path)).collect())
    }

    /// The finding that tells a fault at its place.
    pub fn finding(&self, fault: &SettingFault) -> Finding {
        let in_file = |place| Standing::File(self.file.clone(), place);
        let named = fault.message.starts_with("unknown ") && names_last(fault);
        let inside = column_inside(&fault.message)
            .and_then(|(message, column)| Some((message, self.places.inside(&fault.path, column)?)));
        let (source, message) = match (self.variable(&fault.path), inside) {
            (Some(variable), _) => (Standing::Variable(variable.name.clone()), fault.message.as_str()),
            (None, Some((message, place))) => (in_file(Some(place)), message),
            (None, None) if named => (in_file(self.places.key(&fault.path)), fault.message.as_str()),
            (None, None) => (in_file(self.places.value(&fault.path)), fault.message.as_str()),
        };
        let setting = if named { String::new() } else { fault.dotted() };
        Finding { source, setting, message: self.without_secrets(in_words(message)) }
    }

    /// The paths of all secrets that stand in the file itself. A variable is as good a place as `{ env: NAME }`.
    pub fn literal_secrets(&self) -> impl Iterator<Item = &[Step]> {
        self.secrets.iter().map(Vec::as_slice).filter(|path| self.variable(path).is_none())
    }

    /// The settings with every secret left out.
    pub fn public(&self) -> Value {
        let mut settings = self.settings.clone();
        for path in &self.secrets {
            let value = path.iter().try_fold(&mut settings, |at, step| match step {
                Step::Key(key) => at.get_mut(key),
                Step::Index(index) => at.get_mut(index),
            });
            if let Some(value) = value {
                *value = Value::Null;
            }
        }
        settings
    }

    /// The variable that a setting comes from: it or what holds it was set so, or it stands nowhere else.
    fn variable(&self, path: &[Step]) -> Option<&Variable> {
        let above = self.variables.iter().find(|variable| path.starts_with(&variable.path));
        let nowhere_else = || !self.places.has(path) && !path.is_empty();
        above.or_else(|| self.variables.iter().find(|v| v.path.starts_with(path)).filter(|_| nowhere_else()))
    }

    fn without_secrets(&self, mut message: String) -> String {
        let texts = self.secrets.iter().filter_map(|path| self.get(path)?.as_str());
        for secret in texts.filter(|text| !text.is_empty()) {
            message = message.replace(secret, "…");
        }
        message
    }
}

/// A choice such as `auth: { bearer: … }` whose one setting is faulty is told a second time as an empty choice.
fn without_echoes(faults: Vec<SettingFault>) -> Vec<SettingFault> {
    let lies_below = |fault: &SettingFault| {
        faults.iter().any(|other| other.path.len() > fault.path.len() && other.path.starts_with(&fault.path))
    };
    let is_echo = |fault: &&SettingFault| fault.message.ends_with(EMPTY_CHOICE) && lies_below(fault);
    faults.iter().filter(|fault| !is_echo(fault)).cloned().collect()
}

fn names_last(fault: &SettingFault) -> bool {
    matches!(fault.path.last(), Some(Step::Key(name)) if fault.message.contains(&format!("\"{name}\"")))
}

fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn from_yaml(file: &str, text: &str) -> Result<Map<String, Value>, Finding> {
    let fault = |place, message: String| {
        let source = Standing::File(file.to_owned(), place);
        Finding { source, setting: String::new(), message }
    };
    let value: Option<Value> =
        serde_saphyr::from_str_with_options(text, yaml_options()).map_err(|error| {
            let place =
                error.location().map(|at| Place { line: at.line() as usize, column: at.column() as usize });
            fault(place, format!("no YAML: {}", yaml_message(&error)))
        })?;
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(settings)) => Ok(settings),
        Some(_) => Err(fault(None, "the file must be a group of settings such as `ingress:`".to_owned())),
    }
}

/// The parser's words without the place, which stands before them, and without the source, which may hold secrets.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    struct NoPlace;
    impl serde_saphyr::Localizer for NoPlace {
        fn attach_location<'a>(
            &self,
            base: std::borrow::Cow<'a, str>,
            _: serde_saphyr::Location,
        ) -> std::borrow::Cow<'a, str> {
            base
        }
    }
    let formatter = UserMessageFormatter.with_localizer(&NoPlace);
    let mut options = RenderOptions::new(&formatter);
    options.snippets = SnippetMode::Off;
    error.render_with_options(options)
}

/// The variables that are ours, each with the way to its setting; faults for those that lead nowhere.
fn variables(
    written: &Map<String, Value>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Variable>, Vec<Finding>) {
    let (mut variables, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in environment {
        let Some(names) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else { continue };
        match way(written, names) {
            Ok(path) => variables.push(Variable { name, path, text }),
            Err(message) => {
                let source = Standing::Variable(name);
                faults.push(Finding { source, setting: String::new(), message });
            }
        }
    }
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    (variables, faults)
}

/// The way that a variable's name means. Names are found without regard to case and with `_` for `-`, since no
/// shell exports `ON-CALL`.
fn way(written: &Map<String, Value>, names: &str) -> Result<Vec<Step>, String> {
    let mut path: Vec<Step> = Vec::new();
    let mut group = Some(written);
    for (number, name) in names.split("__").enumerate() {
        if name.is_empty() {
            return Err("a name of a setting is missing before or after `__`".to_owned());
        }
        let plain = |name: &str| name.to_lowercase().replace('-', "_");
        let known = |group: &Map<String, Value>| {
            let exact = group.keys().find(|key| **key == name.to_lowercase());
            exact.or_else(|| group.keys().find(|key| plain(key) == plain(name))).cloned()
        };
        let key = group.and_then(known).unwrap_or_else(|| name.to_lowercase());
        let value = group.and_then(|group| group.get(&key));
        path.push(Step::Key(key));
        let last = number + 1 == names.split("__").count();
        group = match value {
            Some(Value::Object(inner)) => Some(inner),
            None | Some(Value::Null) => None,
            Some(_) if last => None,
            Some(Value::Array(_)) => {
                return Err(format!(
                    "{} is a list; a variable can only set all of it",
                    setting::dotted(&path)
                ));
            }
            Some(_) => return Err(format!("{} has no settings in it", setting::dotted(&path))),
        };
    }
    Ok(path)
}

fn merge(written: Map<String, Value>, variables: &[Variable]) -> Result<Value, String> {
    let mut figment = Figment::from(Serialized::defaults(written));
    for variable in variables {
        let nested = variable.path.iter().rev().fold(Value::from(variable.text.as_str()), |inner, step| {
            let Step::Key(key) = step else { return inner };
            Value::Object(Map::from_iter([(key.clone(), inner)]))
        });
        figment = figment.merge(Serialized::defaults(nested));
    }
    figment.extract().map_err(|error| error.to_string())
}

/// `settings` with a variable's text at `way` replaced by what it spells; none when it spells nothing but a text.
fn respelled(settings: &Value, way: &[Step], text: &str) -> Option<Value> {
    let spelled: Value = serde_saphyr::from_str_with_options(text, yaml_options()).ok()?;
    if spelled.is_string() || spelled.is_null() {
        return None;
    }
    let mut settings = settings.clone();
    let at = way.iter().try_fold(&mut settings, |at, step| match step {
        Step::Key(key) => at.get_mut(key),
        Step::Index(index) => at.get_mut(index),
    })?;
    *at = spelled;
    Some(settings)
}

/// A fault in an expression, and the column of its text that it names: `… (column 12)`.
fn column_inside(message: &str) -> Option<(&str, usize)> {
    let (message, column) = message.strip_suffix(')')?.rsplit_once(" (column ")?;
    Some((message, column.parse().ok()?))
}
