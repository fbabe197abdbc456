//! The settings as JSON, in the words of the configuration file, for whoever may see them: without secrets, and without
//! texts that may hold one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::log_words::level_word;
use super::settings::{
    Ack, AddressSource, AdminSettings, AtCapacity, AuthId, AuthKind, AuthServer, AuthSettings, BatchFormat,
    Destination, DialSettings, EndpointId, EndpointSettings, EventKind, Format, GatewaySettings, Hosts,
    HttpLinkSettings, KeySource, LinkDestination, LinkId, LinkSettings, ListenerSettings, ListenerTls, LogFormat,
    LogSettings, Origins, Proxy, QueueSettings, RateSettings, Refuse, RelaySettings, StoreId, StoreSettings, Welcome,
    WhenFull, WhenIdentityFull, WhenOver,
};
use super::shown_store::store;
use super::units::{write_duration, write_size};

/// What stands in the place of a text that is not shown.
const HIDDEN: &str = "***";

/// The settings of a gateway that runs, wherever each part is.
pub(crate) struct Running<'a> {
    pub(crate) gateway: &'a GatewaySettings,
    pub(crate) listeners: Vec<&'a ListenerSettings>,
    pub(crate) endpoints: Vec<(EndpointId, &'a EndpointSettings)>,
    pub(crate) links: Vec<(LinkId, &'a LinkSettings)>,
    pub(crate) stores: Vec<(StoreId, &'a StoreSettings)>,
    /// In the order of their ids.
    pub(crate) auths: Vec<(AuthId, &'a AuthSettings)>,
    pub(crate) admin: &'a AdminSettings,
}

/// All settings, each under the name that it has in the file. In the place of texts that may be secret there is `***`:
/// what is sent to servers and clients (headers, messages, what stands before the host of a URL). Rules of `allow` are
/// counted.
pub(crate) fn shown(running: &Running<'_>) -> Value {
    json!({
        "gateway": gateway(running.gateway),
        "log": log(&running.gateway.log),
        "listen": running.listeners.iter().map(|one| listener(one)).collect::<Vec<_>>(),
        "endpoint": running.endpoints.iter().map(|(_, one)| endpoint(one, running)).collect::<Vec<_>>(),
        "link": running.links.iter().map(|(_, one)| link(one, running)).collect::<Vec<_>>(),
        "store": running.stores.iter().map(|(_, one)| store(one)).collect::<Vec<_>>(),
        "auth": running.auths.iter().map(|(_, one)| auth(one)).collect::<Vec<_>>(),
        "admin": admin(running),
    })
}

impl Running<'_> {
    fn path(&self, id: EndpointId) -> &str {
        self.endpoints.iter().find(|(own, _)| *own == id).map_or("", |(_, endpoint)| endpoint.path.as_str())
    }

    fn link(&self, id: LinkId) -> &str {
        self.links.iter().find(|(own, _)| *own == id).map_or("", |(_, link)| &link.name)
    }

    fn store(&self, id: StoreId) -> &str {
        self.stores.iter().find(|(own, _)| *own == id).map_or("", |(_, store)| &store.name)
    }

    fn auths(&self, ids: &[AuthId]) -> Vec<&str> {
        let name = |id: &AuthId| self.auths.iter().find(|(known, _)| known == id).map(|(_, auth)| &*auth.name);
        ids.iter().filter_map(name).collect()
    }
}

fn log(log: &LogSettings) -> Value {
    let named = log.levels.named.iter().map(|(name, own)| (name.clone(), level_word(*own).into()));
    json!({
        "level": log.levels.level.map(level_word),
        "levels": named.collect::<Map<String, Value>>(),
        "format": match log.format {
            None => "auto",
            Some(LogFormat::Text) => "text",
            Some(LogFormat::Json) => "json",
            Some(LogFormat::Journal) => "journal",
        },
        "lines_per_second": or_off(log.lines_per_second),
    })
}

fn gateway(gateway: &GatewaySettings) -> Value {
    json!({
        "name": gateway.name,
        "max_connections": gateway.max_connections,
        "max_address_connections": or_off(gateway.max_address_connections),
        "address_rate": gateway.address_rate.map_or_else(off, |rate| {
            json!({ "per_second": rate.per_second, "burst": rate.burst })
        }),
        "failed_credentials": gateway.failed_credentials.map_or_else(off, |limit| {
            json!({ "most": limit.most, "within": duration(limit.within) })
        }),
        "memory": gateway.memory.map_or_else(off, size),
        "max_handshakes": gateway.max_handshakes,
        "handshake_timeout": duration(gateway.handshake_timeout),
        "close_timeout": duration(gateway.close_timeout),
        "drain_timeout": duration(gateway.drain_timeout),
        "resolve_cache": duration(gateway.resolve_cache),
        "deliverers": gateway.deliverers,
        "client_stack": size(gateway.client_stack),
    })
}

fn listener(listener: &ListenerSettings) -> Value {
    json!({
        "name": listener.name,
        "address": listener.address.to_string(),
        "hosts": hosts(&listener.hosts),
        "health": or_off(listener.health.as_ref().map(|path| path.as_str())),
        "allow_addresses": listener.addresses.allow.as_ref().map(addresses),
        "deny_addresses": listener.addresses.deny.as_ref().map(addresses),
        "client_address": listener.client_address.word(),
        "trusted_proxies": addresses(&listener.trusted_proxies),
        "tls": listener.tls.as_ref().map(tls),
    })
}

fn admin(running: &Running<'_>) -> Value {
    let admin = running.admin;
    let Some(listener) = &admin.listener else { return json!({ "address": "off" }) };
    json!({
        "address": listener.address.to_string(),
        "hosts": hosts(&listener.hosts),
        "tls": listener.tls.as_ref().map(tls),
        "auth": running.auths(&admin.auth),
        "allow": admin.allow.as_ref().map(|rules| rules.len()),
    })
}

fn tls(tls: &ListenerTls) -> Value {
    let certificates =
        tls.certificates.iter().map(|pair| json!({ "certificate": pair.certificate, "private_key": pair.private_key }));
    let mut all = certificates.collect::<Vec<_>>().into_iter();
    let mut shown = all.next().unwrap_or_default();
    shown["more"] = all.collect();
    if let Some(clients) = &tls.clients {
        shown["client_ca"] = json!(clients.ca);
        shown["client_certificate"] = json!(if clients.required { "required" } else { "optional" });
        shown["crl"] = json!(clients.lists);
    }
    shown
}

fn endpoint(endpoint: &EndpointSettings, all: &Running<'_>) -> Value {
    let destination = |to: &Destination| match to {
        Destination::Reply => "reply".to_owned(),
        Destination::Broadcast => "broadcast".to_owned(),
        Destination::Others => "others".to_owned(),
        Destination::Endpoint { id, .. } => format!("endpoint:{}", all.path(*id)),
        Destination::Picked { template, .. } => format!("endpoint:{template}"),
        Destination::Link(id) => format!("link:{}", all.link(*id)),
        Destination::Store(id) => format!("store:{}", all.store(*id)),
    };
    json!({
        "path": endpoint.path.as_str(),
        "listen": endpoint.listen,
        "to": endpoint.to.iter().map(destination).collect::<Vec<_>>(),
        "format": format_word(endpoint.format),
        "welcome": match endpoint.welcome {
            Welcome::Off => json!(false),
            Welcome::N8n => json!("n8n"),
            Welcome::Text(_) => json!(HIDDEN),
        },
        "subprotocols": endpoint.subprotocols,
        "max_connections": endpoint.max_connections,
        "max_room_connections": endpoint.max_room_connections,
        "at_capacity": match endpoint.at_capacity {
            AtCapacity::Close => "close",
            AtCapacity::Refuse => "refuse",
            AtCapacity::Replace => "replace",
        },
        "max_identity_connections": endpoint.identity_limit.map(|limit| limit.connections),
        "when_identity_full": endpoint.identity_limit.map(|limit| match limit.when_full {
            WhenIdentityFull::Refuse => "refuse",
            WhenIdentityFull::Replace => "replace",
        }),
        "max_message": size(endpoint.max_message),
        "heartbeat": endpoint.heartbeat.map_or_else(off, duration),
        "pong_timeout": duration(endpoint.pong_timeout),
        "message_timeout": endpoint.message_timeout.map_or_else(off, duration),
        "write_timeout": endpoint.write_timeout.map_or_else(off, duration),
        "queue": queue(&endpoint.queue),
        "rate": endpoint.rate.as_ref().map_or_else(off, rate),
        "origins": origins(&endpoint.origins),
        "auth": all.auths(&endpoint.auth),
        "refuse": if endpoint.refuse == Refuse::Close { "close" } else { "answer" },
        "allow": endpoint.allow.as_ref().map(Vec::len),
        "allow_addresses": endpoint.addresses.allow.as_ref().map(addresses),
        "deny_addresses": endpoint.addresses.deny.as_ref().map(addresses),
        "address_sessions": endpoint.address_sessions,
        "choose_rooms": endpoint.choose_rooms,
        "post": endpoint.post,
        "max_body": size(endpoint.body_max()),
        "ack": if endpoint.ack == Ack::Stored { "stored" } else { "off" },
        "relay": endpoint.relay.as_ref().map(relay),
        "events": events(&endpoint.events),
    })
}

fn queue(queue: &QueueSettings) -> Value {
    json!({
        "messages": queue.messages,
        "bytes": size(queue.bytes),
        "when_full": match queue.when_full {
            WhenFull::DropOldest => "drop_oldest",
            WhenFull::DropNewest => "drop_newest",
            WhenFull::Disconnect => "disconnect",
        },
    })
}

fn rate(rate: &RateSettings) -> Value {
    json!({
        "messages": rate.messages,
        "bytes": rate.bytes.map(write_size),
        "burst": duration(rate.burst),
        "when_over": if rate.when_over == WhenOver::Close { "close" } else { "delay" },
    })
}

/// Those that are listed may be from the environment.
fn origins(origins: &Origins) -> Value {
    match origins {
        Origins::Any => json!("any"),
        Origins::List { same, others } => {
            same.then_some("same").into_iter().chain(others.iter().map(|_| HIDDEN)).collect::<Vec<_>>().into()
        }
    }
}

fn relay(relay: &RelaySettings) -> Value {
    let mut shown = dial(&relay.dial, &relay.shown);
    shown["forward_headers"] = json!(relay.forward_headers);
    shown["forward_query"] = json!(relay.forward_query);
    shown["hold"] = relay.hold.map_or_else(off, duration);
    shown["connect_timeout"] = duration(relay.dial.connect_timeout);
    shown
}

fn link(link: &LinkSettings, all: &Running<'_>) -> Value {
    let destination = |to: &LinkDestination| match to {
        LinkDestination::Reply => "reply".to_owned(),
        LinkDestination::Endpoint { template, .. } => format!("endpoint:{template}"),
        LinkDestination::Link(id) => format!("link:{}", all.link(*id)),
        LinkDestination::Store(id) => format!("store:{}", all.store(*id)),
    };
    let mut shown = dial(&link.dial, &link.shown);
    let own = json!({
        "name": link.name,
        "subprotocols": link.dial.subprotocols,
        "connect_timeout": duration(link.dial.connect_timeout),
        "to": link.to.iter().map(destination).collect::<Vec<_>>(),
        "format": format_word(link.format),
        "max_message": size(link.max_message),
        "heartbeat": link.heartbeat.map_or_else(off, duration),
        "pong_timeout": duration(link.pong_timeout),
        "message_timeout": link.message_timeout.map_or_else(off, duration),
        "write_timeout": link.write_timeout.map_or_else(off, duration),
        "ping_message": link.ping.as_ref().map(|_| HIDDEN),
        "ping_every": link.ping.as_ref().map(|(_, every)| duration(*every)),
        "open_messages": link.open_messages.iter().map(|_| HIDDEN).collect::<Vec<_>>(),
        "queue": {
            "messages": link.queue.messages,
            "bytes": size(link.queue.bytes),
            "when_full": link.queue.when_full.word(),
            "when_slow": link.queue.when_slow.word(),
        },
        "backoff": {
            "first": duration(link.backoff.first),
            "most": duration(link.backoff.most),
            "reset_after": duration(link.backoff.reset_after),
            "attempts": link.backoff.attempts.map_or(json!("forever"), Value::from),
        },
        "allow_loop": link.allow_loop,
        "required": link.required,
        "events": events(&link.events),
    });
    join(&mut shown, own);
    join(&mut shown, posting(link.http.as_ref()));
    shown
}

/// The keys of a link that posts; without a value for any other.
fn posting(http: Option<&HttpLinkSettings>) -> Value {
    let batch = http.and_then(|http| http.batch).map(|batch| {
        json!({
            "messages": batch.messages,
            "bytes": size(batch.bytes),
            "wait": duration(batch.wait),
            "format": if batch.format == BatchFormat::Json { "json" } else { "ndjson" },
        })
    });
    json!({ "answer_timeout": http.map(|http| duration(http.answer_timeout)), "batch": batch })
}

fn auth(auth: &AuthSettings) -> Value {
    let mut shown = json!({
        "name": auth.name,
        "authorization": auth.places.authorization,
        "cookie": auth.places.cookie,
        "query": auth.places.query,
        "subprotocol": auth.places.subprotocol,
    });
    let own = match &auth.kind {
        AuthKind::Tokens(file) => json!({ "kind": "tokens", "file": file }),
        AuthKind::Basic(file) => json!({ "kind": "basic", "file": file }),
        AuthKind::Certificate(_) => json!({ "kind": "certificate" }),
        AuthKind::Http(callout) => {
            let mut own = server(&callout.server, "url");
            join(
                &mut own,
                json!({
                    "kind": "http",
                    "forward_headers": callout.forward_headers,
                    "claims": callout.claims,
                    "max_requests": callout.max_requests,
                    "cache_for": duration(callout.cache_for),
                }),
            );
            own
        }
        AuthKind::Jwt(jwt, source) => {
            let mut own = match source {
                KeySource::File(file) => json!({ "file": file }),
                KeySource::Url(jwks) => {
                    let mut own = server(&jwks.server, "jwks_url");
                    let times = json!({
                        "refresh_interval": duration(jwks.refresh_interval),
                        "stale_for": duration(jwks.stale_for),
                    });
                    join(&mut own, times);
                    own
                }
            };
            join(
                &mut own,
                json!({
                    "kind": "jwt",
                    "issuer": jwt.issuers,
                    "audience": jwt.audiences,
                    "leeway": duration(jwt.leeway),
                    "identity_from": jwt.identity_from,
                    "claims": jwt.claims,
                }),
            );
            own
        }
    };
    join(&mut shown, own);
    shown
}

fn server(server: &AuthServer, key: &str) -> Value {
    let mut shown = dial(&server.dial, &server.shown);
    if let Some(keys) = shown.as_object_mut()
        && let Some(url) = keys.remove("url")
    {
        keys.insert(key.to_owned(), url);
        keys.remove("origin");
        keys.insert("answer_timeout".to_owned(), duration(server.dial.connect_timeout));
    }
    shown
}

/// What all that is dialled has in common.
fn dial(dial: &DialSettings, url: &str) -> Value {
    let headers: serde_json::Map<_, _> = dial.headers.iter().map(|(name, _)| (name.clone(), json!(HIDDEN))).collect();
    let tls = &dial.tls;
    json!({
        "url": url,
        "headers": headers,
        "origin": dial.origin.as_ref().map(|_| HIDDEN),
        "proxy": match dial.proxy {
            Proxy::Environment => "environment",
            Proxy::Off => "off",
            Proxy::Url(_) => HIDDEN,
        },
        "tls": {
            "ca": tls.ca,
            "certificate": tls.identity.as_ref().map(|pair| &pair.certificate),
            "private_key": tls.identity.as_ref().map(|pair| &pair.private_key),
            "server_name": tls.server_name,
            "verify": tls.verify,
        },
    })
}

/// Adds the members of one object to another.
fn join(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn hosts(hosts: &Hosts) -> Value {
    match hosts {
        Hosts::Any => json!("any"),
        Hosts::Named(names) => json!(names),
    }
}

/// Where a list is, which may have thousands of entries; `null` is in the configuration itself.
fn addresses(source: &AddressSource) -> Value {
    match &source.file {
        Some(file) => json!({ "file": file }),
        None => json!({ "file": null }),
    }
}

fn events(events: &BTreeSet<EventKind>) -> Vec<&'static str> {
    let word = |event: &EventKind| match event {
        EventKind::Connect => "connect",
        EventKind::Disconnect => "disconnect",
        EventKind::Error => "error",
        EventKind::Present => "present",
    };
    events.iter().map(word).collect()
}

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Payload => "payload",
        Format::Message => "message",
        Format::N8n => "n8n",
    }
}

