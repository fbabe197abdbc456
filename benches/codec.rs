//! What a format costs a message, without a socket.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use wsgate::internals::config::Format;
use wsgate::internals::format::{decode, encode};
use wsgate::internals::id::Id;
use wsgate::internals::message::{Kind, Message, Origin};

/// 100 bytes, as a switch might send them.
const SWITCH: &str =
    r#"{"topic":"hall/3/door/2/lock","payload":{"state":"open","since":1767225599999},"qos":1,"retain":true}"#;

/// 200 bytes, as a sensor's gateway might send them.
const READING: &str = r#"{"topic":"plant/7/press-3/temperature","payload":{"value":81.25,"unit":"C","valid":true,"limits":[20,95.5]},"time":1767225599999,"sequence":18446744073709551615,"_msgid":"a1b2c3d4e5f60718abc","qos":1}"#;

fn codec(criterion: &mut Criterion) {
    let origin = Origin {
        session: Id::from(0x0123_4567_89ab_cdef),
        client_ip: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: Some("press-3/1.0".into()),
        subprotocol: None,
        connected_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_599),
        identity: None,
        description: Default::default(),
    };
    let now = origin.connected_at + Duration::from_millis(4_321);
    let mut large = READING.replace("plant", &"plant".repeat(12_800));
    large.insert_str(1, r#""_session":null,"#);

    let batch = |one: &str, count: usize| format!(r#"{{"payload":[{}],"qos":1}}"#, vec![one; count].join(","));
    let (readings, switches) = (batch(READING, 5), batch(SWITCH, 640));
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let no_json = READING.replace('"', "'");

    let cases = [
        ("payload to payload", Format::Payload, Format::Payload, READING),
        ("payload to message", Format::Payload, Format::Message, READING),
        ("message to message", Format::Message, Format::Message, READING),
        ("message to payload", Format::Message, Format::Payload, READING),
        ("message to message, 64 KiB, forged", Format::Message, Format::Message, &large),
        ("message to message, 100 B", Format::Message, Format::Message, SWITCH),
        ("message to message, 1 KiB, nested", Format::Message, Format::Message, &readings),
        ("message to message, 64 KiB, nested", Format::Message, Format::Message, &switches),
        ("message to message, 1,000 levels", Format::Message, Format::Message, &deep),
        ("message to message, no JSON", Format::Message, Format::Message, &no_json),
        ("n8n to n8n", Format::N8n, Format::N8n, READING),
    ];
    let mut group = criterion.benchmark_group("codec");
    for (name, from, to, text) in cases {
        let message = Message { kind: Kind::Text, data: Bytes::from(text.to_owned()) };
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let decoded = decode(from, black_box(&message).clone());
                encode(to, &decoded, &origin, now)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
