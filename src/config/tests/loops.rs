//! Ways round, on which a message would go for ever.

use super::*;

/// The ways round that are told for these routes of links and endpoints.
fn loops(text: &str) -> Vec<String> {
    match parse(text, "x.toml", Path::new("")) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .to_string()
            .lines()
            .filter_map(|line| Some(line.split_once("for ever: ")?.1.split_once(';')?.0.to_owned()))
            .collect(),
    }
}

#[test]
fn a_way_round_is_found_where_there_is_one() {
    let link = |name: &str, url: &str, to: &str| format!("[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nto = {to}\n");
    let endpoint = |path: &str, to: &str| format!("[[endpoint]]\npath = \"{path}\"\nto = {to}\n");
    let own = "ws://127.0.0.1:8080";
    let (away, home) = ("ws://away", |path: &str| format!("{own}{path}"));
    let cases: [(&str, String, &[&str]); 18] = [
        ("one way", link("a", away, "[\"link:b\"]") + &link("b", away, "[]"), &[]),
        (
            "two links to each other",
            link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:a\"]"),
            &["link:a -> link:b -> link:a"],
        ),
        (
            "three",
            link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:c\"]") + &link("c", away, "[\"link:a\"]"),
            &["link:a -> link:b -> link:c -> link:a"],
        ),
        ("allowed", link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:a\"]\nallow_loop = true"), &[]),
        ("clients are no remote", endpoint("/", "[\"link:a\"]") + &link("a", away, "[\"endpoint:/\"]"), &[]),
        ("a reply", link("a", away, "[\"reply\"]"), &[]),
        ("ourselves, and nothing comes back", endpoint("/", "[]") + &link("a", own, "[\"reply\"]"), &[]),
        ("ourselves, and what comes is discarded", endpoint("/", "[\"broadcast\"]") + &link("a", own, "[]"), &[]),
        (
            "a broadcast comes back",
            endpoint("/", "[\"broadcast\"]") + &link("a", own, "[\"reply\"]"),
            &["link:a -> endpoint:/ -> link:a"],
        ),
        ("others leave it out", endpoint("/", "[\"others\"]") + &link("a", own, "[\"reply\"]"), &[]),
        (
            "but not two of them",
            endpoint("/", "[\"others\"]") + &link("a", own, "[\"reply\"]") + &link("b", own, "[\"reply\"]"),
            &["link:a -> endpoint:/ -> link:b -> endpoint:/ -> link:a"],
        ),
        (
            "in different rooms",
            endpoint("/r/{x}", "[\"others\"]")
                + &link("a", &home("/r/1"), "[\"reply\"]")
                + &link("b", &home("/r/2"), "[\"reply\"]"),
            &[],
        ),
        (
            "what is sent to a link's own endpoint",
            endpoint("/in", "[]") + &link("a", &home("/in"), "[\"endpoint:/in\"]"),
            &["link:a -> endpoint:/in -> link:a"],
        ),
        (
            "an endpoint that sends into the link that is its client",
            endpoint("/in", "[\"link:a\"]") + &link("a", &home("/in"), "[]"),
            &["link:a -> endpoint:/in -> link:a"],
        ),
        (
            "through two endpoints",
            endpoint("/in", "[\"endpoint:/out\"]")
                + &endpoint("/out", "[]")
                + &link("a", &home("/in"), "[]")
                + &link("b", &home("/out"), "[\"link:a\"]"),
            &["link:a -> endpoint:/in -> endpoint:/out -> link:b -> link:a"],
        ),
        ("another port", endpoint("/", "[\"reply\"]") + &link("a", "ws://127.0.0.1:8081", "[\"reply\"]"), &[]),
        ("the endpoint that is not written", link("a", own, "[\"endpoint:/\"]"), &["link:a -> endpoint:/ -> link:a"]),
        (
            "two ways round",
            link("a", away, "[\"link:b\"]")
                + &link("b", away, "[\"link:a\"]")
                + &link("c", away, "[\"link:d\"]")
                + &link("d", away, "[\"link:c\"]"),
            &["link:a -> link:b -> link:a", "link:c -> link:d -> link:c"],
        ),
    ];
    for (what, text, expected) in cases {
        assert_eq!(loops(&text), expected, "{what}");
    }
}

#[test]
fn a_relay_that_dials_itself_is_found() {
    let relay = |path: &str, to: &str| {
        format!("[[endpoint]]\npath = \"{path}\"\nrelay = {{ url = \"ws://localhost:8080{to}\" }}\n")
    };
    let found = mistakes(&(relay("/a/{x}", "/b/{x}") + &relay("/b/{y}", "/a/{y}") + &relay("/c", "/a/1")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("itself without end: endpoint:/a/{x} -> endpoint:/b/{y} -> endpoint:/a/{x};"),
        "{found:?}"
    );
    let found = mistakes(&relay("/c", "/c"));
    assert!(found[0].contains("endpoint:/c -> endpoint:/c;"), "{found:?}");
    read(&(relay("/a", "/b") + "[[endpoint]]\npath = \"/b\"\n"));
}
