//! Runs programs in alternation, and formats the results.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;
use wait4::Wait4;

/// One run of one command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) peak_bytes: u64,
    /// The size of the output in bytes, if measured.
    pub(crate) output_bytes: Option<u64>,
}

type Make = Box<dyn Fn() -> Command>;

/// A measured program: codex-manager or a peer.
pub(crate) struct Runner {
    pub(crate) name: &'static str,
    command: Make,
    before: Box<dyn Fn()>,
    outputs: Box<dyn Fn() -> Vec<PathBuf>>,
}

impl Runner {
    /// Creates a program that runs the command of `command`.
    pub(crate) fn new(name: &'static str, command: impl Fn() -> Command + 'static) -> Self {
        Self {
            name,
            command: Box::new(command),
            before: Box::new(|| {}),
            outputs: Box::new(Vec::new),
        }
    }

    /// Adds a preparation that runs before each run and is not measured.
    pub(crate) fn before(mut self, before: impl Fn() + 'static) -> Self {
        self.before = Box::new(before);
        self
    }

    /// Sets the output files, of which the sum of the sizes is shown.
    pub(crate) fn outputs(mut self, outputs: impl Fn() -> Vec<PathBuf> + 'static) -> Self {
        self.outputs = Box::new(outputs);
        self
    }

    /// # Panics
    /// The command cannot be started or fails.
    fn run(&self) -> Run {
        (self.before)();
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let begin = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", self.name));
        let used = child
            .wait4()
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let seconds = begin.elapsed().as_secs_f64();
        assert!(used.status.success(), "{} failed: {command:?}", self.name);
        let outputs = (self.outputs)();
        let sizes = outputs.iter().filter_map(|path| path.metadata().ok());
        Run {
            seconds,
            peak_bytes: used.rusage.maxrss,
            output_bytes: sizes.map(|m| m.len()).reduce(|a, b| a + b),
        }
    }
}

/// Runs all programs in alternation (A B C A B C), so that changing load affects all of them equally.
pub(crate) fn run_alternately(runners: &[Runner], rounds: usize) -> Vec<Vec<Run>> {
    let mut runs = vec![Vec::new(); runners.len()];
    for _ in 0..rounds {
        for (runner, runs) in runners.iter().zip(&mut runs) {
            runs.push(runner.run());
        }
    }
    runs
}

/// The median, the least and the greatest of some figures.
type Spread = [f64; 3];

/// # Panics
/// `values` is empty.
fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = f64::midpoint(values[(values.len() - 1) / 2], values[middle]);
    [median, values[0], values[values.len() - 1]]
}

/// One line of the table.
pub(crate) struct Row {
    work: String,
    ours: Spread,
    peer: Option<(&'static str, Spread, Spread)>,
    peak_bytes: u64,
    made: Option<(u64, Option<u64>)>,
}

impl Row {
    /// Creates a row with the figures of this program and of a peer; the ratio is that of each round.
    pub(crate) fn new(
        work: impl Into<String>,
        ours: &[Run],
        peer: Option<(&Runner, &[Run])>,
    ) -> Self {
        let seconds = |runs: &[Run]| spread(runs.iter().map(|r| r.seconds));
        let ratio =
            |peer: &[Run]| spread(ours.iter().zip(peer).map(|(a, b)| b.seconds / a.seconds));
        let made = |runs: &[Run]| runs.iter().filter_map(|r| r.output_bytes).next_back();
        Self {
            work: work.into(),
            ours: seconds(ours),
            peer: peer.map(|(who, runs)| (who.name, seconds(runs), ratio(runs))),
            peak_bytes: ours.iter().map(|r| r.peak_bytes).max().unwrap_or(0),
            made: made(ours).map(|size| (size, peer.and_then(|(_, runs)| made(runs)))),
        }
    }

    fn cells(&self) -> [String; 7] {
        let (who, theirs, ratio) = match self.peer {
            Some((who, seconds, ratio)) => (who.to_owned(), time(seconds), faster(ratio)),
            None => (String::new(), String::new(), String::new()),
        };
        let size = match self.made {
            Some((ours, Some(peer))) => format!("{} ({:+.1} %)", megabytes(ours), more(ours, peer)),
            Some((ours, None)) => megabytes(ours),
            None => String::new(),
        };
        let (ours, memory) = (time(self.ours), megabytes(self.peak_bytes));
        [self.work.clone(), ours, who, theirs, ratio, memory, size]
    }
}

/// Formats the rows as a Markdown table with aligned columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "work",
        "codex-manager",
        "peer",
        "peer time",
        "ratio",
        "memory",
        "size",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    let mut text = String::new();
    for line in lines {
        for (width, cell) in widths.iter().zip(&line) {
            text.push_str("| ");
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 1 - cell.chars().count()));
        }
        text.push_str("|\n");
    }
    text
}

fn time(seconds: Spread) -> String {
    if seconds[0] < 0.1 {
        with_range(seconds.map(|s| s * 1000.0), "ms")
    } else {
        with_range(seconds, "s")
    }
}

/// Formats `ratio`, the peer's time divided by that of this program.
fn faster(ratio: Spread) -> String {
    let [median, least, greatest] = ratio;
    if median >= 1.0 {
        with_range(ratio, "× faster")
    } else {
        with_range([median, greatest, least].map(|r| 1.0 / r), "× its time")
    }
}

/// Formats the median, and the range if there is one: `1.61 s (1.55 to 1.72)`.
fn with_range([median, least, greatest]: Spread, unit: &str) -> String {
    if least < greatest {
        format!("{median:.2} {unit} ({least:.2} to {greatest:.2})")
    } else {
        format!("{median:.2} {unit}")
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn more(ours: u64, peer: u64) -> f64 {
    (ours as f64 / peer as f64 - 1.0) * 100.0
}
