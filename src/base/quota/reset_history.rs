//! The history of quota windows. It distinguishes a reset that the server moved from a window that ended.

use super::window::{Observation, SAME_WINDOW};
use crate::codex::Window;
use crate::io::Timestamp;
use chrono::Duration;
use serde::Serialize;

/// The change of a window between two observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowChange {
    /// The reset is the same; the used percentage may differ.
    None,
    /// The window ended, and the next one began.
    NewWindow,
    /// The server changed the reset of a window that has not ended.
    #[serde(rename = "moved")]
    ResetMoved,
}

/// A run of consecutive equal observations of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowSample {
    /// The time of the first of these observations.
    pub observed_at: Timestamp,
    /// The time of the last of these observations.
    pub until: Timestamp,
    pub window: Window,
    /// The change since the previous sample; [`WindowChange::None`] for the first sample.
    pub change: WindowChange,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WindowHistory {
    /// The samples, the oldest first.
    pub samples: Vec<WindowSample>,
}

/// A reset that the server changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResetShift<'a> {
    pub before: &'a WindowSample,
    pub after: &'a WindowSample,
}

/// Returns the history of each window in `observations`, ordered by limit and length. The observations must be ordered
/// by time. Each observation comes with the last time at which another observation confirmed it.
pub fn build_window_histories<'a>(
    observations: impl IntoIterator<Item = (&'a Observation, Timestamp)>,
) -> Vec<WindowHistory> {
    let mut histories: Vec<WindowHistory> = Vec::new();
    for (observation, until) in observations {
        for (i, window) in observation.windows.iter().enumerate() {
            let is_of_kind = |history: &&mut WindowHistory| {
                let last_window = history.samples.last().map(|sample| &sample.window);
                last_window.is_some_and(|last_window| is_same_kind(last_window, window))
            };

            // Windows of unknown length may be of one kind. Then only their order on a status screen tells them apart.
            let windows_before = observation.windows[..i].iter();
            let same_kind = windows_before.filter(|other| is_same_kind(other, window));
            let index_in_kind = same_kind.count();

            let sample = WindowSample {
                observed_at: observation.observed_at,
                until,
                window: window.clone(),
                change: WindowChange::None,
            };

            match histories.iter_mut().filter(is_of_kind).nth(index_in_kind) {
                Some(history) => history.add_sample(sample),
                None => histories.push(WindowHistory {
                    samples: vec![sample],
                }),
            }
        }
    }

    histories.sort_by_key(|history| {
        let last_window = history.samples.last().map(|sample| &sample.window);
        last_window.map(|window| (window.limit_id.clone(), window.minutes))
    });

    histories
}

fn is_same_kind(a: &Window, b: &Window) -> bool {
    a.limit_id == b.limit_id && a.minutes == b.minutes
}

fn classify_change(before: &WindowSample, after: &WindowSample) -> WindowChange {
    let (Some(old_reset), Some(new_reset)) = (before.window.resets_at, after.window.resets_at)
    else {
        return WindowChange::None;
    };

    // The server computes the reset anew for each answer, so it differs by seconds.
    if (new_reset - old_reset).abs() <= SAME_WINDOW {
        return WindowChange::None;
    }

    let has_ended = after.observed_at >= old_reset - SAME_WINDOW;
    let began = after
        .window
        .minutes
        .map(|minutes| new_reset - Duration::minutes(i64::from(minutes)));

    // The next window begins at the reset, or with the first use after it.
    if has_ended && began.is_none_or(|began| began >= old_reset - SAME_WINDOW) {
        WindowChange::NewWindow
    } else {
        WindowChange::ResetMoved
    }
}

impl WindowHistory {
    /// Adds a sample with its change. If it equals the last sample, extends the last sample instead.
    fn add_sample(&mut self, sample: WindowSample) {
        // A history begins with a sample, so it always has a last one.
        let Some(last) = self.samples.last_mut() else {
            return;
        };

        let change = classify_change(last, &sample);
        let difference = last.window.used_percent - sample.window.used_percent;
        if change == WindowChange::None && difference.abs() < f64::EPSILON {
            last.until = sample.until;
        } else {
            self.samples.push(WindowSample { change, ..sample });
        }
    }

