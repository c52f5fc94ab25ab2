//! The settings of the door: `ingress:` in `gateway.yaml`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use cdr_core::SettingFault;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::{
    Network, TlsSettings,
    client_address::{self, Trail, client_address},
    proof::{Proof, Proofs},
};

/// Where the door is, who may come in, and how much at a time.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngressSettings {
    /// Where to listen, an address and a port; port 0 takes a free one. Default `127.0.0.1:8080`.
    #[serde(deserialize_with = "address_and_port")]
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The path of the push URL; a slash at its end makes no difference. Default `/`. A long random path is a
    /// secret that only the sender knows.
    pub path: String,
    /// The certificate, for HTTPS. Default: plain HTTP, for use behind a proxy.
    pub tls: Option<TlsSettings>,
    /// Which networks may push. Default: all.
    #[serde(deserialize_with = "written")]
    pub allow: Option<Allow>,
    /// The proxies whose PROXY protocol, `X-Forwarded-For` or `Forwarded` header counts. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// How senders prove who they are: one of these must pass. Default: no proof is asked for.
    #[serde(deserialize_with = "written")]
    pub verify: Option<Vec<Proof>>,
    /// How much at a time.
    pub limits: Limits,
}

/// Which networks may push.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Networks as `203.0.113.0/24`, or single addresses.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// What happens to senders from elsewhere. Default `enforce`.
    #[serde(default)]
    pub mode: AllowMode,
}

/// What happens to senders that no allowed network holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllowMode {
    /// They are refused with 403.
    #[default]
    Enforce,
    /// They pass, and those who bring pushes are noted: TCCC publishes no list of its addresses, so one learns
    /// them first. `cdr-gateway check --senders` prints the list.
    Log,
}

/// How much at a time; more is refused, never queued.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest body. Default 1 MiB.
    #[schemars(with = "String")]
    pub body: ByteSize,
    /// Open connections. Default 4096.
    pub connections: usize,
    /// Open connections of one client: an IPv4 address, or a /64 of IPv6. Trusted proxies are not counted; whom
    /// they name by the PROXY protocol is. Default: as many as there are.
    pub connections_per_client: Option<usize>,
    /// Requests a second of all senders who have proven who they are; so many may come at once after a rest.
    /// More get 429. Default: no limit.
    pub requests_per_second: Option<u32>,
    /// Requests a second of one client, proven or not: an IPv4 address, or a /64 of IPv6, behind trusted
    /// proxies the one that they name; so many may come at once after a rest. More get 429. TCCC may push
    /// everything from one address, so leave room for its busiest second. Default: no limit.
    pub requests_per_second_per_client: Option<u32>,
    /// How long the head of a request may take; an idle connection is closed after this long too, and one whose
    /// sender does not read its answers. Default 10 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub header_timeout: Duration,
    /// How long the body of a request may take. Default 10 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub body_timeout: Duration,
    /// Bytes of bodies that may be here without being fsynced: being read, or waiting for their commit.
    /// Default 16 MiB.
    #[schemars(with = "String")]
    pub in_flight: ByteSize,
}

impl Default for IngressSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            path: "/".to_owned(),
            tls: None,
            allow: None,
            trusted_proxies: Vec::new(),
            verify: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: ByteSize::mib(1),
            connections: 4096,
            connections_per_client: None,
            requests_per_second: None,
            requests_per_second_per_client: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            in_flight: ByteSize::mib(16),
        }
    }
}

impl IngressSettings {
    /// What is wrong with settings that are readable one by one; paths begin below `ingress`. Reads the files of `tls`.
    pub fn faults(&self) -> Vec<SettingFault> {
        let verify = Proofs::new(self.verify.as_deref()).err().unwrap_or_default();
        let tls = self.tls.iter().flat_map(TlsSettings::faults);
        let others = self.path_fault().into_iter().chain(self.network_faults());
        let certificates = self.certificate_fault();
        others.chain(tls).chain(verify).chain(certificates).chain(self.limits.faults()).collect()
    }

