//! When a changed option takes effect at a reload. The manual says the same of each option.

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// At once, for all who are there.
    AtOnce,
    /// For connections and requests that begin from then on.
    NewConnections,
    /// At the next start.
    Restart,
}

/// The options that do not take effect at once, by their tables; a star is every option that is not named before.
const MARKS: [(&str, &[&str], TakesEffect); 7] = [
    ("[gateway]", &["memory", "close_timeout", "drain_timeout"], TakesEffect::AtOnce),
    (
        "[gateway]",
        &[
            "max_connections",
            "max_address_connections",
            "address_rate",
            "failed_credentials",
            "max_handshakes",
            "handshake_timeout",
        ],
        TakesEffect::NewConnections,
    ),
    ("[gateway]", &["*"], TakesEffect::Restart),
    (
        "[[listen]]",
        &["hosts", "health", "tls", "more", "client_ca", "client_certificate", "crl"],
        TakesEffect::NewConnections,
    ),
    (
        "[[endpoint]]",
        &[
            "welcome",
            "subprotocols",
            "ack",
            "max_connections",
            "max_room_connections",
            "at_capacity",
            "max_identity_connections",
            "when_identity_full",
            "origins",
            "refuse",
        ],
        TakesEffect::NewConnections,
    ),
    (
        "[endpoint.relay]",
        &["url", "headers", "forward_headers", "forward_query", "connect_timeout", "proxy", "origin", "tls"],
        TakesEffect::NewConnections,
    ),
    ("[admin]", &["hosts", "tls"], TakesEffect::NewConnections),
];

/// Those of which only what begins later notices something.
const LATER: [(&str, &[&str]); 2] = [
    ("[[link]]", &["open_messages"]),
    (
        "[[auth]]",
        &[
            "authorization",
            "cookie",
            "query",
            "subprotocol",
            "algorithm",
            "issuer",
            "audience",
            "leeway",
            "identity_from",
            "claims",
            "refresh_interval",
            "stale_for",
            "url",
            "forward_headers",
            "max_requests",
            "cache_for",
            "answer_timeout",
            "headers",
            "proxy",
            "tls",
        ],
    ),
];

/// When a changed option of a table takes effect: `[gateway]`, `[[endpoint]]`, `[endpoint.relay]`.
pub fn takes_effect(table: &str, option: &str) -> TakesEffect {
    let later = LATER.iter().map(|(table, options)| (*table, *options, TakesEffect::NewConnections));
    let mut marks = MARKS.into_iter().chain(later);
    let fits = |(of, options, _): &(&str, &[&str], _)| *of == table && (options.contains(&option) || options == &["*"]);
    marks.find(fits).map_or(TakesEffect::AtOnce, |(_, _, effect)| effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of the manual, each with its table and the mark behind its explanation.
    fn of_manual(manual: &str) -> Vec<(String, String, Option<TakesEffect>)> {
        let (mut table, mut mark, mut options) = (String::new(), None, Vec::new());
        for line in manual.lines() {
            let text = line.trim_start_matches('#');
            let name = text.trim_start().split(' ').next().unwrap();
            if line.is_empty() {
                mark = None;
            } else if text.starts_with('[') && text.ends_with(']') {
                table = text.to_owned();
            } else if text.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(" = "))
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                options.push((table.clone(), name.to_owned(), mark));
            }
            for (word, effect) in [
                ("[at once]", TakesEffect::AtOnce),
                ("[new connections]", TakesEffect::NewConnections),
                ("[restart]", TakesEffect::Restart),
            ] {
                mark = if line.starts_with("# ") && line.ends_with(word) { Some(effect) } else { mark };
            }
        }
        options
    }

    #[test]
    fn the_manual_says_of_each_option_when_it_takes_effect() {
        let options = of_manual(include_str!("../../config/wsgate.toml"));
        assert!(options.len() > 120, "{} options", options.len());
        for (table, option, mark) in options {
            assert_eq!(mark, Some(takes_effect(&table, &option)), "{option} of {table}");
        }
    }
}
