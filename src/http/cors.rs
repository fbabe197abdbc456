//! What an answer says to a page of another origin that may post (the CORS protocol of the Fetch standard): without it a
//! browser keeps the answer from the page's script, and asks before it sends most requests.

use super::token::is_token;

/// How long a browser may keep what it was told, in seconds.
const KEPT: &str = "600";

/// The fields of each answer to a request with this Origin, which may come. `is_any` says that every page may: then none
/// of them may use what the browser knows of its user.
pub fn fields(origin: &str, is_any: bool) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Access-Control-Expose-Headers", "Retry-After".to_owned())];
    if is_any {
        fields.push(("Access-Control-Allow-Origin", "*".to_owned()));
    } else {
        fields.push(("Access-Control-Allow-Origin", origin.to_owned()));
        fields.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        fields.push(("Vary", "Origin".to_owned()));
    }
    fields
}

/// The further fields of the answer to a browser that asks before it posts with headers of these names.
pub fn preflight(names: &str) -> Vec<(&'static str, String)> {
    let names: Vec<_> = names.split(',').map(str::trim).filter(|name| is_token(name)).collect();
    let mut fields =
        vec![("Access-Control-Allow-Methods", "POST".to_owned()), ("Access-Control-Max-Age", KEPT.to_owned())];
    if !names.is_empty() {
        // Its origin is trusted with what it sends, whatever it calls it.
        fields.push(("Access-Control-Allow-Headers", names.join(", ")));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'f>(fields: &'f [(&'static str, String)], name: &str) -> Option<&'f str> {
        fields.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_origin_that_is_listed_may_use_its_users_cookies_and_any_other_may_not() {
        let listed = fields("https://dash.example", false);
        assert_eq!(value(&listed, "Access-Control-Allow-Origin"), Some("https://dash.example"));
        assert_eq!(value(&listed, "Access-Control-Allow-Credentials"), Some("true"));
        assert_eq!(value(&listed, "Vary"), Some("Origin"));
        let any = fields("https://dash.example", true);
        assert_eq!(value(&any, "Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(value(&any, "Access-Control-Allow-Credentials"), None);
    }

    #[test]
    fn only_names_of_headers_are_allowed_again() {
        let asked = preflight("content-type, x y, authorization,,a\"b");
        assert_eq!(value(&asked, "Access-Control-Allow-Headers"), Some("content-type, authorization"));
        assert_eq!(value(&preflight(""), "Access-Control-Allow-Headers"), None);
    }
}
