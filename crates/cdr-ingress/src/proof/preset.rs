//! Ways of signing that others have published.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::signature::{Encoding, Hash, Place, SignatureProof};

/// A published way of signing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Tencent RTC's event call-backs: an HMAC of the body in the header `Sign` (cloud.tencent.com 647/90450).
    Trtc,
    /// Tencent Chat's web call-backs: `Sign` and `RequestTime` in the query (269/117703). The body is not covered.
    Im,
    /// Tencent live streaming's event call-backs: `sign` and `t`, its expiry, in the body (267/74671), which they do not cover.
    Css,
    /// Tencent's whiteboard and classroom: `Sign` and `ExpireTime` in the body (1176/55569, lcic 1168/53700), which they do not cover.
    Tiw,
    /// Tencent's content moderation: a hash of key and body in the header `X-Signature` (1265/104001).
    Moderation,
    /// Standard Webhooks (standardwebhooks.com): an HMAC of id, time and body; keys are `whsec_` and base64.
    StandardWebhooks,
    /// GitHub's webhooks: an HMAC of the body in the header `X-Hub-Signature-256`.
    Github,
}

impl Preset {
    /// What one would set to do without the preset; `proof` has the keys, and the tolerance if one is set.
    pub(super) fn over(self, proof: &SignatureProof) -> SignatureProof {
        let header = |name: &str| SignatureProof { header: Some(name.to_owned()), ..proof.clone() };
        let name = |name: &str| Some(name.to_owned());
        let place = |place: fn(String) -> Place, name: &str| Some(place(name.to_owned()));
        let own = match self {
            Self::Trtc => SignatureProof { encoding: Some(Encoding::Base64), ..header("Sign") },
            Self::Im => SignatureProof {
                query: name("Sign"),
                timestamp: place(Place::Query, "RequestTime"),
                tolerance: proof.tolerance.or(Some(Duration::from_secs(60))),
                signed: name("{key}{timestamp}"),
                ..proof.clone()
            },
            Self::Css => SignatureProof {
                body: name("sign"),
                expires: place(Place::Body, "t"),
                hash: Some(Hash::Md5),
                signed: name("{key}{timestamp}"),
                ..proof.clone()
            },
            Self::Tiw => SignatureProof {
                body: name("Sign"),
                expires: place(Place::Body, "ExpireTime"),
                hash: Some(Hash::Md5),
                signed: name("{key}{timestamp}"),
                ..proof.clone()
            },
            Self::Moderation => SignatureProof { signed: name("{key}{body}"), ..header("X-Signature") },
            Self::StandardWebhooks => SignatureProof {
                encoding: Some(Encoding::Base64),
                prefix: name("v1,"),
                timestamp: place(Place::Header, "webhook-timestamp"),
                signed: name("{header:webhook-id}.{timestamp}.{body}"),
                ..header("webhook-signature")
            },
            Self::Github => SignatureProof { prefix: name("sha256="), ..header("X-Hub-Signature-256") },
        };
        SignatureProof { preset: None, ..own }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::proof::trial::{Trial, faults, proofs};

    fn judged(preset: &str, key: &str, trial: Trial) -> String {
        trial.judged(&proofs(json!([{ "signature": { "preset": preset, "key": key } }])))
    }

    /// The body of 647/90450, with real line feeds and tabulators.
    const RTC: &str = "{\n\t\"EventGroupId\":\t2,\n\t\"EventType\":\t204,\n\t\"CallbackTs\":\t1664209748188,\n\t\"EventInfo\":\t{\n\t\t\"RoomId\":\t8489,\n\t\t\"EventTs\":\t1664209748,\n\t\t\"EventMsTs\":\t1664209748180,\n\t\t\"UserId\":\t\"user_85034614\",\n\t\t\"Reason\":\t0\n\t}\n}";

    /// Every flipped bit of every byte of the body makes the signature a wrong one.
    #[track_caller]
    fn covers(preset: &str, key: &str, trial: &Trial, body: &str) {
        assert_eq!(judged(preset, key, trial.clone().body(body)), "passes");
        for at in 0..body.len() {
            let mut flipped = body.as_bytes().to_vec();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(judged(preset, key, trial.clone().body(flipped)), "wrong_proof", "{at}");
        }
        assert_eq!(judged(preset, key, trial.clone().body(format!("{body} "))), "wrong_proof");
    }

    #[test]
    fn trtc_passes_with_the_published_vector_and_covers_the_body() {
        let trial = Trial::new("/").header("Sign", "kkoFeO3Oh2ZHnjtg8tEAQhtXK16/KI05W3BQff8IvGA=");
        covers("trtc", "123654", &trial, RTC);
        assert_eq!(judged("trtc", "123655", trial.body(RTC)), "wrong_proof");
    }

    #[test]
    fn moderation_passes_with_its_vector_and_covers_the_body() {
        let signature = "28468ba1728a2fcf1d1648cbf50b498e3f31d36e569e0c5cec16ade36248be6b";
        let trial = Trial::new("/").header("X-Signature", signature);
        covers("moderation", "exampleseed", &trial, r#"{"TaskId":"t-1","Suggestion":"Block"}"#);
    }

    /// docs.github.com, "Validating webhook deliveries".
    #[test]
    fn github_passes_with_the_published_vector_and_covers_the_body() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let trial = Trial::new("/").header("X-Hub-Signature-256", signature);
        covers("github", "It's a Secret to Everybody", &trial, "Hello, World!");
        let bare = Trial::new("/").body("Hello, World!").header("X-Hub-Signature-256", &signature[7..]);
        assert_eq!(judged("github", "It's a Secret to Everybody", bare), "unread: wrong_proof");
    }

    const WEBHOOK_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const WEBHOOK: &str = r#"{"email":"test@example.com","username":"test_user"}"#;

    fn webhook(id: &str, time: &str, signature: &str) -> Trial {
        let trial = Trial::new("/").at(1_649_367_553 + 300).body(WEBHOOK);
        let trial = trial.header("webhook-id", id).header("webhook-timestamp", time);
        trial.header("webhook-signature", signature)
    }

    /// The vector of the project's own libraries.
    #[test]
    fn standard_webhooks_pass_with_the_published_vector_and_cover_all() {
        let (id, time) = ("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553");
        let right = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        covers("standard-webhooks", WEBHOOK_KEY, &webhook(id, time, right), WEBHOOK);
        let judged = |trial| judged("standard-webhooks", WEBHOOK_KEY, trial);
        let wrong = "v1,R3PTzyfHASBKHH98a7yexTwaJ4yNIcGhFQc1yuN+BPU=";
        let among_others = format!("{wrong} v1a,{} {right}", &right[3..]);
        assert_eq!(judged(webhook(id, time, &among_others)), "passes");
        assert_eq!(judged(webhook(id, time, wrong)), "wrong_proof");
        assert_eq!(judged(webhook("msg_2", time, right)), "wrong_proof");
        assert_eq!(judged(webhook(id, "1649367554", right)), "wrong_proof");
        assert_eq!(judged(webhook(id, "1649367552", right)), "unread: stale_proof");
        assert_eq!(judged(webhook(id, "1649367553.0", right)), "unread: wrong_proof");
        assert_eq!(judged(webhook(id, time, &right.replace("v1,", "v2,"))), "unread: wrong_proof");
        assert_eq!(judged(Trial::new("/").header("webhook-signature", right)), "unread: wrong_proof");
        assert_eq!(judged(webhook(id, time, right).at(1_649_367_553 - 301)), "unread: stale_proof");
    }

    #[test]
    fn a_webhook_key_is_base64() {
        let of = |key: &str| {
            faults(
                json!([{ "signature": { "preset": "standard-webhooks", "key": key, "previous": WEBHOOK_KEY } }]),
            )
        };
        assert!(of("C2FVsBQIhrscChlQIMV+b5sSYspob7oD").is_empty());
        for wrong in ["whsec_!", "whsec_", "a-hidden-key"] {
            let faults = of(wrong);
            assert!(faults[0].starts_with("verify.0.signature.key: expected whsec_"), "{faults:?}");
            assert!(!faults[0].contains("hidden"), "{faults:?}");
        }
    }

    const IM: &str = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";

    /// The vector of 269/1522.
    #[test]
    fn im_passes_with_the_published_vector_for_a_minute_and_does_not_cover_the_body() {
        let trial = Trial::new(&format!("/?Sign={IM}&RequestTime=1669872112?action=cdr")).at(1_669_872_112);
        let judged = |trial| judged("im", "xxxxyyyy", trial);
        assert_eq!(judged(trial.clone()), "passes");
        assert_eq!(judged(trial.clone().body(b"anything")), "passes");
        assert_eq!(judged(trial.clone().at(1_669_872_112 + 60)), "passes");
        assert_eq!(judged(trial.clone().at(1_669_872_112 + 61)), "unread: stale_proof");
        let other = Trial::new(&format!("/?Sign={IM}&RequestTime=1669872113")).at(1_669_872_112);
        assert_eq!(judged(other), "wrong_proof");
        assert_eq!(judged(Trial::new(&format!("/?Sign={IM}"))), "unread: wrong_proof");
    }

    #[test]
    fn css_passes_until_it_expires_and_does_not_cover_the_body() {
        let body = json!({ "t": 1_700_000_600, "sign": "602f3d211b2c12d2ff8673b90d581708", "event_type": 1 });
        let judged = |body: &Value, second| {
            judged("css", "examplekey", Trial::new("/").body(body.to_string()).at(second))
        };
        assert_eq!(judged(&body, 1_700_000_000), "passes");
        assert_eq!(judged(&body, 1_700_000_600), "passes");
        assert_eq!(judged(&body, 1_700_000_601), "stale_proof");
        let mut other = body.clone();
        other["event_type"] = 2.into();
        other["t"] = "1700000600".into();
        assert_eq!(judged(&other, 1_700_000_000), "passes");
        other["t"] = 1_700_000_601.into();
        assert_eq!(judged(&other, 1_700_000_000), "wrong_proof");
        other["sign"] = Value::Null;
        assert_eq!(judged(&other, 1_700_000_000), "wrong_proof");
    }

    #[test]
    fn tiw_passes_with_both_published_vectors() {
        for (key, time, signature) in [
            ("Xz4ZgayTr7rMgWQrH", 1_588_040_109, "a2dabb362a9b811c0e26953a6276a41c"),
            ("NjFGoDEy", 1_614_151_508, "b9454ab5a85f9b7ad36071f5688ed34d"),
        ] {
            let body = json!({ "Sign": signature, "ExpireTime": time }).to_string();
            let judged = |trial| judged("tiw", key, trial);
            assert_eq!(judged(Trial::new("/").body(&body).at(time)), "passes");
            assert_eq!(judged(Trial::new("/").body(&body).at(time + 1)), "stale_proof");
        }
    }

    #[test]
    fn beside_a_preset_nothing_of_it_is_set_again() {
        let own = json!({ "preset": "trtc", "key": "x", "header": "Sign", "hash": "md5", "tolerance": "1m" });
        let faults = faults(json!([{ "signature": own }]));
        let settings =
            ["header", "hash"].map(|name| format!("verify.0.signature.{name}: the preset says this"));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().zip(settings).all(|(fault, path)| fault.starts_with(&path)), "{faults:?}");
    }
}
