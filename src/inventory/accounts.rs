//! The accounts that are known, each with what can be said of its login right now.

use super::cooldown::{AccountEntry, CooldownFile, LoginState};
use crate::accounts::profile::Profiles;
use crate::codex::auth::Login;
use std::path::Path;

/// One account.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// What `cooldown.json` says of it.
    pub entry: AccountEntry,
    /// Whether its login is at hand now.
    pub login: LoginState,
    /// Whether it is the account of the live home.
    pub current: bool,
}

/// The accounts of `file`, with the one of the live home added if it is not among them.
///
/// Looks at the files of profiles without opening them, but for that of a live login whose account
/// is noted as moved.
pub fn known(manager_home: &Path, live: Option<&Login>, mut file: CooldownFile) -> Vec<Account> {
    let current = live.map(|login| {
        let identity = file.entry(&login.identity).identity.clone();
        (login, identity)
    });
    let profiles = manager_home.join("profiles");
    file.accounts
        .into_iter()
        .map(|entry| {
            let live = current
                .as_ref()
                .filter(|(_, identity)| *identity == entry.identity)
                .map(|(login, _)| *login);
            let in_profile = entry
                .profile
                .as_ref()
                .is_some_and(|name| profiles.join(name).join("auth.json").is_file());
            let is_new = live.is_some_and(|live| {
                entry.login == LoginState::Moved && is_unseen(manager_home, live)
            });
            Account {
                login: match login_state(&entry, live, in_profile) {
                    LoginState::Moved if is_new => LoginState::Ok,
                    known => known,
                },
                current: live.is_some(),
                entry,
            }
        })
        .collect()
}

/// Looks into the profiles whose logins these accounts are taken to have, and says so where one has
/// none that can be used; whether there was such a one.
pub fn recheck_profile_logins<'a>(
    manager_home: &Path,
    accounts: impl IntoIterator<Item = &'a mut Account>,
) -> bool {
    let profiles = Profiles::of(manager_home);
    let mut is_wrong = false;
    for account in accounts {
        let by_profile = account.login == LoginState::Ok && !account.current;
        let Some(name) = account.entry.profile.as_ref().filter(|_| by_profile) else {
            continue;
        };
        if !profiles.has_usable_login(name) {
            account.login = if account.entry.archived {
                LoginState::Archived
            } else {
                LoginState::Unknown
            };
            is_wrong = true;
        }
    }
    is_wrong
}

/// Whether a login is newer than any that its profile has seen: not the one that was moved, but one
/// that was made here since.
fn is_unseen(manager_home: &Path, live: &Login) -> bool {
    let profile = Profiles::of(manager_home).find(&live.identity);
    profile
        .ok()
        .flatten()
        .is_some_and(|profile| live.freshness.is_newer_than(&profile.newest()))
}

/// A live login or a profile is `ok`, unless the login is known to be expired or moved; then only a
/// live one that was refreshed after that became known is.
fn login_state(entry: &AccountEntry, live: Option<&Login>, in_profile: bool) -> LoginState {
    match entry.login {
        LoginState::Expired | LoginState::Moved => {
            let known_since = entry.expired_since();
            let refreshed = live.and_then(|login| login.freshness.renewed_at());
            match (refreshed, known_since) {
                (Some(refreshed), Some(since)) if refreshed > since => LoginState::Ok,
                _ => entry.login,
            }
        }
        _ if live.is_some() => LoginState::Ok,
        // A file is there, and whoever looked into it found no login that can be used.
        LoginState::Ok if in_profile => LoginState::Ok,
        // It was at hand when somebody looked, and is no longer.
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
    use crate::quota::window::{Observation, Source};

    #[test]
    fn a_login_that_is_no_longer_live_is_still_in_its_archive() {
        let entry = AccountEntry {
            login: LoginState::Ok,
            archived: true,
            ..AccountEntry::new(login("a@x.com").identity)
        };
        assert_eq!(login_state(&entry, None, false), LoginState::Archived);
        assert_eq!(login_state(&entry, None, true), LoginState::Ok);
    }

    fn login(email: &str) -> Login {
        Login {
            identity: Identity {
                account_id: Some("acct".into()),
                user_id: Some("user".into()),
                ..Identity::of_email(email)
            },
            plan: None,
            freshness: Freshness::default(),
        }
    }

    fn states(live: Option<&Login>, entry: AccountEntry) -> Vec<(String, LoginState, bool)> {
        let file = CooldownFile {
            accounts: vec![entry],
        };
        known(Path::new("/nonexistent"), live, file)
            .into_iter()
            .map(|a| (a.entry.identity.email.to_string(), a.login, a.current))
            .collect()
    }

    #[test]
    fn the_live_account_is_known_even_when_no_figure_is() {
        let entry = AccountEntry::new(Identity::of_email("a@x.com"));
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
    fn a_login_that_is_gone_is_no_longer_ok() {
        let entry = AccountEntry {
            login: LoginState::Ok,
            profile: Some("work".into()),
            ..AccountEntry::new(Identity::of_email("a@x.com"))
        };
        assert_eq!(states(None, entry)[0].1, LoginState::Unknown);
    }

    #[test]
    fn an_expired_login_is_ok_again_once_it_was_refreshed() {
        let at = |text| chrono::DateTime::parse_from_rfc3339(text).unwrap();
        let entry = AccountEntry {
            login: LoginState::Expired,
            observation: Some(Observation {
                source: Source::Live,
                observed_at: at("2026-11-20T12:00:00Z"),
                usage_allowed: None,
                spend_cap: None,
                windows: vec![],
            }),
            ..AccountEntry::new(Identity::of_email("a@x.com"))
        };
        let mut live = login("a@x.com");
        assert_eq!(states(Some(&live), entry.clone())[0].1, LoginState::Expired);
        live.freshness.last_refresh = Some(at("2026-11-20T12:01:00Z").to_utc());
        assert_eq!(states(Some(&live), entry)[0].1, LoginState::Ok);
    }
}
