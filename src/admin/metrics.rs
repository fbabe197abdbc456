//! `/metrics`, for Prometheus.

use crate::admin::asked::Asked;
use crate::http::answer::Answer;
use crate::metrics;

/// All metrics at this moment.
pub fn metrics(asked: &Asked<'_>) -> Result<Answer, Answer> {
    Ok(Answer { content_type: metrics::CONTENT_TYPE, ..Answer::text(metrics::render(&asked.admin.shared)) })
}
