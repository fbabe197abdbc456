//! The examples beside the manual.

use super::*;

const ROOMS: &str = include_str!("../../../config/rooms.toml");
const LINK: &str = include_str!("../../../config/link.toml");
const RELAY_UPSTREAM: &str = include_str!("../../../config/relay-upstream.toml");

#[test]
fn the_example_of_ingestion_is_valid() {
    let settings = read(include_str!("../../../config/ingest.toml"));
    assert_eq!(settings.endpoints[0].to, [Destination::Store(StoreId(0))]);
    assert_eq!(settings.endpoints[0].ack, Ack::Stored);
    assert_eq!(settings.stores, [StoreSettings::new("readings", "/etc/wsgate/readings.db".into())]);
}

#[test]
fn the_example_of_rooms_is_valid() {
    let settings = read(ROOMS);
    assert_eq!(settings.endpoints.len(), 1);
    assert_eq!(settings.endpoints[0].path.as_str(), "/rooms/{room}");
    assert_eq!(settings.endpoints[0].to, [Destination::Others]);
}

#[test]
fn the_examples_of_a_link_and_of_a_relay_to_another_server_are_valid() {
    let settings = read(LINK);
    assert_eq!(settings.endpoints[0].to, [Destination::Link(LinkId(0))]);
    let template = Template::parse("/plc").unwrap();
    assert_eq!(settings.links[0].to, [LinkDestination::Endpoint { id: EndpointId(0), template }]);
    let settings = read(RELAY_UPSTREAM);
    let relay = settings.endpoints[0].relay.as_ref().unwrap();
    assert_eq!(relay.dial.url.to_string(), "ws://127.0.0.1:8080/rooms/");
    assert_eq!(relay.path.fill(|_| "7"), "/rooms/7");
    assert_eq!(settings.endpoints[0].to, []);
}
