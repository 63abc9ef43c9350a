//! Ranks accounts, to recommend one for the next use.

use super::account::{Account, LoginState};
use super::state::{self, AccountState, Cause, Verdict};
use super::window::QuotaSource;
use crate::io::Timestamp;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::cmp::{Ordering, Reverse};

/// A switch away from a ready account is worth it for this much more weekly quota, in percentage points.
const MIN_QUOTA_ADVANTAGE: f64 = 10.0;

/// The order of accounts that are equally available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The least recently used account.
    #[default]
    Lru,
    /// The account whose remaining weekly quota expires first.
    ExpiringFirst,
    /// The account with the most weekly quota left.
    MostLeft,
    /// The current account while it is ready, else as expiring-first.
    Stay,
}

/// An account with the figures that decide its rank.
#[derive(Debug, Clone)]
pub struct RankedAccount<'a> {
    pub account: &'a Account,
    pub verdict: Verdict,
    /// The remaining weekly quota in percent, if known.
    pub weekly_left: Option<f64>,
}

#[derive(Debug, Clone)]
pub struct Ranking<'a> {
    /// The accounts that may be recommended, best first.
    pub candidates: Vec<RankedAccount<'a>>,
    /// The accounts that may not be recommended, ordered by email.
    pub excluded: Vec<RankedAccount<'a>>,
    pub strategy: Strategy,
}

/// Ranks `accounts` by their state at `now`: ready accounts first, then unknown ones, then those in cooldown.
///
/// Ready and unknown accounts are ordered by their login (usable, archived, unknown, none), then by the strategy, then
/// by the least recent use. Accounts in cooldown are ordered by the end of the cooldown. Ties are broken by the login,
/// then by more weekly quota left, then by the label.
///
/// Accounts with expired or moved logins are excluded. API keys are excluded unless `include_api_key` is set or no
/// other account is left.
pub fn rank_accounts<'a>(
    accounts: &'a [Account],
    strategy: Strategy,
    include_api_key: bool,
    now: &DateTime<Utc>,
) -> Ranking<'a> {
    let is_usable = |a: &Account| !matches!(a.login, LoginState::Expired | LoginState::Moved);
    let is_billed_by_quota = |a: &Account| !a.entry.identity.kind.is_billed_by_use();
    let allows_keys = include_api_key
        || !accounts
            .iter()
            .any(|a| is_usable(a) && is_billed_by_quota(a));

    let (mut candidates, mut excluded): (Vec<_>, Vec<_>) = accounts
        .iter()
        .map(|account| RankedAccount {
            account,
            verdict: state::compute_verdict(&account.entry, now),
            weekly_left: state::weekly_left(&account.entry, now),
        })
        .partition(|c| is_usable(c.account) && (allows_keys || is_billed_by_quota(c.account)));

    candidates.sort_by(|a, b| a.compare(b, strategy, now));
    excluded.sort_by_key(|c| c.account.entry.identity.email.key());

    Ranking {
        candidates,
        excluded,
        strategy,
    }
}

