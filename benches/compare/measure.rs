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
    output: Option<Box<dyn Fn() -> Option<PathBuf>>>,
}

impl Runner {
    /// Creates a program that runs the command of `command`.
    pub(crate) fn new(name: &'static str, command: impl Fn() -> Command + 'static) -> Self {
        Self {
            name,
            command: Box::new(command),
            before: Box::new(|| {}),
            output: None,
        }
    }

    /// Adds a preparation that runs before each run and is not measured.
    pub(crate) fn before(mut self, before: impl Fn() + 'static) -> Self {
        self.before = Box::new(before);
        self
    }

    /// Sets the output file, whose size is shown.
    pub(crate) fn output(mut self, output: impl Fn() -> Option<PathBuf> + 'static) -> Self {
        self.output = Some(Box::new(output));
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
        let output = self.output.as_ref().and_then(|output| output());
        Run {
            seconds,
            peak_bytes: used.rusage.maxrss,
            output_bytes: output
                .and_then(|path| path.metadata().ok())
                .map(|m| m.len()),
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

/// Returns the median of `values`.
///
/// # Panics
/// `values` is empty.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// One line of the table.
pub(crate) struct Row {
    work: String,
    ours: f64,
    peer: Option<(&'static str, f64, f64)>,
    peak_bytes: u64,
    made: Option<(u64, Option<u64>)>,
}

impl Row {
    /// Creates a row with the figures of this program and of a peer; the ratio is the median of the
    /// ratios of all rounds.
    pub(crate) fn new(
        work: impl Into<String>,
        ours: &[Run],
        peer: Option<(&Runner, &[Run])>,
    ) -> Self {
        let seconds = |runs: &[Run]| median(runs.iter().map(|r| r.seconds));
        let ratio =
            |peer: &[Run]| median(ours.iter().zip(peer).map(|(a, b)| b.seconds / a.seconds));
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

fn time(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{:.2} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

/// Formats `ratio`, the peer's time divided by that of this program.
fn faster(ratio: f64) -> String {
    if ratio >= 1.0 {
        format!("{ratio:.1} × faster")
    } else {
        format!("{:.2} × its time", 1.0 / ratio)
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
