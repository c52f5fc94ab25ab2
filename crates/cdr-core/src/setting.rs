//! Reading settings so that all faults are told at once, each with its place.
//!
//! serde stops at the first fault. [`read`] notes it, takes the faulty value out and reads again, until
//! nothing new turns up: a misspelled setting, a bad duration and a missing secret come in one list.
//!
//! Two kinds of values need the world around the settings: a [`Secret`] may lie in the environment or in a
//! file, a [`SettingPath`] is relative to the configuration's file, and [`timezone`] is the whole
//! configuration's. This crate does no I/O, so whoever loads
//! the settings lends them that world with [`with_surroundings`].

use std::{borrow::Cow, cell::RefCell, fmt, path::PathBuf, rc::Rc};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// What is wrong with one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingFault {
    /// The way to it, from where reading began: names of settings, and numbers in lists.
    pub path: Vec<Step>,
    /// What is wrong and what would be right, in lower case.
    pub message: String,
}

/// One step on the way to a setting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step {
    /// A setting by its name.
    Key(String),
    /// An entry of a list, from 0.
    Index(usize),
}

impl SettingFault {
    /// A fault at a path such as `smtp.url` or `to.0`; an empty path means the whole.
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        let step = |part: &str| part.parse().map_or_else(|_| Step::Key(part.to_owned()), Step::Index);
        let path = path.split('.').filter(|part| !part.is_empty()).map(step).collect();
        Self { path, message: message.into() }
    }

    /// The same fault seen from further up.
    #[must_use]
    pub fn below(mut self, steps: &[Step]) -> Self {
        self.path.splice(0..0, steps.iter().cloned());
        self
    }

    /// The way to the setting as people write it: `sinks.crm.http.url`.
    pub fn dotted(&self) -> String {
        dotted(&self.path)
    }
}

/// A path as people write it.
pub fn dotted(path: &[Step]) -> String {
    let part = |step: &Step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

impl fmt::Display for SettingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.dotted(), self.message),
        }
    }
}

impl std::error::Error for SettingFault {}

/// The name among `known` that somebody most likely meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase());
    let scored = known.into_iter().map(|name| (distance(name), name));
    scored
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|s| s.1)
}

/// Reads settings, all faults at once.
///
/// # Errors
/// Every fault that reading finds.
pub fn read<T: DeserializeOwned>(mut settings: Value) -> Result<T, Vec<SettingFault>> {
    let mut faults: Vec<SettingFault> = Vec::new();
    let mut taken_out = TakenOut::default();
    loop {
        let error = match serde_path_to_error::deserialize(&settings) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let mut fault = fault_of(&error);
        let here = std::mem::take(&mut fault.path);
        fault.path = taken_out.original(&here);
        let gone = taken_out.take_out(&mut settings, &here, &fault.path);
        let news = missing(&error).is_none_or(|name| !follows_from(&fault.path, &name, &faults));
        if news {
            faults.push(fault);
        }
        // What misses a setting was taken out as a whole: serde had read all its other settings by then.
        if !gone {
            return Err(faults);
        }
    }
}

/// A setting that is missing because its value was faulty, or its name misspelled, is no news.
fn follows_from(parent: &[Step], name: &str, earlier: &[SettingFault]) -> bool {
    let misspelled = format!("did you mean \"{name}\"?");
    earlier.iter().filter_map(|fault| Some((fault, fault.path.strip_prefix(parent)?))).any(|(fault, rest)| {
        rest.first() == Some(&Step::Key(name.to_owned()))
            || (rest.len() == 1 && fault.message.ends_with(&misspelled))
    })
}

type ReadError = serde_path_to_error::Error<serde_json::Error>;

fn missing(error: &ReadError) -> Option<String> {
    let text = error.inner().to_string();
    text.strip_prefix("missing field `")?.split('`').next().map(str::to_owned)
}

fn fault_of(error: &ReadError) -> SettingFault {
    use serde_path_to_error::Segment;
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        // The variant is named by a key of the settings only where it is the key of a map, which serde tells too.
        Segment::Enum { variant } => Some(Step::Key(variant.clone())),
        Segment::Unknown => None,
    };
    let mut path: Vec<Step> = error.path().iter().filter_map(step).collect();
    let text = error.inner().to_string();
    let mut quoted = text.split('`').skip(1).step_by(2);
    let (Some(name), false) = (quoted.next(), text.starts_with("missing field")) else {
        let message = missing(error).map_or(text.clone(), |name| format!("missing setting \"{name}\""));
        return SettingFault { path, message };
    };
    let message = if text.starts_with("unknown field `") {
        if path.last() != Some(&Step::Key(name.to_owned())) {
            path.push(Step::Key(name.to_owned()));
        }
        unknown("setting", name, quoted)
    } else if text.starts_with("unknown variant `") {
        unknown("value", name, quoted)
    } else {
        text.clone()
    };
    SettingFault { path, message }
}

/// Faulty entries of lists that were taken out, so that the others can still be told by their own number.
#[derive(Default)]
struct TakenOut(Vec<(Vec<Step>, usize)>);

impl TakenOut {
    /// The path that a place had before anything was taken out.
    fn original(&self, path: &[Step]) -> Vec<Step> {
        let mut original: Vec<Step> = Vec::with_capacity(path.len());
        for step in path {
            let step = match step {
                Step::Index(index) => Step::Index(self.shifted(&original, *index)),
                key @ Step::Key(_) => key.clone(),
            };
            original.push(step);
        }
        original
    }

    fn shifted(&self, list: &[Step], mut index: usize) -> usize {
        let mut gone: Vec<usize> =
            self.0.iter().filter(|(at, _)| at == list).map(|(_, index)| *index).collect();
        gone.sort_unstable();
        for taken in gone {
            index += usize::from(taken <= index);
        }
        index
    }

