//! The OpenAPI document of the admin listener.

use std::borrow::Cow;

use crate::admin::asked::Asked;
use crate::http::answer::Answer;

/// It is also the reference of the API in the documentation.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// `GET /api/v1/openapi.json`.
pub fn document(_: &Asked<'_>) -> Result<Answer, Answer> {
    let body = Cow::Borrowed(DOCUMENT.as_bytes());
    Ok(Answer { status: 200, content_type: "application/json", fields: Vec::new(), body })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::admin::routes::ROUTES;

    #[test]
    fn the_document_and_the_table_of_routes_are_of_the_same() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
                let query: BTreeSet<String> = query.map(|own| own["name"].as_str().unwrap().to_owned()).collect();
                let description = operation["description"].as_str().unwrap();
                let right = description.split("Takes the right `").nth(1).map(|rest| rest.split('`').next().unwrap());
                assert_eq!(right.is_none(), operation["security"] == Value::Array(Vec::new()), "{method} {path}");
                documented.insert((method.to_uppercase(), path.clone(), right.map(str::to_owned), query));
            }
        }
        // A document of this kind cannot say what comes over a WebSocket, and the page is no part of the API.
        let is_page = |path: &str| path == "/" || path.starts_with("/page") || path.starts_with("/uplot");
        let described = ROUTES.iter().filter(|route| route.watch.is_none() && !is_page(route.path));
        let routes = described.map(|route| {
            let query = route.query.iter().map(|name| (*name).to_owned()).collect();
            (route.method.to_owned(), route.path.to_owned(), route.right.map(|right| right.word().to_owned()), query)
        });
        assert_eq!(documented, routes.collect());
    }
}
