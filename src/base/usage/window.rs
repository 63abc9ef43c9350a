//! Estimates which share of a quota window each request used.
//!
//! Codex records the used percentage of the account's windows with each answer. Whenever the percentage rises, the
//! requests since the previous rise share the difference, by their weight. A rise without requests in this home counts
//! as used elsewhere (another machine, or the web). If a rise is much larger than usual for the weight of its requests,
//! the excess counts as used elsewhere, too.

use crate::codex::window::Window;
use chrono::{DateTime, TimeDelta, Utc};
use std::ops::Range;

/// A rise of the used percentage is attributed to requests of this home up to this multiple of the usual rise for the
/// weight of these requests.
const USUAL_TOLERANCE: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeighedRequest {
    pub at: DateTime<Utc>,
    /// The cost of the request, or another measure of its use of the window.
    pub weight: f64,
}

/// The used percentage of a quota window at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsedPercent {
    pub at: DateTime<Utc>,
    pub percent: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WindowParts {
    /// The percentage of the window that each request used, in the order of the requests.
    pub of_requests: Vec<f64>,
    /// The percentage that was used elsewhere.
    pub unattributed: f64,
    /// The percentage of each rise that was used elsewhere, with the time of the observation that showed the rise.
    /// These parts add up to `unattributed`.
    pub unattributed_by_rise: Vec<(DateTime<Utc>, f64)>,
    /// The highest observed percentage of the window.
    pub used: f64,
}

/// Divides the used percentage of a window that began at `start` among `requests`. Requests and observations must be
/// ordered by time.
pub fn divide_window(
    start: DateTime<Utc>,
    requests: &[WeighedRequest],
    observations: &[UsedPercent],
) -> WindowParts {
    let rises = find_rises(start, requests, observations);
    // The median ignores single large rises, such as a day of work on another machine.
    let usual_rate = median_rate(&rises);

    let mut parts = WindowParts {
        of_requests: vec![0.0; requests.len()],
        unattributed: 0.0,
        unattributed_by_rise: Vec::new(),
        used: observations.iter().map(|o| o.percent).fold(0.0, f64::max),
    };

    for rise in &rises {
        let percent_here = match usual_rate {
            Some(rate) => rise.percent.min(USUAL_TOLERANCE * rate * rise.weight),
            // Without a usual rate the whole rise counts as used elsewhere.
            None => 0.0,
        };

        let percent_elsewhere = rise.percent - percent_here;
        parts.unattributed += percent_elsewhere;
        parts
            .unattributed_by_rise
            .push((rise.at, percent_elsewhere));
        for i in rise.requests.clone() {
            parts.of_requests[i] = percent_here * requests[i].weight / rise.weight;
        }
    }

    parts
}

/// A rise of the used percentage, with the requests since the previous rise.
struct Rise {
    at: DateTime<Utc>,
    percent: f64,
    /// The total weight of the requests.
    weight: f64,
    /// True for the first observation. Its percentage may contain use before the first request, so it does not count
    /// towards the usual rate.
    is_first: bool,
    /// The indices of the requests; empty if they have no weight.
    requests: Range<usize>,
}

fn find_rises(
    start: DateTime<Utc>,
    requests: &[WeighedRequest],
    observations: &[UsedPercent],
) -> Vec<Rise> {
    // The index of the first request after the previous rise, or from `start` on.
    let mut first = requests.partition_point(|request| request.at < start);
    let mut last_percent = 0.0;
    let mut rises = Vec::new();

    for (i, observation) in observations.iter().enumerate() {
        // A figure that stays or falls shows no use.
        if observation.percent <= last_percent {
            continue;
        }

        // An observation before `start` has no requests.
        let end = requests
            .partition_point(|request| request.at <= observation.at)
            .max(first);
        let weights = requests[first..end].iter().map(|request| request.weight);
        let weight = weights.sum();

        rises.push(Rise {
            at: observation.at,
            percent: observation.percent - last_percent,
            weight,
            is_first: i == 0,
            // Requests without any weight cannot share a rise.
            requests: if weight > 0.0 { first..end } else { end..end },
        });
        (first, last_percent) = (end, observation.percent);
    }

    rises
}

/// Returns the median rise in percent per unit of weight. `None` if no rise except the first has requests with a
/// weight.
fn median_rate(rises: &[Rise]) -> Option<f64> {
    let has_rate = |rise: &&Rise| rise.weight > 0.0 && !rise.is_first;
    let with_rate = rises.iter().filter(has_rate);
    let mut rates: Vec<_> = with_rate.map(|rise| rise.percent / rise.weight).collect();
    rates.sort_by(f64::total_cmp);
    // Of an even number of rates, the lower one in the middle.
    let middle = rates.len().checked_sub(1)? / 2;
    rates.get(middle).copied()
}

