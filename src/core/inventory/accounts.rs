//! Lists the known accounts with the current availability of their logins.

use super::cooldown::CooldownFile;
use crate::accounts::Profiles;
use crate::codex::{AUTH_JSON, Login};
use crate::quota::{Account, AccountEntry, LoginState};
use std::path::Path;

/// Returns the accounts of `file`, and the account of the live login if `file` lacks it.
///
/// Only checks whether the logins of profiles exist, without opening profiles. The one exception is the profile of a
/// live login whose account is recorded as moved.
pub fn list_accounts(
    manager_home: &Path,
    live: Option<&Login>,
    mut file: CooldownFile,
) -> Vec<Account> {
    // Adds the account of the live login if the file lacks it.
    let live_account = live.map(|login| file.entry(&login.identity).identity.clone());
    let profiles = manager_home.join("profiles");
    let to_account = |entry: AccountEntry| {
        let is_live = live_account.as_ref() == Some(&entry.identity);
        let live_login = if is_live { live } else { None };
        let profile_name = entry.profile.as_ref();
        let has_profile_login =
            profile_name.is_some_and(|name| profiles.join(name).join(AUTH_JSON).is_file());

        let judged_login = judge_login(&entry, live_login, has_profile_login);
        let login = match (judged_login, live_login) {
            // A later sign-in on this machine replaces the login that was moved away.
            (LoginState::Moved, Some(live)) if is_newer_than_profile(manager_home, live) => {
                LoginState::Ok
            }
            (login, _) => login,
        };
        Account {
            login,
            current: is_live,
            entry,
        }
    };
    file.accounts.into_iter().map(to_account).collect()
}

/// Opens the profiles of the accounts whose login counts as available, except the live account. An account becomes
/// expired if a newer login than that in its profile was observed. If its profile has no login or cannot be read, it
/// becomes archived or unknown. Returns true if a state changed.
pub fn recheck_profile_logins<'a>(
    manager_home: &Path,
    accounts: impl IntoIterator<Item = &'a mut Account>,
) -> bool {
    let profiles = Profiles::of(manager_home);
    let mut any_corrected = false;
    for account in accounts {
        if account.login != LoginState::Ok || account.current {
            continue;
        }

        if let Some(name) = &account.entry.profile {
            let profile = Some(profiles.read(name.clone()));
            account.login = match profile.filter(|profile| profile.damaged.is_none()) {
                Some(profile) if profile.is_stale() => LoginState::Expired,
                Some(profile) if profile.login().is_some() => continue,
                _ if account.entry.archived => LoginState::Archived,
                _ => LoginState::Unknown,
            };
            any_corrected = true;
        }
    }
    any_corrected
}

/// Returns true if a live login is newer than every known login of its profile. It is then from a later sign-in on this
/// machine, and not the login that was moved away. Returns false without a readable profile.
fn is_newer_than_profile(manager_home: &Path, live: &Login) -> bool {
    let profile = Profiles::of(manager_home).find(&live.identity).ok();
    let newest = profile.flatten().map(|profile| profile.newest());
    newest.is_some_and(|newest| live.freshness.is_newer_than(&newest))
}

