//! What is signed, as a template: `{timestamp}.{body}`.

use http::HeaderName;

/// A part of what is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Text(String),
    /// With it, the hash is taken of the key and the rest one after the other; without it, it is an HMAC.
    Key,
    /// As it was sent.
    Timestamp,
    /// As it was sent.
    Body,
    Header(HeaderName),
}

/// The pieces in their order.
///
/// # Errors
/// What is between braces and no piece, or a brace without its other one.
pub(super) fn parse(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("\"{{{after}\" has no closing brace"))?;
        pieces.extend(fixed(text)?);
        pieces.push(piece(name)?);
        rest = after;
    }
    pieces.extend(fixed(rest)?);
    Ok(pieces)
}

fn fixed(text: &str) -> Result<Option<Piece>, String> {
    match text.contains('}') {
        true => Err(format!("\"{text}\" has a closing brace without an opening one")),
        false => Ok((!text.is_empty()).then(|| Piece::Text(text.to_owned()))),
    }
}

fn piece(name: &str) -> Result<Piece, String> {
    match name {
        "key" => Ok(Piece::Key),
        "timestamp" => Ok(Piece::Timestamp),
        "body" => Ok(Piece::Body),
        _ => name.strip_prefix("header:").and_then(|name| name.parse().ok()).map(Piece::Header).ok_or_else(
            || {
                format!(
                    "unknown \"{{{name}}}\"; there are {{body}}, {{timestamp}}, {{key}} and {{header:NAME}}"
                )
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_is_its_pieces_in_order() {
        let pieces = parse("v0:{timestamp}:{header:X-Id}{key}{body}").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        let id = Piece::Header(HeaderName::from_static("x-id"));
        assert_eq!(pieces, [text("v0:"), Piece::Timestamp, text(":"), id, Piece::Key, Piece::Body]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_piece_is_told() {
        assert!(parse("{bdy}").unwrap_err().contains("unknown \"{bdy}\""));
        assert!(parse("{header:}").unwrap_err().contains("there are {body}"));
        assert!(parse("{header:a b}").is_err());
        assert!(parse("{body").unwrap_err().contains("no closing brace"));
        assert!(parse("body}").unwrap_err().contains("without an opening one"));
    }

    proptest! {
        #[test]
        fn no_template_makes_it_panic(template in "[{}a-z:电]{0,20}") {
            let _ = parse(&template);
        }
    }
}
