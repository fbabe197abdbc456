//! `[[link]]` and `[endpoint.relay]`: every option reaches its field.

use super::*;

#[test]
fn every_option_of_a_link_and_of_a_relay_reaches_its_field() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file("key.txt", "a key\r\n");
    let made = rcgen::generate_simple_self_signed(vec!["plc".to_owned()]).unwrap();
    file("ca.pem", &made.cert.pem());
    file("client.key", &made.signing_key.serialize_pem());
    let environment: Environment = &|name| match name {
        "TOKEN" => Ok("hunter2".into()),
        _ => Err(env::VarError::NotPresent),
    };
    let text = r#"
        [[endpoint]]
        path = "/up/{id}"
        to = ["link:plc", "broadcast"]
        events = ["error", "connect"]
        [[endpoint]]
        path = "/dev/{id}"
        [endpoint.relay]
        url = "wss://me:${TOKEN}@h/x/{id}?t=${TOKEN}"
        headers = { X-A = "b" }
        forward_headers = ["Cookie", "Origin"]
        forward_query = false
        connect_timeout = "3s"
        hold = "30s"
        proxy = "off"
        tls = { verify = false }
        [[link]]
        name = "plc"
        url = "wss://h:444/ws?t=${TOKEN}"
        headers = { Authorization = "Bearer ${TOKEN}", X-Key = { file = "key.txt" } }
        subprotocols = ["b", "a"]
        origin = "https://dash.example"
        to = ["reply", "endpoint:/up/{payload.device}", "link:other_1"]
        format = "message"
        max_message = 2
        connect_timeout = "4s"
        heartbeat = "5s"
        pong_timeout = "6s"
        message_timeout = "off"
        write_timeout = "7s"
        ping_message = "ping"
        ping_every = "8s"
        open_messages = ["one ${TOKEN}", "two"]
        queue = { messages = 9, bytes = 1025, when_full = "block", when_slow = "drop_newest" }
        backoff = { first = "1s", most = "2s", reset_after = "3s", attempts = 4 }
        proxy = "http://me:${TOKEN}@proxy:3128"
        tls = { ca = "ca.pem", certificate = "ca.pem", private_key = "client.key", server_name = "plc" }
        allow_loop = true
        required = true
        events = ["disconnect"]
        [[link]]
        name = "other_1"
        url = "ws://other"
    "#;
    let settings = parse_in(text, "x.toml", directory.path(), environment).unwrap_or_else(|e| panic!("{e}"));
    let path = |name: &str| directory.path().join(name);
    let seconds = Duration::from_secs;
    let [up, dev] = &settings.endpoints[..] else { panic!("two endpoints") };
    assert_eq!(up.to, [Destination::Link(LinkId(0)), Destination::Broadcast]);
    assert_eq!(up.events, [EventKind::Connect, EventKind::Error].into());
    let (url, path_of_relay) = url::parse_template("wss://me:hunter2@h/x/{id}?t=hunter2", |_| Ok(0)).unwrap();
    let relay = RelaySettings {
        dial: DialSettings {
            headers: vec![("X-A".into(), Secret::new("b"))],
            secrets: vec![Secret::new("hunter2"); 2],
            connect_timeout: seconds(3),
            proxy: Proxy::Off,
            tls: DialTls { verify: false, ..DialTls::default() },
            ..DialSettings::new(url)
        },
        path: path_of_relay,
        shown: "wss://h/x/{id}?***".into(),
        forward_headers: vec!["Cookie".into(), "Origin".into()],
        forward_query: false,
        hold: Some(seconds(30)),
    };
    assert_eq!(dev.relay, Some(relay));
    let plc = LinkSettings {
        name: "plc".into(),
        dial: DialSettings {
            url: url::parse("wss://h:444/ws?t=hunter2").unwrap(),
            headers: vec![
                ("Authorization".into(), Secret::new("Bearer hunter2")),
                ("X-Key".into(), Secret::new("a key")),
            ],
            secrets: ["hunter2", "hunter2", "a key"].map(Secret::new).into(),
            subprotocols: vec!["b".into(), "a".into()],
            origin: Some("https://dash.example".into()),
            connect_timeout: seconds(4),
            proxy: Proxy::Url(Secret::new("http://me:hunter2@proxy:3128")),
            tls: DialTls {
                ca: Some(path("ca.pem")),
                identity: Some(TlsSettings { certificate: path("ca.pem"), private_key: path("client.key") }),
                server_name: Some("plc".into()),
                verify: true,
            },
        },
        shown: "wss://h:444/ws?***".into(),
        to: vec![
            LinkDestination::Reply,
            LinkDestination::Endpoint { id: EndpointId(0), template: Template::parse("/up/{payload.device}").unwrap() },
            LinkDestination::Link(LinkId(1)),
        ],
        format: Format::Message,
        max_message: 2,
        heartbeat: Some(seconds(5)),
        pong_timeout: seconds(6),
        message_timeout: None,
        write_timeout: Some(seconds(7)),
        ping: Some(("ping".into(), seconds(8))),
        open_messages: vec![Secret::new("one hunter2"), Secret::new("two")],
        queue: LinkQueueSettings {
            messages: 9,
            bytes: 1025,
            when_full: OutletPolicy::Block,
            when_slow: OutletPolicy::DropNewest,
        },
        backoff: BackoffSettings { first: seconds(1), most: seconds(2), reset_after: seconds(3), attempts: Some(4) },
        http: None,
        allow_loop: true,
        required: true,
        events: [EventKind::Disconnect].into(),
    };
    assert_eq!(settings.links, [plc, LinkSettings::new("other_1", url::parse("ws://other").unwrap())]);
    let printed = format!("{settings:?}");
    assert!(!printed.contains("hunter2") && printed.contains("h:444"), "{printed}");
}

#[test]
fn every_option_of_a_link_that_posts_reaches_its_field() {
    let http = |more: &str| {
        let text = format!("[[link]]\nname = \"hook\"\nurl = \"HTTPS://flows.example/in\"\n{more}");
        read(&text).links.remove(0).http.unwrap()
    };
    assert_eq!(http(""), HttpLinkSettings::default());
    assert_eq!(http("batch = {}").batch, Some(BatchSettings::default()));
    let more = "answer_timeout = \"3s\"\nbatch = { messages = 7, bytes = \"1KiB\", wait = \"5ms\", format = \"json\" }";
    let (wait, format) = (Duration::from_millis(5), BatchFormat::Json);
    let batch = BatchSettings { messages: 7, bytes: 1024, wait, format };
    assert_eq!(http(more), HttpLinkSettings { answer_timeout: Duration::from_secs(3), batch: Some(batch) });
}
