//! What a command says: lines to stdout, and errors with their causes.

use std::{
    borrow::Cow,
    fmt,
    io::{ErrorKind, Write as _},
    process,
};

/// A line to stdout, at once, with nothing in it that moves a terminal's cursor: senders and receivers choose some of the texts. When the reader has gone, as after `| head`, the command is over and that is no
/// error; `println!` would panic.
pub fn line(text: fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", visible(&text.to_string())).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("cdr-gateway: cannot write to stdout: {error}");
            process::exit(1);
        }
    }
}

/// Control characters, and those that turn the direction of a line, as JSON escapes them: so a line of JSON stays what it is.
fn visible(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| match c {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    };
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_hidden(c) {
            true => visible.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => visible.push(c),
        }
    }
    visible.into()
}

/// An error with its causes, each told once: many of our texts hold their cause already.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_shown_and_json_stays_the_same_json() {
        assert_eq!(visible("a\u{1b}[2J\u{202e}b\u{9b}\u{7f}\tc\n"), "a\\u001b[2J\\u202eb\\u009b\\u007f\tc\n");
        let value = serde_json::json!({ "session": "a\u{1b}\u{202e}\u{9b}\n", "客户": "王" });
        let line = value.to_string();
        assert_ne!(visible(&line), line);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible(&line)).unwrap(), value);
    }
}
