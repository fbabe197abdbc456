//! `[gateway]`, `[log]`, `[[listen]]` and `[[endpoint]]`: every option reaches its field, and which names and addresses go
//! together.

use super::*;

#[test]
fn every_option_reaches_its_field() {
    let settings = read_beside_tokens(
        r#"
        [gateway]
        name = "plant-1"
        max_connections = 20_000
        max_address_connections = 50
        address_rate = { per_second = 5 }
        failed_credentials = { most = 5 }
        memory = "64MiB"
        max_handshakes = 7
        handshake_timeout = "1s"
        close_timeout = "2s"
        drain_timeout = "500ms"
        resolve_cache = "9s"
        deliverers = 3
        client_stack = "1MiB"
        [log]
        level = "debug"
        levels = { links = "off", refusals = "warn", "/rooms/{room}" = "error" }
        format = "json"
        lines_per_second = "off"
        [[listen]]
        address = "[::1]:0"
        hosts = ["Gate.example", "*.plant.example"]
        allow_addresses = ["10.0.0.0/8", "::1"]
        deny_addresses = "10.0.0.7"
        client_address = "forwarded"
        trusted_proxies = ["127.0.0.1"]
        health = "/healthz"
        [[listen]]
        address = "unix:run/ws.sock"
        name = "local"
        [[endpoint]]
        path = "/rooms/{room}"
        listen = ["local"]
        to = ["reply", "others", "endpoint:/dash/{room}"]
        format = "message"
        welcome = "hello"
        subprotocols = ["b", "a"]
        max_connections = 12000
        max_room_connections = 4
        at_capacity = "refuse"
        max_identity_connections = 3
        when_identity_full = "replace"
        max_message = 65536
        heartbeat = "5m"
        pong_timeout = "3s"
        message_timeout = "off"
        write_timeout = "off"
        queue = { messages = 2, bytes = 1024, when_full = "disconnect" }
        rate = { messages = 10, bytes = "1MiB", burst = "3s", when_over = "close" }
        origins = ["same", "https://Dash.example:443", "null"]
        allow_addresses = []
        deny_addresses = ["::/0", "unix"]
        address_sessions = true
        choose_rooms = true
        post = true
        max_body = "2MiB"
        auth = ["devices"]
        refuse = "close"
        allow = [{ who = "press-*", path = "/rooms/{identity}", send = false, receive = false, claims = { a = "b", c = ["d"], e = true, f = 7 } }]
        [[endpoint]]
        path = "/dash/{room}"
        to = []
        welcome = true
        heartbeat = "off"
        [endpoint.queue]
        when_full = "drop_newest"
        [[auth]]
        name = "devices"
        kind = "tokens"
        file = "tokens.txt"
        authorization = false
        cookie = "session"
        query = "key"
        subprotocol = true
        "#,
    );
    let named = [("links", LevelFilter::Off), ("refusals", LevelFilter::Warn), ("/rooms/{room}", LevelFilter::Error)];
    let named = named.map(|(name, level)| (name.to_owned(), level));
    assert_eq!(
        settings.gateway,
        GatewaySettings {
            name: Some("plant-1".to_owned()),
            max_connections: 20_000,
            max_address_connections: Some(50),
            address_rate: Some(Rate { per_second: 5, burst: 10 }),
            failed_credentials: Some(FailedCredentials { most: 5, within: Duration::from_secs(10) }),
            memory: Some(64 << 20),
            max_handshakes: 7,
            handshake_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_millis(500),
            resolve_cache: Duration::from_secs(9),
            deliverers: 3,
            client_stack: 1 << 20,
            log: LogSettings {
                format: Some(LogFormat::Json),
                levels: LogLevels { level: Some(LevelFilter::Debug), named: named.into() },
                lines_per_second: None,
            },
        }
    );
    let tcp: SocketAddr = "[::1]:0".parse().unwrap();
    let [auth] = &settings.auths[..] else { panic!("{:?}", settings.auths) };
    let named = |name: &str| Some(name.to_owned());
    let places = Places { authorization: false, cookie: named("session"), query: named("key"), subprotocol: true };
    assert_eq!((&*auth.name, &auth.places), ("devices", &places));
    let AuthKind::Tokens(file) = &auth.kind else { panic!("{:?}", auth.kind) };
    let base_dir = file.parent().unwrap();
    let unix = base_dir.join("run/ws.sock");
    assert_eq!(
        settings.listeners,
        [
            ListenerSettings {
                name: "[::1]:0".into(),
                address: ListenAddress::Tcp(tcp),
                tls: None,
                hosts: Hosts::Named(vec!["gate.example".into(), "*.plant.example".into()]),
                addresses: AddressRules {
                    allow: Some(addresses("10.0.0.0/8\n::1")),
                    deny: Some(addresses("10.0.0.7"))
                },
                client_address: ClientAddress::Forwarded,
                trusted_proxies: addresses("127.0.0.1"),
                health: Some(Pattern::parse("/healthz").unwrap()),
            },
            ListenerSettings {
                name: "local".into(),
                address: ListenAddress::Unix(unix),
                hosts: Hosts::Any,
                ..ListenerSettings::default()
            },
        ]
    );
    assert_eq!(
        settings.endpoints,
        [
            EndpointSettings {
                path: Pattern::parse("/rooms/{room}").unwrap(),
                listen: Some(["local".to_owned()].into()),
                to: vec![
                    Destination::Reply,
                    Destination::Others,
                    Destination::Endpoint { id: EndpointId(1), values: [0].into() },
                ],
                format: Format::Message,
                welcome: Welcome::Text("hello".into()),
                subprotocols: vec!["b".into(), "a".into()],
                max_connections: 12_000,
                max_room_connections: Some(4),
                at_capacity: AtCapacity::Refuse,
                identity_limit: Some(IdentityLimit { connections: 3, when_full: WhenIdentityFull::Replace }),
                max_message: 65_536,
                heartbeat: Some(Duration::from_secs(300)),
                pong_timeout: Duration::from_secs(3),
                message_timeout: None,
                write_timeout: None,
                queue: QueueSettings { messages: 2, bytes: 1024, when_full: WhenFull::Disconnect },
                rate: Some(RateSettings {
                    messages: Some(10),
                    bytes: Some(1 << 20),
                    burst: Duration::from_secs(3),
                    when_over: WhenOver::Close,
                }),
                origins: Origins::List { same: true, others: vec!["https://dash.example".into(), "null".into()] },
                addresses: AddressRules { allow: Some(addresses("")), deny: Some(addresses("::/0\nunix")) },
                address_sessions: true,
                choose_rooms: true,
                ack: Ack::Off,
                post: true,
                max_body: Some(2 << 20),
                auth: vec![AuthId(0)],
                refuse: Refuse::Close,
                allow: Some(vec![Rule {
                    who: Glob::new("press-*"),
                    path: Glob::new("/rooms/{identity}"),
                    claims: [("a", "b".into()), ("c", "d".into()), ("e", true.into()), ("f", 7.into())]
                        .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), vec![value]))
                        .into(),
                    rights: Rights { send: false, receive: false },
                }]),
                relay: None,
                events: Default::default(),
            },
            EndpointSettings {
                path: Pattern::parse("/dash/{room}").unwrap(),
                to: vec![],
                welcome: Welcome::N8n,
                heartbeat: None,
                queue: QueueSettings { when_full: WhenFull::DropNewest, ..QueueSettings::default() },
                ..EndpointSettings::default()
            },
        ]
    );
}

