//! Calls side by side in plain text.

use unicode_width::UnicodeWidthStr;

use super::{Style, call::CallView};

/// A line for each call under a line of names.
pub(super) fn of(calls: &[CallView], style: &Style) -> String {
    let header = ["Session", "Status", "Began", "Caller", "Callee", "Skill group", "Position"];
    let rows = calls.iter().map(|call| call.row(style.say("replay"))).collect();
    aligned(header.map(|name| style.say(name).to_owned()), rows)
}

/// Columns side by side. Widths are those of a terminal, where a Chinese character takes two places.
fn aligned<const N: usize>(header: [String; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += cell;
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_stand_under_each_other_in_any_script() {
        let rows = [["售后", "1"], ["sales", "2"]].map(|row| row.map(str::to_owned));
        let text = aligned(["Group", "No"].map(str::to_owned), rows.to_vec());
        assert_eq!(text, "Group  No\n售后   1\nsales  2\n");
    }
}
