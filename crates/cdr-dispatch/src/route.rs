//! Routes: a condition on a push, and the sinks that it goes to.
//!
//! Every route that matches applies. A sink named by several routes gets the push once, with the names of all of
//! them. A push that no route takes is kept and counted. A condition that fails on a push does not match it; that is
//! counted, and warned of once a route.
//!
//! Price: equal conditions are evaluated once, and what a combination of routes means is worked out the first time
//! it occurs, so that deciding allocates nothing that grows with the number of routes.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use cdr_core::{Position, Push, SettingFault, SinkName, setting};
use cdr_expression::{EvalError, Expression, Variables};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most routes.
pub const MAX_ROUTES: usize = 256;

/// Combinations that are remembered. Few occur; this is for routes that a sender could play on.
const REMEMBERED: usize = 1024;

/// A route as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// What people call it; each name once.
    pub name: String,
    /// An expression; without one it takes every push.
    pub when: Option<String>,
    /// Names of sinks, at least one.
    pub to: Vec<String>,
}

/// The routes of a configuration, ready for pushes.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    conditions: Vec<Condition>,
    /// The routes without a condition.
    always: Few,
    warnings: Vec<SettingFault>,
    known: RwLock<HashMap<Few, Arc<[Destination]>>>,
    unrouted: AtomicU64,
}

#[derive(Debug)]
struct Route {
    name: String,
    to: Vec<SinkName>,
    matched: AtomicU64,
    failed: AtomicU64,
    warned: AtomicBool,
}

/// An expression and the routes that have it.
#[derive(Debug)]
struct Condition {
    holds: Expression,
    routes: Few,
}

/// A set of routes by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Few([u64; MAX_ROUTES / 64]);

impl Few {
    fn insert(&mut self, route: usize) {
        self.0[route / 64] |= 1 << (route % 64);
    }

    fn extend(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, others)| *mine |= others);
    }

    fn contains(self, route: usize) -> bool {
        self.0[route / 64] & 1 << (route % 64) != 0
    }
}

/// A sink that gets a push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Its name.
    pub sink: SinkName,
    /// The routes that named it, in the order of the configuration.
    pub routes: Arc<[String]>,
}

/// Where a push goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    destinations: Arc<[Destination]>,
    failures: Vec<Failure>,
}

/// A route whose condition failed on a push, so that it did not match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its name.
    pub route: String,
    /// Why.
    pub error: EvalError,
}

/// A route to a sink that did not take a push, and what decided so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Its name.
    pub route: String,
    /// The variables that its condition names, with what they hold for this push, as they would be written in it.
    pub values: Vec<(String, String)>,
    /// Why the condition failed, if it did.
    pub error: Option<EvalError>,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> =
            self.values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        match (&self.error, values.is_empty()) {
            (Some(error), _) => write!(f, "\"{}\" failed: {error}", self.route),
            (None, true) => write!(f, "\"{}\" does not match", self.route),
            (None, false) => write!(f, "\"{}\": {}", self.route, values.join(", ")),
        }
    }
}

impl Decision {
    /// The sinks that get it, each once, in the order in which the configuration first names them.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The routes that name this sink for it; none when it does not go there.
    pub fn routes_to(&self, sink: &SinkName) -> Option<Arc<[String]>> {
        let found = self.destinations.iter().find(|destination| destination.sink == *sink);
        found.map(|destination| Arc::clone(&destination.routes))
    }

    /// Whether no route takes it.
    pub fn unrouted(&self) -> bool {
        self.destinations.is_empty()
    }

    /// The routes whose condition failed.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}

/// What the routes did since they were built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteCounts {
    /// Every route, in the order of the configuration.
    pub routes: Vec<RouteCount>,
    /// Pushes that no route took.
    pub unrouted: u64,
}

/// What one route did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteCount {
    /// Its name.
    pub name: String,
    /// Pushes that it took.
    pub matched: u64,
    /// Pushes on which its condition failed.
    pub failed: u64,
}

