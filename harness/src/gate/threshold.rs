//! Figures of a report against bounds: `teardown.p95<500ms`. Pure.

use std::fmt;
use std::str::FromStr;

use crate::report::json::Report;
use crate::spelled::count;

/// What a user may write.
const FORM: &str = "write it as teardown.p95<500ms: a figure, one of min, mean, p50, p90, p95, p99 or \
                    max, one of < <= > >=, and a number with ms, s or no unit";
/// Ends of names of figures that are times.
const MS: &str = "_ms";

/// A bound on one statistic of a figure over all cases that have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    figure: String,
    statistic: Statistic,
    comparison: Comparison,
    bound: f64,
    is_time: bool,
    /// As the user wrote it.
    written: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    Min,
    Mean,
    Max,
    /// In percent.
    Percentile(u8),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// What came of a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Met {
    /// It is kept.
    pub is_met: bool,
    /// In words, with the figure.
    pub words: String,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no threshold; {FORM}");
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (left, right) = text.split_at(at);
        let (comparison, right) = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ]
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, right.strip_prefix(sign)?)))
        .ok_or_else(wrong)?;
        let (figure, statistic) = left.trim().rsplit_once('.').ok_or_else(wrong)?;
        let statistic = match statistic {
            "min" => Statistic::Min,
            "mean" | "avg" => Statistic::Mean,
            "max" => Statistic::Max,
            "p50" | "median" => Statistic::Percentile(50),
            "p90" => Statistic::Percentile(90),
            "p95" => Statistic::Percentile(95),
            "p99" => Statistic::Percentile(99),
            _ => return Err(wrong()),
        };
        let right = right.trim();
        let (number, factor, is_time) = match right {
            _ if right.ends_with("ms") => (&right[..right.len() - 2], 1.0, true),
            _ if right.ends_with('s') => (&right[..right.len() - 1], 1000.0, true),
            _ => (right, 1.0, false),
        };
        let bound: f64 = number.trim().parse().map_err(|_| wrong())?;
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !bound.is_finite() || figure.is_empty() || !figure.chars().all(known) {
            return Err(wrong());
        }
        let figure = figure.to_owned();
        let (bound, written) = (bound * factor, text.to_owned());
        Ok(Self { figure, statistic, comparison, bound, is_time, written })
    }
}

impl Threshold {
    /// As the user wrote it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Holds a report against it. A figure that no case has is not met.
    pub fn judge(&self, report: &Report) -> Met {
        let (values, is_time) = self.values(report);
        if is_time != self.is_time && !values.is_empty() {
            let unit = if is_time { "a time: give ms or s" } else { "no time: give no unit" };
            return Met { is_met: false, words: format!("{self}: {} is {unit}", self.figure) };
        }
        let Some(value) = self.statistic.of(&values) else {
            let known = known_figures(report).join(", ");
            let words = format!("{self}: no case has the figure; there are {known}");
            return Met { is_met: false, words };
        };
        let is_met = match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
        };
        let shown = shown(value, is_time);
        let words = format!("{self}: it is {shown}, over {}", count(values.len(), "case"));
        Met { is_met, words }
    }

    /// The figure of all cases that have it, and whether it is a time.
    fn values(&self, report: &Report) -> (Vec<f64>, bool) {
        let figures = report.cases.iter().map(|case| &case.figures);
        if self.figure == "start" {
            let servers = report.servers.iter().filter_map(|server| server.subject.as_ref());
            let subjects = report.subject.iter().chain(servers);
            return (subjects.map(|subject| subject.start_ms as f64).collect(), true);
        }
        if self.figure == "teardown" {
            let of = |name: &'static str| {
                move |figures: &std::collections::BTreeMap<String, f64>| figures.get(name).copied()
            };
            let (exit, drained) = (of("exit_after_due_ms"), of("drained_after_due_ms"));
            return (figures.filter_map(|one| exit(one).or_else(|| drained(one))).collect(), true);
        }
        let with_unit = format!("{}{MS}", self.figure);
        let is_time = self.figure.ends_with(MS)
            || report.cases.iter().any(|case| case.figures.contains_key(&with_unit));
        let values = figures
            .filter_map(|one| one.get(&self.figure).or_else(|| one.get(&with_unit)).copied())
            .collect();
        (values, is_time)
    }
}