fn or_off<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or_else(off, Into::into)
}

fn off() -> Value {
    json!("off")
}

fn duration(duration: Duration) -> Value {
    if duration.is_zero() { off() } else { json!(write_duration(duration)) }
}

fn size(bytes: usize) -> Value {
    json!(write_size(bytes as u64))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::raw;
    use super::super::section::Keys;
    use super::*;
    use crate::config::parse;

    fn of(text: &str) -> Value {
        let settings = parse(text, "test.toml", Path::new("")).unwrap_or_else(|error| panic!("{error}"));
        shown(&Running {
            gateway: &settings.gateway,
            listeners: settings.listeners.iter().collect(),
            endpoints: settings.endpoints.iter().enumerate().map(|(id, one)| (EndpointId(id), one)).collect(),
            links: settings.links.iter().enumerate().map(|(id, one)| (LinkId(id), one)).collect(),
            stores: settings.stores.iter().enumerate().map(|(id, one)| (StoreId(id), one)).collect(),
            auths: settings.auths.iter().enumerate().map(|(index, auth)| (AuthId(index), auth)).collect(),
            admin: &settings.admin,
        })
    }

    #[test]
    fn every_option_is_shown() {
        let shown =
            of("[[endpoint]]\npath = \"/\"\nrelay = { url = \"ws://h/\" }\n[[link]]\nname = \"a\"\nurl = \"ws://h\"\n\
                [[store]]\nname = \"a\"\npath = \"a.db\"\n");
        let has = |value: &Value, keys: &Keys| {
            for (key, _) in keys.keys {
                assert!(value.get(key).is_some(), "{key} of {} is missing in {value}", keys.table);
            }
        };
        has(&shown["gateway"], &raw::gateway::GATEWAY);
        has(&shown["log"], &raw::log::LOG);
        has(&shown["listen"][0], &raw::listen::LISTEN);
        has(&shown["endpoint"][0], &raw::endpoint::ENDPOINT);
        has(&shown["endpoint"][0]["queue"], &raw::endpoint::QUEUE);
        has(&shown["endpoint"][0]["relay"], &raw::relay::RELAY);
        has(&shown["link"][0], &raw::link::LINK);
        has(&shown["link"][0]["queue"], &raw::link::QUEUE);
        has(&shown["link"][0]["backoff"], &raw::link::BACKOFF);
        has(&shown["store"][0], &raw::store::STORE);
        has(&shown["store"][0]["queue"], &raw::store::QUEUE);
        has(&shown["admin"], &raw::admin::ADMIN);
        assert_eq!(shown["gateway"]["max_connections"], 10_000);
        assert_eq!(shown["endpoint"][0]["heartbeat"], "30s");
        assert_eq!(shown["gateway"]["memory"], "off");
    }

    #[test]
    fn s2_no_secret_is_shown() {
        let shown = of(r#"
            [[endpoint]]
            path = "/rooms/{room}"
            to = ["reply", "link:plc"]
            welcome = "hunter2"
            origins = ["https://hunter2.example"]
            [[link]]
            name = "plc"
            url = "ws://me:hunter2@h/x?token=hunter2"
            headers = { Cookie = "hunter2" }
            proxy = "http://me:hunter2@proxy:1"
            ping_message = "hunter2"
            open_messages = ["hunter2", "b"]
            to = ["endpoint:/rooms/{link}"]
            "#);
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["link"][0]["open_messages"], json!([HIDDEN, HIDDEN]));
        assert_eq!(shown["link"][0]["to"], json!(["endpoint:/rooms/{link}"]));
        assert_eq!(shown["endpoint"][0]["to"], json!(["reply", "link:plc"]));
    }
}
