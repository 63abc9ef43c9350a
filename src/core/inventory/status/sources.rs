//! Merges the sources into a report: Codex's answer, pasted text, the stored observation, and a
//! reset given by the user.

use super::report::{StatusProblem, StatusReport};
use crate::codex::{
    AccountLimits, Identity, ProbeFailure, ProbeReport, ProbedAccount, StatusText, Window,
};
use crate::inventory::cooldown::CooldownFile;
use crate::io::{Timestamp, Zone, pluralize};
use crate::quota::window::SAME_WINDOW;
use crate::quota::{LoginState, Observation, QuotaSource};
use chrono::{DateTime, Utc};

/// Merges Codex's answer into the report. Drops an answer about another account than the account of the home, and
/// reports it as a problem.
pub(super) fn merge_answer(
    report: &mut StatusReport,
    answer: ProbeReport,
    now: DateTime<Utc>,
    zone: Zone,
) {
    let is_revoked = answer.is_login_revoked();
    let account = answer.account.ok().flatten();
    let probed_identity = account.as_ref().and_then(ProbedAccount::identity);

    let limits = answer.limits.as_ref().ok();
    let limits_account_id = limits.and_then(|limits| limits.account_id.as_ref());
    let may_be_elsewhere = !report.store.always_reads_auth_json();
    if !may_be_elsewhere
        && let Some(home) = &report.identity
        && let Some(answered_account) =
            describe_contradicting_account(home, probed_identity.as_ref(), limits_account_id)
    {
        report.problem = Some(StatusProblem::AnotherAccount {
            live: answered_account,
            home: describe_account(home),
        });
        return;
    }

    // If auth.json names no account, or Codex may have its login elsewhere, the account of the answer counts.
    if probed_identity.is_some() && (report.identity.is_none() || may_be_elsewhere) {
        report.identity = probed_identity;
        report.login = LoginState::Ok;
        report.freshness = None;
    }

    if let Some(plan) = account.and_then(|account| account.plan) {
        report.plan = Some(plan);
    }

    match answer.limits {
        Ok(limits) if limits.windows.is_empty() && limits.unreadable_windows > 0 => {
            report.problem = Some(StatusProblem::NotUnderstood(limits.unreadable_windows));
        }
        Ok(limits) => merge_limits(report, limits, zone.at(&now)),
        // If auth.json is `{}`, Codex 0.169 believes that it is signed in and asks without a token.
        Err(ProbeFailure::Unauthorized(_)) if report.identity.is_none() => {
            report.problem = Some(StatusProblem::SignedOut);
        }
        Err(failure) if is_revoked => {
            report.login = LoginState::Expired;
            report.problem = Some(StatusProblem::Spent(failure));
        }
        Err(failure) => report.problem = Some(failure.into()),
    }
}

fn merge_limits(report: &mut StatusReport, limits: AccountLimits, now: Timestamp) {
    if limits.unreadable_windows > 0 {
        report.notes.push(format!(
            "ignored {} from the server: no valid use or reset",
            pluralize(limits.unreadable_windows, "window")
        ));
    }

    if limits.plan.is_some() {
        report.plan = limits.plan;
    }

    report.is_fresh = true;
    report.observation = Some(Observation {
        source: QuotaSource::Live,
        observed_at: now,
        usage_allowed: limits.usage_allowed,
        spend_cap: limits.spend_cap,
        reset_credits: limits.reset_credits,
        windows: limits.windows,
    });
}

/// Describes the account of Codex's answer if it is certainly not `home`: an id differs, or the email differs and there
/// are no ids to compare.
fn describe_contradicting_account(
    home: &Identity,
    answered: Option<&Identity>,
    limits_account_id: Option<&String>,
) -> Option<String> {
    /// Returns `None` if an id is unknown.
    fn agree(a: Option<&String>, b: Option<&String>) -> Option<bool> {
        Some(a? == b?)
    }

    if !home.kind.hides_account()
        && let Some(answered) = answered
    {
        let id_comparisons = [
            agree(home.account_id.as_ref(), answered.account_id.as_ref()),
            agree(home.user_id.as_ref(), answered.user_id.as_ref()),
        ];
        let ids_differ = id_comparisons.contains(&Some(false));
        let has_no_comparison = id_comparisons == [None, None];
        if ids_differ || (has_no_comparison && home.email != answered.email) {
            return Some(describe_account(answered));
        }
    }

    limits_account_id
        .filter(|id| agree(home.account_id.as_ref(), Some(id)) == Some(false))
        .map(|id| format!("account {id}"))
}

fn describe_account(identity: &Identity) -> String {
    match &identity.account_id {
        Some(id) => format!("{identity} ({id})"),
        None => identity.to_string(),
    }
}

