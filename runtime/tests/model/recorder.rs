//! A recorder to look into: what was described, what was registered, and what it stands at.
//!
//! Knows no name of ours. Invariant: what is asked for by some of its labels is the sum over all
//! series that carry them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering},
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// See above. Clones look at the same.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    described: BTreeMap<String, Described>,
    counters: BTreeMap<Series, Arc<AtomicU64>>,
    gauges: BTreeMap<Series, Arc<AtomicU64>>,
    histograms: BTreeMap<Series, Arc<Samples>>,
}

/// What was said of a name.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Described {
    pub(crate) kind: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) meaning: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

/// Some labels of a series.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Record {
    /// What a counter stands at.
    pub(crate) fn counter(&self, name: &str, labels: Labels) -> u64 {
        self.look(|seen| chosen(&seen.counters, name, labels).map(load).sum())
    }

    /// What a gauge stands at.
    pub(crate) fn gauge(&self, name: &str, labels: Labels) -> f64 {
        self.look(|seen| {
            chosen(&seen.gauges, name, labels).map(|cell| f64::from_bits(load(cell))).sum()
        })
    }

    /// What a histogram was given.
    pub(crate) fn samples(&self, name: &str, labels: Labels) -> Vec<f64> {
        self.look(|seen| {
            chosen(&seen.histograms, name, labels).flat_map(|cell| cell.all()).collect()
        })
    }

    /// What was said of a name.
    pub(crate) fn described(&self, name: &str) -> Option<Described> {
        self.look(|seen| seen.described.get(name).cloned())
    }

    /// The labels of each registered name.
    pub(crate) fn registered(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.look(|seen| {
            let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            let series = seen.counters.keys().chain(seen.gauges.keys());
            for series in series.chain(seen.histograms.keys()) {
                let labels = names.entry(series.name.clone()).or_default();
                labels.extend(series.labels.keys().cloned());
            }
            names
        })
    }

    fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn describe(&self, name: &KeyName, described: Described) {
        self.look(|seen| seen.described.insert(name.as_str().to_owned(), described));
    }
}

impl Recorder for Record {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, Described { kind: "counter", unit, meaning: meaning.into_owned() });
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, Described { kind: "gauge", unit, meaning: meaning.into_owned() });
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(&name, Described { kind: "histogram", unit, meaning: meaning.into_owned() });
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let cell = self.look(|seen| Arc::clone(seen.counters.entry(Series::of(key)).or_default()));
        Counter::from_arc(cell)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let cell = self.look(|seen| Arc::clone(seen.gauges.entry(Series::of(key)).or_default()));
        Gauge::from_arc(cell)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let series = Series::of(key);
        Histogram::from_arc(
            self.look(|seen| Arc::clone(seen.histograms.entry(series).or_default())),
        )
    }
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(value);
    }
}

impl Samples {
    fn all(&self) -> Vec<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Series {
    fn of(key: &Key) -> Self {
        let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
        Self { name: key.name().to_owned(), labels: key.labels().map(label).collect() }
    }

    fn carries(&self, name: &str, labels: Labels) -> bool {
        let has = |(key, value): &(&str, &str)| {
            self.labels.get(*key).is_some_and(|carried| carried == value)
        };
        self.name == name && labels.iter().all(has)
    }
}

fn chosen<'a, T>(
    all: &'a BTreeMap<Series, T>,
    name: &'a str,
    labels: Labels<'a>,
) -> impl Iterator<Item = &'a T> {
    all.iter().filter(move |(series, _)| series.carries(name, labels)).map(|(_, cell)| cell)
}

fn load(cell: &Arc<AtomicU64>) -> u64 {
    cell.load(Ordering::Relaxed)
}
