//! Progress of long work: lines on a terminal that are erased on drop. Nothing anywhere else, and nothing with
//! `--quiet`, `--verbose` and `--json`.

use super::{Ui, Verbosity};
use codex_manager_core::io::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar of the bytes that are processed.
pub(crate) struct ByteBar(ProgressBar);

impl Ui {
    /// Creates a bar for work of `total_bytes` with rate and time left, named by a verb: "backing up".
    pub(crate) fn bar(&self, verb: &'static str, total_bytes: u64) -> ByteBar {
        // Decimal units, like those of the tables.
        let template = "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left";
        ByteBar(self.progress_line(template, total_bytes).with_message(verb))
    }

    /// Creates a [bar](Self::bar) for work whose parts add their bytes to the total (`expect_bytes`) when they begin.
    pub(crate) fn growing_bar(&self, verb: &'static str) -> ByteBar {
        self.bar(verb, 0)
    }

    /// Creates a counter of `total` tasks, named by a sentence without an end: "asking Codex about accounts".
    pub(crate) fn task_counter(&self, sentence: &'static str, total: usize) -> ProgressBar {
        let line = self.progress_line("{msg}: {pos} of {len}", total as u64);
        let line = line.with_message(sentence);
        // Draws the line before the first task ends.
        line.tick();
        line
    }

    /// Creates a line whose message shows the time that is left. Hidden if no progress is shown.
    pub(crate) fn countdown(&self) -> ProgressBar {
        self.progress_line("{msg}", 0)
    }

    fn progress_line(&self, template: &str, total: u64) -> ProgressBar {
        // With --verbose, the lines of the steps would run into the bar.
        if !self.terminal_err || self.verbosity != Verbosity::Normal || self.json {
            return ProgressBar::hidden();
        }
        // The templates are constants without errors, so the default is never used.
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style.progress_chars("█▌ "))
    }
}

impl Progress for ByteBar {
    fn expect_bytes(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn add_bytes(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
