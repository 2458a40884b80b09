//! What has been counted, as plain data that can be kept in a file, added up and told.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

use super::families::{ALL, Family, Kind};

/// Counts by the name of the family and the values of its labels in the order of its declaration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, Vec<Sample>>);

/// One series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    labels: Vec<String>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Counter(f64),
    Gauge(f64),
    Histogram { buckets: Vec<u64>, sum: f64, count: u64 },
}

impl Snapshot {
    /// Takes what a registry has gathered. Gauges of this process alone (what is under way) end with it and are left out.
    pub fn of(gathered: &[MetricFamily]) -> Self {
        let mut families = BTreeMap::new();
        for family in ALL.iter().filter(|family| outlives(family)) {
            let Some(metrics) = gathered.iter().find(|metrics| metrics.name() == family.name) else { continue };
            let samples = metrics.get_metric().iter().map(|metric| Sample {
                labels: family.labels.iter().map(|label| value_of(metric, label)).collect(),
                value: match family.kind {
                    Kind::Counter => Value::Counter(metric.get_counter().get_value()),
                    Kind::Gauge => Value::Gauge(metric.get_gauge().get_value()),
                    Kind::Histogram => {
                        let histogram = metric.get_histogram();
                        Value::Histogram {
                            buckets: histogram.get_bucket().iter().map(Bucket::cumulative_count).collect(),
                            sum: histogram.get_sample_sum(),
                            count: histogram.get_sample_count(),
                        }
                    }
                },
            });
            families.insert(family.name.to_owned(), samples.collect());
        }
        Self(families)
    }

    /// Adds what came later: counters and histograms add up, gauges are replaced. What is no longer declared in this form is dropped.
    pub fn add(&mut self, later: Snapshot) {
        self.0.retain(|name, samples| {
            let Some(family) = ALL.iter().find(|family| family.name == name) else { return false };
            samples.retain(|sample| fits(family, sample));
            outlives(family)
        });
        for (name, samples) in later.0 {
            let known = self.0.entry(name.clone()).or_default();
            for sample in samples {
                match known.iter_mut().find(|old| old.labels == sample.labels) {
                    None => known.push(sample),
                    Some(old) => old.value.add(sample.value, name == "ceso_worker_memory_peak_bytes"),
                }
            }
        }
    }

    /// The families as the encoder takes them.
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for family in ALL {
            let Some(samples) = self.0.get(family.name).filter(|samples| !samples.is_empty()) else { continue };
            let mut told = MetricFamily::default();
            told.set_name(family.name.to_owned());
            told.set_help(family.help.to_owned());
            told.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            told.set_metric(samples.iter().map(|sample| sample.told(family)).collect());
            families.push(told);
        }
        families
    }
}

impl Value {
    fn add(&mut self, later: Value, most: bool) {
        match (self, later) {
            (Value::Counter(sum), Value::Counter(more)) => *sum += more,
            (Value::Gauge(value), Value::Gauge(new)) => *value = if most { value.max(new) } else { new },
            (
                Value::Histogram { buckets, sum, count },
                Value::Histogram { buckets: others, sum: more, count: times },
            ) => {
                buckets.iter_mut().zip(others).for_each(|(bucket, other)| *bucket += other);
                *sum += more;
                *count += times;
            }
            (old, new) => *old = new,
        }
    }
}

impl Sample {
    fn told(&self, family: &Family) -> Metric {
        // In the order of the encoder, by name, so that a series looks the same wherever it is told.
        let mut labels: Vec<_> = family.labels.iter().zip(&self.labels).collect();
        labels.sort();
        let labels = labels.into_iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        match &self.value {
            Value::Counter(value) => {
                let mut counter = Counter::default();
                counter.set_value(*value);
                metric.set_counter(counter);
            }
            Value::Gauge(value) => {
                let mut gauge = Gauge::default();
                gauge.set_value(*value);
                metric.set_gauge(gauge);
            }
            Value::Histogram { buckets, sum, count } => {
                let mut histogram = Histogram::default();
                let bounds = family.buckets.iter().zip(buckets).map(|(bound, count)| {
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(*bound);
                    bucket.set_cumulative_count(*count);
                    bucket
                });
                histogram.set_bucket(bounds.collect());
                histogram.set_sample_sum(*sum);
                histogram.set_sample_count(*count);
                metric.set_histogram(histogram);
            }
        }
        metric
    }
}

/// Whether a sample of a file is one of the family as it is declared now.
fn fits(family: &Family, sample: &Sample) -> bool {
    let value = match (&sample.value, family.kind) {
        (Value::Counter(value), Kind::Counter) => value.is_finite() && *value >= 0.0,
        (Value::Gauge(value), Kind::Gauge) => value.is_finite(),
        (Value::Histogram { buckets, sum, .. }, Kind::Histogram) => {
            buckets.len() == family.buckets.len() && sum.is_finite()
        }
        _ => false,
    };
    value && sample.labels.len() == family.labels.len()
}

/// Whether what a family says is still true when the process has ended.
fn outlives(family: &Family) -> bool {
    !matches!(family.name, "ceso_runs" | "ceso_host_connections")
}

fn value_of(metric: &Metric, label: &str) -> String {
    metric.get_label().iter().find(|pair| pair.name() == label).map(|pair| pair.value().to_owned()).unwrap_or_default()
}

/// Adds help and type of the families that have no samples: a dashboard finds them, and a person reads that they exist.
pub fn declare_the_empty(out: &mut String) {
    use std::fmt::Write as _;
    let told: std::collections::HashSet<String> = out
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    for family in ALL.iter().filter(|family| !told.contains(family.name)) {
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} {2}", family.name, family.help, family.kind.name());
    }
}
