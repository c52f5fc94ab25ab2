//! Pushes that were refused at the door: one incident, from the first of them until pushes arrive again.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use cdr_ingress::{Network, Stranger, Verdict};
use jiff::Timestamp;

/// How often a network or a reason that came along is told. A scanner must not fill a mailbox, and one that knocks all day
/// must not hide that TCCC is refused.
const SUM_UP: Duration = Duration::from_secs(600);

/// One request may be a scanner's; what has grown so much since it was told is told again.
const TENFOLD: u64 = 10;

/// So many networks stand in a letter; those with most requests.
const IN_LETTER: usize = 10;

/// The incident, if there is one.
#[derive(Default)]
pub(super) struct Refusals {
    told: BTreeSet<(&'static str, Network)>,
    told_at: Option<Instant>,
    /// How many requests it was when it was told.
    told_requests: u64,
}

/// What is worth telling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Requests are refused, and not all of it is known: those who are refused now.
    Refused(Vec<Stranger>),
    /// Nobody of those who were told is refused any more.
    Over(Vec<Stranger>),
}

impl Refusals {
    /// What is to be told now. `repeat` is `alerts.repeat`.
    pub fn look(&mut self, strangers: Vec<Stranger>, repeat: Option<Duration>, now: Instant) -> Option<News> {
        let key = |stranger: &Stranger| (stranger.verdict.name(), stranger.network);
        let (over, refused): (Vec<_>, Vec<_>) = strangers.into_iter().partition(Stranger::is_over);
        if refused.is_empty() {
            let told = std::mem::take(&mut self.told);
            let over = over.into_iter().filter(|stranger| told.contains(&key(stranger))).collect();
            return (!told.is_empty()).then_some(News::Over(over));
        }
        let since_told = self.told_at.map(|at| now.duration_since(at));
        let is_new = refused.iter().any(|stranger| !self.told.contains(&key(stranger)));
        let is_worse = requests(&refused) >= self.told_requests.saturating_mul(TENFOLD);
        let is_time = |after| since_told.is_none_or(|since| since >= after);
        let again = !self.told.is_empty() && repeat.is_some_and(is_time);
        if !again && !((is_new || is_worse) && is_time(SUM_UP)) {
            return None;
        }
        self.told.extend(refused.iter().map(key));
        self.told_at = Some(now);
        self.told_requests = requests(&refused);
        Some(News::Refused(refused))
    }
}

/// Subject and text.
pub(super) fn letter(news: &News) -> (String, String) {
    match news {
        News::Refused(strangers) => {
            let subject =
                format!("{} request(s) refused at the door since {}", requests(strangers), since(strangers));
            (subject, refused(strangers))
        }
        News::Over(strangers) if strangers.iter().any(|stranger| stranger.arrives) => {
            let text = format!(
                "A push was taken from where {} request(s) were refused since {}. What was refused until then is lost, \
                 but for what TCCC tried again: its query API has those calls.",
                requests(strangers),
                since(strangers)
            );
            ("pushes arrive again".to_owned(), text)
        }
        News::Over(strangers) => {
            let text = format!(
                "{} request(s) were refused since {}, none in the last 10 min. No push has arrived from there: if it was TCCC, \
                 those calls are lost, and the next one may be refused as well.",
                requests(strangers),
                since(strangers)
            );
            ("no request is refused any more".to_owned(), text)
        }
    }
}

fn refused(strangers: &[Stranger]) -> String {
    let mut strangers: Vec<&Stranger> = strangers.iter().collect();
    strangers.sort_by_key(|stranger| std::cmp::Reverse(stranger.requests));
    let mut text = "If these were TCCC's pushes, each is lost after 3 retries.\n\n".to_owned();
    for Stranger { verdict, network, sender, requests, since, last, .. } in
        strangers.iter().copied().take(IN_LETTER)
    {
        let (verdict, since, last) = (verdict.name(), utc(*since), utc(*last));
        let _ = writeln!(
            text,
            "{requests} × {verdict} from {network} since {since}; the last {last} from {sender}"
        );
    }
    if strangers.len() > IN_LETTER {
        let _ = writeln!(text, "and from {} other(s)", strangers.len() - IN_LETTER);
    }
    let first = |reasons: &[Verdict]| strangers.iter().find(|stranger| reasons.contains(&stranger.verdict));
    if let Some(first) = first(&[Verdict::Network]) {
        let _ = write!(
            text,
            "\nnetwork: ingress.allow.networks does not hold it. If it is TCCC's, add it and reload.\n\
             Look:    cdr-gateway check --client {}\n",
            first.sender
        );
    }
    if first(&[Verdict::NoProof, Verdict::WrongProof, Verdict::StaleProof]).is_some() {
        text += "\nno_proof and the like: it is not what ingress.verify asks for. Compare it with the authentication in TCCC's console; \
                 a password that is being changed stays as `previous` until both sides have the new one.\n";
    }
    if first(&[Verdict::Requests, Verdict::ClientRequests]).is_some() {
        text += "\nrequests, client_requests: more came in a second than ingress.limits.requests_per_second or \
                 requests_per_second_per_client lets in. If it is TCCC, raise that and reload.\n";
    }
    if first(&[Verdict::Tls]).is_some() {
        text += "\ntls: it does not accept the certificate of ingress.tls. Look whether that has ended, is for the host of the push URL, \
                 and has the certificates between it and its authority behind it in the file.\n";
    }
    text
}

fn requests(strangers: &[Stranger]) -> u64 {
    strangers.iter().map(|stranger| stranger.requests).sum()
}

fn since(strangers: &[Stranger]) -> String {
    strangers.iter().map(|stranger| stranger.since).min().map(utc).unwrap_or_default()
}