    /// Senders' certificates are asked for and looked at, or neither: each without the other leaves the door more open, or
    /// more closed, than it looks.
    fn certificate_fault(&self) -> Option<SettingFault> {
        let proofs = self.verify.as_deref().unwrap_or_default();
        let mtls = proofs.iter().position(|proof| matches!(proof, Proof::Mtls(_)));
        let is_asked_for = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        match (mtls, is_asked_for) {
            (Some(index), false) => {
                let message =
                    "no sender is asked for a certificate, so this could not pass: set ingress.tls.client_ca";
                Some(SettingFault::at(&format!("verify.{index}.mtls"), message))
            }
            (None, true) => {
                let message = "senders are asked for certificates and nothing looks at them: \
                               add - mtls: { subject: … } to ingress.verify, or remove client_ca";
                Some(SettingFault::at("tls.client_ca", message))
            }
            _ => None,
        }
    }

    /// What works and probably not for long; paths begin below `ingress`. Reads the files of `tls`.
    pub fn warnings(&self) -> Vec<SettingFault> {
        self.tls.iter().flat_map(TlsSettings::warnings).collect()
    }

    /// Whether this peer is a proxy that is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }

    /// The address that a request from `peer` with these headers counts as sent from.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.trusted_proxies)
    }

    /// How that address is found.
    pub fn trail(&self, peer: IpAddr, headers: &HeaderMap) -> Trail {
        client_address::trail(peer, headers, &self.trusted_proxies)
    }

    /// Whether `allow.networks` holds this address, or there is no such list.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.holder(client).is_some())
    }

    /// Whether `allow.networks` holds this address.
    pub(crate) fn names(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_some_and(|allow| allow.holder(client).is_some())
    }

    fn path_fault(&self) -> Option<SettingFault> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        let is_path = self.path.starts_with('/') && self.path.bytes().all(is_plain);
        let expected = "expected a path such as / or /push, without \"?\", \"#\" and spaces";
        (!is_path).then(|| SettingFault::at("path", expected))
    }

    fn network_faults(&self) -> Vec<SettingFault> {
        let Some(allow) = &self.allow else { return Vec::new() };
        let mut faults = Vec::new();
        if allow.networks.is_empty() && allow.mode == AllowMode::Enforce {
            let message = "names no network, so everybody would be refused; \
                           name one, set mode: log to learn the addresses first, or remove allow";
            faults.push(SettingFault::at("allow.networks", message));
        }
        let everybody = self.trusted_proxies.iter().position(Network::is_everybody);
        if let Some(index) = everybody {
            let message = "trusts everybody, so anybody could claim an allowed address; name the proxies";
            faults.push(SettingFault::at(&format!("trusted_proxies.{index}"), message));
        }
        faults
    }
}

impl Allow {
    /// The first network that holds this address.
    pub fn holder(&self, client: IpAddr) -> Option<&Network> {
        self.networks.iter().find(|network| network.contains(client))
    }
}

impl Limits {
    /// For bodies of senders who have yet to prove who they are: a quarter of the room, or what one of them needs.
    pub(crate) fn of_unproven(&self) -> Self {
        let quarter = ByteSize(self.in_flight.as_u64() / 4);
        Self { in_flight: quarter.max(self.body), ..self.clone() }
    }

    fn faults(&self) -> Vec<SettingFault> {
        let zeros = [
            ("body", self.body.as_u64() == 0),
            ("connections", self.connections == 0),
            ("connections_per_client", self.connections_per_client == Some(0)),
            ("requests_per_second", self.requests_per_second == Some(0)),
            ("requests_per_second_per_client", self.requests_per_second_per_client == Some(0)),
            ("header_timeout", self.header_timeout.is_zero()),
            ("body_timeout", self.body_timeout.is_zero()),
            ("in_flight", self.in_flight.as_u64() == 0),
        ];
        let mut faults: Vec<_> = zeros
            .into_iter()
            .filter(|(_, is_zero)| *is_zero)
            .map(|(name, _)| SettingFault::at(&format!("limits.{name}"), "is zero, so nothing could come in"))
            .collect();
        if self.in_flight < self.body && self.in_flight.as_u64() > 0 {
            let message =
                format!("is less than limits.body ({}), which a single push may have", self.body.display());
            faults.push(SettingFault::at("limits.in_flight", message));
        }
        faults
    }
}

/// A setting that guards the door and was written without a value (`verify:` with all its entries commented
/// out) must not mean the same as its absence, which leaves the door open: it is read as an empty one, and
/// then is a fault.
fn written<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer).map(|value| Some(value.unwrap_or_default()))
}

