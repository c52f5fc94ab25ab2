//! Who gets what at present: the routes for pushes, and the sinks for the gateway's own alerts.

use std::{collections::BTreeSet, fmt, sync::Arc};

use cdr_core::{Origin, Push, SinkName};

use crate::route::{Decision, Routes};

/// The route that the gateway's own alerts come by.
const ALERT_ROUTE: &str = "gateway alerts";

/// Who gets what at present; a reload replaces it as a whole.
pub struct Routing {
    /// The routes, for pushes.
    pub routes: Routes,
    /// The sinks that get the gateway's own alerts.
    pub alerts_to: Vec<SinkName>,
    sinks: BTreeSet<SinkName>,
    alert_route: Arc<[String]>,
}

impl Routing {
    /// Routes for pushes, and sinks for alerts, among all `sinks` of the configuration.
    pub fn new(routes: Routes, alerts_to: Vec<SinkName>, sinks: impl IntoIterator<Item = SinkName>) -> Self {
        let alert_route = Arc::from([ALERT_ROUTE.to_owned()]);
        Self { routes, alerts_to, sinks: sinks.into_iter().collect(), alert_route }
    }

    /// Once for each push, after its commit: the routes count it.
    pub fn decide(self: &Arc<Self>, push: &Push) -> Destinations {
        let decision = (push.facts().origin == Origin::Push).then(|| self.routes.decide(push));
        Destinations { routing: Arc::clone(self), decision }
    }

    /// The same for a push that was counted before.
    pub fn consider(self: &Arc<Self>, push: &Push) -> Destinations {
        let decision = (push.facts().origin == Origin::Push).then(|| self.routes.consider(push));
        Destinations { routing: Arc::clone(self), decision }
    }
}

/// Where one push goes, as one configuration says.
#[derive(Clone)]
pub struct Destinations {
    routing: Arc<Routing>,
    /// None for the gateway's own alerts.
    decision: Option<Decision>,
}

/// Whether a push goes to a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Goes {
    /// By these routes.
    By(Arc<[String]>),
    /// Not there.
    Elsewhere,
    /// The configuration that decided did not know the sink; so it cannot have decided about it.
    Undecided,
}

impl Destinations {
    /// Whether the push goes to this sink.
    pub fn to(&self, sink: &SinkName) -> Goes {
        if !self.routing.sinks.contains(sink) {
            return Goes::Undecided;
        }
        let routes = match &self.decision {
            Some(decision) => decision.routes_to(sink),
            None => self.routing.alerts_to.contains(sink).then(|| Arc::clone(&self.routing.alert_route)),
        };
        routes.map_or(Goes::Elsewhere, Goes::By)
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decision {
            Some(decision) => decision.fmt(f),
            None => f.write_str("Alert"),
        }
    }
}
