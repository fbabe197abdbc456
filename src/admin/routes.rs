//! What can be asked of the admin listener: one table of methods and paths, with the right that each takes and the function
//! that answers.

use crate::admin::asked::Asked;
use crate::admin::watch::Show;
use crate::admin::{clients, document, drain, health, info, levels, links};
use crate::admin::{messages, metrics, page, reload, settings, stores, watch};
use crate::auth::admin::Right;
use crate::http::answer::Answer;

/// Says what a WebSocket shows.
type Showing = fn(&Asked<'_>) -> Result<Show, Answer>;

/// Something that can be asked.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    /// Its path. A segment in braces is a parameter; `{path}` is all the rest.
    pub path: &'static str,
    /// What it takes; `None` is answered to everybody who reaches the listener.
    pub right: Option<Right>,
    /// The parameters that its query may have.
    pub query: &'static [&'static str],
    /// What a WebSocket shows that is opened here.
    pub watch: Option<Showing>,
    /// Answers; an error is an answer too.
    pub run: fn(&Asked<'_>) -> Result<Answer, Answer>,
}

const fn get(path: &'static str, right: Option<Right>, run: fn(&Asked<'_>) -> Result<Answer, Answer>) -> Route {
    Route { method: "GET", path, right, query: &[], watch: None, run }
}

const fn watch(path: &'static str, right: Right, show: Showing) -> Route {
    Route { watch: Some(show), ..get(path, Some(right), watch::needs_upgrade) }
}

const fn act(method: &'static str, path: &'static str, run: fn(&Asked<'_>) -> Result<Answer, Answer>) -> Route {
    Route { method, path, right: Some(Right::Act), query: &[], watch: None, run }
}

/// All of them.
pub static ROUTES: &[Route] = &[
    get("/", None, page::file),
    get("/page.css", None, page::file),
    get("/page/{name}", None, page::file),
    get("/uplot.js", None, page::file),
    get("/uplot.css", None, page::file),
    get("/healthz", None, health::alive),
    get("/readyz", None, health::ready),
    get("/metrics", Some(Right::Read), metrics::metrics),
    get("/api/v1/info", Some(Right::Read), info::info),
    Route { query: clients::QUERY, ..get("/api/v1/clients", Some(Right::Read), clients::list) },
    get("/api/v1/clients/{id}", Some(Right::Read), clients::show),
    Route { query: clients::CLOSE, ..act("DELETE", "/api/v1/clients/{id}", clients::close) },
    act("POST", "/api/v1/clients/{id}/send", messages::send),
    act("POST", "/api/v1/publish/{path}", messages::publish),
    get("/api/v1/links", Some(Right::Read), links::list),
    get("/api/v1/links/{name}", Some(Right::Read), links::show),
    act("POST", "/api/v1/links/{name}/redial", links::redial),
    get("/api/v1/stores", Some(Right::Read), stores::list),
    get("/api/v1/stores/{name}", Some(Right::Read), stores::show),
    get("/api/v1/config", Some(Right::Read), settings::settings),
    act("POST", "/api/v1/reload", reload::reload),
    act("POST", "/api/v1/drain", drain::drain),
    get("/api/v1/log", Some(Right::Read), levels::show),
    act("PUT", "/api/v1/log", levels::ask),
    get("/api/v1/openapi.json", Some(Right::Read), document::document),
    watch("/api/v1/feed", Right::Read, watch::feed),
    Route { query: watch::TAIL_QUERY, ..watch("/api/v1/tail", Right::Tail, watch::tail) },
];

/// What a method and a path lead to.
#[derive(Debug)]
pub enum Found<'a> {
    /// To this route, with these parameters.
    Route(&'static Route, Vec<&'a str>),
    /// To this answer.
    Answer(Answer),
}

/// Finds the route. HEAD is a GET whose answer loses its body on the way out.
pub fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let fitting: Vec<_> = ROUTES.iter().filter_map(|route| Some((route, route.parameters(path)?))).collect();
    if fitting.is_empty() && path != "*" {
        return Found::Answer(Answer::error(404, "notFound", "there is nothing at this path"));
    }
    let asked = if method == "HEAD" { "GET" } else { method };
    let mut methods: Vec<&str> = fitting.iter().map(|(route, _)| route.method).collect();
    if let Some((route, parameters)) = fitting.into_iter().find(|(route, _)| route.method == asked) {
        return Found::Route(route, parameters);
    }
    if methods.is_empty() || methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    let answer = match method {
        "OPTIONS" => Answer::nothing(),
        _ => Answer::error(405, "methodNotAllowed", &format!("this path takes {}", methods.join(", "))),
    };
    Found::Answer(answer.with_field("Allow", methods.join(", ")))
}

impl Route {
    /// Whether this is a path that load balancers ask all the time.
    pub fn is_health(path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz")
    }

    /// The parameters of a path that leads here.
    fn parameters<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let (mut rest, mut parameters) = (path.strip_prefix('/')?, Vec::new());
        let mut segments = self.path[1..].split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment == "{path}" {
                parameters.push(rest);
                return Some(parameters);
            }
            let (part, further) = match rest.split_once('/') {
                Some((part, further)) => (part, Some(further)),
                None => (rest, None),
            };
            match segment.starts_with('{') {
                true if part.is_empty() => return None,
                true => parameters.push(part),
                false if part != segment => return None,
                false => {}
            }
            if further.is_none() != segments.peek().is_none() {
                return None;
            }
            rest = further.unwrap_or_default();
        }
        Some(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_method_lead_to_one_route() {
        let found = |method, path| match find(method, path) {
            Found::Route(route, _) => route.path.to_owned(),
            Found::Answer(answer) => {
                let allow = answer.fields.iter().find(|(name, _)| *name == "Allow");
                format!("{} {}", answer.status, allow.map(|(_, value)| &**value).unwrap_or_default())
            }
        };
        for (method, path, expected) in [
            ("GET", "/healthz", "/healthz"),
            ("HEAD", "/healthz", "/healthz"),
            ("OPTIONS", "/healthz", "204 GET, HEAD, OPTIONS"),
            ("OPTIONS", "*", "204 HEAD, OPTIONS"),
            ("POST", "/healthz", "405 GET, HEAD, OPTIONS"),
            ("GET", "/healthz/", "404 "),
            ("GET", "/", "/"),
            ("GET", "*", "405 HEAD, OPTIONS"),
        ] {
            assert_eq!(found(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn parameters_are_segments_and_the_last_may_be_all_the_rest() {
        let of = |pattern, path| Route { path: pattern, ..get("/", None, health::alive) }.parameters(path);
        assert_eq!(of("/a/{id}/send", "/a/7/send"), Some(vec!["7"]));
        assert_eq!(of("/a/{id}/send", "/a//send"), None);
        assert_eq!(of("/a/{id}", "/a/7/send"), None);
        assert_eq!(of("/a/{id}", "/a/"), None);
        assert_eq!(of("/a/{path}", "/a/b/%2F/"), Some(vec!["b/%2F/"]));
        assert_eq!(of("/a/{path}", "/a/"), Some(vec![""]));
        assert_eq!(of("/a/{path}", "/a"), None);
    }
}
