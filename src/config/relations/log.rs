//! `[log]` and the endpoints whose paths have a level there.

use crate::config::log_words::unknown_path;
use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::settings::EndpointSettings;

/// Reports paths that no endpoint has.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    // The path of an endpoint that is wrong itself is not known.
    if raw.endpoints.iter().any(|endpoint| endpoint.pattern.is_none()) {
        return;
    }
    let default = EndpointSettings::default().path;
    let written: Vec<_> = raw.endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref()).collect();
    let paths: Vec<&str> = match written.is_empty() {
        true => vec![default.as_str()],
        false => written.iter().map(|pattern| pattern.as_str()).collect(),
    };
    for (at, path) in raw.log.paths.iter().filter(|(_, path)| !paths.contains(&&**path)) {
        report.mistake(*at, format!("{path:?} in levels of [log] {}", unknown_path(path, &paths)));
    }
}
