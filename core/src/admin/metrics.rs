//! Figures in OpenMetrics text.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use super::{Figure, FigureKind};
use crate::host::TeardownTimes;

/// What the answer is, with the version of the format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of all figures and of the histogram.
pub(super) fn text(figures: Vec<Figure>, teardowns: TeardownTimes) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { figures, teardowns }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    figures: Vec<Figure>,
    teardowns: TeardownTimes,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for figure in &self.figures {
            let kind = match figure.kind {
                FigureKind::Gauge => MetricType::Gauge,
                FigureKind::Counter => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(&figure.name, &figure.help, None, kind)?;
            for sample in &figure.samples {
                match &sample.label {
                    // An empty set of labels would be written as one.
                    None => write(&mut family, figure.kind, sample.value)?,
                    Some(label) => {
                        let labels = [label.clone()];
                        write(&mut family.encode_family(&labels)?, figure.kind, sample.value)?;
                    }
                }
            }
        }
        let help = "How long the ends of connections took";
        let name = "scupper_teardown_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds = self.teardowns.buckets.iter();
        let mut buckets: Vec<(f64, u64)> =
            bounds.map(|(bound, count)| (bound.as_secs_f64(), *count)).collect();
        buckets.push((f64::INFINITY, self.teardowns.beyond));
        let sum = self.teardowns.sum.as_secs_f64();
        metric.encode_histogram::<NoLabelSet>(sum, self.teardowns.count, &buckets, None)
    }
}

fn write(metric: &mut MetricEncoder<'_>, kind: FigureKind, value: u64) -> Result<(), fmt::Error> {
    match kind {
        FigureKind::Gauge => metric.encode_gauge(&value),
        FigureKind::Counter => {
            let no_exemplar: Option<&Exemplar<NoLabelSet, f64>> = None;
            metric.encode_counter(&value, no_exemplar)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_and_the_histogram_are_openmetrics() {
        let figures = vec![
            Figure::gauge("servers", "Servers").by("state", [("ready", 2), ("a\"b", 0)]),
            Figure::counter("made", "Made").of(3),
            Figure::gauge("unread", "Unread").of(None),
        ];
        let teardowns = TeardownTimes {
            count: 3,
            sum: Duration::from_millis(2503),
            buckets: vec![(Duration::from_millis(1), 1), (Duration::from_secs(1), 1)],
            beyond: 1,
        };
        let text = text(figures, teardowns).unwrap();
        assert_eq!(
            text,
            r#"# HELP servers Servers
# TYPE servers gauge
servers{state="ready"} 2
servers{state="a\"b"} 0
# HELP made Made
# TYPE made counter
made_total 3
# HELP unread Unread
# TYPE unread gauge
# HELP scupper_teardown_seconds How long the ends of connections took
# TYPE scupper_teardown_seconds histogram
scupper_teardown_seconds_sum 2.503
scupper_teardown_seconds_count 3
scupper_teardown_seconds_bucket{le="0.001"} 1
scupper_teardown_seconds_bucket{le="1.0"} 2
scupper_teardown_seconds_bucket{le="+Inf"} 3
# EOF
"#
        );
    }
}
