//! Writing metrics: a name, a sentence, and a value for each set of labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::histogram::Reading;

/// The labels of a series, each with its value. Values come from the configuration or are words of ours: there is never one
/// that peers choose.
pub(super) type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

/// Metrics, one after the other.
#[derive(Debug)]
pub(super) struct Families<'e>(DescriptorEncoder<'e>);

impl<'e> Families<'e> {
    pub(super) fn new(encoder: DescriptorEncoder<'e>) -> Families<'e> {
        Families(encoder)
    }

    /// A value that goes up and down, without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    /// A sum, without labels. `_total` is added to its name.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    /// Values that go up and down.
    pub(super) fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, series, |encoder, value| encoder.encode_gauge(value))
    }

    /// Sums. `_total` is added to their name.
    pub(super) fn counters<'l, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, series, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    /// Histograms.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, Reading)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, series, |encoder, reading| {
            encoder.encode_histogram::<NoLabelSet>(reading.sum, reading.count(), &reading.buckets, None)
        })
    }

    /// One metric; nothing if it has no series, as those of links where there is no link.
    fn family<'l, const N: usize, V>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        series: impl IntoIterator<Item = (Labels<'l, N>, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, None, metric_type)?;
        series.try_for_each(|(labels, value)| write(&mut encoder.encode_family(&labels)?, &value))
    }
}
