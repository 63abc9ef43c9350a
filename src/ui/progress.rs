//! Progress of long work: a bar on a terminal, nothing anywhere else.

use super::Ui;
use crate::io::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar of bytes with rate and time left. Erased on drop.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Ui {
    /// A bar for work of `total_bytes`, named by a verb: "backing up".
    pub fn bar(&self, verb: &'static str, total_bytes: u64) -> Bar {
        if !self.draws_progress() {
            return Bar(ProgressBar::hidden());
        }
        // Sizes as disks are sold, like those of the tables.
        let style = ProgressStyle::with_template(
            "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▌ ");
        let bar = ProgressBar::new(total_bytes)
            .with_style(style)
            .with_message(verb);
        Bar(bar)
    }
}

/// A line that counts finished tasks. Erased on drop.
#[derive(Debug)]
pub struct TaskCounter(ProgressBar);

impl Ui {
    /// A counter of `total` tasks, named by a sentence without an end: "asking Codex about accounts".
    pub fn task_counter(&self, what: &'static str, total: usize) -> TaskCounter {
        if !self.draws_progress() {
            return TaskCounter(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{msg}: {pos} of {len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total as u64)
            .with_style(style)
            .with_message(what);
        bar.tick();
        TaskCounter(bar)
    }
}

impl TaskCounter {
    pub fn add_one(&self) {
        self.0.inc(1);
    }
}

impl Drop for TaskCounter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line that shows the remaining time of a wait. Erased on drop.
#[derive(Debug)]
pub struct Countdown(ProgressBar);

impl Ui {
    /// A line for the time that is left.
    pub fn countdown(&self) -> Countdown {
        let style = ProgressStyle::with_template("{msg}");
        Countdown(if self.draws_progress() {
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        } else {
            ProgressBar::hidden()
        })
    }
}

impl Countdown {
    /// Returns true on a terminal.
    pub fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    pub fn show(&self, text: String) {
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for Countdown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn expect_bytes(&self, total: u64) {
        self.0.set_length(total);
    }

    fn add_bytes(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