pub(super) fn merge_status_text(report: &mut StatusReport, text: StatusText, now: Timestamp) {
    if report.identity.is_none() {
        report.identity = text.email.map(Identity::from_email);
    }
    if report.identity.is_none() {
        let note = "neither the status text nor the home names an account, so no account gets these figures";
        report.notes.push(note.into());
    }

    // Codex capitalizes the plan; the server's names are in lower case.
    let plan = text.plan.map(|plan| plan.to_lowercase());
    report.plan = report.plan.take().or(plan);

    if text.windows.is_empty() && text.spend_cap.is_none() {
        report.notes.push("the status text shows no quota".into());
        return;
    }

    report.is_fresh = true;
    report.observation = Some(Observation {
        spend_cap: text.spend_cap,
        ..Observation::new(QuotaSource::StatusFile, now, text.windows)
    });
}

/// Returns the stored observation of the account if it still holds: until its weekly window resets or, without a weekly
/// window, until all its windows have reset. While a spend cap applies, it always holds.
pub(super) fn find_valid_observation(
    cooldown: &CooldownFile,
    identity: Option<&Identity>,
    now: &DateTime<Utc>,
) -> Option<Observation> {
    let observation = cooldown.find(identity?)?.observation.as_ref()?;
    let resets_later = |window: &Window| window.resets_at.is_some_and(|at| at > *now);
    let has_future_reset = match observation.weekly() {
        Some(weekly) => resets_later(weekly),
        None => observation.windows.iter().any(resets_later),
    };
    let is_capped = observation.spend_cap.is_some_and(|cap| !cap.is_over(now));
    (has_future_reset || is_capped).then(|| observation.clone())
}

