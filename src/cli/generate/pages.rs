//! The man pages of the commands, as they describe themselves, and the one of the configuration.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::manual::{Manual, Piece};

/// What stands in the middle of the head of each page.
const BOOK: &str = "wsgate";

/// The page of a command.
pub(super) struct Page {
    /// With its section: `wsgate-serve.1`.
    pub(super) file: String,
    pub(super) text: Vec<u8>,
}

/// The pages of this command and of all below it. It must be built.
pub(super) fn of_commands(command: &Command) -> Vec<Page> {
    let mut pages = vec![of_command(command)];
    for below in command.get_subcommands() {
        pages.extend(of_commands(below));
    }
    pages
}

fn of_command(command: &Command) -> Page {
    let man = Man::new(command.clone()).manual(BOOK).source(source());
    let mut text = Vec::new();
    let mut write = || {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        let mut rest = Roff::new();
        if let Some(after) = command.get_after_help() {
            sections(&mut rest, &after.to_string());
        }
        let is_top = command.get_display_name().is_none_or(|name| name == command.get_name());
        if is_top {
            files(&mut rest);
        }
        see_also(&mut rest, if is_top { &["wsgate.toml(5)"] } else { &["wsgate(1)", "wsgate.toml(5)"] });
        rest.to_writer(&mut text)
    };
    write().expect("a Vec takes all that is written");
    Page { file: man.get_filename(), text }
}

fn source() -> String {
    format!("wsgate {}", env!("CARGO_PKG_VERSION"))
}

/// The text behind a command's options as sections. A paragraph is one of its own if its first line ends with ":" and
/// the others are indented; these stay as they are. The others are notes.
fn sections(roff: &mut Roff, text: &str) {
    let mut is_in_notes = false;
    for paragraph in text.split("\n\n") {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let heading = first.strip_suffix(':').filter(|_| !rest.is_empty() && rest.lines().all(|l| l.starts_with(' ')));
        match heading {
            Some(heading) => {
                // "Exit codes (after sysexits.h)" is a heading and a remark.
                let (heading, remark) = heading.split_once(" (").unwrap_or((heading, ""));
                roff.control("SH", [&*heading.to_uppercase()]);
                if let Some(remark) = remark.strip_suffix(')') {
                    roff.text([roman(remark)]).control("PP", []);
                }
                verbatim(roff, rest.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)));
            }
            None => {
                roff.control(
                    if is_in_notes { "PP" } else { "SH" },
                    if is_in_notes { &[][..] } else { &["NOTES"] }.iter().copied(),
                );
                paragraph.lines().for_each(|line| {
                    roff.text([roman(line)]);
                });
            }
        }
        is_in_notes = heading.is_none();
    }
}

fn verbatim<'t>(roff: &mut Roff, lines: impl IntoIterator<Item = &'t str>) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// Where the package has put what the commands read.
fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (file, what) in [
        ("/etc/wsgate/wsgate.toml", "The configuration of the service. Files with secrets belong beside it."),
        ("/usr/share/doc/wsgate/wsgate.toml", "Every option with its default, as a file to copy from."),
    ] {
        roff.control("TP", []).text([italic(file)]).text([roman(what)]);
    }
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
}

/// The page `wsgate.toml(5)`, from the manual of the configuration.
pub(super) fn of_configuration(manual: &Manual<'_>) -> Page {
    let mut roff = Roff::new();
    roff.control("TH", ["wsgate.toml", "5", "", &*source(), BOOK]);
    // A word that is broken at the end of a line would be a wrong one for whoever copies it.
    roff.control("nh", []).control("ad", ["l"]);
    roff.control("SH", ["NAME"]).text([roman("wsgate.toml - the configuration of wsgate")]);
    roff.control("SH", ["DESCRIPTION"]);
    for line in [
        "This page has the text of /usr/share/doc/wsgate/wsgate.toml, which is config/wsgate.toml in the source.",
        "\"This file\" is that one; documents that it names, such as docs/tls.md, are beside it.",
        "Where a value stands beside the name of an option here, it is the default.",
    ] {
        roff.text([roman(line)]);
    }
    pieces(&mut roff, &manual.introduction, Place::Section);
    for table in &manual.tables {
        roff.control("SH", [table.heading]);
        pieces(&mut roff, &table.text, Place::Section);
        for entry in &table.entries {
            for (number, key) in entry.keys.iter().enumerate() {
                let mut head = vec![bold(key.name)];
                head.extend(key.default.map(|value| roman(format!(" = {value}"))));
                // All but the first stand beside it.
                roff.control(if number == 0 { "TP" } else { "TQ" }, []).text(head);
            }
            pieces(&mut roff, &entry.text, Place::Entry);
        }
    }
    see_also(&mut roff, &["wsgate(1)", "wsgate-check(1)", "wsgate-serve(1)"]);
    Page { file: "wsgate.toml.5".to_owned(), text: roff.render().into_bytes() }
}

/// Where a text stands, which says how it is indented.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Section,
    /// Behind the name of an option, whose first paragraph needs no macro.
    Entry,
}

fn pieces(roff: &mut Roff, pieces: &[Piece<'_>], place: Place) {
    let paragraph = if place == Place::Entry { "IP" } else { "PP" };
    for (number, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Paragraph(lines) => {
                if place == Place::Section || number > 0 {
                    roff.control(paragraph, []);
                }
                text(roff, lines);
            }
            Piece::Bullet(lines) => {
                roff.control("IP", ["\\(bu", "2"]);
                text(roff, lines);
            }
            Piece::Term(term, lines) => {
                roff.control("RS", []).control("TP", []).text([bold(*term)]);
                text(roff, lines);
                roff.control("RE", []);
            }
            Piece::Code(lines) => {
                roff.control(paragraph, []);
                verbatim(roff, lines.iter().copied());
            }
        }
    }
}

fn text(roff: &mut Roff, lines: &[&str]) {
    for line in lines {
        roff.text([roman(*line)]);
    }
}
