//! Who gets what at present: the routes for pushes, and the sinks for the gateway's own alerts.

use std::{fmt, sync::Arc};

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
    alert_route: Arc<[String]>,
}

impl Routing {
    /// Routes for pushes, and sinks for alerts.
    pub fn new(routes: Routes, alerts_to: Vec<SinkName>) -> Self {
        Self { routes, alerts_to, alert_route: Arc::from([ALERT_ROUTE.to_owned()]) }
    }

    /// Once for each push, after its commit: the routes count it.
    pub fn decide(self: &Arc<Self>, push: &Push) -> Destinations {
        match push.facts().origin {
            Origin::Push => Destinations::Routed(self.routes.decide(push)),
            Origin::Alert => Destinations::Alert(Arc::clone(self)),
        }
    }

    /// The same for a push that was counted before.
    pub fn consider(self: &Arc<Self>, push: &Push) -> Destinations {
        match push.facts().origin {
            Origin::Push => Destinations::Routed(self.routes.consider(push)),
            Origin::Alert => Destinations::Alert(Arc::clone(self)),
        }
    }
}

/// Where one push goes.
#[derive(Clone)]
pub enum Destinations {
    /// As the routes say.
    Routed(Decision),
    /// To the sinks for alerts.
    Alert(Arc<Routing>),
}

impl Destinations {
    /// The routes that name this sink for the push; none when it does not go there.
    pub fn to(&self, sink: &SinkName) -> Option<Arc<[String]>> {
        match self {
            Self::Routed(decision) => decision.routes_to(sink),
            Self::Alert(routing) => {
                routing.alerts_to.contains(sink).then(|| Arc::clone(&routing.alert_route))
            }
        }
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routed(decision) => decision.fmt(f),
            Self::Alert(_) => f.write_str("Alert"),
        }
    }
}