impl Statistic {
    /// None of nothing. Percentiles by the nearest rank.
    fn of(self, values: &[f64]) -> Option<f64> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(match self {
            Statistic::Min => sorted[0],
            Statistic::Max => sorted[last],
            Statistic::Mean => sorted.iter().sum::<f64>() / sorted.len() as f64,
            Statistic::Percentile(percent) => {
                let rank = (sorted.len() * usize::from(percent)).div_ceil(100);
                sorted[rank.saturating_sub(1).min(last)]
            }
        })
    }
}

/// Names that a threshold can have on this report.
fn known_figures(report: &Report) -> Vec<String> {
    let names = report.cases.iter().flat_map(|case| case.figures.keys());
    let mut names: Vec<String> =
        names.map(|name| name.strip_suffix(MS).unwrap_or(name).to_owned()).collect();
    names.extend(["start", "teardown"].map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

fn shown(value: f64, is_time: bool) -> String {
    let number = format!("{value:.1}");
    let number = number.strip_suffix(".0").unwrap_or(&number);
    if is_time { format!("{number} ms") } else { number.to_owned() }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistic = match self.statistic {
            Statistic::Min => "min".to_owned(),
            Statistic::Mean => "mean".to_owned(),
            Statistic::Max => "max".to_owned(),
            Statistic::Percentile(percent) => format!("p{percent}"),
        };
        let sign = match self.comparison {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::More => ">",
            Comparison::AtLeast => ">=",
        };
        write!(f, "{}.{statistic} {sign} {}", self.figure, shown(self.bound, self.is_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn judged(text: &str) -> (bool, String) {
        let met = text.parse::<Threshold>().expect(text).judge(&samples::everything());
        (met.is_met, met.words)
    }

    #[test]
    fn a_threshold_is_met_or_not_and_says_the_figure() {
        let table = [
            ("teardown.p50<500ms", true, "teardown.p50 < 500 ms: it is 16.4 ms, over 9 cases"),
            ("teardown.p95<0.5s", false, "teardown.p95 < 500 ms: it is 6014 ms, over 9 cases"),
            ("exit_after_due.max<=6014ms", true, "exit_after_due.max <= 6014 ms: it is 6014 ms"),
            ("exit_after_due_ms.min >= 17 ms", false, "it is 16.4 ms"),
            ("start.max<1s", true, "start.max < 1000 ms: it is 553 ms, over 1 case"),
            ("teardown.p50<500", false, "teardown is a time: give ms or s"),
            (
                "backends.max<3",
                false,
                "no case has the figure; there are exit_after_due, start, teardown",
            ),
        ];
        for (text, is_met, words) in table {
            let (found, said) = judged(text);
            assert_eq!(found, is_met, "{text}: {said}");
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let of = |percent| Statistic::Percentile(percent).of(&values);
        assert_eq!([of(50), of(95), of(99)], [Some(50.0), Some(95.0), Some(99.0)]);
        assert_eq!(Statistic::Percentile(95).of(&[7.0]), Some(7.0));
        assert_eq!(Statistic::Mean.of(&[]), None);
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_the_form() {
        for text in [
            "",
            "teardown",
            "teardown<5ms",
            "teardown.p95=5ms",
            "teardown.p96<5ms",
            "a.p95<soon",
            "a b.max<1",
            ".max<1",
            "a.max<inf",
        ] {
            let error = text.parse::<Threshold>().expect_err(text);
            assert!(error.contains("teardown.p95<500ms"), "{error}");
        }
    }
}
