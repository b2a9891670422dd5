//! A scraper of a few lines, and what it read.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Status and body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// What is answered to these bytes.
pub(crate) fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until a path answers with this status.
pub(crate) fn wait_for(address: &str, path: &str, status: u16) {
    let end = Instant::now() + ANSWER_MAX;
    loop {
        let answer = get(address, path);
        if answer.0 == status {
            return;
        }
        assert!(Instant::now() < end, "{path}: {answer:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One scrape.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Type by name, as both stand in the text.
    pub(crate) types: BTreeMap<String, String>,
    /// Help by name.
    pub(crate) help: BTreeMap<String, String>,
    /// Value by name and labels.
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Scrape {
    pub(crate) fn of(address: &str) -> Self {
        let (status, text) = get(address, "/metrics");
        assert_eq!(status, 200, "{text}");
        Self::read(&text)
    }

    /// Panics over text that is not well formed.
    pub(crate) fn read(text: &str) -> Self {
        let mut scrape = Self { types: BTreeMap::new(), help: BTreeMap::new(), samples: BTreeMap::new() };
        let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
        let mut family = "";
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(scrape.help.insert(name.to_owned(), help.to_owned()).is_none(), "{name} stands there twice");
                family = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                assert!(series.starts_with(family), "{series} stands under {family}");
                assert!(scrape.samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} stands there twice");
            }
        }
        scrape
    }

    /// The value of one series.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> u64 {
        let value = *self.samples.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples));
        value as u64
    }

    /// All series of a name together.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let of_name = self.samples.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        of_name.map(|(_, value)| *value).sum::<f64>() as u64
    }

    /// Names, values and label values of each series.
    pub(crate) fn labels(&self) -> Vec<(&str, &str)> {
        let mut labels = Vec::new();
        for series in self.samples.keys() {
            let Some((_, rest)) = series.split_once('{') else { continue };
            for label in rest.trim_end_matches('}').split(',') {
                let (name, value) = label.split_once('=').unwrap();
                labels.push((name, value.trim_matches('"')));
            }
        }
        labels
    }
}
