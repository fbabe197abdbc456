//! What a gateway says at `/metrics`, as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use super::DEADLINE;

/// All metrics of one moment.
#[derive(Debug, Clone)]
pub(crate) struct Scrape(pub(crate) String);

/// What stands of a metric above its series, and in their labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Without that of the buckets.
    pub(crate) labels: BTreeSet<String>,
}

impl Scrape {
    /// Asks at the admin address with this port.
    pub(crate) fn of(port: u16) -> Scrape {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        Scrape(body.to_owned())
    }

    /// The value of this series, such as `wsgate_clients{endpoint="/"}`; `None` if there is none.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// The value of this series, which is there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("there is no {series} in\n{}", self.0))
    }

    /// The sum of all series of this metric.
    pub(crate) fn sum(&self, metric: &str) -> f64 {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(metric));
        series
            .filter(|rest| rest.starts_with(['{', ' ']))
            .map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Every metric that is there.
    pub(crate) fn metrics(&self) -> BTreeSet<Metric> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types
            .map(|(name, kind)| {
                let series = self.0.lines().filter(|line| family(line) == Some(name) || histogram(line) == Some(name));
                let labels = series.flat_map(|line| labels(line).into_iter().map(|(label, _)| label));
                let labels = labels.filter(|label| label != "le").collect();
                Metric { name: name.to_owned(), kind: kind.to_owned(), labels }
            })
            .collect()
    }

    /// The lines of values, by metric.
    pub(crate) fn values(&self) -> BTreeMap<String, Vec<String>> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Metric { name, .. } in self.metrics() {
            let of_it = |line: &&str| family(line) == Some(&*name) || histogram(line) == Some(&*name);
            values.insert(name.clone(), self.0.lines().filter(of_it).map(str::to_owned).collect());
        }
        values
    }
}

/// The name in a line with a value.
fn family(line: &str) -> Option<&str> {
    (!line.starts_with('#')).then(|| line.split(['{', ' ']).next().unwrap())
}

/// The same without what the series of a histogram end with.
fn histogram(line: &str) -> Option<&str> {
    let name = family(line)?;
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))
}

/// The labels in a line and their values, none of which has a quote.
pub(crate) fn labels(line: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let (inside, _) = rest.rsplit_once('}').unwrap();
    let pairs = inside.split_terminator("\",").map(|pair| pair.trim_end_matches('"').split_once("=\"").unwrap());
    pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}
