//! The words for formats and events, which endpoints and links have in common.

use crate::config::settings::{EventKind, Format};

pub(super) const FORMATS: [(&str, Format); 3] =
    [("payload", Format::Payload), ("message", Format::Message), ("n8n", Format::N8n)];
pub(super) const EVENTS_OF_CLIENTS: [(&str, EventKind); 4] = [
    ("connect", EventKind::Connect),
    ("disconnect", EventKind::Disconnect),
    ("error", EventKind::Error),
    ("present", EventKind::Present),
];
pub(super) const EVENTS: [(&str, EventKind); 3] =
    [("connect", EventKind::Connect), ("disconnect", EventKind::Disconnect), ("error", EventKind::Error)];
