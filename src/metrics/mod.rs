//! `/metrics`: what the gateway has counted and how it stands, as Prometheus reads it.
//!
//! Nothing is kept here. Each scrape looks at every client, as its own thread and its outbox have counted, and adds the
//! sum of those that have left. So a message costs nothing for it, and no thread waits.

mod clients;
mod families;
mod gateway;
mod links;
mod process;
mod stores;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use crate::metrics::families::Families;
use crate::shared::Shared;

/// The Content-Type of what [`render`] writes: the text format of Prometheus, version 0.0.4.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// All metrics at this moment.
pub fn render(shared: &Arc<Shared>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(shared))));
    let mut text = String::new();
    // Only what it writes to can fail, and a string does not.
    prometheus_text::encode(&mut text, &registry).expect("a string takes everything");
    text
}

/// One look at everything.
#[derive(Debug)]
struct Scrape(Arc<Shared>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (shared, mut families) = (&*self.0, Families::new(encoder));
        gateway::encode(shared, &mut families)?;
        clients::encode(shared, &mut families)?;
        links::encode(shared, &mut families)?;
        stores::encode(shared, &mut families)?;
        process::encode(shared, &mut families)
    }
}
