//! Which login goes live when an archive is put back. Pure.

use crate::codex::auth::{AuthSnapshot, Freshness, Login};
use serde::Serialize;

/// What the user wants of the archived login.
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

/// Which login goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginChoice {
    /// What is live stays.
    KeepLive,
    /// The archive's.
    Archive,
    /// The profile's, which is newer than the archive's.
    Profile,
}

/// What became of the archived login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthOutcome {
    /// It is live.
    Restored,
    /// A newer one of the same account is live instead.
    KeptNewer,
    /// The live login was not touched.
    Skipped,
}

/// The logins to choose from.
#[derive(Debug, Clone, Copy)]
pub struct LoginCandidates<'a> {
    /// The live one, if it is of the archive's account.
    pub live: Option<&'a AuthSnapshot>,
    /// The archive's.
    pub archive: &'a AuthSnapshot,
    /// That of the account's profile.
    pub profile: Option<&'a AuthSnapshot>,
    /// The newest login of this account that was ever seen.
    pub newest_seen: Freshness,
    /// Whether another login of the account is known to have come after the archive's.
    pub is_spent: bool,
}

/// A choice and what must be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginDecision {
    /// Which.
    pub choice: LoginChoice,
    /// How it is reported.
    pub outcome: AuthOutcome,
    /// Whether the login that will be live is older than one that was seen: its refresh token is
    /// probably spent.
    pub is_stale: bool,
}

/// Chooses. Equal age keeps what is live, then the profile's, then the archive's: the farther a
/// copy is from Codex, the likelier it was renewed elsewhere.
pub fn choose(policy: AuthPolicy, candidates: &LoginCandidates<'_>) -> LoginDecision {
    let of_archive = if candidates.is_spent {
        // Whatever the clock said when it was written.
        Freshness::default()
    } else {
        freshness(candidates.archive.login.as_ref())
    };
    let age = |snapshot: &AuthSnapshot| {
        if snapshot.bytes == candidates.archive.bytes {
            of_archive
        } else {
            freshness(snapshot.login.as_ref())
        }
    };
    let choice = match policy {
        AuthPolicy::Skip => LoginChoice::KeepLive,
        AuthPolicy::Archive => LoginChoice::Archive,
        AuthPolicy::Newest => {
            let mut best = (LoginChoice::Archive, age(candidates.archive));
            for (choice, other) in [
                (LoginChoice::Profile, candidates.profile),
                (LoginChoice::KeepLive, candidates.live),
            ] {
                if let Some(other) = other
                    && !best.1.is_newer_than(&age(other))
                {
                    best = (choice, age(other));
                }
            }
            best.0
        }
    };
    let same_as_archive =
        |other: Option<&AuthSnapshot>| other.is_some_and(|o| o.bytes == candidates.archive.bytes);
    let (outcome, put) = match choice {
        LoginChoice::KeepLive if policy == AuthPolicy::Skip => (AuthOutcome::Skipped, None),
        LoginChoice::KeepLive if same_as_archive(candidates.live) => {
            (AuthOutcome::Restored, candidates.live)
        }
        LoginChoice::KeepLive => (AuthOutcome::KeptNewer, candidates.live),
        LoginChoice::Profile if same_as_archive(candidates.profile) => {
            (AuthOutcome::Restored, candidates.profile)
        }
        LoginChoice::Profile => (AuthOutcome::KeptNewer, candidates.profile),
        LoginChoice::Archive => (AuthOutcome::Restored, Some(candidates.archive)),
    };
    let known = [candidates.live, candidates.profile]
        .into_iter()
        .flatten()
        .map(age)
        .fold(candidates.newest_seen, |a, b| {
            if b.is_newer_than(&a) { b } else { a }
        });
    let is_stale = put.is_some_and(|put| known.is_newer_than(&age(put)));
    LoginDecision {
        choice,
        outcome,
        is_stale,
    }
}

fn freshness(login: Option<&Login>) -> Freshness {
    login.map(|l| l.freshness).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::Identity;
    use crate::io::secret::SecretBytes;

    fn snapshot(day: u32) -> AuthSnapshot {
        AuthSnapshot {
            bytes: SecretBytes::new(vec![u8::try_from(day).unwrap()]),
            login: Some(Login {
                identity: Identity::of_email("a@x.com"),
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
        choose(
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
    fn the_newest_wins_and_ties_keep_what_is_nearest_to_codex() {
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
