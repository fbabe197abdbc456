//! What a client's request says of it to those who get its messages.

use std::sync::{Arc, OnceLock};

use crate::client::authenticate::{self, Access};
use crate::clock::{self, Ticks};
use crate::format;
use crate::http::request::Request;
use crate::route::Room;
use crate::shared::Shared;
use crate::shared::generation::Generation;

/// How many bytes of a User-Agent are kept: it is in every message of the format `n8n`.
const USER_AGENT_MAX: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Asked {
    /// The beginning of its User-Agent header.
    pub(super) user_agent: Option<Arc<str>>,
    /// Its path, parameters and query, where its destinations are told.
    pub(super) description: OnceLock<Arc<str>>,
    /// Who it is, and what it may do.
    pub(super) access: Access,
    /// When its credential ends, and what it is told then. Fixed here: its upstream may yet take long to answer.
    pub(super) expires_at: Option<(Ticks, &'static str)>,
}

impl Asked {
    #[inline(never)]
    pub(super) fn new(
        shared: &Shared,
        generation: &Generation,
        room: &Room,
        request: &Request<'_>,
        access: Access,
    ) -> Asked {
        let endpoint = generation.endpoint(room.endpoint());
        let secrets = authenticate::places(&generation.auths, &endpoint.settings);
        let query = request.query.map(|query| authenticate::query(&secrets, query));
        let parameters = room.parameters(&endpoint.settings.path);
        let describe = || format::describe(&room.to_string(), parameters, query.as_deref());
        let at = |time| shared.clock.now().saturating_add(clock::ticks(time));
        let expires_at = access.left.map(|left| (at(left.time), left.reason));
        Asked {
            access,
            expires_at,
            user_agent: request.user_agent.map(|agent| agent[..agent.floor_char_boundary(USER_AGENT_MAX)].into()),
            description: if endpoint.describes { OnceLock::from(describe()) } else { OnceLock::new() },
        }
    }
}
