//! Computes the state of an account: ready, in cooldown, or unknown.

use super::account::{AccountEntry, QuotaEnd};
use super::window::{Observation, SAME_WINDOW};
use crate::codex::window::{CODEX_LIMIT, WEEKLY_LABEL};
use crate::codex::{SpendCap, Window};
use crate::io::Timestamp;
use chrono::{DateTime, Duration, Utc};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// No window of Codex is known to be exhausted.
    Ready,
    /// No observation of Codex's windows exists.
    Unknown,
    /// The account is exhausted, capped, refused by the server, or held back by the user.
    Cooldown,
}

impl AccountState {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The reason for a cooldown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The user holds the account back (`cooldown --set`).
    Held,
    /// A window is used up. The text is the label of the window.
    Exhausted(String),
    /// A limit on spending is used up.
    Capped(SpendCap),
    /// The server refuses requests, and reports no window with a reset.
    Refused,
}

/// The state of an account at one time, with the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: AccountState,
    /// The end of the cooldown; `None` if the end is unknown, or the account is not in cooldown.
    pub next_available_at: Option<Timestamp>,
    /// The start of the last known weekly window, even if that window has ended.
    pub session_start_at: Option<Timestamp>,
    /// The time of the first observation that showed this weekly window at 100 %.
    pub quota_end_detected_at: Option<Timestamp>,
    /// The reason for a cooldown; `None` in any other state.
    pub cause: Option<Cause>,
}

impl Verdict {
    /// Returns a sort key that puts accounts first that can be used earlier, and cooldowns without a known end last.
    pub fn sort_key(&self) -> impl Ord + use<> {
        let next = self.next_available_at;
        let is_open_ended = self.state == AccountState::Cooldown && next.is_none();
        (self.state, is_open_ended, next)
    }
}

/// A reason for a cooldown, with its end.
struct Blocker {
    cause: Cause,
    /// The exact end, if known.
    ends_at: Option<Timestamp>,
    /// The latest possible end; `None` if the cooldown may last forever.
    latest_end: Option<Timestamp>,
}

impl Blocker {
    fn until(ends_at: Timestamp, cause: Cause) -> Self {
        Self {
            cause,
            ends_at: Some(ends_at),
            latest_end: Some(ends_at),
        }
    }

    fn outlasts(&self, other: &Self) -> bool {
        let end = |blocker: &Self| (blocker.latest_end.is_none(), blocker.latest_end);
        end(self) > end(other)
    }
}

/// Computes the state of `entry` at `now`.
///
/// The last observation decides. A window whose reset has passed counts as unused. If the server refuses requests
/// although no window is at 100 %, all windows of Codex with a future reset count as exhausted.
///
/// An exhausted window without a reset causes a cooldown of at most the length of the window. Without a reset, a window
/// of unknown length, a spend cap or a refusal causes a cooldown until the next observation. These cooldowns have no
/// known end. Of several reasons for a cooldown, including a hold by the user, the one that ends last counts.
pub fn compute_verdict(entry: &AccountEntry, now: &DateTime<Utc>) -> Verdict {
    let observation = entry.observation.as_ref();
    let is_future = |at: &Timestamp| *at > *now;
    let weekly = observation.and_then(Observation::weekly);
    let weekly_reset = weekly.and_then(|window| window.resets_at);

    // If the last observation lacks the weekly window (pasted text with missing lines), the evidence of an earlier
    // observation is still valid.
    let earlier_evidence = if weekly.is_none() { entry.weekly } else { None };
    let earlier_reset = earlier_evidence.and_then(|evidence| evidence.exhausted_until);

    let mut blockers =
        observation.map_or_else(Vec::new, |observation| find_blockers(observation, now));
    if let Some(resets_at) = earlier_reset.filter(is_future) {
        let cause = Cause::Exhausted(WEEKLY_LABEL.into());
        blockers.push(Blocker::until(resets_at, cause));
    }
    if let Some(until) = entry.held_until.filter(is_future) {
        blockers.push(Blocker::until(until, Cause::Held));
    }

    // Of blockers with the same end the first one is the cause: an exhausted window before a hold.
    let last_blocker = blockers
        .into_iter()
        .reduce(|a, b| if b.outlasts(&a) { b } else { a });

    // Without windows, an explicit permission of the server is evidence enough.
    let shows_state = |observation: &Observation| {
        codex_windows(observation).next().is_some() || observation.usage_allowed == Some(true)
    };
    let is_known = observation.is_some_and(shows_state) || earlier_evidence.is_some();

    let (state, next_available_at, cause) = match last_blocker {
        Some(blocker) => (AccountState::Cooldown, blocker.ends_at, Some(blocker.cause)),
        None if is_known => (AccountState::Ready, None, None),
        None => (AccountState::Unknown, None, None),
    };

    let last_reset = weekly_reset.or(earlier_reset);
    // The recorded end may belong to an earlier window.
    let is_of_last_window =
        |end: &&QuotaEnd| last_reset.is_some_and(|at| (at - end.resets_at).abs() <= SAME_WINDOW);
    let last_quota_end = entry.quota_end.as_ref().filter(is_of_last_window);
    Verdict {
        state,
        next_available_at,
        session_start_at: last_reset.map(|at| at - Duration::days(7)),
        quota_end_detected_at: last_quota_end.map(|end| end.detected_at),
        cause,
    }
}