/// As in the log, where one looks next.
fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn stranger(verdict: Verdict, network: &str, requests: u64) -> Stranger {
        let since: Timestamp = "2026-11-22T11:22:57Z".parse().unwrap();
        Stranger {
            verdict,
            network: network.parse().unwrap(),
            sender: network.split('/').next().unwrap().parse().unwrap(),
            requests,
            since,
            last: since,
            quiet_for: Duration::ZERO,
            arrives: false,
        }
    }

    fn tccc(requests: u64) -> Stranger {
        stranger(Verdict::WrongProof, "203.0.113.0/24", requests)
    }

    fn is_told(news: Option<News>) -> bool {
        matches!(news, Some(News::Refused(_)))
    }

    #[test]
    fn many_refusals_are_one_incident_with_an_end() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.look(vec![], None, start), None);
        assert_eq!(refusals.look(vec![tccc(1)], None, start), Some(News::Refused(vec![tccc(1)])));
        for minute in 1..60 {
            assert_eq!(refusals.look(vec![tccc(9)], None, start + minute * MINUTE), None);
        }
        let settled = Stranger { arrives: true, quiet_for: MINUTE, ..tccc(9) };
        let over = refusals.look(vec![settled.clone()], None, start + 60 * MINUTE);
        assert_eq!(over, Some(News::Over(vec![settled.clone()])));
        assert_eq!(letter(&over.unwrap()).0, "pushes arrive again");
        assert_eq!(refusals.look(vec![settled], None, start + 61 * MINUTE), None);
    }

    #[test]
    fn a_scanner_does_not_hide_that_tccc_is_refused_too() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let scanner = |last| stranger(Verdict::NoProof, &format!("198.51.{last}.0/24"), 1);
        assert!(is_told(refusals.look(vec![scanner(1)], None, start)));
        assert_eq!(refusals.look(vec![scanner(1), tccc(1)], None, start + MINUTE), None);
        let told = refusals.look(vec![scanner(1), tccc(4)], None, start + SUM_UP);
        assert_eq!(told, Some(News::Refused(vec![scanner(1), tccc(4)])));
        assert_eq!(refusals.look(vec![scanner(1), tccc(8)], None, start + 3 * SUM_UP), None);
    }

    #[test]
    fn what_comes_and_goes_is_not_told_each_time() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let settled = || vec![Stranger { arrives: true, quiet_for: MINUTE, ..tccc(1) }];
        assert!(is_told(refusals.look(vec![tccc(1)], None, start)));
        assert!(refusals.look(settled(), None, start + MINUTE).is_some());
        assert_eq!(refusals.look(vec![tccc(1)], None, start + 2 * MINUTE), None);
        assert_eq!(refusals.look(settled(), None, start + 3 * MINUTE), None);
        assert!(is_told(refusals.look(vec![tccc(1)], None, start + SUM_UP)));
    }

    #[test]
    fn what_has_grown_tenfold_is_told_again() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert!(is_told(refusals.look(vec![tccc(1)], None, start)));
        assert_eq!(refusals.look(vec![tccc(10)], None, start + MINUTE), None);
        assert!(is_told(refusals.look(vec![tccc(12)], None, start + SUM_UP)));
        assert_eq!(refusals.look(vec![tccc(119)], None, start + 5 * SUM_UP), None);
        assert!(is_told(refusals.look(vec![tccc(120)], None, start + 6 * SUM_UP)));
    }

    #[test]
    fn what_goes_on_is_told_again_as_often_as_asked() {
        let (mut refusals, start, repeat) = (Refusals::default(), Instant::now(), Some(MINUTE));
        assert!(is_told(refusals.look(vec![tccc(1)], repeat, start)));
        assert_eq!(refusals.look(vec![tccc(2)], repeat, start + MINUTE / 2), None);
        assert!(is_told(refusals.look(vec![tccc(2)], repeat, start + MINUTE)));
    }

    #[test]
    fn a_letter_says_how_many_from_where_why_and_what_to_do() {
        let (subject, text) =
            letter(&News::Refused(vec![stranger(Verdict::Network, "198.51.100.0/24", 2), tccc(17)]));
        assert_eq!(subject, "19 request(s) refused at the door since 2026-11-22 11:22:57 UTC");
        let first = "17 × wrong_proof from 203.0.113.0/24 since 2026-11-22 11:22:57 UTC; the last 2026-11-22 11:22:57 UTC from 203.0.113.0";
        assert!(text.contains(first) && text.contains("2 × network from 198.51.100.0/24"), "{text}");
        assert!(text.contains("cdr-gateway check --client 198.51.100.0") && text.contains("ingress.verify"));
        let by_rate = letter(&News::Refused(vec![stranger(Verdict::ClientRequests, "203.0.113.0/24", 5)])).1;
        assert!(by_rate.contains("requests_per_second_per_client") && !by_rate.contains("ingress.verify"));
        let by_tls = letter(&News::Refused(vec![stranger(Verdict::Tls, "203.0.113.0/24", 5)])).1;
        assert!(by_tls.contains("ingress.tls") && !by_tls.contains("ingress.verify"), "{by_tls}");
        let many = (0..30).map(|n| stranger(Verdict::NoProof, &format!("198.51.{n}.0/24"), 1)).collect();
        assert!(letter(&News::Refused(many)).1.contains("and from 20 other(s)"));
        let (subject, text) = letter(&News::Over(vec![Stranger { quiet_for: 10 * MINUTE, ..tccc(3) }]));
        assert_eq!(subject, "no request is refused any more");
        assert!(text.contains("No push has arrived from there"), "{text}");
    }
}
