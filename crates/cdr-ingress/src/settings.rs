//! The settings of the door: `ingress:` in `gateway.yaml`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use cdr_core::{Secret, SettingFault};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::{
    Network,
    client_address::{self, Trail, client_address},
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
    /// Which networks may push. Default: all.
    #[serde(deserialize_with = "written")]
    pub allow: Option<Allow>,
    /// The proxies whose `X-Forwarded-For` or `Forwarded` header counts. Default: none.
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

/// One way to prove who one is.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// User name and password, as typed into TCCC's console under `basicAuth` (product page 679/67256); sent
    /// as `Authorization: Basic` (RFC 7617).
    Basic(BasicProof),
}

/// A user name and its password.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicProof {
    /// The user name; it cannot hold a colon (RFC 7617 §2).
    pub username: String,
    /// The password.
    pub password: Secret,
    /// A second password that passes too, while the first is being changed on both sides.
    pub previous: Option<Secret>,
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
    /// How long the head of a request may take; an idle connection is closed after this long too. Default 10 s.
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
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            in_flight: ByteSize::mib(16),
        }
    }
}

impl IngressSettings {
    /// What is wrong with settings that are readable one by one; paths begin below `ingress`.
    pub fn faults(&self) -> Vec<SettingFault> {
        let verify = self.verify.iter().flat_map(|proofs| proof_faults(proofs));
        let others = self.path_fault().into_iter().chain(self.network_faults());
        others.chain(verify).chain(self.limits.faults()).collect()
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

fn proof_faults(proofs: &[Proof]) -> Vec<SettingFault> {
    if proofs.is_empty() {
        let message = "names no proof, so nobody could pass; add one, such as basic, or remove verify";
        return vec![SettingFault::at("verify", message)];
    }
    let faulty = |Proof::Basic(basic): &Proof| {
        basic.username.is_empty() || basic.username.contains(|c: char| c == ':' || c.is_control())
    };
    let fault = |(index, _)| {
        let message = "expected a user name without colons and control characters, as in TCCC's console";
        SettingFault::at(&format!("verify.{index}.basic.username"), message)
    };
    proofs.iter().enumerate().filter(|(_, proof)| faulty(proof)).map(fault).collect()
}

impl Allow {
    /// The first network that holds this address.
    pub fn holder(&self, client: IpAddr) -> Option<&Network> {
        self.networks.iter().find(|network| network.contains(client))
    }
}

impl Limits {
    fn faults(&self) -> Vec<SettingFault> {
        let zeros = [
            ("body", self.body.as_u64() == 0),
            ("connections", self.connections == 0),
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
                        "in_flight": 4_194_304 },
        }))
        .unwrap();
        assert_eq!(settings.listen.port(), 9000);
        assert_eq!(settings.allow.as_ref().unwrap().mode, AllowMode::Log);
        assert!(settings.allows("2001:db8::1".parse().unwrap()));
        assert!(!settings.allows("192.0.2.1".parse().unwrap()));
        assert_eq!((settings.limits.body, settings.limits.in_flight), (ByteSize::mib(2), ByteSize::mib(4)));
        assert_eq!(settings.limits.body_timeout, Duration::from_millis(500));
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
            ("header_timeout", json!("0s")),
            ("body_timeout", json!("0s")),
            ("in_flight", json!(0)),
        ] {
            faulty(json!({ "limits": { name: zero } }), &format!("limits.{name}"), "zero");
        }
    }
}
