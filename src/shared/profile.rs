//! What holds for each connection of an endpoint or a link, in the units that threads use.

use std::time::Duration;

use crate::clock;
use crate::config::{EndpointSettings, LinkSettings, QueueSettings, RateSettings, WhenFull};
use crate::connection::frame::CorkLimits;
use crate::connection::intake::IntakeLimits;
use crate::connection::keepalive::Keepalive;
use crate::connection::outbox::Limits;
use crate::limit::Rate;

/// The bounds and deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Those of its outbox.
    pub limits: Limits,
    /// When it is pinged, and when it counts as dead.
    pub keepalive: Keepalive,
    /// How much is joined into one frame for it.
    pub cork: CorkLimits,
    /// Bytes of one message from its peer, fragments together.
    pub max_message: usize,
    /// How fast its peer may send.
    pub intake: Option<IntakeLimits>,
    /// How long the kernel may take no byte, for TCP itself.
    pub write_timeout: Option<Duration>,
}

impl Profile {
    /// For the clients of an endpoint, and for the upstreams of its relay.
    pub fn of_endpoint(settings: &EndpointSettings, close_timeout: Duration) -> Profile {
        let EndpointSettings { queue, write_timeout, .. } = settings;
        Profile {
            limits: limits(*queue, *write_timeout, close_timeout),
            keepalive: keepalive(settings.heartbeat, settings.pong_timeout, settings.message_timeout),
            cork: CorkLimits::for_queue(queue.messages, queue.bytes),
            max_message: settings.max_message,
            intake: settings.rate.map(intake),
            write_timeout: *write_timeout,
        }
    }

    /// For the connections of a link.
    pub fn of_link(settings: &LinkSettings, close_timeout: Duration) -> Profile {
        // Messages wait for room in its outbox; what does not wait, a ping of text, must not drive them out.
        let queue = QueueSettings { when_full: WhenFull::DropNewest, ..QueueSettings::default() };
        let LinkSettings { write_timeout, .. } = settings;
        Profile {
            limits: limits(queue, *write_timeout, close_timeout),
            keepalive: keepalive(settings.heartbeat, settings.pong_timeout, settings.message_timeout),
            cork: CorkLimits::for_queue(settings.queue.messages, settings.queue.bytes),
            max_message: settings.max_message,
            intake: None,
            write_timeout: *write_timeout,
        }
    }
}

fn intake(settings: RateSettings) -> IntakeLimits {
    let RateSettings { messages, bytes, burst, when_over } = settings;
    let rate = |per_second: u64| {
        let at_once = u128::from(per_second) * burst.as_millis() / 1000;
        Rate { per_second, burst: u64::try_from(at_once).unwrap_or(u64::MAX).max(1) }
    };
    IntakeLimits { messages: messages.map(rate), bytes: bytes.map(rate), when_over }
}

fn limits(queue: QueueSettings, write_timeout: Option<Duration>, close_timeout: Duration) -> Limits {
    let write_timeout = write_timeout.map(clock::ticks);
    Limits { queue, write_timeout, close_timeout: clock::ticks(close_timeout) }
}

fn keepalive(heartbeat: Option<Duration>, pong_timeout: Duration, message_timeout: Option<Duration>) -> Keepalive {
    Keepalive {
        heartbeat: heartbeat.map(clock::ticks),
        pong_timeout: clock::ticks(pong_timeout),
        message_timeout: message_timeout.map(clock::ticks),
    }
}