#[test]
fn a_single_destination_needs_no_list() {
    assert_eq!(read("[[endpoint]]\nto = \"reply\"").endpoints[0].to, [Destination::Reply]);
}

#[test]
fn two_free_ports_are_no_contradiction() {
    read("[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"a\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"b\"");
}

#[test]
fn b27_one_path_may_be_that_of_two_endpoints_that_no_listener_serves_both() {
    let listeners: String =
        ["a", "b", "c"].map(|name| format!("[[listen]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n")).concat();
    let endpoints = |one: &str, other: &str| {
        format!("{listeners}[[endpoint]]\npath = \"/x/{{p}}\"\n{one}\n[[endpoint]]\npath = \"/x/{{q}}\"\n{other}\n")
    };
    for (one, other) in
        [("listen = [\"a\", \"c\"]", "listen = [\"b\"]"), ("listen = [\"a\"]", "listen = [\"b\", \"c\"]")]
    {
        assert_eq!(read(&endpoints(one, other)).endpoints.len(), 2);
    }
    for (one, other) in [
        ("", ""),
        ("", "listen = [\"a\", \"b\", \"c\"]"),
        ("listen = [\"a\", \"b\", \"c\"]", ""),
        ("listen = [\"a\", \"c\"]", "listen = [\"b\", \"c\"]"),
    ] {
        let mistakes = mistakes(&endpoints(one, other));
        assert!(mistakes.len() == 1 && mistakes[0].contains("name other listeners in \"listen\""), "{mistakes:?}");
    }
}

#[test]
fn the_default_listener_can_be_named_without_being_written() {
    let settings = read("[[endpoint]]\nlisten = [\"127.0.0.1:8080\"]");
    assert_eq!(settings.endpoints[0].listen, Some(["127.0.0.1:8080".to_owned()].into()));
}
