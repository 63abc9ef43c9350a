//! `cooldown.json`: for each account what was seen last. Small: `recommend` reads nothing else.

use crate::codex::identity::Identity;
use crate::io::clock::Timestamp;
use crate::io::document::Document;
use crate::quota::window::Observation;
use serde::{Deserialize, Serialize};

/// Whether a login is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginState {
    /// In the live home or in a profile.
    Ok,
    /// In an archive or a legacy file.
    Archived,
    /// Records alone.
    None,
    /// Nothing is known of it.
    #[default]
    Unknown,
    /// The server no longer takes it.
    Expired,
    /// An export took it to another machine.
    Moved,
}

/// When a weekly window was first seen exhausted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaEnd {
    /// The first observation at 100 %.
    pub detected_at: Timestamp,
    /// The reset of the window it was seen in.
    pub resets_at: Timestamp,
}

/// One account in `cooldown.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// Who.
    #[serde(flatten)]
    pub identity: Identity,
    /// The plan that was named last.
    #[serde(default)]
    pub plan: Option<String>,
    /// The profile that holds its login.
    #[serde(default)]
    pub profile: Option<String>,
    /// Whether a login is at hand, as the last command that looked found it.
    #[serde(default)]
    pub login: LoginState,
    /// What was seen last.
    #[serde(default)]
    pub observation: Option<Observation>,
    /// When its weekly window was first seen exhausted.
    #[serde(default)]
    pub quota_end: Option<QuotaEnd>,
    /// Held back by the user until then.
    #[serde(default)]
    pub held_until: Option<Timestamp>,
    /// The latest use, launch, resume or backup of the live home under this account.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
}

impl AccountEntry {
    /// An account of which nothing else is known.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            plan: None,
            profile: None,
            login: LoginState::Unknown,
            observation: None,
            quota_end: None,
            held_until: None,
            last_used_at: None,
        }
    }
}

/// The document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CooldownFile {
    /// The accounts, in no particular order.
    pub accounts: Vec<AccountEntry>,
}

impl Document for CooldownFile {
    const SCHEMA: u64 = 1;
}

impl CooldownFile {
    /// The entry of `identity`, made if there is none. An entry known by email alone takes on the
    /// ids, if it is the only one it can be.
    pub fn entry(&mut self, identity: &Identity) -> &mut AccountEntry {
        let position = self.position(identity).unwrap_or_else(|| {
            self.accounts.push(AccountEntry::new(identity.clone()));
            self.accounts.len() - 1
        });
        let entry = &mut self.accounts[position];
        if identity.is_known() && !entry.identity.is_known() {
            entry.identity = identity.clone();
        }
        entry
    }

    /// The entry of `identity`, if there is exactly one that it can be.
    pub fn find(&self, identity: &Identity) -> Option<&AccountEntry> {
        self.position(identity).map(|i| &self.accounts[i])
    }

    fn position(&self, identity: &Identity) -> Option<usize> {
        let exact = |e: &AccountEntry| {
            e.identity.is_known() == identity.is_known() && e.identity.is_same(identity)
        };
        if let Some(i) = self.accounts.iter().position(exact) {
            return Some(i);
        }
        let mut same = self
            .accounts
            .iter()
            .enumerate()
            .filter(|(_, e)| e.identity.is_same(identity));
        match (same.next(), same.next()) {
            (Some((i, _)), None) => Some(i),
            _ => None,
        }
    }

    /// Takes a look at `identity`'s windows into account. An older look than the one that is known
    /// changes nothing but the time when the quota was first seen exhausted.
    pub fn observe(&mut self, identity: &Identity, observation: Observation) {
        use crate::quota::window::SAME_WINDOW;
        let entry = self.entry(identity);
        let exhausted = observation
            .weekly()
            .filter(|w| w.used_percent >= 100.0)
            .and_then(|w| w.resets_at);
        if let Some(resets_at) = exhausted {
            let same = entry
                .quota_end
                .as_ref()
                .is_some_and(|end| (end.resets_at - resets_at).abs() <= SAME_WINDOW);
            let earlier = entry
                .quota_end
                .as_ref()
                .is_none_or(|end| observation.observed_at < end.detected_at);
            let later_window = entry
                .quota_end
                .as_ref()
                .is_none_or(|end| resets_at > end.resets_at);
            if (same && earlier) || (!same && later_window) {
                entry.quota_end = Some(QuotaEnd {
                    detected_at: observation.observed_at,
                    resets_at,
                });
            }
        }
        let newer = entry
            .observation
            .as_ref()
            .is_none_or(|known| observation.observed_at >= known.observed_at);
        if newer {
            entry.observation = Some(observation);
        }
    }

    /// Notes that `identity` was used at `at`.
    pub fn used(&mut self, identity: &Identity, at: Timestamp) {
        let entry = self.entry(identity);
        if entry.last_used_at.is_none_or(|known| at > known) {
            entry.last_used_at = Some(at);
        }
    }
}