impl RankedAccount<'_> {
    pub fn is_ready(&self) -> bool {
        self.verdict.state == AccountState::Ready
    }

    fn compare(&self, other: &Self, strategy: Strategy, now: &DateTime<Utc>) -> Ordering {
        let by_state = self.verdict.state.cmp(&other.verdict.state);
        let by_login = || self.login_rank().cmp(&other.login_rank());
        // Decides only between accounts of the same state.
        let within_state = || match self.verdict.state {
            // In cooldown no login can be used now, so only the end of the cooldown counts.
            AccountState::Cooldown => self.verdict.sort_key().cmp(&other.verdict.sort_key()),
            AccountState::Ready | AccountState::Unknown => {
                by_login().then_with(|| self.compare_by(strategy, other, now))
            }
        };

        let tie_break_key = |c: &Self| {
            let identity = &c.account.entry.identity;
            (
                identity.email.key(),
                c.account.entry.profile.clone(),
                identity.account_id.clone(),
                identity.user_id.clone(),
            )
        };

        by_state
            .then_with(within_state)
            // Only accounts in cooldown are still undecided by their login.
            .then_with(by_login)
            .then_with(|| self.compare_weekly_left(other))
            .then_with(|| tie_break_key(self).cmp(&tie_break_key(other)))
    }

    fn compare_by(&self, strategy: Strategy, other: &Self, now: &DateTime<Utc>) -> Ordering {
        let by_expiry = || self.compare_expiry(other, now);
        match strategy {
            Strategy::Lru => self.compare_last_use(other),
            Strategy::Stay if self.is_ready() => {
                let by_current = other.account.current.cmp(&self.account.current);
                by_current.then_with(by_expiry)
            }
            Strategy::ExpiringFirst | Strategy::Stay => by_expiry(),
            Strategy::MostLeft => self
                .compare_weekly_left(other)
                .then_with(|| self.compare_last_use(other)),
        }
    }

    /// Returns the rank of the account's login; lower is better.
    fn login_rank(&self) -> u8 {
        match self.account.login {
            LoginState::Ok => 0,
            LoginState::Archived => 1,
            // Expired and moved logins are excluded before.
            LoginState::Unknown | LoginState::Expired | LoginState::Moved => 2,
            LoginState::None => 3,
        }
    }

    fn compare_last_use(&self, other: &Self) -> Ordering {
        // `None` sorts before any time, so accounts that were never used come first.
        let last_used_at = |c: &Self| c.account.entry.last_used_at;
        last_used_at(self).cmp(&last_used_at(other))
    }

    fn compare_expiry(&self, other: &Self, now: &DateTime<Utc>) -> Ordering {
        // `true` sorts last, so accounts without expiring quota come last.
        let expiry = |c: &Self| {
            let expires_at = c.quota_expires_at(now);
            (expires_at.is_none(), expires_at)
        };
        expiry(self)
            .cmp(&expiry(other))
            .then_with(|| self.compare_last_use(other))
    }

    fn compare_weekly_left(&self, other: &Self) -> Ordering {
        // Servers report with jitter, so the figures are compared as they are shown: in whole percent.
        #[allow(clippy::cast_possible_truncation, reason = "0 to 100")]
        let left = |c: &Self| Reverse(c.weekly_left.map(|left| left.round() as i32));
        left(self).cmp(&left(other))
    }

    /// Returns the time at which the remaining weekly quota expires; `None` if no quota is known to be left.
    fn quota_expires_at(&self, now: &DateTime<Utc>) -> Option<Timestamp> {
        let observation = self.account.entry.observation.as_ref()?;
        let resets_at = observation.weekly()?.resets_at?;
        let has_quota = self.weekly_left.is_some_and(|left| left > 0.0);
        (has_quota && resets_at > *now).then_some(resets_at)
    }

    /// Returns the source and the time of the account's last observation.
    fn observed(&self) -> Option<(QuotaSource, Timestamp)> {
        let observation = self.account.entry.observation.as_ref()?;
        Some((observation.source, observation.observed_at))
    }

    fn explain_cooldown(
        &self,
        format_ago: impl Fn(&Timestamp) -> String,
        format_time: impl Fn(&Timestamp) -> String,
    ) -> String {
        let until = self.verdict.next_available_at.map_or_else(
            || "; no reset known".into(),
            |at| format!(" until {}", format_time(&at)),
        );
        let source = self.observed().map_or_else(String::new, |(source, at)| {
            format!(" ({}, {})", source.name(), format_ago(&at))
        });

        match &self.verdict.cause {
            Some(Cause::Held) => format!("held back{until}"),
            Some(Cause::Exhausted(label)) => format!("{label} quota exhausted{until}{source}"),
            Some(Cause::Capped(cap)) => format!("{}{until}{source}", cap.describe()),
            Some(Cause::Refused) => format!("refused by the server{until}{source}"),
            None => format!("in cooldown{until}"),
        }
    }
}

