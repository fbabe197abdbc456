//! The request head: read from a socket, judged, admitted and answered.
//!
//! Input: what a peer sends, first byte to last.

#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use libfuzzer_sys::fuzz_target;
use wsgate::internals::approach::AskedHost;
use wsgate::internals::client::admit;
use wsgate::internals::config::{EndpointSettings, ListenerSettings, Origins};
use wsgate::internals::connection::handshake::{Head, HeadError, Stream};
use wsgate::internals::connection::socket::Socket;
use wsgate::internals::http::refusal::{Body, Refusal};
use wsgate::internals::http::request::{HEAD_MAX, Intent, Request, accept, judge};
use wsgate::internals::path::Pattern;
use wsgate::internals::route::Routes;

/// Far away: everything is there before the reading begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// The statuses that a request can be refused with here.
const STATUSES: [u16; 7] = [400, 403, 404, 405, 426, 431, 505];

static ENDPOINTS: LazyLock<Vec<EndpointSettings>> = LazyLock::new(|| {
    let subprotocols = vec!["chat.v1".to_owned(), "x".to_owned()];
    let pattern = |text| Pattern::parse(text).expect("a good path");
    let origins = Origins::List { same: false, others: vec!["https://dash.example".to_owned()] };
    vec![
        EndpointSettings { subprotocols, ..EndpointSettings::default() },
        EndpointSettings { path: pattern("/rooms/{room}"), origins, ..EndpointSettings::default() },
        EndpointSettings { path: pattern("/any"), origins: Origins::Any, ..EndpointSettings::default() },
    ]
});

static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::new(&ENDPOINTS, &[]));

fuzz_target!(|data: &[u8]| {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.set_nonblocking(true).expect("a socket can be made so");
    // What the socket does not take the peer has not sent.
    let mut sent = 0;
    while sent < data.len() {
        match theirs.write(&data[sent..]) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    let data = &data[..sent];
    theirs.shutdown(std::net::Shutdown::Write).expect("the socket is connected");
    let mut stream = Stream::new(Arc::new(Socket::new(ours)), None);
    let end = data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    match stream.read_head(Instant::now() + PATIENCE) {
        Ok(Head { bytes, behind }) => {
            assert_eq!(Some(bytes.len()), end, "the head ends elsewhere");
            assert!(data.starts_with(&[&bytes[..], &behind].concat()), "bytes are lost or changed");
            // Nobody who keeps to the limit is refused for it, nobody gets beyond it.
            assert!(bytes.len() <= HEAD_MAX, "{} bytes", bytes.len());
            judged(&bytes);
        }
        Err(HeadError::TooLong) => assert!(end.is_none_or(|end| end > HEAD_MAX), "it was not too long"),
        Err(HeadError::Silent) => assert!(data.is_empty(), "something was sent"),
        Err(HeadError::Incomplete) => {
            assert!(!data.is_empty(), "nothing was sent");
            assert_eq!(end, None, "a complete head was not seen");
        }
        Err(HeadError::Misplaced(other)) => {
            let is_none = !data[0].is_ascii_graphic() && !b"\r\n".contains(&data[0]);
            assert!(is_none || data.starts_with(b"PROXY ") || data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{other:?}");
        }
        Err(error) => panic!("{error:?}"),
    }
});

fn judged(head: &[u8]) {
    let request = match judge(head) {
        Ok(request) => request,
        Err(refusal) => return refused(&refusal),
    };
    sound(head, &request);
    let host = AskedHost { name: request.host.to_owned(), is_forwarded: false };
    let admission = match admit(&request, &ROUTES, |id| ENDPOINTS.get(id.0), &ListenerSettings::default(), &host) {
        Ok(admission) => admission,
        Err(refusal) => return refused(&refusal),
    };
    assert_eq!(request.intent, Intent::Upgrade { key: admission.key });
    let subprotocol = admission.subprotocol.as_deref();
    assert!(subprotocol.is_none_or(|agreed| request.subprotocols.contains(&agreed)));
    let answer = accept(admission.key, subprotocol);
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut fields);
    assert_eq!(response.parse(&answer), Ok(httparse::Status::Complete(answer.len())));
    assert_eq!(response.code, Some(101));
    assert_eq!(response.headers.len(), 3 + usize::from(subprotocol.is_some()), "a header was slipped in");
}

/// What holds for every request that is let through.
fn sound(head: &[u8], request: &Request<'_>) {
    assert!(request.path.starts_with('/') && !request.path.contains(['?', '#', ' ']));
    let said = [Some(request.host), request.origin, request.user_agent];
    for text in said.into_iter().flatten().chain(request.subprotocols.iter().copied()) {
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
    if let Intent::Upgrade { key } = request.intent {
        // The last digit's unused bits may be anything: RFC 4648 section 3.5 leaves that open.
        let mut canonical = key.to_owned();
        canonical.replace_range(21..22, "A");
        let decoded = data_encoding::BASE64.decode(canonical.as_bytes());
        assert_eq!(decoded.map(|bytes| bytes.len()), Ok(16), "{key:?}");
    }
    // A body would be read as frames.
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.to_ascii_lowercase());
    for line in lines.skip(1).filter(|line| line.starts_with(b"content-length:")) {
        let value = line["content-length:".len()..].trim_ascii();
        assert_eq!(value, b"0", "{:?}", String::from_utf8_lossy(head));
    }
    assert!(!head.to_ascii_lowercase().windows(19).any(|window| window == b"\ntransfer-encoding:"));
}

/// A refusal is one whole HTTP answer, whatever of the request stands in it.
fn refused(refusal: &Refusal) {
    let answer = refusal.to_http(SystemTime::UNIX_EPOCH, Body::Whole);
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = response.parse(&answer) else {
        panic!("{:?}", String::from_utf8_lossy(&answer));
    };
    assert_eq!(response.code, Some(refusal.status));
    assert!(STATUSES.contains(&refusal.status), "{refusal:?}");
    let names: Vec<_> = response.headers.iter().map(|field| field.name).collect();
    let extra = match refusal.status {
        405 => 1,
        426 => 2,
        _ => 0,
    };
    assert_eq!(names.len(), 4 + extra, "{names:?}");
    let length = response.headers.iter().find(|field| field.name == "Content-Length").expect("it has a body").value;
    assert_eq!(length, (answer.len() - end).to_string().as_bytes());
    assert_eq!(&answer[end..], refusal.body().as_bytes());
}
