//! Paths that a link's messages lead to: `/devices/{payload.device}` names an endpoint by its shape, and in the braces
//! stands where the value comes from that picks the room.

use std::fmt;

use crate::path::{Pattern, PatternError, Segment};

/// The path in an `endpoint:` destination of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    shape: Pattern,
    sources: Box<[Source]>,
}

/// Where the value of a parameter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `{link}`: the name of the link.
    Link,
    /// `{payload.device}`: the keys that lead to it from the root of the message's JSON; at least one.
    Field(Box<[Box<str>]>),
}

impl Template {
    /// Reads the path: literals as in a [`Pattern`], and `{link}` or `{key.key}` as whole segments.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut shape = String::with_capacity(text.len());
        let mut sources = Vec::new();
        for (index, segment) in text.split('/').enumerate() {
            if index > 0 {
                shape.push('/');
            }
            match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(source) => {
                    shape.push_str(&format!("{{p{}}}", sources.len()));
                    sources.push(Source::parse(source)?);
                }
                None => shape.push_str(segment),
            }
        }
        let shape = Pattern::parse(&shape).map_err(TemplateError::Path)?;
        Ok(Template { shape, sources: sources.into() })
    }

    /// Whether these are the paths of this endpoint.
    pub fn leads_to(&self, endpoint: &Pattern) -> bool {
        self.shape.same_shape(endpoint)
    }

    /// Where the values of the endpoint's parameters come from, from left to right.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The pattern of the same shape, with names of its own.
    pub fn shape(&self) -> &Pattern {
        &self.shape
    }
}

/// The path as it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sources = self.sources.iter();
        for segment in self.shape.segments() {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Parameter(_) => sources.next().map_or(Ok(()), |source| write!(f, "/{source}"))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Link => f.write_str("{link}"),
            Source::Field(keys) => write!(f, "{{{}}}", keys.join(".")),
        }
    }
}

impl Source {
    fn parse(text: &str) -> Result<Source, TemplateError> {
        if text == "link" {
            return Ok(Source::Link);
        }
        let keys: Box<[Box<str>]> = text.split('.').map(Box::from).collect();
        let is_key = |key: &str| !key.is_empty() && !key.contains(['{', '}']) && !key.contains(char::is_control);
        match keys.iter().all(|key| is_key(key)) {
            true => Ok(Source::Field(keys)),
            false => Err(TemplateError::Source(text.into())),
        }
    }
}

/// Why a text is no [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// What is not in braces is no path.
    Path(PatternError),
    /// What is in braces says nothing.
    Source(Box<str>),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Path(error) => error.fmt(f),
            TemplateError::Source(text) => write!(
                f,
                "{{{}}} does not name a value: write {{link}} for the name of the link, or the keys of the message that lead \
                 to it, for example {{payload.device}}",
                text.escape_debug()
            ),
        }
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(keys: &[&str]) -> Source {
        Source::Field(keys.iter().map(|key| Box::from(*key)).collect())
    }

    #[test]
    fn braces_say_where_a_value_comes_from() {
        for (text, endpoint, sources) in [
            ("/", "/", vec![]),
            ("/all", "/all", vec![]),
            ("/devices/{payload.device}", "/devices/{id}", vec![field(&["payload", "device"])]),
            ("/{link}/{a b}/x", "/{plant}/{device}/x", vec![Source::Link, field(&["a b"])]),
            ("/{Id}/{Id}", "/{a}/{b}", vec![field(&["Id"]), field(&["Id"])]),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.sources(), sources, "{text}");
            assert_eq!(template.to_string(), text);
            assert!(template.leads_to(&Pattern::parse(endpoint).unwrap()), "{text}");
        }
        assert!(!Template::parse("/devices/{id}").unwrap().leads_to(&Pattern::parse("/devices").unwrap()));
    }

    #[test]
    fn what_leads_nowhere_is_refused_for_its_reason() {
        for (text, beginning) in [
            ("devices", "a path starts with"),
            ("/x{id}", "a parameter is a whole segment"),
            ("/a//b", "a path has no \"//\""),
            ("/{}", "{} does not name a value"),
            ("/{a..b}", "{a..b} does not name a value"),
            ("/{.a}", "{.a} does not name a value"),
            ("/{a}{b}", "{a}{b} does not name a value"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(beginning), "{text}: {error}");
        }
    }
}
