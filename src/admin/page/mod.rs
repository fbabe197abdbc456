//! The page: its files, as they are in this directory, and how a browser may use them. They say nothing of the gateway, so
//! everybody gets them; what the page shows it has to ask for.

use crate::admin::asked::Asked;
use crate::http::answer::Answer;

/// A file of the page.
#[derive(Debug)]
struct File {
    /// Where it is served.
    path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const fn script(path: &'static str, content: &'static [u8]) -> File {
    File { path, content_type: SCRIPT, content }
}

const fn style(path: &'static str, content: &'static [u8]) -> File {
    File { path, content_type: STYLE, content }
}

static FILES: &[File] = &[
    File { path: "/", content_type: HTML, content: include_bytes!("index.html") },
    style("/page.css", include_bytes!("page.css")),
    File { path: "/page/icon.svg", content_type: "image/svg+xml", content: include_bytes!("icon.svg") },
    script("/page/main.js", include_bytes!("main.js")),
    script("/page/api.js", include_bytes!("api.js")),
    script("/page/charts.js", include_bytes!("charts.js")),
    script("/page/clients.js", include_bytes!("clients.js")),
    script("/page/dom.js", include_bytes!("dom.js")),
    script("/page/format.js", include_bytes!("format.js")),
    script("/page/overview.js", include_bytes!("overview.js")),
    script("/page/send.js", include_bytes!("send.js")),
    script("/page/tail.js", include_bytes!("tail.js")),
    // uPlot 1.6.32, https://github.com/leeoniya/uPlot, MIT: see uplot.LICENSE beside it.
    script("/uplot.js", include_bytes!("uplot.js")),
    style("/uplot.css", include_bytes!("uplot.css")),
];

/// Nothing from elsewhere, nothing inline, no form that a browser sends by itself, and no frame around the page: a script
/// that a client has put into what is shown would not run, and could call nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /` and the files that it names.
pub fn file(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let file = FILES.iter().find(|file| file.path == asked.path);
    let file = file.ok_or_else(|| Answer::error(404, "notFound", "there is nothing at this path"))?;
    let tag = tag(file.content);
    let is_known = asked.if_none_match.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let answer = match is_known {
        true => Answer { status: 304, ..Answer::nothing() },
        false => Answer::bytes(file.content_type, file.content),
    };
    Ok(answer
        // It is asked for again each time, so a page is never of two versions.
        .with_field("Cache-Control", "no-cache")
        .with_field("ETag", tag)
        .with_field("Content-Security-Policy", POLICY)
        .with_field("Referrer-Policy", "no-referrer")
        .with_field("X-Frame-Options", "DENY")
        .with_field("Cross-Origin-Opener-Policy", "same-origin")
        .with_field("Cross-Origin-Resource-Policy", "same-origin"))
}

/// What stands for this content in ETag.
fn tag(content: &[u8]) -> String {
    // FNV-1a.
    let hash = content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{:x}-{hash:016x}\"", content.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::routes::{Found, find};

    #[test]
    fn each_file_has_a_route_and_a_place_that_names_it() {
        let text = |file: &File| String::from_utf8(file.content.to_vec()).unwrap();
        for file in FILES {
            assert!(matches!(find("GET", file.path), Found::Route(..)), "{}", file.path);
            let name = file.path.rsplit('/').next().unwrap();
            let is_named = FILES.iter().any(|other| text(other).contains(name));
            assert!(file.path == "/" || is_named, "{} is not used", file.path);
        }
        let html = text(&FILES[0]);
        assert!(!html.contains("style=") && !html.contains("<style") && !html.contains(" on"), "something is inline");
    }

    #[test]
    fn contents_have_different_tags() {
        assert_ne!(tag(b"a"), tag(b"b"));
        assert_eq!(tag(b""), "\"0-cbf29ce484222325\"");
    }
}
