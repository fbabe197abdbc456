//! `[log]` and the endpoints whose paths have a level there.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::section::nearest;
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
        let advice = match nearest(path, paths.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write the path of an [[endpoint]] as it stands there".to_owned(),
        };
        report.mistake(*at, format!("{path:?} in levels of [log] is the path of no endpoint: {advice}"));
    }
}