impl Routes {
    /// Routes from their settings; `sinks` are the names of the sinks that there are.
    ///
    /// # Errors
    /// Every fault of every route, with paths from the list of routes: `0.when`, `1.to.0`.
    pub fn build(settings: Vec<RouteSettings>, sinks: &[String]) -> Result<Self, Vec<SettingFault>> {
        let mut plan = Planner { sinks, ..Planner::default() };
        if settings.len() > MAX_ROUTES {
            plan.fault("", format!("{} routes; at most {MAX_ROUTES}", settings.len()));
            return Err(plan.faults);
        }
        for (number, route) in settings.into_iter().enumerate() {
            plan.add(number, route);
        }
        match plan.faults.is_empty() {
            true => Ok(Self {
                routes: plan.routes,
                conditions: plan.conditions,
                always: plan.always,
                warnings: plan.warnings,
                known: RwLock::default(),
                unrouted: AtomicU64::new(0),
            }),
            false => Err(plan.faults),
        }
    }

    /// What is allowed and probably not meant; paths as in faults.
    pub fn warnings(&self) -> &[SettingFault] {
        &self.warnings
    }

    /// Where a push goes; counted, and the first failure of a route is warned of. Alerts are not for routes.
    pub fn decide(&self, push: &Push) -> Decision {
        let (matched, failures) = self.judge(push);
        for (number, route) in self.routes.iter().enumerate() {
            if matched.contains(number) {
                route.matched.fetch_add(1, Relaxed);
            }
        }
        for (number, error) in &failures {
            self.routes[*number].failed_on(push.position(), error);
        }
        let decision = self.decision(matched, failures);
        if decision.unrouted() {
            self.unrouted.fetch_add(1, Relaxed);
        }
        decision
    }

    /// The same without counting or warning: for a push that was decided on before, and to explain.
    pub fn consider(&self, push: &Push) -> Decision {
        let (matched, failures) = self.judge(push);
        self.decision(matched, failures)
    }

    /// The routes to this sink, if none of them takes the push; none if one does.
    pub fn missed(&self, push: &Push, sink: &SinkName) -> Option<Vec<Missed>> {
        let variables = Variables::of(push);
        let mut missed = Vec::new();
        for (number, route) in self.routes.iter().enumerate().filter(|(_, route)| route.to.contains(sink)) {
            // Without a condition it takes everything.
            let condition = self.conditions.iter().find(|condition| condition.routes.contains(number))?;
            let error = match condition.holds.holds(&variables) {
                Ok(true) => return None,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let values = condition.holds.values(&variables);
            missed.push(Missed { route: route.name.clone(), values, error });
        }
        Some(missed)
    }

    /// What was counted so far.
    pub fn counts(&self) -> RouteCounts {
        let count = |route: &Route| RouteCount {
            name: route.name.clone(),
            matched: route.matched.load(Relaxed),
            failed: route.failed.load(Relaxed),
        };
        RouteCounts { routes: self.routes.iter().map(count).collect(), unrouted: self.unrouted.load(Relaxed) }
    }

    /// The routes that match, and those that fail.
    fn judge(&self, push: &Push) -> (Few, Vec<(usize, EvalError)>) {
        let variables = Variables::of(push);
        let mut matched = self.always;
        let mut failures = Vec::new();
        for condition in &self.conditions {
            match condition.holds.holds(&variables) {
                Ok(true) => matched.extend(condition.routes),
                Ok(false) => {}
                Err(error) => {
                    let routes = (0..self.routes.len()).filter(|&number| condition.routes.contains(number));
                    failures.extend(routes.map(|number| (number, error.clone())));
                }
            }
        }
        (matched, failures)
    }

    fn decision(&self, matched: Few, failures: Vec<(usize, EvalError)>) -> Decision {
        let named =
            |(number, error): (usize, EvalError)| Failure { route: self.routes[number].name.clone(), error };
        Decision {
            destinations: self.destinations(matched),
            failures: failures.into_iter().map(named).collect(),
        }
    }

    fn destinations(&self, matched: Few) -> Arc<[Destination]> {
        // Nothing panics with the lock held, and the map is whole at any time.
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&matched) {
            return Arc::clone(known);
        }
        let destinations: Arc<[Destination]> = self.work_out(matched).into();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(matched, Arc::clone(&destinations));
        }
        destinations
    }

    fn work_out(&self, matched: Few) -> Vec<Destination> {
        let mut sinks: Vec<(&SinkName, Vec<String>)> = Vec::new();
        let matching = self.routes.iter().enumerate().filter(|(number, _)| matched.contains(*number));
        for (_, route) in matching {
            for sink in &route.to {
                match sinks.iter_mut().find(|(known, _)| *known == sink) {
                    Some((_, routes)) => routes.push(route.name.clone()),
                    None => sinks.push((sink, vec![route.name.clone()])),
                }
            }
        }
        let destination = |(sink, routes): (&SinkName, Vec<String>)| Destination {
            sink: sink.clone(),
            routes: routes.into(),
        };
        sinks.into_iter().map(destination).collect()
    }
}

