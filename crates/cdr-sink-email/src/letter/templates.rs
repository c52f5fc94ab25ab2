//! The templates of mails: ours, or those that the settings name instead. Jinja, by minijinja.
//!
//! A template of an operator is compiled and rendered once with samples when the sink is built, so that `check` shows
//! what is wrong with it and in which line. Should it fail on a real push all the same, the mail is written by ours:
//! somebody must be told. They write of calls; the gateway's own alerts keep our words.

use cdr_core::{BuildError, Language, SettingText};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use schemars::JsonSchema;
use serde::Deserialize;
use unicode_width::UnicodeWidthStr;

use super::{Letter, Style, View, one_line, words};

/// Files of the operator's own, in the language of Jinja; see docs/sinks.md for what they may read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateSettings {
    /// One line.
    pub subject: Option<SettingText>,
    /// Plain text.
    pub text: Option<SettingText>,
    /// A page; what it is given is escaped.
    pub html: Option<SettingText>,
}

const SUBJECT: &str = include_str!("../../templates/subject.txt");
const TEXT: &str = include_str!("../../templates/text.txt");
const HTML: &str = include_str!("../../templates/mail.html");

/// The name that has what it is given escaped.
const HTML_NAME: &str = "html";

/// Instructions that a template may take: a page of 1,000 calls takes a tenth.
const FUEL: u64 = 2_000_000;

/// The templates of a sink.
pub(crate) struct Templates {
    ours: Environment<'static>,
    /// The operator's, with ours where there is none; none at all if there is none.
    own: Option<Environment<'static>>,
}

/// A mail's words, and why they are ours although the operator has others.
pub(crate) struct Written {
    pub(crate) letter: Letter,
    pub(crate) fell_back: Option<String>,
}

impl Templates {
    /// Compiles them, and tries those of the operator on these samples.
    pub(crate) fn new(
        settings: TemplateSettings,
        style: &Style,
        samples: &[View],
        faults: &mut BuildError,
    ) -> Option<Self> {
        let ours = match built_in(style.language) {
            Ok(ours) => ours,
            Err(error) => {
                faults.push("templates", format!("the program's own template is broken: {error}"));
                return None;
            }
        };
        let before = faults.0.len();
        let mut own = ours.clone();
        let TemplateSettings { subject, text, html } = settings;
        let mut is_own = false;
        for (name, file) in [("subject", subject), ("text", text), (HTML_NAME, html)] {
            let Some(file) = file else { continue };
            is_own = true;
            let tried = own.add_template_owned(name, file.text).and_then(|()| {
                samples
                    .iter()
                    .try_for_each(|sample| own.get_template(name)?.render(given(sample, "")).map(drop))
            });
            if let Err(error) = tried {
                faults.push(&format!("templates.{name}"), fault(&file.name, &error));
            }
        }
        (faults.0.len() == before).then_some(Self { ours, own: is_own.then_some(own) })
    }

    /// Writes a letter.
    ///
    /// # Errors
    /// Our own templates failed, which no push is known to bring about.
    pub(crate) fn write(&self, view: &View) -> Result<Written, minijinja::Error> {
        let Some(own) = self.own.as_ref().filter(|_| view.is_about_calls()) else {
            return Ok(Written { letter: render(&self.ours, view)?, fell_back: None });
        };
        match render(own, view) {
            Ok(letter) => Ok(Written { letter, fell_back: None }),
            Err(error) => {
                let fell_back = Some(one_line(&format!("{error:#}"), 300));
                Ok(Written { letter: render(&self.ours, view)?, fell_back })
            }
        }
    }
}

fn built_in(language: Language) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|name| match name {
        HTML_NAME => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment.add_filter("say", move |english: &str| words::in_language(english, language).to_owned());
    environment.add_filter("pad", |text: &str, width: usize| {
        let missing = width.min(100).saturating_sub(text.width());
        format!("{text}{:missing$}", "")
    });
    environment.add_filter("right", |number: u64, width: usize| format!("{number:>0$}", width.min(100)));
    environment.add_template("subject", SUBJECT)?;
    environment.add_template("text", TEXT)?;
    environment.add_template(HTML_NAME, HTML)?;
    environment.add_global(
        "language",
        match language {
            Language::En => "en",
            Language::Zh => "zh-CN",
        },
    );
    Ok(environment)
}

fn render(environment: &Environment<'_>, view: &View) -> Result<Letter, minijinja::Error> {
    let written = |name, subject| environment.get_template(name)?.render(given(view, subject));
    let subject = one_line(&written("subject", "")?, Letter::SUBJECT);
    let (text, html) = (written("text", &subject)?, written(HTML_NAME, &subject)?);
    Ok(Letter { subject, text, html })
}

/// What a template is given: the view, and the subject once that is written.
fn given(view: &View, subject: &str) -> minijinja::Value {
    context! { subject, ..minijinja::value::Serde(view) }
}

/// `templates/mail.txt:3: undefined value`: where a template of the operator is wrong.
fn fault(file: &str, error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    one_line(&format!("{file}{line}: {}{detail}", error.kind()), 300)
}