/// Replaces the weekly reset by `reset_at`, which the user gave. Keeps the used percentage of a fresh observation, or
/// of a stored one with the same reset. Otherwise the percentage is 0, so that no exhaustion is invented.
/// Does nothing for an account that is billed by use, which has no windows.
pub fn override_reset(report: &mut StatusReport, reset_at: Timestamp, now: Timestamp) {
    if report.is_billed_by_use() {
        return;
    }
    let weekly = report.observation.as_ref().and_then(Observation::weekly);
    let is_given_reset = |at: Timestamp| (at - reset_at).abs() <= SAME_WINDOW;
    let keeps_percent =
        |window: &&Window| report.is_fresh || window.resets_at.is_some_and(is_given_reset);
    let used_percent = weekly.filter(keeps_percent).map_or(0.0, |w| w.used_percent);

    let mut observation = match report.observation.take() {
        Some(observation) if report.is_fresh => observation,
        _ => Observation::new(QuotaSource::Manual, now, Vec::new()),
    };

    (observation.source, observation.observed_at) = (QuotaSource::Manual, now);
    observation.windows.retain(|window| !window.is_weekly());
    let weekly = Window::new_weekly(used_percent, Some(reset_at));
    observation.windows.push(weekly);

    report.is_fresh = true;
    report.observation = Some(observation);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::config::CredentialStore;
    use crate::codex::window::CODEX_LIMIT;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    const NOW: &str = "2026-11-20T12:00:00Z";
    const MONDAY: &str = "2026-11-23T07:00:00Z";

    fn window(minutes: u32, used_percent: f64, resets_at: &str) -> Window {
        Window {
            limit_id: CODEX_LIMIT.into(),
            minutes: Some(minutes),
            used_percent,
            resets_at: Some(at(resets_at)),
        }
    }

    fn observation(windows: Vec<Window>) -> Observation {
        Observation {
            source: QuotaSource::Live,
            observed_at: at("2026-11-20T11:00:00Z"),
            usage_allowed: Some(true),
            spend_cap: None,
            reset_credits: None,
            windows,
        }
    }

    fn report(observation: Option<Observation>, is_fresh: bool) -> StatusReport {
        StatusReport {
            identity: Some(Identity::from_email("alice@example.com")),
            plan: None,
            store: CredentialStore::File,
            observation,
            is_fresh,
            problem: None,
            notes: Vec::new(),
            login: LoginState::Ok,
            freshness: None,
        }
    }

    fn with_reset(mut report: StatusReport, reset_at: &str) -> Observation {
        override_reset(&mut report, at(reset_at), at(NOW));
        assert!(report.is_fresh);
        report.observation.unwrap()
    }

    #[test]
    fn the_window_of_a_manual_reset_has_the_observed_use_or_else_none() {
        let only = |observation: Observation| {
            assert_eq!(observation.source, QuotaSource::Manual);
            assert_eq!(observation.observed_at, at(NOW));
            assert_eq!(observation.windows.len(), 1);
            observation.windows[0].clone()
        };
        let weekly = || observation(vec![window(10_080, 91.0, MONDAY)]);
        assert_eq!(
            only(with_reset(report(None, false), MONDAY)),
            window(10_080, 0.0, MONDAY),
            "no observation"
        );
        assert_eq!(
            only(with_reset(
                report(Some(weekly()), false),
                "2026-11-23T07:05:00Z"
            )),
            window(10_080, 91.0, "2026-11-23T07:05:00Z"),
            "the same window"
        );
        assert_eq!(
            only(with_reset(
                report(Some(weekly()), false),
                "2026-11-24T07:00:00Z"
            )),
            window(10_080, 0.0, "2026-11-24T07:00:00Z"),
            "another window"
        );
        assert_eq!(
            only(with_reset(
                report(Some(weekly()), true),
                "2026-11-24T07:00:00Z"
            )),
            window(10_080, 91.0, "2026-11-24T07:00:00Z"),
            "fresh observation"
        );
    }

    #[test]
    fn a_manual_reset_keeps_other_fresh_windows_and_drops_stored_ones() {
        let both = || {
            observation(vec![
                window(300, 12.0, "2026-11-20T14:00:00Z"),
                window(10_080, 91.0, MONDAY),
            ])
        };
        let minutes = |observation: Observation| -> Vec<_> {
            let windows = observation.windows.into_iter();
            windows.map(|window| window.minutes.unwrap()).collect()
        };
        assert_eq!(
            minutes(with_reset(report(Some(both()), true), MONDAY)),
            [300, 10_080]
        );
        assert_eq!(
            minutes(with_reset(report(Some(both()), false), MONDAY)),
            [10_080]
        );
    }

    #[test]
    fn a_stored_observation_holds_until_the_weekly_reset() {
        let alice = Identity::from_email("alice@example.com");
        let mut known = CooldownFile::default();
        let both = observation(vec![
            window(300, 12.0, "2026-12-01T00:00:00Z"),
            window(10_080, 91.0, MONDAY),
        ]);
        known.entry(&alice).add_observation(both.clone());
        let at_time = |known: &CooldownFile, now: &str| {
            find_valid_observation(known, Some(&alice), &at(now).to_utc())
        };
        assert_eq!(at_time(&known, NOW), Some(both));
        assert_eq!(at_time(&known, MONDAY), None);
        let bob = Identity::from_email("bob@example.com");
        assert_eq!(
            find_valid_observation(&known, Some(&bob), &at(NOW).to_utc()),
            None
        );

        let mut known = CooldownFile::default();
        let first = observation(vec![window(300, 12.0, "2026-11-20T14:00:00Z")]);
        known.entry(&alice).add_observation(first);
        assert!(at_time(&known, NOW).is_some(), "no weekly window");
        assert_eq!(at_time(&known, "2026-11-20T14:00:00Z"), None);
    }

    #[test]
    fn an_answer_with_another_id_is_of_another_account() {
        let who = |email: &str, account: Option<&str>, user: Option<&str>| Identity {
            account_id: account.map(Into::into),
            user_id: user.map(Into::into),
            ..Identity::from_email(email)
        };
        let home = who("a@x.com", Some("team"), Some("u1"));
        let other =
            |live: &Identity| describe_contradicting_account(&home, Some(live), None).is_some();
        assert!(!other(&who("new@x.com", Some("team"), Some("u1"))));
        assert!(other(&who("a@x.com", Some("team"), Some("u2"))));
        assert!(other(&who("a@x.com", Some("personal"), None)));
        assert!(other(&who("b@x.com", None, None)));
        assert!(!other(&who("A@x.com", None, None)));
        assert!(describe_contradicting_account(&home, None, Some(&"personal".into())).is_some());
        assert!(describe_contradicting_account(&home, None, Some(&"team".into())).is_none());
    }

    #[test]
    fn the_latest_reset_of_exhausted_codex_windows_is_the_next_availability() {
        let next = |usage_allowed, windows| {
            let mut observation = observation(windows);
            observation.usage_allowed = usage_allowed;
            report(Some(observation), true).next_available_at(&at(NOW).to_utc())
        };
        let soon = "2026-11-20T14:00:00Z";
        let both = |a, b| vec![window(300, a, soon), window(10_080, b, MONDAY)];
        assert_eq!(next(Some(true), both(12.0, 99.9)), None);
        assert_eq!(next(Some(false), both(100.0, 91.0)), Some(at(soon)));
        assert_eq!(next(None, both(100.0, 100.0)), Some(at(MONDAY)));
        assert_eq!(next(Some(false), both(12.0, 91.0)), Some(at(MONDAY)));
        let mut other = window(10_080, 100.0, MONDAY);
        other.limit_id = "codex_other".into();
        assert_eq!(next(Some(true), vec![other]), None);
        assert_eq!(
            next(None, vec![window(300, 100.0, "2026-11-20T11:00:00Z")]),
            None
        );
    }
}
