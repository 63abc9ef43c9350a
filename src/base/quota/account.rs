//! The recorded facts about an account: its login, its quota, its last use.

use super::window::{Observation, SAME_WINDOW};
use crate::codex::auth::Freshness;
use crate::codex::{Email, Identity, LoginKind, Window};
use crate::io::Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// The availability of an account's login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum LoginState {
    /// The login is in the live home or in a profile.
    Ok,
    /// The login is only in an archive or a legacy file.
    Archived,
    /// Only records exist, no login.
    None,
    #[default]
    Unknown,
    Expired,
    /// An export moved the login to another machine.
    Moved,
}

impl LoginState {
    /// Returns the name of the state in documents and output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The first observation of an exhausted weekly window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaEnd {
    pub detected_at: Timestamp,
    pub resets_at: Timestamp,
}

/// The newest evidence about the weekly window of Codex. It is kept apart from the last observation, which may lack the
/// weekly window. Evidence of remaining quota is kept as well, because it revokes an earlier exhaustion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeeklyEvidence {
    pub observed_at: Timestamp,
    /// The reset of the window if the window was exhausted; `None` if quota was left.
    pub exhausted_until: Option<Timestamp>,
}

impl WeeklyEvidence {
    /// Returns `None` if the observation shows neither remaining quota nor the reset of an exhausted weekly window.
    /// Without a weekly window, an explicit permission to use Codex shows remaining quota.
    fn from_observation(observation: &Observation) -> Option<Self> {
        let exhausted_until = match observation.weekly() {
            Some(window) if window.used_percent >= 100.0 => Some(window.resets_at?),
            Some(_) => None,
            None if observation.usage_allowed == Some(true) => None,
            None => return None,
        };
        Some(Self {
            observed_at: observation.observed_at,
            exhausted_until,
        })
    }
}

/// The newest usage in the rollouts of an account's launches. It is shown beside the figures of the
/// server, and does not affect the state of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionUsage {
    pub rollout_path: String,
    pub session_id: String,
    /// The time of the `token_count` event.
    pub captured_at: Timestamp,
    /// The windows of the event; empty if Codex wrote none.
    #[serde(default)]
    pub windows: Vec<Window>,
}

/// The entry of an account in `cooldown.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "EntryOnDisk")]
pub struct AccountEntry {
    #[serde(flatten)]
    pub identity: Identity,
    /// The subscription that was last seen, such as `plus`.
    pub plan: Option<String>,
    /// The name of the profile that holds the login.
    pub profile: Option<String>,
    /// The availability of the login when a command last checked it.
    pub login: LoginState,
    /// The last time at which the server refused the login.
    pub expired_at: Option<Timestamp>,
    /// The times of the login that the server refused then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Freshness>,
    /// True if an archive or a legacy file contains a login of the account. That login remains when the profile is
    /// removed.
    pub archived: bool,
    pub observation: Option<Observation>,
    pub quota_end: Option<QuotaEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<WeeklyEvidence>,
    /// The end of a hold set by the user.
    pub held_until: Option<Timestamp>,
    /// The time at which the user set the hold.
    pub held_since: Option<Timestamp>,
    /// The last time at which `use`, `launch`, `resume` or `backup` worked with this account in the live home.
    pub last_used_at: Option<Timestamp>,
    /// The newest usage of conversations launched with this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionUsage>,
}

/// The fields of [`AccountEntry`] for reading, without `flatten`. With `flatten`, serde would first collect each entry
/// into a map, which takes half of the run time of `recommend` after startup.
#[derive(Deserialize)]
struct EntryOnDisk {
    email: Email,
    account_id: Option<String>,
    user_id: Option<String>,
    #[serde(default)]
    kind: LoginKind,
    plan: Option<String>,
    profile: Option<String>,
    #[serde(default)]
    login: LoginState,
    expired_at: Option<Timestamp>,
    refused: Option<Freshness>,
    #[serde(default)]
    archived: bool,
    observation: Option<Observation>,
    quota_end: Option<QuotaEnd>,
    weekly: Option<WeeklyEvidence>,
    held_until: Option<Timestamp>,
    held_since: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    session: Option<SessionUsage>,
}

