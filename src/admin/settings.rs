//! The configuration that is in force.

use crate::admin::asked::Asked;
use crate::config::{Running, shown};
use crate::http::answer::Answer;

/// `GET /api/v1/config`: every option in the words of the configuration file, without secrets.
pub fn settings(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let generation = asked.admin.shared.generation();
    Ok(Answer::json(&shown(&Running {
        gateway: &generation.gateway,
        listeners: generation.doors.iter().map(|door| &*door.settings).collect(),
        endpoints: generation.endpoints.iter().map(|(id, endpoint)| (id, &endpoint.settings)).collect(),
        links: generation.links.iter().map(|(id, link)| (id, &link.settings)).collect(),
        stores: generation.stores.iter().map(|(id, store)| (id, &store.settings)).collect(),
        auths: generation.auths.iter().map(|(id, auth)| (id, &auth.settings)).collect(),
        admin: &generation.admin,
    })))
}