impl<'a> Ranking<'a> {
    /// Returns the account of the Codex home, even if it may not be recommended.
    pub fn live(&self) -> Option<&RankedAccount<'a>> {
        let mut accounts = self.candidates.iter().chain(&self.excluded);
        accounts.find(|c| c.account.current)
    }

    /// Returns the first ready account with a saved login that is better than the live account. While the live account
    /// is ready, an account is better only if it is known to have at least [`MIN_QUOTA_ADVANTAGE`] more weekly quota
    /// left, and never with [`Strategy::Stay`]. Otherwise each of these accounts is better.
    pub fn find_better(&self) -> Option<&RankedAccount<'a>> {
        let ready_live = self.live().filter(|live| live.is_ready());
        let is_worth_a_switch = |c: &RankedAccount<'_>| {
            let Some(live) = ready_live else { return true };
            let both_left = c.weekly_left.zip(live.weekly_left);
            let has_more =
                both_left.is_some_and(|(left, live_left)| left >= live_left + MIN_QUOTA_ADVANTAGE);
            has_more && self.strategy != Strategy::Stay
        };

        self.candidates.iter().find(|c| {
            let is_saved_elsewhere = !c.account.current && c.account.login == LoginState::Ok;
            is_saved_elsewhere && c.is_ready() && is_worth_a_switch(c)
        })
    }

    /// Explains the rank of an account, or its exclusion, in one sentence. `format_ago` formats a time
    /// relative to now, `format_time` in full.
    pub fn reason(
        &self,
        ranked: &RankedAccount<'_>,
        format_ago: impl Fn(&Timestamp) -> String,
        format_time: impl Fn(&Timestamp) -> String,
    ) -> String {
        if let Some(exclusion) = self.explain_exclusion(ranked) {
            return exclusion.into();
        }

        let entry = &ranked.account.entry;
        let last_use = entry.last_used_at.map_or_else(
            || "never used".into(),
            |at| format!("last used {}", format_ago(&at)),
        );

        match ranked.verdict.state {
            AccountState::Ready => self.explain_ready(ranked, &last_use, format_ago),
            AccountState::Cooldown => ranked.explain_cooldown(format_ago, format_time),
            AccountState::Unknown if entry.identity.kind.is_billed_by_use() => {
                format!("an API key, billed by use; {last_use}")
            }
            AccountState::Unknown => format!("quota unknown; {last_use}"),
        }
    }

    /// Explains why an account is not among the candidates. Returns `None` for a candidate.
    fn explain_exclusion(&self, ranked: &RankedAccount<'_>) -> Option<&'static str> {
        let is_key = ranked.account.entry.identity.kind.is_billed_by_use();
        let mut candidates = self.candidates.iter();
        let is_candidate = candidates.any(|c| std::ptr::eq(c.account, ranked.account));
        match ranked.account.login {
            LoginState::Expired => Some("never recommended: its login has expired"),
            LoginState::Moved => Some("never recommended: its login was moved to another machine"),
            _ if is_key && !is_candidate => Some("not recommended: an API key is billed by use"),
            _ => None,
        }
    }

    fn explain_ready(
        &self,
        ranked: &RankedAccount<'_>,
        last_use: &str,
        format_ago: impl Fn(&Timestamp) -> String,
    ) -> String {
        let figure = match (ranked.weekly_left, ranked.observed()) {
            (Some(left), Some((source, at))) => format!(
                "; {left:.0} % of the weekly quota left ({}, {})",
                source.name(),
                format_ago(&at)
            ),
            _ => String::new(),
        };

        let observation = ranked.account.entry.observation.as_ref();
        let reset = observation.and_then(|observation| observation.weekly()?.resets_at);
        match (self.strategy, reset) {
            (Strategy::MostLeft, _) => format!("ready{figure}; {last_use}"),
            (Strategy::Stay, _) if ranked.account.current => format!("ready, in use{figure}"),
            (Strategy::ExpiringFirst | Strategy::Stay, Some(at)) if !figure.is_empty() => {
                format!("ready{figure}, reset {}; {last_use}", format_ago(&at))
            }
            (Strategy::Lru | Strategy::ExpiringFirst | Strategy::Stay, _) => {
                format!("ready, {last_use}{figure}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::{Identity, LoginKind};
    use crate::codex::window::Window;
    use crate::quota::account::AccountEntry;
    use crate::quota::window::Observation;
    use proptest::{prop_assert_eq, proptest};

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    fn account(email: &str, used: Option<f64>, resets_at: &str, last_use: Option<&str>) -> Account {
        Account {
            entry: AccountEntry {
                observation: used.map(|used| {
                    let window = Window::new_weekly(used, Some(at(resets_at)));
                    Observation::new(QuotaSource::Live, at("2026-11-20T11:00:00Z"), vec![window])
                }),
                last_used_at: last_use.map(at),
                ..AccountEntry::new(Identity::from_email(email))
            },
            login: LoginState::Ok,
            current: false,
        }
    }

    fn with_login(login: LoginState, mut account: Account) -> Account {
        account.login = login;
        account
    }

    fn api_key() -> Account {
        let mut account = account("api-key-012345", None, "", None);
        account.entry.identity.kind = LoginKind::ApiKey;
        account
    }

    fn order(accounts: &[Account], strategy: Strategy) -> Vec<String> {
        rank_accounts(accounts, strategy, false, &at(NOW).to_utc())
            .candidates
            .iter()
            .map(|c| c.account.entry.identity.email.to_string())
            .collect()
    }

    const SOON: &str = "2026-11-21T12:00:00Z";
    const LATE: &str = "2026-11-26T12:00:00Z";

    #[test]
    fn the_order_is_ready_unknown_then_cooldown_by_end() {
        let accounts = [
            account("late", Some(100.0), LATE, None),
            account("soon", Some(100.0), SOON, None),
            account("unknown", None, "", None),
            account("ready", Some(99.0), SOON, Some(NOW)),
        ];
        assert_eq!(
            order(&accounts, Strategy::Lru),
            ["ready", "unknown", "soon", "late"]
        );
    }

    #[test]
    fn stay_keeps_the_current_account_while_it_is_ready() {
        let mut accounts = [
            account("expires", Some(10.0), SOON, None),
            account("current", Some(90.0), LATE, Some(NOW)),
            account("later", Some(1.0), LATE, None),
        ];
        accounts[1].current = true;
        assert_eq!(
            order(&accounts, Strategy::Stay),
            ["current", "expires", "later"]
        );
        accounts[1].entry.observation.as_mut().unwrap().windows[0].used_percent = 100.0;
        assert_eq!(
            order(&accounts, Strategy::Stay),
            ["expires", "later", "current"]
        );
    }

    #[test]
    fn lru_prefers_never_used_then_least_recently_used() {
        let accounts = [
            account("today", Some(1.0), SOON, Some("2026-11-20T01:00:00Z")),
            account("long-ago", Some(90.0), SOON, Some("2026-11-01T01:00:00Z")),
            account("never", Some(95.0), SOON, None),
        ];
        assert_eq!(
            order(&accounts, Strategy::Lru),
            ["never", "long-ago", "today"]
        );
    }

    #[test]
    fn ties_are_broken_by_login_quota_and_label() {
        let accounts = [
            with_login(LoginState::None, account("none", Some(0.0), LATE, None)),
            with_login(
                LoginState::Archived,
                account("archived", Some(0.0), LATE, None),
            ),
            account("b", Some(50.0), LATE, None),
            account("a", Some(50.0), LATE, None),
            account("more", Some(40.0), LATE, None),
        ];
        assert_eq!(
            order(&accounts, Strategy::Lru),
            ["more", "a", "b", "archived", "none"]
        );
    }

    #[test]
    fn a_better_login_counts_more_than_the_strategy_but_less_than_state_and_end_of_cooldown() {
        let accounts = [
            with_login(LoginState::None, account("none", Some(0.0), SOON, None)),
            with_login(
                LoginState::Archived,
                account("archived", Some(50.0), SOON, None),
            ),
            account("ok", Some(99.0), LATE, Some(NOW)),
            account("unknown", None, "", None),
            account("out", Some(100.0), LATE, None),
            with_login(
                LoginState::None,
                account("out soon", Some(100.0), SOON, None),
            ),
        ];
        for strategy in [Strategy::Lru, Strategy::ExpiringFirst, Strategy::MostLeft] {
            assert_eq!(
                order(&accounts, strategy),
                ["ok", "archived", "none", "unknown", "out soon", "out"],
                "{strategy:?}"
            );
        }
    }

    #[test]
    fn expired_and_moved_logins_are_excluded() {
        let accounts = [
            with_login(
                LoginState::Expired,
                account("expired", Some(0.0), LATE, None),
            ),
            with_login(LoginState::Moved, account("moved", Some(0.0), LATE, None)),
        ];
        assert!(order(&accounts, Strategy::Lru).is_empty());
        let ranking = rank_accounts(&accounts, Strategy::Lru, true, &at(NOW).to_utc());
        assert_eq!(ranking.excluded.len(), 2);
    }

    #[test]
    fn an_api_key_is_a_candidate_on_request_or_without_alternative() {
        let both = [api_key(), account("a", Some(100.0), LATE, None)];
        assert_eq!(order(&both, Strategy::Lru), ["a"]);
        assert_eq!(
            rank_accounts(&both, Strategy::Lru, true, &at(NOW).to_utc())
                .candidates
                .len(),
            2
        );
        let expired = with_login(LoginState::Expired, account("a", Some(0.0), LATE, None));
        assert_eq!(
            order(&[api_key(), expired], Strategy::Lru),
            ["api-key-012345"]
        );
    }

    #[test]
    fn expiring_first_prefers_the_earliest_reset_with_quota_left() {
        let accounts = [
            account("over", Some(50.0), "2026-11-19T12:00:00Z", None),
            account("late", Some(50.0), LATE, None),
            account("soon", Some(50.0), SOON, Some(NOW)),
        ];
        assert_eq!(
            order(&accounts, Strategy::ExpiringFirst),
            ["soon", "late", "over"]
        );
    }

    #[test]
    fn most_left_prefers_the_most_weekly_quota() {
        let accounts = [
            account("half", Some(50.0), LATE, None),
            account("over", Some(100.0), "2026-11-19T12:00:00Z", Some(NOW)),
            account("most", Some(10.0), LATE, Some(NOW)),
        ];
        assert_eq!(
            order(&accounts, Strategy::MostLeft),
            ["over", "most", "half"]
        );
    }

    proptest! {
        #[test]
        fn the_order_does_not_depend_on_the_order_of_the_input(
            used in proptest::collection::vec((proptest::option::of(0.0..120.0f64), 0u8..4), 1..8),
            strategy in 0usize..3,
        ) {
            let strategy = [Strategy::Lru, Strategy::ExpiringFirst, Strategy::MostLeft][strategy];
            let accounts: Vec<_> = used
                .iter()
                .enumerate()
                .map(|(i, (used, day))| {
                    account(&format!("a{i}"), *used, &format!("2026-11-{}T12:00:00Z", 19 + day), None)
                })
                .collect();
            let reversed: Vec<_> = accounts.iter().rev().cloned().collect();
            prop_assert_eq!(order(&accounts, strategy), order(&reversed, strategy));
        }
    }
}
