//! What links, relays and `[[auth]]`s dial.

use crate::config::mistake::Report;
use crate::config::raw::dial::RawDial;

/// The options of a table that dials, which messages call `table`.
pub(super) fn check(table: &str, dial: &RawDial, report: &Report<'_>) {
    let tls = &dial.settings.tls;
    if let (Some(at), Some(url)) = (dial.tls_at, dial.url())
        && !url.secure
    {
        let [plain, secure] = [false, true].map(|secure| url.protocol.scheme(secure));
        let advice = format!("remove it, or write {secure}://");
        report.mistake(at, format!("\"tls\" in {table} has no meaning for a {plain}:// URL: {advice}"));
    }
    if !tls.verify {
        let unused = [("ca", dial.ca_at), ("server_name", dial.server_name_at)];
        for (key, at) in unused.into_iter().filter_map(|(key, at)| Some((key, at?))) {
            let advice = "remove one of them";
            report.mistake(at, format!("{key:?} in tls of {table} has no meaning with verify = false: {advice}"));
        }
    }
    let header = |name: &str| dial.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let (Some(header), Some(_)) = (header("authorization"), dial.url().and_then(|url| url.user.as_ref())) {
        report.mistake(
            header.at,
            format!(
                "{:?} in headers of {table} is already sent for the user in the URL: remove one of the two",
                header.name
            ),
        );
    }
    if let (Some(header), Some(_)) = (header("origin"), dial.origin_at) {
        let advice = "remove one of the two";
        report.mistake(
            header.at,
            format!("{:?} in headers of {table} is already set by \"origin\": {advice}", header.name),
        );
    }
}
