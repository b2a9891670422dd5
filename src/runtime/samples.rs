//! What a scrape said: the other side of [`super::exposition`].
//!
//! Owns the form of a sample line. Does not own what a name means. Invariants: text that is no OpenMetrics is refused as a whole, a metric that is not there
//! is `None`, and what is kept of a text is bounded, whoever wrote it.

use std::time::Duration;

/// Most samples that are kept; a daemon of ours has less than 250.
const SAMPLES_MAX: usize = 4_096;
/// Names that are kept begin like this.
const PREFIX: &str = "convpipe_";

/// The samples of one scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// A text that is no OpenMetrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMetrics {
    /// This line is no sample.
    #[error("line {0} of its metrics cannot be read")]
    Line(usize),
    /// More than anybody of ours has.
    #[error("it has more than {SAMPLES_MAX} metrics")]
    TooMany,
}

impl Samples {
    /// Reads the text of `/metrics`, OpenMetrics or Prometheus. What is not convpipe's is passed over.
    ///
    /// # Errors
    /// Where a line is neither a comment nor a sample, or there are too many.
    pub fn read(text: &str) -> Result<Self, NotMetrics> {
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let sample = sample(line).ok_or(NotMetrics::Line(index + 1))?;
            // A number that is none tells nothing.
            if sample.name.starts_with(PREFIX) && sample.value.is_finite() {
                if samples.len() == SAMPLES_MAX {
                    return Err(NotMetrics::TooMany);
                }
                samples.push(sample);
            }
        }
        Ok(Self(samples))
    }

    /// The value of one series, by its name without `convpipe_` and its labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels).map(|sample| sample.value).next()
    }

    /// All series of a name that have these labels, together; `None` where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// The values of a label of a name, with those of the series.
    pub fn by<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.of(name, &[]).filter_map(move |sample| Some((sample.label(label)?, sample.value)))
    }

    /// Of what a histogram counted since `before`, or ever where there is no before: the length of time that so large a share did not exceed, rounded up to
    /// a bucket's bound. `None` where nothing was counted, or the counts do not fit together; [`Duration::MAX`] beyond the last bound.
    #[must_use]
    pub fn quantile(&self, name: &str, labels: &[(&str, &str)], share: f64, before: Option<&Self>) -> Option<Duration> {
        let bucket = format!("{name}_bucket");
        let mut counts: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&bucket, labels) {
            let bound = sample.label("le")?;
            let earlier = before.map_or(Some(0.0), |before| {
                let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
                before.value(&bucket, &labels)
            })?;
            counts.push((bound.parse().ok()?, sample.value - earlier));
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (_, all) = *counts.last()?;
        if all <= 0.0 {
            return None;
        }
        let (bound, _) = *counts.iter().find(|(_, count)| *count >= all * share)?;
        Duration::try_from_secs_f64(bound).ok().or(Some(Duration::MAX))
    }

    fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let is_named = move |sample: &&Sample| sample.name.strip_prefix(PREFIX) == Some(name);
        self.0.iter().filter(is_named).filter(move |sample| labels.iter().all(|(label, value)| sample.label(label) == Some(value)))
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// `name{label="value",…} number …`; what stands behind the number, a time or an exemplar, is not looked at.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' ']).filter(|end| *end > 0)?;
    let name = &line[..end];
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')) {
        return None;
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), &line[end..]),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what stands behind it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# HELP convpipe_frames Frames.
# TYPE convpipe_frames counter
convpipe_frames_total{outcome=\"event\"} 7 1700000000.5
convpipe_frames_total{outcome=\"rejected\"} 2 # {trace=\"x\"} 1
convpipe_daemon{daemon=\"in\\\"ge\\nst\",version=\"0.1.0\"} 1
convpipe_up 1.5e3
convpipe_odd NaN
go_threads 5
# EOF
";

    fn histogram(counts: [u64; 4]) -> Samples {
        let line = |(bound, count): (&str, u64)| format!("convpipe_lag_seconds_bucket{{le=\"{bound}\",consumer=\"views\"}} {count}\n");
        let text: String = ["0.001", "0.5", "60", "+Inf"].into_iter().zip(counts).map(line).collect();
        Samples::read(&text).unwrap()
    }

    #[test]
    fn samples_are_found_by_name_and_labels_and_what_is_missing_is_none() {
        let samples = Samples::read(TEXT).unwrap();
        assert_eq!(samples.value("frames_total", &[("outcome", "rejected")]), Some(2.0));
        assert_eq!(samples.sum("frames_total", &[]), Some(9.0));
        assert_eq!(samples.value("up", &[]), Some(1_500.0));
        assert_eq!(samples.by("daemon", "daemon").collect::<Vec<_>>(), [("in\"ge\nst", 1.0)]);
        for (name, labels) in [("odd", &[][..]), ("frames", &[]), ("frames_total", &[("outcome", "x")]), ("threads", &[]), ("", &[])] {
            assert_eq!((samples.value(name, labels), samples.sum(name, labels)), (None, None), "{name}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, line) in
            [("<html>\n", 1), ("convpipe_up 1\nconvpipe_up\n", 2), ("a{b=\"c} 1\n", 1), ("a{b} 1\n", 1), (" 1\n", 1), ("a x\n", 1)]
        {
            assert_eq!(Samples::read(text), Err(NotMetrics::Line(line)), "{text:?}");
        }
        let many: String = (0..=SAMPLES_MAX).map(|at| format!("convpipe_x{{n=\"{at}\"}} 1\n")).collect();
        assert_eq!(Samples::read(&many), Err(NotMetrics::TooMany));
    }

    #[test]
    fn a_quantile_is_of_what_was_counted_in_between() {
        let ms = Duration::from_millis;
        for (before, now, share, expected) in [
            (None, [98, 99, 100, 100], 0.5, Some(ms(1))),
            (None, [98, 99, 100, 100], 0.99, Some(ms(500))),
            (None, [98, 99, 100, 100], 1.0, Some(ms(60_000))),
            (Some([98, 99, 100, 100]), [98, 100, 101, 101], 0.5, Some(ms(500))),
            (Some([98, 99, 100, 100]), [98, 99, 100, 101], 0.5, Some(Duration::MAX)),
            (Some([98, 99, 100, 100]), [98, 99, 100, 100], 0.5, None),
            (Some([98, 99, 100, 100]), [0, 0, 0, 1], 0.5, None),
        ] {
            let before = before.map(histogram);
            let found = histogram(now).quantile("lag_seconds", &[("consumer", "views")], share, before.as_ref());
            assert_eq!(found, expected, "{before:?} {now:?} {share}");
        }
        assert_eq!(Samples::default().quantile("lag_seconds", &[], 0.5, None), None);
    }

    proptest! {
        #[test]
        fn no_text_disturbs_it(text in "(convpipe_[a-z]{0,3})?[ {}a=\",\\\\\n0-9+.eINaf#]{0,60}") {
            if let Ok(samples) = Samples::read(&text) {
                let _ = (samples.sum("a", &[]), samples.quantile("a", &[], 0.5, None), samples.quantile("a", &[], 0.5, Some(&samples)));
            }
        }
    }
}