/// Returns the availability of an account's login. A login that is recorded as expired or moved is available if the
/// live login was renewed after that record. An expired one is also available if the live login is newer than the
/// refused login.
fn judge_login(entry: &AccountEntry, live: Option<&Login>, has_profile_login: bool) -> LoginState {
    let is_newer = |login: &Login| entry.is_newer_than_refused(&login.freshness);
    match entry.login {
        LoginState::Expired if live.is_some_and(is_newer) => LoginState::Ok,
        LoginState::Expired | LoginState::Moved => {
            let unavailable_since = entry.refused_or_observed_at();
            let refreshed_at = live.and_then(|login| login.freshness.renewed_at());
            match (refreshed_at, unavailable_since) {
                (Some(refreshed_at), Some(since)) if refreshed_at > since => LoginState::Ok,
                _ => entry.login,
            }
        }
        _ if live.is_some() => LoginState::Ok,
        // The file exists, and the command that opened it last recorded a usable login.
        LoginState::Ok if has_profile_login => LoginState::Ok,
        // The login was available when a command recorded it, but its profile is gone.
        LoginState::Ok if entry.archived => LoginState::Archived,
        LoginState::Ok => LoginState::Unknown,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::auth::Freshness;
    use crate::codex::identity::Identity;
    use crate::quota::window::{Observation, QuotaSource};

    #[test]
    fn a_login_without_a_profile_is_archived_if_an_archive_has_it() {
        let entry = AccountEntry {
            login: LoginState::Ok,
            archived: true,
            ..AccountEntry::new(login("a@x.com").identity)
        };
        assert_eq!(judge_login(&entry, None, false), LoginState::Archived);
        assert_eq!(judge_login(&entry, None, true), LoginState::Ok);
    }

    fn login(email: &str) -> Login {
        Login {
            identity: Identity {
                account_id: Some("acct".into()),
                user_id: Some("user".into()),
                ..Identity::from_email(email)
            },
            plan: None,
            freshness: Freshness::default(),
        }
    }

    fn states(live: Option<&Login>, entry: AccountEntry) -> Vec<(String, LoginState, bool)> {
        let file = CooldownFile {
            accounts: vec![entry],
        };
        list_accounts(Path::new("/nonexistent"), live, file)
            .into_iter()
            .map(|a| (a.entry.identity.email.to_string(), a.login, a.current))
            .collect()
    }

    #[test]
    fn the_live_account_is_listed_without_any_entry() {
        let entry = AccountEntry::new(Identity::from_email("a@x.com"));
        assert_eq!(
            states(Some(&login("b@x.com")), entry.clone()),
            [
                ("a@x.com".into(), LoginState::Unknown, false),
                ("b@x.com".into(), LoginState::Ok, true)
            ]
        );
        assert_eq!(
            states(Some(&login("A@x.com")), entry),
            [("A@x.com".into(), LoginState::Ok, true)]
        );
    }

    #[test]
    fn a_login_is_unknown_once_its_profile_is_gone() {
        let entry = AccountEntry {
            login: LoginState::Ok,
            profile: Some("work".into()),
            ..AccountEntry::new(Identity::from_email("a@x.com"))
        };
        assert_eq!(states(None, entry)[0].1, LoginState::Unknown);
    }

    #[test]
    fn an_expired_login_is_ok_after_a_refresh() {
        let at = |text| chrono::DateTime::parse_from_rfc3339(text).unwrap();
        let entry = AccountEntry {
            login: LoginState::Expired,
            observation: Some(Observation {
                source: QuotaSource::Live,
                observed_at: at("2026-11-20T12:00:00Z"),
                usage_allowed: None,
                spend_cap: None,
                reset_credits: None,
                windows: vec![],
            }),
            ..AccountEntry::new(Identity::from_email("a@x.com"))
        };
        let mut live = login("a@x.com");
        assert_eq!(states(Some(&live), entry.clone())[0].1, LoginState::Expired);
        live.freshness.last_refresh = Some(at("2026-11-20T12:01:00Z").to_utc());
        assert_eq!(states(Some(&live), entry.clone())[0].1, LoginState::Ok);

        // The times of the refused login decide, if they are known.
        live.freshness.last_refresh = Some(at("2026-11-20T11:00:00Z").to_utc());
        for (refused, expected) in [
            ("2026-11-20T10:00:00Z", LoginState::Ok),
            ("2026-11-20T11:00:00Z", LoginState::Expired),
        ] {
            let refused = Freshness {
                last_refresh: Some(at(refused).to_utc()),
                ..Freshness::default()
            };
            let refused = Some(refused);
            let entry = AccountEntry {
                refused,
                ..entry.clone()
            };
            assert_eq!(states(Some(&live), entry)[0].1, expected);
        }
    }
}
