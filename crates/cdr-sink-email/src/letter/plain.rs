//! Text from outside, made fit for a mail.
//!
//! Whoever calls the centre can choose much of what a push says. Nothing of it may begin a line of its own, turn
//! the reading direction, or run as a command when an operator pastes it.

/// At most `max` characters of `text` on one line; what was left out is shown as `…`.
///
/// Line ends, controls and marks that turn the reading direction become spaces, runs of them a single one.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control() || turns_direction(c));
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(max) {
        None => line,
        Some(_) => line.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The marks of the Unicode bidirectional algorithm, and the byte order mark. Joiners stay: emoji need them.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// `word` as one argument of a POSIX shell that no option is mistaken for; none when it cannot be shown as it is.
pub(crate) fn shell_argument(word: &str) -> Option<String> {
    if word.is_empty() || one_line(word, 200) != word {
        return None;
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@' | '/');
    match word.chars().all(harmless) && !word.starts_with('-') {
        true => Some(word.to_owned()),
        false => Some(format!("-- '{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_says_that_it_was_cut() {
        assert_eq!(one_line("售后服务组", 5), "售后服务组");
        assert_eq!(one_line("售后服务组", 4), "售后服…");
        assert_eq!(one_line("", 4), "");
    }

    #[test]
    fn a_command_takes_any_session_as_one_argument() {
        assert_eq!(shell_argument("e97be0ab-1").as_deref(), Some("e97be0ab-1"));
        assert_eq!(shell_argument("$(reboot)").as_deref(), Some("-- '$(reboot)'"));
        assert_eq!(shell_argument("a'; reboot; '").as_deref(), Some(r"-- 'a'\''; reboot; '\'''"));
        assert_eq!(shell_argument("--config=x").as_deref(), Some("-- '--config=x'"));
        assert_eq!(shell_argument("two\nlines"), None);
    }
}