fn address_and_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let expected = "an address with a port, such as 127.0.0.1:8080 or 0.0.0.0:8080";
        serde::de::Error::custom(format!("\"{text}\" is not {expected}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(settings: Value) -> Result<IngressSettings, Vec<String>> {
        let told = |faults: Vec<SettingFault>| faults.iter().map(ToString::to_string).collect();
        let settings: IngressSettings = cdr_core::setting::read(settings).map_err(told)?;
        let faults = settings.faults();
        if faults.is_empty() { Ok(settings) } else { Err(told(faults)) }
    }

    #[track_caller]
    fn faulty(settings: Value, path: &str, words: &str) {
        let faults = read(settings.clone()).expect_err(&settings.to_string());
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(&format!("{path}: ")) && faults[0].contains(words), "{faults:?}");
    }

    #[test]
    fn nothing_written_is_the_default() {
        assert_eq!(read(json!({})).unwrap(), IngressSettings::default());
        assert_eq!(read(json!({ "limits": {} })).unwrap().limits, Limits::default());
    }

    #[test]
    fn everything_can_be_set() {
        let settings = read(json!({
            "listen": "[::]:9000", "path": "/a1b2/",
            "allow": { "networks": ["203.0.113.0/24", "2001:db8::1"], "mode": "log" },
            "trusted_proxies": ["10.0.0.0/8"],
            "verify": [{ "basic": { "username": "tccc", "password": "new", "previous": "old" } }],
            "limits": { "body": "2MiB", "connections": 10, "header_timeout": "1s", "body_timeout": "500ms",
                        "in_flight": 4_194_304, "connections_per_client": 5, "requests_per_second": 200,
                        "requests_per_second_per_client": 50 },
        }))
        .unwrap();
        assert_eq!(settings.listen.port(), 9000);
        assert_eq!(settings.allow.as_ref().unwrap().mode, AllowMode::Log);
        assert!(settings.allows("2001:db8::1".parse().unwrap()));
        assert!(!settings.allows("192.0.2.1".parse().unwrap()));
        assert_eq!((settings.limits.body, settings.limits.in_flight), (ByteSize::mib(2), ByteSize::mib(4)));
        assert_eq!(settings.limits.body_timeout, Duration::from_millis(500));
        let rates = (settings.limits.requests_per_second, settings.limits.requests_per_second_per_client);
        assert_eq!((settings.limits.connections_per_client, rates), (Some(5), (Some(200), Some(50))));
    }

    #[test]
    fn what_guards_the_door_is_never_left_open_by_a_blank() {
        faulty(json!({ "verify": [] }), "verify", "names no proof");
        faulty(json!({ "verify": null }), "verify", "names no proof");
        faulty(json!({ "allow": null }), "allow.networks", "names no network");
        faulty(json!({ "allow": { "networks": [] } }), "allow.networks", "names no network");
        assert!(read(json!({ "allow": { "mode": "log" } })).is_ok());
        let trusts_all =
            json!({ "allow": { "networks": ["192.0.2.1"] }, "trusted_proxies": ["::1", "0.0.0.0/0"] });
        faulty(trusts_all, "trusted_proxies.1", "trusts everybody");
    }

    #[test]
    fn faults_name_their_setting() {
        faulty(json!({ "listen": "8080" }), "listen", "127.0.0.1:8080");
        faulty(json!({ "path": "push" }), "path", "expected a path");
        faulty(json!({ "path": "/push?x=1" }), "path", "expected a path");
        faulty(json!({ "limits": { "in_flight": "1KiB" } }), "limits.in_flight", "limits.body");
        faulty(json!({ "limits": { "bodyy": "1KiB" } }), "limits.bodyy", "did you mean \"body\"?");
        faulty(json!({ "allow": { "networks": ["10.0.0.0/40"] } }), "allow.networks.0", "neither an address");
        let colon = json!({ "verify": [{ "basic": { "username": "a:b", "password": "x" } }] });
        faulty(colon, "verify.0.basic.username", "without colons");
        for (name, zero) in [
            ("body", json!(0)),
            ("connections", json!(0)),
            ("connections_per_client", json!(0)),
            ("requests_per_second", json!(0)),
            ("requests_per_second_per_client", json!(0)),
            ("header_timeout", json!("0s")),
            ("body_timeout", json!("0s")),
            ("in_flight", json!(0)),
        ] {
            faulty(json!({ "limits": { name: zero } }), &format!("limits.{name}"), "zero");
        }
    }
}