    /// Returns the resets that the server moved, the oldest first.
    pub fn reset_shifts(&self) -> impl Iterator<Item = ResetShift<'_>> {
        self.samples
            .windows(2)
            .filter(|pair| pair[1].change == WindowChange::ResetMoved)
            .map(|pair| ResetShift {
                before: &pair[0],
                after: &pair[1],
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::window::QuotaSource;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_from_rfc3339(&format!("2026-11-{text}:00Z")).unwrap()
    }

    fn observation(seen: &str, minutes: u32, used: f64, resets: &str) -> Observation {
        Observation {
            source: QuotaSource::Live,
            observed_at: at(seen),
            usage_allowed: None,
            spend_cap: None,
            reset_credits: None,
            windows: vec![Window {
                limit_id: "codex".into(),
                minutes: Some(minutes),
                used_percent: used,
                resets_at: Some(at(resets)),
            }],
        }
    }

    fn changes(observations: &[Observation]) -> Vec<WindowChange> {
        let histories = build_window_histories(
            observations
                .iter()
                .map(|observation| (observation, observation.observed_at)),
        );
        assert_eq!(histories.len(), 1);
        histories[0].samples.iter().map(|p| p.change).collect()
    }

    #[test]
    fn a_moved_reset_differs_from_a_new_window() {
        use WindowChange::{NewWindow, None, ResetMoved};
        let weekly = |seen, used, resets| observation(seen, 10_080, used, resets);
        let first = || weekly("17T12:00", 10.0, "24T15:55");
        // The same reset, apart from the server's jitter.
        let jitter = weekly("18T12:00", 20.0, "24T16:04");
        assert_eq!(changes(&[first(), jitter]), [None, None]);
        // The next window follows without a gap.
        let next = weekly("25T12:00", 1.0, "30T23:59");
        let rolled = Observation {
            windows: vec![Window {
                resets_at: Some(at("24T15:55") + Duration::days(7)),
                ..next.windows[0].clone()
            }],
            ..next
        };
        assert_eq!(changes(&[first(), rolled]), [None, NewWindow]);
        // The next window began with the first use, two days after the reset.
        let late = Observation {
            observed_at: at("27T12:00"),
            windows: vec![Window {
                resets_at: Some(at("26T09:00") + Duration::days(7)),
                ..first().windows[0].clone()
            }],
            ..first()
        };
        assert_eq!(changes(&[first(), late]), [None, NewWindow]);
        // Later, earlier, and after the end of the window: a reset that no new window can have.
        for (seen, resets) in [
            ("18T12:00", "27T15:55"),
            ("18T12:00", "21T15:55"),
            ("25T12:00", "27T15:55"),
        ] {
            let moved = weekly(seen, 10.0, resets);
            assert_eq!(
                changes(&[first(), moved]),
                [None, ResetMoved],
                "{seen} {resets}"
            );
        }
        let five = [
            observation("17T10:00", 300, 5.0, "17T14:00"),
            observation("17T16:00", 300, 5.0, "17T20:30"),
        ];
        assert_eq!(changes(&five), [None, NewWindow]);
    }

    #[test]
    fn equal_observations_are_one_sample_and_windows_have_separate_histories() {
        let mut both = observation("17T12:00", 300, 5.0, "17T14:00");
        both.windows
            .extend(observation("17T12:00", 10_080, 5.0, "24T15:55").windows);
        let mut later = both.clone();
        later.observed_at = at("17T13:00");
        later.windows[0].used_percent = 9.0;
        let observations = [both, later];
        let histories = build_window_histories(
            observations
                .iter()
                .map(|observation| (observation, observation.observed_at)),
        );
        let lengths: Vec<_> = histories.iter().map(|c| c.samples.len()).collect();
        assert_eq!(lengths, [2, 1]);
        assert_eq!(
            histories
                .iter()
                .flat_map(WindowHistory::reset_shifts)
                .count(),
            0
        );
    }

    #[test]
    fn windows_of_unknown_length_are_matched_by_their_order() {
        let two = |seen, first, second| {
            let mut both = observation(seen, 300, 5.0, first);
            both.windows
                .extend(observation(seen, 300, 9.0, second).windows);
            both.windows.iter_mut().for_each(|w| w.minutes = None);
            both
        };
        let observations = [
            two("17T12:00", "18T12:00", "24T15:55"),
            two("17T13:00", "18T12:00", "24T15:55"),
        ];
        let histories = build_window_histories(
            observations
                .iter()
                .map(|observation| (observation, observation.observed_at)),
        );
        let lengths: Vec<_> = histories.iter().map(|c| c.samples.len()).collect();
        assert_eq!(lengths, [1, 1]);
        assert_eq!(
            histories
                .iter()
                .flat_map(WindowHistory::reset_shifts)
                .count(),
            0
        );
    }
}
