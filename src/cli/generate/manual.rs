//! The manual of the configuration, `config/wsgate.toml`, taken apart: its introduction, its tables, and the options of
//! each with their text.

/// What stands in a comment of the manual, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'t> {
    /// The lines of a paragraph.
    Paragraph(Vec<&'t str>),
    /// The lines of a point of a list that begins with "- ".
    Bullet(Vec<&'t str>),
    /// What is explained in two columns: the left one, and the lines of the right one.
    Term(&'t str, Vec<&'t str>),
    /// Lines that stay as they are: an example.
    Code(Vec<&'t str>),
}

/// An option, or a few that share their text.
#[derive(Debug, PartialEq)]
pub(super) struct Entry<'t> {
    pub(super) keys: Vec<Key<'t>>,
    pub(super) text: Vec<Piece<'t>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key<'t> {
    pub(super) name: &'t str,
    /// As it is written in TOML; `None` if nothing is set unless it is written.
    pub(super) default: Option<&'t str>,
}

/// A table with its options.
#[derive(Debug, PartialEq)]
pub(super) struct Table<'t> {
    /// With its brackets.
    pub(super) heading: &'t str,
    pub(super) text: Vec<Piece<'t>>,
    pub(super) entries: Vec<Entry<'t>>,
}

/// The whole manual.
#[derive(Debug, PartialEq)]
pub(super) struct Manual<'t> {
    pub(super) introduction: Vec<Piece<'t>>,
    pub(super) tables: Vec<Table<'t>>,
}

/// Takes the manual apart. Blank lines separate its blocks: a block with the head of a table begins a table, one with a
/// key is an option. Any other block goes on with the text before it.
pub(super) fn parse(text: &str) -> Manual<'_> {
    let mut manual = Manual { introduction: Vec::new(), tables: Vec::new() };
    let lines: Vec<&str> = text.lines().collect();
    for block in lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()) {
        let (text, defaults) = pieces(block);
        let keys = keys(&text, &defaults);
        match (block.iter().find_map(|line| heading(line)), manual.tables.last_mut()) {
            (Some(heading), _) => manual.tables.push(Table { heading, text, entries: Vec::new() }),
            (None, None) => manual.introduction.extend(text),
            (None, Some(table)) if !keys.is_empty() => table.entries.push(Entry { keys, text }),
            (None, Some(table)) => {
                table.entries.last_mut().map_or(&mut table.text, |entry| &mut entry.text).extend(text);
            }
        }
    }
    manual
}

/// The options that a block is about: those with a default, and those of its first example. What a later example sets
/// belongs to one of them.
fn keys<'t>(text: &[Piece<'t>], defaults: &[Key<'t>]) -> Vec<Key<'t>> {
    let mut keys = defaults.to_vec();
    let example = text.iter().find_map(|piece| match piece {
        Piece::Code(lines) if lines.iter().any(|line| key(line).is_some()) => Some(lines),
        _ => None,
    });
    for name in example.into_iter().flatten().filter_map(|line| key(line)) {
        if keys.iter().all(|key| key.name != name) {
            keys.push(Key { name, default: None });
        }
    }
    keys
}

/// The head of a table, also of one that is commented out.
fn heading(line: &str) -> Option<&str> {
    let line = line.strip_prefix('#').unwrap_or(line);
    (line.starts_with('[') && line.ends_with(']')).then_some(line)
}

/// `#key = value` and `key = value`: what is in force, or would be.
fn option(line: &str) -> Option<Key<'_>> {
    let line = line.strip_prefix('#').unwrap_or(line);
    Some(Key { name: key(line)?, default: Some(line.split_once(" = ")?.1) })
}

/// The key of `key = value`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(key)
}

/// What the lines of a block say, and its options with their defaults.
fn pieces<'t>(block: &[&'t str]) -> (Vec<Piece<'t>>, Vec<Key<'t>>) {
    let (mut pieces, mut defaults) = (Vec::new(), Vec::new());
    // How many brackets the example of several lines has open.
    let mut open = 0;
    let mut is_new = true;
    for line in block.iter().filter(|line| heading(line).is_none()) {
        if let Some(option) = option(line) {
            defaults.push(option);
            continue;
        }
        let text = line.strip_prefix("# ").unwrap_or(line.trim_start_matches('#'));
        let is_code = open > 0 || key(text).is_some();
        if is_code {
            open += brackets(text);
        }
        add(&mut pieces, text, is_code, is_new);
        is_new = text.is_empty();
    }
    (pieces, defaults)
}

/// How many more brackets a line opens than it closes.
fn brackets(line: &str) -> isize {
    line.chars().map(|c| isize::from("[{".contains(c)) - isize::from("]}".contains(c))).sum()
}

