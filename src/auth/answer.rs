//! The answer of a service that is asked who a client is: JSON with its name and what else is to be known. A rule.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::identity::{NAME_BYTES_MAX, is_name};

/// Who a client is, as its service says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it is called; it is a name.
    pub name: String,
    /// What else is said of it.
    pub claims: Map<String, Value>,
    /// For how long that is good; `None` is for ever.
    pub left: Option<Duration>,
}

/// Reads an answer that came at this time.
///
/// # Errors
/// Why it is none; the text goes on after "its answer ", and shows nothing of it.
pub fn parse(body: &[u8], now: SystemTime) -> Result<Answer, String> {
    let answer: Map<String, Value> = serde_json::from_slice(body).map_err(|_| "is no JSON object")?;
    let name = answer.get("identity").and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or_else(|| {
        format!(
            "has no \"identity\" that is a name: a text of 1 to {NAME_BYTES_MAX} bytes, without control characters and \
             blanks around it"
        )
    })?;
    let claims = match answer.get("claims") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(claims)) => claims.clone(),
        Some(_) => return Err("has \"claims\" that are no object".to_owned()),
    };
    let seconds = |key: &str| match answer.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(seconds) => seconds.as_f64().map(Some).ok_or_else(|| format!("has an {key:?} that is no number")),
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = [seconds("expires_in")?, seconds("exp")?.map(|end| end - now)].into_iter().flatten().reduce(f64::min);
    if left.is_some_and(|left| left <= 0.0) {
        return Err("has an end that is over (\"exp\" or \"expires_in\"; check both clocks)".to_owned());
    }
    // An end that is too far away for a duration is as good as one in a thousand years.
    let left = left.map(|left| Duration::try_from_secs_f64(left).unwrap_or(Duration::from_secs(1 << 35)));
    Ok(Answer { name: name.to_owned(), claims, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_name_and_may_have_claims_and_an_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (body, left) in [
            (r#"{"identity":"ada"}"#, None),
            (r#"{"identity":"ada","claims":{"group":"ops"},"more":[1]}"#, None),
            (r#"{"identity":"ada","claims":null,"exp":null,"expires_in":null}"#, None),
            (r#"{"identity":"ada","expires_in":60}"#, Some(60)),
            (r#"{"identity":"ada","exp":1090.5}"#, Some(90)),
            (r#"{"identity":"ada","expires_in":60,"exp":1030}"#, Some(30)),
            (r#"{"identity":"ada","expires_in":30,"exp":1060}"#, Some(30)),
            (r#"{"identity":"ada","expires_in":1e300}"#, Some(1 << 35)),
        ] {
            let answer = parse(body.as_bytes(), now).unwrap();
            assert_eq!((&*answer.name, answer.left.map(|left| left.as_secs())), ("ada", left), "{body}");
            assert_eq!(answer.claims.get("group"), body.contains("ops").then(|| "ops".into()).as_ref());
        }
        let long = format!(r#"{{"identity":"{}"}}"#, "x".repeat(NAME_BYTES_MAX + 1));
        for (body, problem) in [
            ("", "is no JSON object"),
            ("ok", "is no JSON object"),
            (r#"["ada"]"#, "is no JSON object"),
            (r#"{"identity":"ada""#, "is no JSON object"),
            ("{}", "has no \"identity\""),
            (r#"{"identity":7}"#, "has no \"identity\""),
            (r#"{"identity":""}"#, "has no \"identity\""),
            (r#"{"identity":"a\nb"}"#, "has no \"identity\""),
            (&long, "has no \"identity\""),
            (r#"{"identity":"ada","claims":["ops"]}"#, "has \"claims\""),
            (r#"{"identity":"ada","exp":"1060"}"#, "has an \"exp\" that is no number"),
            (r#"{"identity":"ada","expires_in":true}"#, "has an \"expires_in\" that is no number"),
            (r#"{"identity":"ada","expires_in":0}"#, "has an end that is over"),
            (r#"{"identity":"ada","expires_in":60,"exp":999}"#, "has an end that is over"),
        ] {
            let told = parse(body.as_bytes(), now).unwrap_err();
            assert!(told.starts_with(problem) && !told.contains("ada"), "{body}: {told}");
        }
        assert!(parse(b"{\"identity\":\"\xff\"}", now).is_err());
    }
}
