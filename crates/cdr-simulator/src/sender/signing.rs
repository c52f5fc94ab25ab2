//! Signing pushes, as senders other than TCCC have published it.
//!
//! Made from what they publish and not from the door, so that the two prove each other.

use std::{fmt, str::FromStr};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use cdr_core::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue, Request};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// How long a signature is good that says itself when it ends. Longer than a push is tried again.
const GOOD_FOR: i64 = 10 * 60;

/// A published way of signing, by the name that it has in `ingress.verify`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Tencent RTC (cloud.tencent.com 647/90450).
    Trtc,
    /// Tencent Chat (269/117703).
    Im,
    /// Tencent live streaming (267/74671); two fields are added to the body.
    Css,
    /// Tencent's whiteboard and classroom (1176/55569); two fields are added to the body.
    Tiw,
    /// Tencent's content moderation (1265/104001).
    Moderation,
    /// Standard Webhooks (standardwebhooks.com); the UUID of the push is its `webhook-id`.
    StandardWebhooks,
    /// GitHub's webhooks (docs.github.com, "Validating webhook deliveries").
    Github,
}

impl Preset {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Trtc, Self::Im, Self::Css, Self::Tiw, Self::Moderation, Self::StandardWebhooks, Self::Github];

    /// As in the settings of the receiver.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trtc => "trtc",
            Self::Im => "im",
            Self::Css => "css",
            Self::Tiw => "tiw",
            Self::Moderation => "moderation",
            Self::StandardWebhooks => "standard-webhooks",
            Self::Github => "github",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No way of signing has this name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownPreset;

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown way of signing; there are {}", Preset::ALL.map(Preset::name).join(", "))
    }
}

impl std::error::Error for UnknownPreset {}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or(UnknownPreset)
    }
}

/// A way of signing, and its key.
pub(super) struct Signer {
    preset: Preset,
    key: Vec<u8>,
}

impl Signer {
    /// Standard Webhooks writes keys as `whsec_` and base64, everybody else as they are.
    pub fn new(preset: Preset, key: &Secret) -> anyhow::Result<Self> {
        let text = key.expose();
        let key = match preset {
            Preset::StandardWebhooks => BASE64_STANDARD
                .decode(text.strip_prefix("whsec_").unwrap_or(text))
                .ok()
                .context("key: expected whsec_ and base64, as Standard Webhooks writes keys")?,
            _ => text.as_bytes().to_vec(),
        };
        Ok(Self { preset, key })
    }

