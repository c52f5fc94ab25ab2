//! Moments as people write them.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// Reads `2h` (ago), a day such as `2026-11-22` (its beginning, in the configuration's time zone), a local time such as
/// `2026-11-22T08:00`, or a time such as `2026-11-22T08:00:00+08:00`.
///
/// # Errors
/// What is expected.
pub fn moment(text: &str, now: Timestamp, timezone: &TimeZone) -> Result<Timestamp, String> {
    let local = |time: civil::DateTime| time.to_zoned(timezone.clone()).ok().map(|zoned| zoned.timestamp());
    let ago = |text: &str| {
        let ago = SignedDuration::try_from(humantime::parse_duration(text).ok()?).ok()?;
        now.checked_sub(ago).ok()
    };
    let day = |text: &str| local(text.parse::<civil::Date>().ok()?.to_datetime(civil::Time::midnight()));
    // A date alone is also a time of day to jiff, and a time with an offset also one without.
    let read = match text.len() {
        ..=10 => day(text).or_else(|| ago(text)),
        _ => text.parse().ok().or_else(|| local(text.parse().ok()?)).or_else(|| ago(text)),
    };
    read.ok_or_else(|| {
        format!(
            "{text:?} is no time; expected a duration such as 2h for two hours ago, a day such as 2026-11-22, or a time such as 2026-11-22T08:00:00+08:00"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
        for (text, expected) in [
            ("2h", "2026-11-22T08:00:00Z"),
            ("1h 30m", "2026-11-22T08:30:00Z"),
            ("7d", "2026-11-15T10:00:00Z"),
            ("2026-11-22", "2026-11-21T16:00:00Z"),
            ("2026-11-22T08:00", "2026-11-22T00:00:00Z"),
            ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"),
            ("2026-11-22T08:00:00.5+01:00", "2026-11-22T07:00:00.5Z"),
        ] {
            assert_eq!(moment(text, now, &shanghai), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "yesterday", "-2h", "2026-13-01", "9999999999d", "2026-11-22T25:00"] {
            assert!(moment(text, now, &shanghai).unwrap_err().contains("is no time"), "{text}");
        }
    }
}