impl Route {
    fn failed_on(&self, position: Position, error: &EvalError) {
        self.failed.fetch_add(1, Relaxed);
        if !self.warned.swap(true, Relaxed) {
            tracing::warn!(
                route = self.name,
                %position,
                reason = %error,
                "a route's condition failed on a push, so it did not match; said once, counted from now on"
            );
        }
    }
}

/// Gathers routes and everything that is wrong with them.
#[derive(Default)]
struct Planner<'s> {
    sinks: &'s [String],
    names: HashSet<String>,
    routes: Vec<Route>,
    conditions: Vec<Condition>,
    always: Few,
    faults: Vec<SettingFault>,
    warnings: Vec<SettingFault>,
}

impl Planner<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(SettingFault::at(path, message));
    }

    fn add(&mut self, number: usize, route: RouteSettings) {
        let RouteSettings { name, when, to } = route;
        if name.trim().is_empty() {
            self.fault(
                &format!("{number}.name"),
                "the name is empty; logs and mails tell routes by their name",
            );
        } else if !self.names.insert(name.clone()) {
            self.fault(
                &format!("{number}.name"),
                format!("there is another route \"{name}\"; name each once"),
            );
        }
        match when {
            None => self.always.insert(number),
            Some(text) => self.condition(number, text.trim()),
        }
        let to = self.destinations(number, to);
        self.routes.push(Route {
            name,
            to,
            matched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        });
    }

    fn condition(&mut self, number: usize, text: &str) {
        let path = format!("{number}.when");
        if let Some(same) = self.conditions.iter_mut().find(|condition| condition.holds.text() == text) {
            same.routes.insert(number);
            return;
        }
        match Expression::compile(text) {
            Ok(holds) => {
                let warnings = holds.warnings().iter();
                self.warnings.extend(warnings.map(|warning| SettingFault::at(&path, warning.to_string())));
                let mut routes = Few::default();
                routes.insert(number);
                self.conditions.push(Condition { holds, routes });
            }
            Err(faults) => faults.into_iter().for_each(|fault| self.fault(&path, fault.to_string())),
        }
    }

    fn destinations(&mut self, number: usize, names: Vec<String>) -> Vec<SinkName> {
        if names.is_empty() {
            self.fault(&format!("{number}.to"), "names no sink; a route goes somewhere");
        }
        let mut to: Vec<SinkName> = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let path = format!("{number}.to.{place}");
            match name.parse() {
                Ok(sink) if to.contains(&sink) => {
                    let message = format!("\"{name}\" stands here twice; it gets the push once");
                    self.warnings.push(SettingFault::at(&path, message));
                }
                Ok(sink) if self.sinks.contains(name) => to.push(sink),
                _ => {
                    let message = setting::unknown("sink", name, self.sinks.iter().map(String::as_str));
                    self.fault(&path, message);
                }
            }
        }
        to
    }
}
