//! A request to a route, once it may be answered.

use std::borrow::Cow;
use std::sync::Arc;

use crate::admin::state::Admin;
use crate::http::answer::Answer;
use crate::path::percent_decoded;
use crate::shared::registry::Client;

/// See the module's documentation.
#[derive(Debug)]
pub struct Asked<'a> {
    pub admin: &'a Admin,
    /// Its path, as it came.
    pub path: &'a str,
    /// What the caller has already, by ETag.
    pub if_none_match: Option<&'a str>,
    /// The parameters of the path, in order, as they came.
    pub parameters: Vec<&'a str>,
    /// Those of the query; the route knows them all.
    pub query: Vec<(String, String)>,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

impl Asked<'_> {
    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The client whose id is the parameter of the path.
    ///
    /// # Errors
    /// 404.
    pub fn client(&self) -> Result<Arc<Client>, Answer> {
        let id = self.parameter(0)?;
        let found = id.parse().ok().and_then(|id| self.admin.shared.registry.find(id));
        found.filter(|client| client.has_begun()).ok_or_else(|| Answer::error(404, "notFound", "no client has this id"))
    }

    /// A parameter of the path, decoded.
    ///
    /// # Errors
    /// 404: no name has bytes that are no text.
    pub fn parameter(&self, index: usize) -> Result<String, Answer> {
        let raw = self.parameters.get(index).copied().unwrap_or_default();
        let text = percent_decoded(raw).map(Cow::into_owned).and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| Answer::error(404, "notFound", "there is nothing at this path"))
    }
}
