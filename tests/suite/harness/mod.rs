//! What the tests stand on: a running gateway, certificates for it, and a client that speaks bytes.

mod attack;
mod canary;
pub(crate) mod certificates;
pub(crate) mod command;
mod dice;
mod disk;
mod figure;
mod flow;
mod gateway;
pub(crate) mod http_server;
pub(crate) mod jwt;
mod namespace;
pub(crate) mod node_red;
mod private;
pub(crate) mod process;
pub(crate) mod prometheus;
mod proxy;
mod raw;
pub(crate) mod reloads;
mod remote;
pub(crate) mod scrape;
mod secrets;
mod story;
mod wait;
mod way;

pub(crate) use attack::Attack;
pub(crate) use canary::Canary;
pub(crate) use dice::Dice;
pub(crate) use disk::Disk;
pub(crate) use figure::measured;
pub(crate) use flow::Flow;
pub(crate) use gateway::{ADMIN_LINE, Gateway, port_in};
pub(crate) use namespace::{Cable, Carried, LossyLine, NEAR, Namespace};
pub(crate) use node_red::NodeRed;
pub(crate) use private::private_directory;
pub(crate) use proxy::{Proxy, replaced};
pub(crate) use raw::{Frame, Raw, masked, request, unmasked};
pub(crate) use remote::{Linked, Remote};
pub(crate) use secrets::expect_no_secret;
pub(crate) use story::{LISTENERS, Wire, with_any_deliverers};
pub(crate) use wait::{eventually, pass};
pub(crate) use way::{by_way_of, nobody, run_as, with_program};

use std::time::Duration;

/// The longest that any single wait of a test may take: far more than a healthy gateway needs
/// on a busy machine, and short enough that a hang shows its log within one test run.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