/// Adds a line to the piece that it belongs to, or begins one with it.
fn add<'t>(pieces: &mut Vec<Piece<'t>>, line: &'t str, is_code: bool, is_new: bool) {
    let indent = line.len() - line.trim_start().len();
    let text = line.trim_start();
    let last = if is_new { None } else { pieces.last_mut() };
    match last {
        _ if text.is_empty() => {}
        Some(Piece::Code(lines)) if is_code => lines.push(line),
        _ if is_code => pieces.push(Piece::Code(vec![line])),
        Some(Piece::Bullet(lines)) if indent > 0 => lines.push(text),
        Some(Piece::Term(_, lines)) if indent > INDENT => lines.push(text),
        _ if text.starts_with("- ") && indent == 0 => pieces.push(Piece::Bullet(vec![&text[2..]])),
        last => match (columns(text).filter(|_| indent == INDENT), last) {
            (Some((term, text)), _) => pieces.push(Piece::Term(term, vec![text])),
            (None, Some(Piece::Code(lines))) if indent > 0 => lines.push(line),
            (None, _) if indent > 0 => pieces.push(Piece::Code(vec![line])),
            (None, Some(Piece::Paragraph(lines))) => lines.push(text),
            (None, _) => pieces.push(Piece::Paragraph(vec![text])),
        },
    }
}

/// By how much the left one of two columns is indented.
const INDENT: usize = 2;

/// The two columns of a line, which have two blanks or more between them.
fn columns(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once("  ")?;
    Some((left, right.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "\
# The manual.
#
#   wsgate check     reports mistakes
#
# - Durations are strings,
#   such as \"5s\".

# The whole process.
[gateway]

# A name
# of its own.
# name = \"plant-1\"

# How many. One of:
#   \"few\"     not many
#             at all
#   \"many\"    more
# The rest waits.
# many = [
#   { at = 1 },
# ]
#most = { first = 1 }

# A table that is commented out.
#[[link]]

# It goes on.
";

    #[test]
    fn the_manual_is_taken_apart() {
        use Piece::{Bullet, Code, Paragraph, Term};

        let manual = parse(SMALL);
        let introduction = [
            Paragraph(vec!["The manual."]),
            Term("wsgate check", vec!["reports mistakes"]),
            Bullet(vec!["Durations are strings,", "such as \"5s\"."]),
        ];
        assert_eq!(manual.introduction, introduction);
        let [gateway, link] = &manual.tables[..] else { panic!("{:?}", manual.tables) };
        assert_eq!((gateway.heading, &gateway.text[..]), ("[gateway]", &[Paragraph(vec!["The whole process."])][..]));
        let name = vec![Paragraph(vec!["A name", "of its own."]), Code(vec!["name = \"plant-1\""])];
        assert_eq!(gateway.entries[0], Entry { keys: vec![Key { name: "name", default: None }], text: name });
        let many = vec![
            Paragraph(vec!["How many. One of:"]),
            Term("\"few\"", vec!["not many", "at all"]),
            Term("\"many\"", vec!["more"]),
            Paragraph(vec!["The rest waits."]),
            Code(vec!["many = [", "  { at = 1 },", "]"]),
        ];
        let keys = vec![Key { name: "most", default: Some("{ first = 1 }") }, Key { name: "many", default: None }];
        assert_eq!(gateway.entries[1], Entry { keys, text: many });
        assert_eq!(link.heading, "[[link]]");
        assert_eq!(link.text, [Paragraph(vec!["A table that is commented out."]), Paragraph(vec!["It goes on."])]);
    }

    #[test]
    fn no_word_of_the_manual_is_lost() {
        fn words(text: &str) -> Vec<&str> {
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect()
        }
        let manual = parse(super::super::MANUAL);
        let mut left = words(super::super::MANUAL);
        let mut remove = |text: &str| {
            for word in words(text) {
                let at =
                    left.iter().position(|other| *other == word).unwrap_or_else(|| panic!("{word} is twice there"));
                left.remove(at);
            }
        };
        let mut remove_pieces = |pieces: &[Piece]| {
            for piece in pieces {
                match piece {
                    Piece::Paragraph(lines) | Piece::Bullet(lines) | Piece::Code(lines) => remove(&lines.join(" ")),
                    Piece::Term(term, lines) => remove(&[&[*term], &lines[..]].concat().join(" ")),
                }
            }
        };
        remove_pieces(&manual.introduction);
        for table in &manual.tables {
            remove_pieces(&[Piece::Code(vec![table.heading])]);
            remove_pieces(&table.text);
            for entry in &table.entries {
                remove_pieces(&entry.text);
                for Key { name, default } in &entry.keys {
                    if let Some(default) = default {
                        remove_pieces(&[Piece::Code(vec![name, default])]);
                    }
                }
            }
        }
        assert!(left.is_empty(), "{left:?}");
    }
}