/// Returns the remaining weekly quota in percent, which is 100 once the reset has passed. `None` if the last
/// observation has no weekly window.
pub fn weekly_left(entry: &AccountEntry, now: &DateTime<Utc>) -> Option<f64> {
    Some(percent_left(entry.observation.as_ref()?.weekly()?, now))
}

/// Returns the remaining quota of a window at `now`, in percent from 0 to 100.
pub fn percent_left(window: &Window, now: &DateTime<Utc>) -> f64 {
    if window.is_over(now) {
        100.0
    } else {
        (100.0 - window.used_percent).clamp(0.0, 100.0)
    }
}

fn codex_windows(observation: &Observation) -> impl Iterator<Item = &Window> {
    let windows = observation.windows.iter();
    windows.filter(|window| window.limit_id == CODEX_LIMIT)
}

/// Returns the reasons for a cooldown at `now` that an observation contains.
fn find_blockers(observation: &Observation, now: &DateTime<Utc>) -> Vec<Blocker> {
    let window_to_blocker = |window: &Window| Blocker {
        cause: Cause::Exhausted(window.label()),
        ends_at: window.resets_at,
        latest_end: window.resets_at.or_else(|| {
            let length = Duration::minutes(i64::from(window.minutes?));
            Some(observation.observed_at + length)
        }),
    };
    let cap_to_blocker = |cap: SpendCap| Blocker {
        cause: Cause::Capped(cap),
        ends_at: cap.resets_at,
        latest_end: cap.resets_at,
    };

    let exhausted_windows = find_exhausted_windows(observation, now).map(window_to_blocker);
    let reached_cap = observation.spend_cap.map(cap_to_blocker);
    let mut blockers: Vec<_> = exhausted_windows.chain(reached_cap).collect();
    // A window or a cap may have a reset that has passed.
    blockers.retain(|blocker| blocker.latest_end.is_none_or(|at| at > *now));

    // If the observation has a reset, the refusal ends at the reset. Only a refusal without a reset has no known end.
    let has_reset = codex_windows(observation).any(|window| window.resets_at.is_some());
    if blockers.is_empty() && observation.usage_allowed == Some(false) && !has_reset {
        blockers.push(Blocker {
            cause: Cause::Refused,
            ends_at: None,
            latest_end: None,
        });
    }

    blockers
}

