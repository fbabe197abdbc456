//! `[[auth]]` and `[admin]`: every option reaches its field.

use super::*;

#[test]
fn every_option_of_the_admin_listener_reaches_its_field() {
    let of = |text: &str| {
        let auth = "[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n";
        read_beside_tokens(&format!("{auth}[admin]\n{text}")).admin
    };
    let admin = of(r#"
        address = "[::1]:9000"
        hosts = ["Gate.example"]
        auth = "ops"
        allow = [{ who = "prom*", rights = "read" }, { claims = { group = "x" }, rights = ["act", "tail"] }, {}]
        "#);
    let listener = admin.listener.as_ref().unwrap();
    assert_eq!(listener.address, ListenAddress::Tcp("[::1]:9000".parse().unwrap()));
    assert_eq!(listener.hosts, Hosts::Named(vec!["gate.example".to_owned()]));
    assert!(admin.is_wanted && admin.auth == [AuthId(0)] && listener.tls.is_none());
    let rule = |who, claims: &[(&str, &str)], rights: &[Right]| AdminRule {
        who: Glob::new(who),
        claims: claims.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).into()])).collect(),
        rights: rights.iter().copied().collect(),
    };
    let all = [Right::Read, Right::Tail, Right::Act];
    let rules = [rule("prom*", &[], &all[..1]), rule("*", &[("group", "x")], &all[1..]), rule("*", &[], &all)];
    assert_eq!(admin.allow.as_deref().map(|rules| &rules[..]), Some(&rules[..]));
    assert_eq!(of("address = \"off\"").listener, None);
    let local = of("address = \"unix:run/admin.sock\"").listener.unwrap();
    assert_eq!((local.hosts, local.address.is_local()), (Hosts::Any, true));
}

#[test]
fn every_option_of_signed_tokens_reaches_its_field() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), "x".repeat(32)).unwrap();
    let head = "[[auth]]\nname = \"a\"\nkind = \"jwt\"\nfile = \"key\"\nalgorithm = \"HS256\"\n";
    let read = |more: &str| {
        let settings = parse(&format!("{head}{more}"), "test.toml", directory.path());
        settings.unwrap_or_else(|error| panic!("{error}")).auths.remove(0).kind
    };
    let plain = JwtSettings { algorithm: Some(Algorithm::Hs256), ..JwtSettings::default() };
    assert_eq!(read(""), AuthKind::Jwt(plain.clone().into(), KeySource::File(directory.path().join("key"))));
    let more = "issuer = \"i\"\naudience = [\"a\", \"b\"]\nleeway = \"off\"\nidentity_from = \"email\"\nclaims = [\"group\"]\n";
    assert_eq!(
        read(more),
        AuthKind::Jwt(
            JwtSettings {
                issuers: vec!["i".to_owned()],
                audiences: vec!["a".to_owned(), "b".to_owned()],
                leeway: Duration::ZERO,
                identity_from: "email".to_owned(),
                claims: vec!["group".to_owned()],
                ..plain
            }
            .into(),
            KeySource::File(directory.path().join("key"))
        )
    );
    for (key, example) in raw::auth::AUTH.keys[7..13].iter().filter(|(key, _)| *key != "algorithm") {
        read(&format!("{key} = {example}\n"));
    }
    let [(_, algorithm)] = raw::auth::AUTH.keys[7..8] else { panic!("the first of them is the algorithm") };
    let of_none = parse(&head.replace("\"HS256\"", algorithm), "test.toml", directory.path()).unwrap_err().to_string();
    assert!(of_none.contains("is neither PEM nor a JWK set"), "{of_none}");
}

#[test]
fn every_option_of_a_server_that_is_asked_reaches_its_field() {
    let of = |kind: &str, more: &str| read(&format!("[[auth]]\nname = \"a\"\n{kind}\n{more}")).auths.remove(0).kind;
    let issued = "kind = \"jwt\"\njwks_url = \"https://login.example/keys?v=1\"";
    let service = "kind = \"http\"\nurl = \"https://accounts.example/\"";
    let server = |url: &str| {
        let dial = DialSettings::new(url::parse_as(url::Protocol::Http, url).unwrap());
        let dial = DialSettings { connect_timeout: Duration::from_secs(5), ..dial };
        AuthServer { shown: url::fit_to_show(url), dial }
    };
    let keys = JwksSettings::new(server("https://login.example/keys?v=1"));
    assert_eq!(of(issued, ""), AuthKind::Jwt(JwtSettings::default().into(), KeySource::Url(Box::new(keys.clone()))));
    assert_eq!(keys.server.shown, "https://login.example/keys?***");
    let changed =
        JwksSettings { refresh_interval: Duration::from_secs(7), stale_for: Duration::from_secs(3600), ..keys };
    assert_eq!(
        of(issued, "algorithm = \"ES256\"\nrefresh_interval = \"7s\"\nstale_for = \"1h\""),
        AuthKind::Jwt(
            JwtSettings { algorithm: Some(Algorithm::Es256), ..JwtSettings::default() }.into(),
            KeySource::Url(Box::new(changed))
        )
    );
    let plain = CalloutSettings::new(server("https://accounts.example/"));
    assert_eq!(of(service, ""), AuthKind::Http(Box::new(plain.clone())));
    let dial = DialSettings {
        connect_timeout: Duration::from_secs(2),
        headers: vec![("X-Key".to_owned(), Secret::new("abc"))],
        proxy: Proxy::Off,
        tls: DialTls { verify: false, ..DialTls::default() },
        ..plain.server.dial.clone()
    };
    let more = "answer_timeout = \"2s\"\nheaders = { X-Key = \"abc\" }\nproxy = \"off\"\ntls = { verify = false }\n\
                forward_headers = [\"X-Id\"]\nmax_requests = 3\ncache_for = \"1m\"\nclaims = \"group\"";
    assert_eq!(
        of(service, more),
        AuthKind::Http(Box::new(CalloutSettings {
            server: AuthServer { dial, ..plain.server },
            forward_headers: vec!["X-Id".to_owned()],
            claims: vec!["group".to_owned()],
            max_requests: 3,
            cache_for: Duration::from_secs(60),
        }))
    );
    for (key, example) in raw::auth::AUTH.keys[13..].iter().filter(|(key, _)| *key != "tls") {
        let is_of_jwks = matches!(*key, "jwks_url" | "refresh_interval" | "stale_for");
        let kind = if is_of_jwks { issued } else { service };
        let kind = kind.lines().filter(|line| !line.starts_with(&format!("{key} "))).collect::<Vec<_>>().join("\n");
        of(&kind, &format!("{key} = {example}"));
    }
}