    /// Takes the value at `path` out; false when there is none.
    fn take_out(&mut self, settings: &mut Value, path: &[Step], original: &[Step]) -> bool {
        let Some((last, way)) = path.split_last() else { return false };
        let parent = way.iter().try_fold(settings, |at, step| match step {
            Step::Key(key) => at.get_mut(key),
            Step::Index(index) => at.get_mut(index),
        });
        match (parent, last, original.split_last()) {
            (Some(Value::Object(map)), Step::Key(key), _) => map.remove(key).is_some(),
            (Some(Value::Array(list)), Step::Index(index), Some((Step::Index(number), list_path)))
                if *index < list.len() =>
            {
                list.remove(*index);
                self.0.push((list_path.to_vec(), *number));
                true
            }
            _ => false,
        }
    }
}

/// "unknown setting "bukcet", did you mean "bucket"?", or the list of what there is.
pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = nearest(name, known.clone()) {
        return format!("unknown {what} \"{name}\", did you mean \"{meant}\"?");
    }
    let known: Vec<_> = known.collect();
    match known.is_empty() {
        true => format!("unknown {what} \"{name}\""),
        false => format!("unknown {what} \"{name}\"; there are: {}", known.join(", ")),
    }
}

/// The JSON Schema of settings, draft 07, which editors know; it refers to nothing outside itself, so that it can be put into
/// another one.
pub fn schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = generator.into_generator().into_root_schema_for::<T>();
    schema.remove("$schema");
    schema.into()
}

/// What settings need from the world around them.
#[derive(Clone)]
pub struct Surroundings {
    /// Relative paths begin here: the folder of the configuration's file.
    pub base: PathBuf,
    /// The configuration's time zone, an IANA name, for what people read.
    pub timezone: String,
    /// Fetches a secret, or another text from a file; the message says what is missing.
    pub secret: fn(&SecretPlace) -> Result<String, String>,
}

/// Where a secret lies.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretPlace {
    /// In an environment variable.
    Env(String),
    /// In a file, whose last line end does not count.
    File(PathBuf),
}

thread_local! {
    static SURROUNDINGS: RefCell<Option<Rc<Surroundings>>> = const { RefCell::new(None) };
}

/// Reads settings inside `read` with this world around them.
pub fn with_surroundings<T>(surroundings: Surroundings, read: impl FnOnce() -> T) -> T {
    let outer = SURROUNDINGS.replace(Some(Rc::new(surroundings)));
    let result = read();
    SURROUNDINGS.replace(outer);
    result
}

/// The time zone of the configuration that is being read, an IANA name: the default of a sink that tells times
/// to people. None outside of a configuration.
pub fn timezone() -> Option<String> {
    SURROUNDINGS.with_borrow(|around| around.as_ref().map(|around| around.timezone.clone()))
}

/// A password, key or token. It never prints itself.
///
/// In settings: `{ env: NAME }`, `{ file: /run/secrets/x }`, or, with a warning at start, the text itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    literal: bool,
}

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), literal: false }
    }

    /// The text; for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether it stands in the configuration itself.
    pub fn is_literal(&self) -> bool {
        self.literal
    }
}

/// The forms in which a secret is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is asked for")]
enum WrittenSecret {
    /// The text itself, with a warning at start.
    Literal(String),
    /// Where it lies.
    Place(SecretPlace),
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        WrittenSecret::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        WrittenSecret::json_schema(generator)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        const EXPECTED: &str = "a secret is { env: NAME }, { file: PATH } or a text";
        let (text, literal) = match Value::deserialize(deserializer)? {
            Value::String(text) => (text, true),
            // Only texts can name a place or be a secret; the value itself must not appear in the message.
            place @ Value::Object(_) => {
                let place = serde_json::from_value(place).map_err(|_| D::Error::custom(EXPECTED))?;
                (fetch(place).map_err(D::Error::custom)?, false)
            }
            _ => return Err(D::Error::custom(format!("{EXPECTED}; quote a text of digits"))),
        };
        match text.is_empty() {
            true => Err(D::Error::custom("the secret is empty")),
            false => Ok(Self { text, literal }),
        }
    }
}

fn fetch(place: SecretPlace) -> Result<String, String> {
    let surroundings = SURROUNDINGS
        .with_borrow(Clone::clone)
        .ok_or("nothing can be fetched from files or the environment here")?;
    let place = match place {
        SecretPlace::File(path) => SecretPlace::File(surroundings.base.join(path)),
        env => env,
    };
    (surroundings.secret)(&place)
}

/// A path in settings; a relative one begins at the folder of the configuration's file.
#[derive(Clone, PartialEq, Eq, Debug, JsonSchema)]
pub struct SettingPath(pub PathBuf);

impl<'de> Deserialize<'de> for SettingPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.as_os_str().is_empty() {
            return Err(serde::de::Error::custom("the path is empty"));
        }
        let base = SURROUNDINGS.with_borrow(|around| around.as_ref().map(|around| around.base.clone()));
        Ok(Self(base.unwrap_or_default().join(path)))
    }
}

/// A text in a file of its own that the settings name, such as a template; read together with the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingText {
    /// The file as the settings name it.
    pub name: String,
    /// What it holds, without its last line end.
    pub text: String,
}

impl<'de> Deserialize<'de> for SettingText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.is_empty() {
            return Err(serde::de::Error::custom("the path is empty"));
        }
        let text = fetch(SecretPlace::File(PathBuf::from(&name))).map_err(serde::de::Error::custom)?;
        Ok(Self { name, text })
    }
}

impl JsonSchema for SettingText {
    fn schema_name() -> Cow<'static, str> {
        SettingPath::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SettingPath::json_schema(generator)
    }
}