    /// The body as it is sent, once for all attempts: two presets have their signature in it, and a retry is known by its
    /// bytes. What is no JSON object stays as it is, unsigned.
    pub fn body(&self, body: &Bytes, now: i64) -> Bytes {
        let (signature, end) = match self.preset {
            Preset::Css => ("sign", "t"),
            Preset::Tiw => ("Sign", "ExpireTime"),
            _ => return body.clone(),
        };
        let Some(fields) = body.trim_ascii_start().strip_prefix(b"{") else { return body.clone() };
        let until = now + GOOD_FOR;
        let signed =
            hex::encode(Md5::new().chain_update(&self.key).chain_update(until.to_string()).finalize());
        let comma = if fields.trim_ascii_start().starts_with(b"}") { "" } else { "," };
        let own = format!(r#"{{"{signature}":"{signed}","{end}":{until}{comma}"#);
        [own.as_bytes(), fields].concat().into()
    }

    /// Signs an attempt anew, at this moment in Unix seconds: receivers refuse old times. Here `body` is as it is sent.
    pub fn sign<B>(&self, request: &mut Request<B>, body: &[u8], uuid: Uuid, now: i64) {
        let now = now.to_string();
        match self.preset {
            Preset::Trtc => set(request, "sign", BASE64_STANDARD.encode(self.mac([body]))),
            Preset::Github => {
                set(request, "x-hub-signature-256", format!("sha256={}", hex::encode(self.mac([body]))));
            }
            Preset::Moderation => set(request, "x-signature", hex::encode(self.hash(body))),
            Preset::Im => {
                let signed = hex::encode(self.hash(now.as_bytes()));
                let target = format!("{}&Sign={signed}&RequestTime={now}", request.uri());
                // Only a URL that fills 64 KiB cannot be prolonged; its push goes without, and is refused.
                if let Ok(target) = target.parse() {
                    *request.uri_mut() = target;
                }
            }
            Preset::StandardWebhooks => {
                let id = uuid.to_string();
                let signed = self.mac([id.as_bytes(), b".", now.as_bytes(), b".", body]);
                set(request, "webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(signed)));
                set(request, "webhook-id", id);
                set(request, "webhook-timestamp", now);
            }
            // In the body already.
            Preset::Css | Preset::Tiw => {}
        }
    }

    fn mac<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length (RFC 2104 §2)");
        pieces.into_iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes().into()
    }

    fn hash(&self, rest: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(&self.key).chain_update(rest).finalize().into()
    }
}

/// Digits and base64 are fit for any header.
fn set<B>(request: &mut Request<B>, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(preset: Preset, key: &str) -> Signer {
        Signer::new(preset, &Secret::new(key)).unwrap()
    }

    /// A request to `/?action=cdr`, signed.
    fn signed(preset: Preset, key: &str, body: &str, now: i64) -> Request<()> {
        let mut request = Request::post("/?action=cdr").body(()).unwrap();
        signer(preset, key).sign(&mut request, body.as_bytes(), Uuid::from_u128(7), now);
        request
    }

    #[test]
    fn the_published_vectors_come_out() {
        // 647/90450, with real line feeds and tabulators.
        let rtc = "{\n\t\"EventGroupId\":\t2,\n\t\"EventType\":\t204,\n\t\"CallbackTs\":\t1664209748188,\n\t\"EventInfo\":\t{\n\t\t\"RoomId\":\t8489,\n\t\t\"EventTs\":\t1664209748,\n\t\t\"EventMsTs\":\t1664209748180,\n\t\t\"UserId\":\t\"user_85034614\",\n\t\t\"Reason\":\t0\n\t}\n}";
        let request = signed(Preset::Trtc, "123654", rtc, 0);
        assert_eq!(request.headers()["sign"], "kkoFeO3Oh2ZHnjtg8tEAQhtXK16/KI05W3BQff8IvGA=");
        let request = signed(Preset::Github, "It's a Secret to Everybody", "Hello, World!", 0);
        let github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(request.headers()["x-hub-signature-256"], github);
        let moderated = r#"{"TaskId":"t-1","Suggestion":"Block"}"#;
        let request = signed(Preset::Moderation, "exampleseed", moderated, 0);
        let moderation = "28468ba1728a2fcf1d1648cbf50b498e3f31d36e569e0c5cec16ade36248be6b";
        assert_eq!(request.headers()["x-signature"], moderation);
        let tiw = signer(Preset::Tiw, "NjFGoDEy").body(&Bytes::from_static(b"{}"), 1_614_151_508 - GOOD_FOR);
        assert_eq!(tiw, r#"{"Sign":"b9454ab5a85f9b7ad36071f5688ed34d","ExpireTime":1614151508}"#);
    }

    #[test]
    fn a_signature_in_the_body_leaves_the_rest_of_it() {
        let signer = signer(Preset::Css, "examplekey");
        let signed = |body: &'static str| signer.body(&Bytes::from_static(body.as_bytes()), 1_700_000_000);
        let own = r#"{"sign":"602f3d211b2c12d2ff8673b90d581708","t":1700000600"#;
        assert_eq!(signed(r#" {"a":1} "#), format!(r#"{own},"a":1}} "#));
        assert_eq!(signed("{ }"), format!("{own} }}"));
        assert_eq!(signed("[1]"), "[1]");
    }

    #[test]
    fn a_signature_in_the_query_stands_behind_what_is_there() {
        let request = signed(Preset::Im, "xxxxyyyy", "{}", 1_669_872_112);
        let (before, signature) = request.uri().query().unwrap().split_once("&Sign=").unwrap();
        assert_eq!(before, "action=cdr");
        assert!(signature.ends_with("&RequestTime=1669872112"), "{signature}");
    }

    #[test]
    fn names_are_read_and_a_key_of_standard_webhooks_has_its_form() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        let unknown = "githup".parse::<Preset>().unwrap_err().to_string();
        assert!(unknown.contains("trtc, im, css"), "{unknown}");
        assert!(Signer::new(Preset::StandardWebhooks, &Secret::new("my password")).is_err());
    }
}