/// Returns the windows of Codex at 100 %. If no window is at 100 %, but the server refuses requests, returns all
/// windows of Codex with a reset after `now`.
fn find_exhausted_windows<'a>(
    observation: &'a Observation,
    now: &'a DateTime<Utc>,
) -> impl Iterator<Item = &'a Window> {
    let is_used_up = |window: &Window| window.used_percent >= 100.0;
    let is_refused =
        observation.usage_allowed == Some(false) && !codex_windows(observation).any(is_used_up);
    codex_windows(observation).filter(move |window| {
        let resets_later = window.resets_at.is_some_and(|at| at > *now);
        is_used_up(window) || (is_refused && resets_later)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::Identity;
    use crate::codex::window::{CapKind, WEEKLY_MINUTES};
    use crate::quota::legacy;
    use crate::quota::window::QuotaSource;

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    fn window(minutes: u32, used: f64, resets_at: Option<&str>) -> Window {
        Window {
            limit_id: CODEX_LIMIT.into(),
            minutes: Some(minutes),
            used_percent: used,
            resets_at: resets_at.map(at),
        }
    }

    fn observation(observed_at: &str, windows: Vec<Window>) -> Observation {
        Observation::new(QuotaSource::Live, at(observed_at), windows)
    }

    fn seen(observations: Vec<Observation>) -> AccountEntry {
        let mut entry = AccountEntry::new(Identity::from_email("a@x.com"));
        for observation in observations {
            entry.add_observation(observation);
        }
        entry
    }

    fn state(entry: &AccountEntry) -> (AccountState, Option<String>) {
        let verdict = compute_verdict(entry, &at(NOW).to_utc());
        (
            verdict.state,
            verdict.next_available_at.map(|t| t.to_rfc3339()),
        )
    }

    fn cooldown(until: &str) -> (AccountState, Option<String>) {
        (AccountState::Cooldown, Some(at(until).to_rfc3339()))
    }

    #[test]
    fn an_account_at_30_percent_is_ready() {
        let entry = seen(vec![observation(
            "2026-11-20T11:00:00Z",
            vec![window(WEEKLY_MINUTES, 30.0, Some("2026-11-24T12:00:00Z"))],
        )]);
        assert_eq!(state(&entry), (AccountState::Ready, None));
    }

    #[test]
    fn the_latest_reset_of_the_exhausted_windows_counts() {
        let entry = seen(vec![observation(
            "2026-11-20T11:00:00Z",
            vec![
                window(300, 100.0, Some("2026-11-20T14:00:00Z")),
                window(WEEKLY_MINUTES, 100.0, Some("2026-11-24T12:00:00Z")),
            ],
        )]);
        assert_eq!(state(&entry), cooldown("2026-11-24T12:00:00Z"));
        let verdict = compute_verdict(&entry, &at(NOW).to_utc());
        assert_eq!(verdict.session_start_at, Some(at("2026-11-17T12:00:00Z")));
        assert_eq!(
            verdict.quota_end_detected_at,
            Some(at("2026-11-20T11:00:00Z"))
        );
    }

    #[test]
    fn a_window_counts_as_unused_after_its_reset() {
        let entry = seen(vec![observation(
            "2026-11-10T11:00:00Z",
            vec![window(WEEKLY_MINUTES, 100.0, Some(NOW))],
        )]);
        assert_eq!(state(&entry), (AccountState::Ready, None));
        assert_eq!(weekly_left(&entry, &at(NOW).to_utc()), Some(100.0));
    }

    #[test]
    fn windows_of_other_limits_are_ignored() {
        let mut other = window(WEEKLY_MINUTES, 100.0, Some("2026-11-24T12:00:00Z"));
        other.limit_id = "spark".into();
        let entry = seen(vec![observation(
            "2026-11-20T11:00:00Z",
            vec![other.clone()],
        )]);
        assert_eq!(state(&entry), (AccountState::Unknown, None));
        let entry = seen(vec![observation(
            "2026-11-20T11:00:00Z",
            vec![other, window(300, 1.0, Some("2026-11-20T14:00:00Z"))],
        )]);
        assert_eq!(state(&entry), (AccountState::Ready, None));
    }

    #[test]
    fn only_a_newer_observation_overrides_a_legacy_file() {
        let ended =
            legacy::exhausted_observation(at("2026-11-18T12:00:00Z"), at("2026-11-25T10:00:00Z"));
        let free = |observed_at| {
            observation(
                observed_at,
                vec![window(WEEKLY_MINUTES, 10.0, Some("2026-11-26T12:00:00Z"))],
            )
        };
        assert_eq!(
            state(&seen(vec![ended.clone()])),
            cooldown("2026-11-25T10:00:00Z")
        );
        assert_eq!(
            state(&seen(vec![free("2026-11-19T12:00:00Z"), ended.clone()])),
            (AccountState::Ready, None)
        );
        assert_eq!(
            state(&seen(vec![ended, free("2026-11-17T12:00:00Z")])),
            cooldown("2026-11-25T10:00:00Z")
        );
    }

    #[test]
    fn an_observation_without_the_weekly_window_ends_its_exhaustion_only_if_usage_is_allowed() {
        let ended =
            legacy::exhausted_observation(at("2026-11-18T12:00:00Z"), at("2026-11-25T10:00:00Z"));
        let short = observation(
            "2026-11-20T11:00:00Z",
            vec![window(300, 10.0, Some("2026-11-20T14:00:00Z"))],
        );
        let entry = seen(vec![ended.clone(), short.clone()]);
        assert_eq!(state(&entry), cooldown("2026-11-25T10:00:00Z"));
        let allowed = Observation {
            usage_allowed: Some(true),
            ..short
        };
        assert_eq!(
            state(&seen(vec![ended, allowed])),
            (AccountState::Ready, None)
        );
    }

    #[test]
    fn an_exhaustion_that_the_server_revoked_does_not_return() {
        let full = observation(
            "2026-11-18T12:00:00Z",
            vec![window(WEEKLY_MINUTES, 100.0, Some("2026-11-24T12:00:00Z"))],
        );
        let allowed = Observation {
            usage_allowed: Some(true),
            ..observation("2026-11-19T12:00:00Z", vec![])
        };
        let free = observation(
            "2026-11-19T12:00:00Z",
            vec![window(WEEKLY_MINUTES, 0.0, Some("2026-11-26T12:00:00Z"))],
        );
        let short = vec![window(300, 10.0, Some("2026-11-20T14:00:00Z"))];
        for newer in [free, allowed] {
            for last in [short.clone(), vec![]] {
                let last = observation("2026-11-20T11:00:00Z", last);
                let entry = seen(vec![full.clone(), newer.clone(), last]);
                assert_eq!(state(&entry), (AccountState::Ready, None));
            }
        }
    }

    #[test]
    fn a_refusal_of_the_server_exhausts_the_windows_at_100_percent_or_else_all() {
        let refused = |windows| {
            seen(vec![Observation {
                usage_allowed: Some(false),
                ..observation("2026-11-20T11:00:00Z", windows)
            }])
        };
        let short = |used| window(300, used, Some("2026-11-20T14:00:00Z"));
        let week = |used| window(WEEKLY_MINUTES, used, Some("2026-11-24T12:00:00Z"));
        assert_eq!(
            state(&refused(vec![short(100.0), week(50.0)])),
            cooldown("2026-11-20T14:00:00Z")
        );
        assert_eq!(
            state(&refused(vec![short(99.0), week(50.0)])),
            cooldown("2026-11-24T12:00:00Z")
        );
        assert_eq!(state(&refused(vec![])), (AccountState::Cooldown, None));
        assert_eq!(
            state(&refused(vec![window(300, 50.0, Some(NOW))])),
            (AccountState::Ready, None),
            "the refused window has reset"
        );
    }

    #[test]
    fn an_exhausted_window_without_a_reset_is_in_cooldown_for_its_length() {
        let entry = |observed_at| {
            seen(vec![observation(
                observed_at,
                vec![window(300, 100.0, None)],
            )])
        };
        assert_eq!(
            state(&entry("2026-11-20T11:00:00Z")),
            (AccountState::Cooldown, None)
        );
        assert_eq!(
            state(&entry("2026-11-20T06:00:00Z")),
            (AccountState::Ready, None)
        );
    }

    #[test]
    fn the_end_of_a_cooldown_is_known_if_its_longest_cause_has_an_end() {
        let with = |windows| seen(vec![observation("2026-11-20T11:00:00Z", windows)]);
        let soon = Some("2026-11-20T14:00:00Z");
        let later = "2026-11-24T12:00:00Z";
        assert_eq!(
            state(&with(vec![
                window(300, 100.0, soon),
                window(WEEKLY_MINUTES, 100.0, None)
            ])),
            (AccountState::Cooldown, None),
            "the week may end after the 5 hours"
        );
        assert_eq!(
            state(&with(vec![
                window(300, 100.0, None),
                window(WEEKLY_MINUTES, 100.0, Some(later))
            ])),
            cooldown(later),
            "the 5 hours end before the week"
        );
        let mut unusual = window(WEEKLY_MINUTES, 100.0, None);
        unusual.minutes = None;
        let mut held = with(vec![unusual]);
        held.held_until = Some(at(later));
        assert_eq!(state(&held), (AccountState::Cooldown, None));
    }

    #[test]
    fn a_spend_cap_is_a_cooldown_until_its_reset_even_with_quota_left() {
        let capped = |kind, resets_at: Option<&str>| {
            let free = window(WEEKLY_MINUTES, 12.0, Some("2026-11-21T12:00:00Z"));
            seen(vec![Observation {
                usage_allowed: Some(true),
                spend_cap: Some(SpendCap {
                    kind,
                    resets_at: resets_at.map(at),
                }),
                ..observation("2026-11-20T11:00:00Z", vec![free])
            }])
        };
        let later = "2026-12-01T00:00:00Z";
        let entry = capped(CapKind::SpendLimit, Some(later));
        assert_eq!(state(&entry), cooldown(later));
        let verdict = compute_verdict(&entry, &at(NOW).to_utc());
        assert!(matches!(verdict.cause, Some(Cause::Capped(_))));
        let entry = capped(CapKind::Credits, None);
        assert_eq!(state(&entry), (AccountState::Cooldown, None));
        let entry = capped(CapKind::SpendLimit, Some(NOW));
        assert_eq!(
            state(&entry),
            (AccountState::Ready, None),
            "its reset has passed"
        );
    }

    #[test]
    fn a_cooldown_lasts_until_the_later_of_the_hold_and_the_reset() {
        let mut entry = seen(vec![observation(
            "2026-11-20T11:00:00Z",
            vec![window(WEEKLY_MINUTES, 100.0, Some("2026-11-24T12:00:00Z"))],
        )]);
        entry.held_until = Some(at("2026-11-22T00:00:00Z"));
        assert_eq!(state(&entry), cooldown("2026-11-24T12:00:00Z"));
        entry.held_until = Some(at("2026-11-30T00:00:00Z"));
        assert_eq!(state(&entry), cooldown("2026-11-30T00:00:00Z"));
        entry.held_until = Some(at(NOW));
        assert_eq!(state(&entry), cooldown("2026-11-24T12:00:00Z"));
    }

    #[test]
    fn an_account_without_observed_windows_is_unknown_unless_usage_is_allowed() {
        assert_eq!(
            state(&AccountEntry::new(Identity::from_email("a@x.com"))),
            (AccountState::Unknown, None)
        );
        let empty = observation("2026-11-20T11:00:00Z", vec![]);
        assert_eq!(
            state(&seen(vec![empty.clone()])),
            (AccountState::Unknown, None)
        );
        let allowed = Observation {
            usage_allowed: Some(true),
            ..empty
        };
        assert_eq!(state(&seen(vec![allowed])), (AccountState::Ready, None));
    }
}