/// Returns the time at which the window will be used up at the average pace since its start. `None` if the window ends
/// by that time, if nothing is used, or if `used` was not observed after the start.
pub fn forecast_exhaustion(
    window: &Range<DateTime<Utc>>,
    used: UsedPercent,
) -> Option<DateTime<Utc>> {
    let elapsed = (used.at - window.start).num_seconds();
    if elapsed <= 0 || used.percent <= 0.0 {
        return None;
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a forecast in seconds of a window"
    )]
    let seconds_left = (elapsed as f64 * (100.0 - used.percent).max(0.0) / used.percent) as i64;

    let time_left = TimeDelta::try_seconds(seconds_left)?;
    let at = used.at.checked_add_signed(time_left)?;
    (at < window.end).then_some(at)
}

/// The forecast for a window at the average pace since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The window lasts until its reset.
    Lasts,
    /// The window will be used up at this time, before its reset.
    ExhaustedAt(DateTime<Utc>),
    /// The window is already used up.
    Exhausted,
}

/// Returns the forecast for a window as it was observed at `observed_at`. `None` if the window has ended, if its start
/// is unknown or not before the observation, or if the forecast time is not after `now`.
pub fn forecast_pace(
    window: &Window,
    observed_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Pace> {
    let end = window.resets_at?.to_utc();
    let start = end - TimeDelta::minutes(window.minutes?.into());
    if end <= now || observed_at <= start {
        return None;
    }
    if window.used_percent >= 100.0 {
        return Some(Pace::Exhausted);
    }

    let used = UsedPercent {
        at: observed_at,
        percent: window.used_percent,
    };
    match forecast_exhaustion(&(start..end), used) {
        None => Some(Pace::Lasts),
        Some(at) => (at > now).then_some(Pace::ExhaustedAt(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(n: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(n)
    }

    fn request(at: i64, weight: f64) -> WeighedRequest {
        let at = minute(at);
        WeighedRequest { at, weight }
    }

    fn used(at: i64, percent: f64) -> UsedPercent {
        let at = minute(at);
        UsedPercent { at, percent }
    }

    fn rounded(parts: &WindowParts) -> Vec<i64> {
        #[allow(clippy::cast_possible_truncation, reason = "small numbers")]
        parts
            .of_requests
            .iter()
            .map(|part| part.round() as i64)
            .collect()
    }

    #[test]
    fn a_rise_of_the_use_is_divided_among_the_requests_since_the_previous_observation() {
        let requests = [request(1, 3.0), request(2, 1.0), request(3, 4.0)];
        let observations = [used(1, 0.0), used(2, 4.0), used(3, 8.0)];
        let parts = divide_window(minute(0), &requests, &observations);
        assert_eq!(rounded(&parts), [3, 1, 4]);
        assert!(parts.unattributed.abs() < 1e-9);
    }

    #[test]
    fn rises_of_the_use_that_requests_do_not_explain_are_unattributed() {
        // Nothing is known of the time before the first observation.
        let requests = [request(1, 1.0)];
        let parts = divide_window(minute(0), &requests, &[used(1, 90.0)]);
        assert_eq!(rounded(&parts), [0]);
        assert!((parts.unattributed - 90.0).abs() < 1e-9);
        let requests = [request(10, 1.0), request(20, 1.0), request(30, 1.0)];
        let observations = [
            used(5, 50.0),
            used(10, 51.0),
            used(20, 52.0),
            // A rise of 21 after a request that usually takes 1.
            used(30, 73.0),
        ];
        let parts = divide_window(minute(0), &requests, &observations);
        assert_eq!(rounded(&parts), [1, 1, 2]);
        let sum = parts.of_requests.iter().sum::<f64>() + parts.unattributed;
        assert!((sum - 73.0).abs() < 1e-9);
        let none = divide_window(minute(0), &[], &observations);
        assert!((none.unattributed - 73.0).abs() < 1e-9);
    }

    #[test]
    fn a_forecast_follows_the_pace_since_the_start() {
        let window = minute(0)..minute(100);
        assert_eq!(
            forecast_exhaustion(&window, used(20, 40.0)),
            Some(minute(50))
        );
        assert_eq!(forecast_exhaustion(&window, used(20, 10.0)), None);
        assert_eq!(
            forecast_exhaustion(&window, used(20, 100.0)),
            Some(minute(20))
        );
        assert_eq!(forecast_exhaustion(&window, used(0, 5.0)), None);
    }

    #[test]
    fn a_pace_is_known_until_the_time_that_it_forecasts() {
        let window = |used_percent| Window {
            limit_id: "codex".to_owned(),
            minutes: Some(100),
            used_percent,
            resets_at: Some(minute(100).fixed_offset()),
        };
        let pace = |used, seen, now| forecast_pace(&window(used), minute(seen), minute(now));
        assert_eq!(pace(10.0, 20, 30), Some(Pace::Lasts));
        assert_eq!(pace(40.0, 20, 30), Some(Pace::ExhaustedAt(minute(50))));
        assert_eq!(pace(40.0, 20, 50), None);
        assert_eq!(pace(100.0, 20, 99), Some(Pace::Exhausted));
        assert_eq!(pace(100.0, 20, 100), None);
        assert_eq!(pace(10.0, 0, 5), None);
        assert_eq!(
            forecast_pace(
                &Window {
                    resets_at: None,
                    ..window(1.0)
                },
                minute(1),
                minute(2)
            ),
            None
        );
    }
}