impl From<EntryOnDisk> for AccountEntry {
    fn from(entry: EntryOnDisk) -> Self {
        Self {
            weekly: entry.weekly,
            identity: Identity {
                email: entry.email,
                account_id: entry.account_id,
                user_id: entry.user_id,
                kind: entry.kind,
            },
            plan: entry.plan,
            profile: entry.profile,
            login: entry.login,
            expired_at: entry.expired_at,
            refused: entry.refused,
            archived: entry.archived,
            observation: entry.observation,
            quota_end: entry.quota_end,
            held_until: entry.held_until,
            held_since: entry.held_since,
            last_used_at: entry.last_used_at,
            session: entry.session,
        }
    }
}

impl AccountEntry {
    /// Returns the last time at which the server refused the login, or else the time of the last observation. If the
    /// login was renewed after this time, it may be valid again.
    pub fn refused_or_observed_at(&self) -> Option<Timestamp> {
        let observed_at = self.observation.as_ref().map(|last| last.observed_at);
        self.expired_at.or(observed_at)
    }

    /// Returns true if `login` is newer than the login that the server refused.
    pub fn is_newer_than_refused(&self, login: &Freshness) -> bool {
        let refused = self.refused.as_ref();
        refused.is_some_and(|refused| login.is_newer_than(refused))
    }

    /// Creates an entry without any facts.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            ..Self::default()
        }
    }

    /// Records an observation. If the recorded observation is newer, the new one can only change the evidence about the
    /// weekly window.
    pub fn add_observation(&mut self, mut observation: Observation) {
        if let Some(evidence) = WeeklyEvidence::from_observation(&observation) {
            self.add_evidence(evidence);
        }
        let recorded_at = self.observation.as_ref().map(|last| last.observed_at);
        if recorded_at.is_none_or(|recorded_at| observation.observed_at >= recorded_at) {
            observation.inherit_reset_credits(self.observation.as_ref());
            self.observation = Some(observation);
        }
    }

    /// Removes observations and a refusal of the login dated more than an hour after `now`, which come from a wrong
    /// clock. Otherwise they would count as the newest ones until their time has come.
    pub fn remove_future_observations(&mut self, now: &DateTime<Utc>) {
        let is_possible = |at: Timestamp| at <= *now + TimeDelta::hours(1);
        self.observation
            .take_if(|last| !is_possible(last.observed_at));
        self.weekly.take_if(|last| !is_possible(last.observed_at));
        self.quota_end.take_if(|end| !is_possible(end.detected_at));
        self.expired_at.take_if(|at| !is_possible(*at));
    }

    /// Records evidence about the weekly window. Calls may come in any order of time: the newest evidence is kept, and
    /// the first observation of the latest exhausted window.
    pub fn add_evidence(&mut self, evidence: WeeklyEvidence) {
        let observed_at = evidence.observed_at;
        let is_newest = |recorded: WeeklyEvidence| observed_at >= recorded.observed_at;
        if self.weekly.is_none_or(is_newest) {
            self.weekly = Some(evidence);
        }

        let Some(resets_at) = evidence.exhausted_until else {
            return;
        };
        let replaces_end = self.quota_end.as_ref().is_none_or(|end| {
            let is_same = (end.resets_at - resets_at).abs() <= SAME_WINDOW;
            let is_earlier = observed_at < end.detected_at;
            // Keeps the earliest observation at 100 % of one window, and the latest of different windows.
            if is_same { is_earlier } else { !is_earlier }
        });
        if replaces_end {
            self.quota_end = Some(QuotaEnd {
                detected_at: observed_at,
                resets_at,
            });
        }
    }
}