#[test]
fn what_a_server_that_is_asked_cannot_be_is_a_mistake() {
    let service = "[[auth]]\nname = \"a\"\nkind = \"http\"\n";
    let issued = "[[auth]]\nname = \"a\"\nkind = \"jwt\"\njwks_url = \"https://h/\"\n";
    for (text, mistake) in [
        (service.to_owned(), "\"url\" is missing in [[auth]]"),
        (format!("{service}url = \"ws://h/\""), "no URL of an HTTP server: 'ws' is not an HTTP scheme"),
        (
            format!("{service}url = \"http://h/\"\ntls = {{}}"),
            "no meaning for a http:// URL: remove it, or write https://",
        ),
        (format!("{service}url = \"https://h/\"\nfile = \"x\""), "beside the URL of a server"),
        (format!("{service}url = \"https://h/\"\nissuer = \"x\""), "no meaning without kind = \"jwt\""),
        (format!("{service}url = \"https://h/\"\nstale_for = \"1h\""), "no meaning without jwks_url"),
        (format!("{service}url = \"https://h/\"\nmax_requests = 0"), "must be from 1 to 1024"),
        (format!("{service}url = \"https://h/\"\nforward_headers = [\"a b\"]"), "is no name of a header"),
        (format!("{issued}refresh_interval = \"900ms\""), "is too short"),
        (format!("{issued}stale_for = \"1m\""), "is 1m, but the keys are loaded only every 10m"),
        (format!("{issued}file = \"x\""), "beside the URL of a server"),
        (format!("{issued}url = \"https://h/\""), "no meaning without kind = \"http\""),
        (
            "[[auth]]\nname = \"a\"\nkind = \"tokens\"\nanswer_timeout = \"1s\"".to_owned(),
            "no meaning without a server",
        ),
        ("[[auth]]\nname = \"a\"\nkind = \"jwt\"".to_owned(), "\"file\" is missing"),
    ] {
        let mistakes = mistakes(&text);
        assert!(mistakes.iter().any(|told| told.contains(mistake)), "{text}: {mistakes:?}");
    }
    for (text, warning) in [
        (format!("{service}url = \"http://h/\""), "read the credentials of clients"),
        (format!("{issued}answer_timeout = \"1m\"").replace("https", "http"), "give wsgate keys of its own"),
        (format!("{service}url = \"http://localhost/\"\nanswer_timeout = \"1m\""), "no longer than handshake_timeout"),
    ] {
        let warnings = read(&text).warnings;
        assert!(warnings.iter().any(|told| told.contains(warning)), "{text}: {warnings:?}");
    }
    assert_eq!(read(&format!("{service}url = \"http://[::1]:9/\"")).warnings.len(), 1, "only that nobody asks for it");
    // A service can go by other headers alone.
    read(&format!("{service}url = \"https://h/\"\nauthorization = false\nforward_headers = [\"X-Api-Key\"]"));
}

#[test]
fn each_name_of_a_certificate_can_be_chosen_and_no_file_is_wanted() {
    let names = [
        ("", IdentityFrom::CommonName),
        ("identity_from = \"cn\"", IdentityFrom::CommonName),
        ("identity_from = \"san\"", IdentityFrom::San),
        ("identity_from = \"dns\"", IdentityFrom::Dns),
        ("identity_from = \"uri\"", IdentityFrom::Uri),
        ("identity_from = \"email\"", IdentityFrom::Email),
    ];
    for (line, from) in names {
        let text = format!("[[auth]]\nname = \"a\"\nkind = \"certificate\"\n{line}");
        let settings = parse(&text, "test.toml", Path::new("")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.auths[0].kind, AuthKind::Certificate(from), "{line}");
    }
}
