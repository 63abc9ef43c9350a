//! Selects the login that goes live when an archive is restored. Reads no files.

use crate::codex::{AuthSnapshot, Freshness};
use serde::Serialize;

/// The user's choice of the login that a restore puts into the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AuthPolicy {
    /// The newest login of the archive's account that is known
    #[default]
    Newest,
    /// The archive's, even if a newer one is known
    Archive,
    /// Leave the live login alone
    Skip,
}

/// The login that is live after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginChoice {
    KeepLive,
    Archive,
    /// The login in the profile, which is not older than the archived one.
    Profile,
}

/// The result for the archived login, as shown to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthOutcome {
    /// The archived login is live.
    Restored,
    /// A newer login of the same account is live instead.
    KeptNewer,
    /// The live login was left unchanged: as the user requested, or because no login could be restored.
    #[default]
    Skipped,
}

/// The logins of one account to select from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginCandidates<'a> {
    /// The live login, if it belongs to the archive's account.
    pub live: Option<&'a AuthSnapshot>,
    pub archive: &'a AuthSnapshot,
    /// The login in the profile of the archive's account.
    pub profile: Option<&'a AuthSnapshot>,
    /// The freshness of the newest login of this account that was ever observed. It may no longer exist.
    pub newest_seen: Freshness,
    /// True if a later login of the account is known, so the refresh token in the archive is spent.
    pub is_spent: bool,
}

/// A selected login and its consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginDecision {
    pub choice: LoginChoice,
    pub outcome: AuthOutcome,
    /// True if the activated login is older than another login of the account that was observed, so that its refresh
    /// token is probably spent.
    pub is_stale: bool,
}

/// Selects a login by `policy`. Among logins of equal age the live one wins, then the one in the profile, then the one
/// in the archive. The farther a copy is from Codex, the likelier another copy was renewed since.
pub(crate) fn select_login(policy: AuthPolicy, candidates: &LoginCandidates<'_>) -> LoginDecision {
    let archived_freshness = if candidates.is_spent {
        // A spent login is the oldest, even if its timestamp is newer.
        Freshness::default()
    } else {
        candidates.archive.freshness()
    };

    // A copy of the archived login is as spent as the archived one.
    let freshness_of = |snapshot: &AuthSnapshot| {
        if snapshot.bytes == candidates.archive.bytes {
            archived_freshness
        } else {
            snapshot.freshness()
        }
    };

    let choice = match policy {
        AuthPolicy::Skip => LoginChoice::KeepLive,
        AuthPolicy::Archive => LoginChoice::Archive,
        AuthPolicy::Newest => choose_newest(candidates, freshness_of),
    };

    let activated_login = match choice {
        LoginChoice::KeepLive if policy == AuthPolicy::Skip => None,
        LoginChoice::KeepLive => candidates.live,
        LoginChoice::Profile => candidates.profile,
        LoginChoice::Archive => Some(candidates.archive),
    };

    let outcome = match activated_login {
        None => AuthOutcome::Skipped,
        Some(login) if login.bytes == candidates.archive.bytes => AuthOutcome::Restored,
        Some(_) => AuthOutcome::KeptNewer,
    };

    let is_newer_known = |freshness: Freshness| {
        let logins = [candidates.live, candidates.profile].into_iter().flatten();
        candidates.newest_seen.is_newer_than(&freshness)
            || logins
                .map(freshness_of)
                .any(|known| known.is_newer_than(&freshness))
    };
    let is_stale = activated_login.is_some_and(|login| is_newer_known(freshness_of(login)));

    LoginDecision {
        choice,
        outcome,
        is_stale,
    }
}

/// Returns the newest of the candidates. Of candidates of equal age, the live one wins, then the one in the profile.
fn choose_newest(
    candidates: &LoginCandidates<'_>,
    freshness_of: impl Fn(&AuthSnapshot) -> Freshness,
) -> LoginChoice {
    let (mut newest, mut freshness) = (LoginChoice::Archive, freshness_of(candidates.archive));
    for (choice, candidate) in [
        (LoginChoice::Profile, candidates.profile),
        (LoginChoice::KeepLive, candidates.live),
    ] {
        if let Some(candidate) = candidate
            && !freshness.is_newer_than(&freshness_of(candidate))
        {
            (newest, freshness) = (choice, freshness_of(candidate));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::auth::Login;
    use crate::codex::identity::Identity;
    use crate::io::secret::SecretBytes;

    fn snapshot(day: u32) -> AuthSnapshot {
        AuthSnapshot {
            bytes: SecretBytes::new(vec![u8::try_from(day).unwrap()]),
            login: Some(Login {
                identity: Identity::from_email("a@x.com"),
                plan: None,
                freshness: fresh(day),
            }),
        }
    }

    fn fresh(day: u32) -> Freshness {
        let last_refresh = chrono::DateTime::from_timestamp(i64::from(day) * 86_400, 0);
        Freshness {
            last_refresh,
            ..Freshness::default()
        }
    }

    fn decide(
        policy: AuthPolicy,
        live: u32,
        archive: u32,
        profile: u32,
        seen: u32,
    ) -> LoginDecision {
        let some = |day: u32| (day > 0).then(|| snapshot(day));
        let (live, profile, archive) = (some(live), some(profile), snapshot(archive));
        select_login(
            policy,
            &LoginCandidates {
                live: live.as_ref(),
                archive: &archive,
                profile: profile.as_ref(),
                newest_seen: fresh(seen),
                is_spent: false,
            },
        )
    }

    #[test]
    fn the_newest_login_wins_and_ties_prefer_live_then_profile_then_archive() {
        use AuthOutcome::{KeptNewer, Restored, Skipped};
        use AuthPolicy::{Archive, Newest, Skip};
        // live, archive, profile, newest ever seen
        let cases = [
            (Newest, [0, 2, 0, 0], LoginChoice::Archive, Restored, false),
            (
                Newest,
                [3, 2, 0, 0],
                LoginChoice::KeepLive,
                KeptNewer,
                false,
            ),
            (Newest, [2, 2, 2, 0], LoginChoice::KeepLive, Restored, false),
            (Newest, [1, 2, 0, 0], LoginChoice::Archive, Restored, false),
            (Newest, [0, 2, 3, 3], LoginChoice::Profile, KeptNewer, false),
            (Newest, [0, 2, 2, 3], LoginChoice::Profile, Restored, true),
            (Archive, [3, 2, 0, 0], LoginChoice::Archive, Restored, true),
            (Skip, [1, 2, 3, 3], LoginChoice::KeepLive, Skipped, false),
        ];
        for (policy, [live, archive, profile, seen], choice, outcome, is_stale) in cases {
            assert_eq!(
                decide(policy, live, archive, profile, seen),
                LoginDecision {
                    choice,
                    outcome,
                    is_stale
                },
                "{policy:?} live {live} archive {archive} profile {profile} seen {seen}"
            );
        }
    }
}
