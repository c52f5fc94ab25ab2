//! What a gateway was started with and no reload can change: what differs is told, so that nobody waits for it.

use bytesize::ByteSize;
use cdr_core::Secret;
use cdr_ingress::IngressSettings;

use crate::config::{Admin, Log, Plan};

/// The settings that take a restart, as they were at the start.
pub struct StartedWith {
    /// The store.
    pub spool: cdr_spool::Settings,
    /// The listener for operators.
    pub admin: Admin,
    /// How it logs.
    pub log: Log,
}

impl StartedWith {
    /// What a plan is about to be started with.
    pub fn of(plan: &Plan) -> Self {
        Self { spool: plan.spool.clone(), admin: plan.admin.clone(), log: plan.log }
    }

    /// A sentence for each setting of `plan` that waits for a restart; `ingress` has its own.
    pub fn differences(&self, plan: &Plan) -> Vec<String> {
        let token = |admin: &Admin| admin.token.as_ref().map(Secret::expose).map(str::to_owned);
        let settings = [
            ("spool.path", self.spool.path != plan.spool.path),
            ("spool.keep", self.spool.keep != plan.spool.keep),
            ("spool.max_size", self.spool.max_size != plan.spool.max_size),
            ("spool.dedupe_window", self.spool.dedupe_window != plan.spool.dedupe_window),
            ("admin.listen", self.admin.listen != plan.admin.listen),
            ("admin.token", token(&self.admin) != token(&plan.admin)),
            ("log.format", self.log.format != plan.log.format),
            ("log.level", self.log.level != plan.log.level),
        ];
        let changed = settings.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(setting, _)| format!("{setting}: the change takes a restart")).collect()
    }

    /// Lowers the limits of the door to what the spool was opened for. It would refuse the rest, and the sender
    /// would hear that the disk is at fault. The second value is a sentence for each limit that was lowered.
    pub fn hold(&self, mut door: IngressSettings) -> (IngressSettings, Vec<String>) {
        let limits = &mut door.limits;
        let body = hold("ingress.limits.body", &mut limits.body, self.spool.body_limit);
        let in_flight = hold("ingress.limits.in_flight", &mut limits.in_flight, self.spool.in_flight);
        (door, body.into_iter().chain(in_flight).collect())
    }
}

fn hold(setting: &str, limit: &mut ByteSize, most: u64) -> Option<String> {
    let wanted = *limit;
    *limit = wanted.min(ByteSize(most));
    (wanted != *limit).then(|| {
        let (now, then) = (limit.display(), wanted.display());
        format!("{setting}: the door stays at {now}, which the spool was opened for; {then} takes a restart")
    })
}
