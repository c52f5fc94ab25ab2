//! What a command says: lines to stdout, and errors with their causes.

use std::{
    fmt,
    io::{ErrorKind, Write as _},
    process,
};

/// A line to stdout, at once. When the reader has gone, as after `| head`, the command is over and that is no
/// error; `println!` would panic.
pub fn line(text: fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("cdr-gateway: cannot write to stdout: {error}");
            process::exit(1);
        }
    }
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
