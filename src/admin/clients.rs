//! The clients that are here: a list of them by pages, and each by its id.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::admin::asked::Asked;
use crate::admin::messages;
use crate::format::iso_8601;
use crate::http::answer::Answer;
use crate::id::Id;
use crate::shared::Shared;
use crate::shared::members::Step;
use crate::shared::publisher::Publisher;
use crate::shared::registry::Client;

/// Clients on a page that asks for no other number, and the most that a page can have.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// The longest reason that a Close frame has room for, in bytes (RFC 6455 section 5.5).
const REASON_MAX: usize = 123;

/// The parameters of a close.
pub const CLOSE: &[&str] = &["code", "reason"];

/// The parameters of the list.
pub const QUERY: &[&str] = &["endpoint", "path", "identity", "address", "limit", "after"];

/// A page of a list.
#[derive(Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins, for `after`; `null` on the last one.
    pub next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientInfo {
    id: String,
    endpoint: String,
    /// The path of its room, decoded.
    path: String,
    /// `null` on a Unix socket.
    address: Option<IpAddr>,
    identity: Option<String>,
    user_agent: Option<String>,
    subprotocol: Option<String>,
    connected_at: String,
    may_send: bool,
    may_receive: bool,
    /// What its thread waits for while it does not read.
    held_by: Option<String>,
    received_messages: u64,
    received_bytes: u64,
    /// What is queued for it.
    queued_bytes: usize,
    is_closing: bool,
}

/// What a list is narrowed to.
struct Filter<'a> {
    endpoint: Option<&'a str>,
    path: Option<&'a str>,
    identity: Option<&'a str>,
    address: Option<IpAddr>,
}

/// `GET /api/v1/clients`.
pub fn list(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let shared = &asked.admin.shared;
    let wrong = |message: &str| Answer::error(400, "badRequest", message);
    let address = asked.query("address").map(str::parse::<IpAddr>).transpose();
    let filter = Filter {
        endpoint: asked.query("endpoint"),
        path: asked.query("path"),
        identity: asked.query("identity"),
        address: address.map_err(|_| wrong("'address' is no IP address"))?,
    };
    let limit = asked.query("limit").map_or(Ok(PAGE), str::parse).ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    let limit = limit.ok_or_else(|| wrong(&format!("'limit' is no number from 1 to {PAGE_MAX}")))?;
    let after = asked.query("after").map(str::parse::<Id>).transpose();
    let after = after.map_err(|()| wrong("'after' is no 'next' of an earlier page"))?;
    let is_behind = |client: &Client| after.is_none_or(|after| client.id() > after);
    let is_wanted = |client: &Arc<Client>| client.has_begun() && is_behind(client) && filter.fits(shared, client);
    let mut clients: Vec<_> = shared.registry.all().into_iter().filter(is_wanted).collect();
    clients.sort_unstable_by_key(|client| client.id());
    let next = (clients.len() > limit).then(|| clients[limit - 1].id().to_string());
    clients.truncate(limit);
    let items = clients.iter().map(|client| describe(shared, client)).collect();
    Ok(Answer::json(&Page { items, next }))
}

/// `GET /api/v1/clients/{id}`.
pub fn show(asked: &Asked<'_>) -> Result<Answer, Answer> {
    Ok(Answer::json(&describe(&asked.admin.shared, &*asked.client()?)))
}

/// `DELETE /api/v1/clients/{id}`: the client is closed, behind what was published for its room.
pub fn close(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let client = asked.client()?;
    let wrong = |message: &str| Answer::error(400, "badRequest", message);
    let code = asked.query("code").map_or(Ok(1008), str::parse).ok();
    let code = code.filter(|code| matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999));
    let code = code.ok_or_else(|| wrong("'code' is none of 1000, 1001, 1008, 1011 to 1013 and 3000 to 4999"))?;
    let reason = asked.query("reason").unwrap_or("Closed by the operator");
    if reason.len() > REASON_MAX {
        return Err(wrong(&format!("'reason' is longer than {REASON_MAX} bytes")));
    }
    let publisher = Publisher::of_sender(&asked.admin.shared.budget);
    messages::step(asked, &publisher, &client.room, Step::Close(Arc::clone(client.outbox()), code, reason.into()))?;
    Ok(Answer::nothing())
}

impl Filter<'_> {
    fn fits(&self, shared: &Shared, client: &Client) -> bool {
        let origin = &client.origin;
        let is_on = |path: &str| shared.endpoint_of(client).settings.path.as_str() == path;
        self.endpoint.is_none_or(is_on)
            && self.path.is_none_or(|path| client.room.path.to_string() == path)
            && self.identity.is_none_or(|name| origin.identity.as_ref().is_some_and(|own| &*own.name == name))
            && self.address.is_none_or(|address| origin.client_ip == Some(address.to_canonical()))
    }
}

/// A client as lists have it.
pub fn describe(shared: &Shared, client: &Client) -> ClientInfo {
    let (origin, received) = (&client.origin, client.peer.received());
    ClientInfo {
        id: client.id().to_string(),
        endpoint: shared.endpoint_of(client).settings.path.to_string(),
        path: client.room.path.to_string(),
        address: origin.client_ip,
        identity: origin.identity.as_ref().map(|identity| identity.name.to_string()),
        user_agent: origin.user_agent.as_deref().map(str::to_owned),
        subprotocol: origin.subprotocol.as_deref().map(str::to_owned),
        connected_at: iso_8601(origin.connected_at),
        may_send: client.rights.send,
        may_receive: client.rights.receive,
        held_by: client.peer.blocked_on().map(|blocked| shared.name_of(blocked)),
        received_messages: received.messages,
        received_bytes: received.bytes,
        queued_bytes: client.outbox().held().1,
        is_closing: client.outbox().is_closing(),
    }
}