/// A known account with its current state.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub entry: AccountEntry,
    /// The current availability of the login, which may differ from `entry.login`.
    pub login: LoginState,
    /// True if the Codex home is signed in to this account.
    pub current: bool,
}

/// Returns the account of `accounts` that [`Identity::is_same`] finds equal.
pub fn find_by_identity<'a>(accounts: &'a [Account], identity: &Identity) -> Option<&'a Account> {
    accounts
        .iter()
        .find(|account| account.entry.identity.is_same(identity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::window::QuotaSource;
    use chrono::DateTime;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    fn observation(observed_at: &str, used_percent: f64, resets_at: &str) -> Observation {
        let window = Window::new_weekly(used_percent, Some(at(resets_at)));
        Observation::new(QuotaSource::Live, at(observed_at), vec![window])
    }

    fn observed(observations: &[(&str, f64, &str)]) -> AccountEntry {
        let mut entry = AccountEntry::new(Identity::from_email("a@x.com"));
        for (observed_at, used, resets_at) in observations {
            entry.add_observation(observation(observed_at, *used, resets_at));
        }
        entry
    }

    #[test]
    fn the_quota_end_is_the_first_observation_at_100_percent_despite_jitter() {
        let entry = observed(&[
            ("2026-11-20T10:00:00Z", 99.0, "2026-11-24T12:00:00Z"),
            ("2026-11-20T12:00:00Z", 100.0, "2026-11-24T12:03:00Z"),
            ("2026-11-20T13:00:00Z", 100.0, "2026-11-24T11:58:00Z"),
            ("2026-11-20T11:00:00Z", 100.0, "2026-11-24T12:00:00Z"),
        ]);
        assert_eq!(
            entry.quota_end.unwrap().detected_at,
            at("2026-11-20T11:00:00Z")
        );
        assert_eq!(
            entry.observation.unwrap().observed_at,
            at("2026-11-20T13:00:00Z")
        );
    }

    #[test]
    fn the_newest_evidence_decides_in_any_order_of_arrival() {
        let full = ("2026-11-20T10:00:00Z", 100.0, "2026-11-26T10:00:00Z");
        let free = ("2026-11-20T12:00:00Z", 0.0, "2026-11-27T12:00:00Z");
        for order in [[full, free], [free, full]] {
            let evidence = observed(&order).weekly.unwrap();
            assert_eq!(evidence.observed_at, at("2026-11-20T12:00:00Z"));
            assert_eq!(evidence.exhausted_until, None);
        }
    }

    #[test]
    fn observations_and_refusals_with_a_time_in_the_future_are_removed() {
        let mut entry = observed(&[("2027-11-20T10:00:00Z", 100.0, "2027-11-26T10:00:00Z")]);
        entry.expired_at = Some(at("2027-11-20T10:00:00Z"));
        entry.remove_future_observations(&at("2026-11-20T10:00:00Z").to_utc());
        assert_eq!(entry, AccountEntry::new(Identity::from_email("a@x.com")));
    }

    #[test]
    fn an_entry_round_trips_through_json() {
        let entry = AccountEntry {
            plan: Some("plus".into()),
            profile: Some("work".into()),
            login: LoginState::Archived,
            held_until: Some(at("2026-11-20T10:00:00Z")),
            held_since: Some(at("2026-11-19T10:00:00Z")),
            last_used_at: Some(at("2026-11-18T10:00:00Z")),
            identity: Identity {
                email: Email::new("a@x.com"),
                account_id: Some("acct".into()),
                user_id: Some("user".into()),
                kind: LoginKind::ApiKey,
            },
            ..observed(&[("2026-11-20T10:00:00Z", 100.0, "2026-11-24T12:00:00Z")])
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AccountEntry>(&text).unwrap(), entry);
        let only_email = serde_json::from_str::<AccountEntry>(r#"{"email":"a@x.com"}"#).unwrap();
        assert_eq!(
            only_email,
            AccountEntry::new(Identity::from_email("a@x.com"))
        );
    }
}
