//! The conflicts, conflict copies and branches that need a decision, and the versions that can be kept.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::sync_plan::{describe_messages, format_conversation_name};
use codex_manager_core::history::thread_choice;
use codex_manager_core::sync::branches::Branch;
use codex_manager_core::sync::config::SyncConfig;
use codex_manager_core::sync::conflict_copies::ConflictCopy;
use codex_manager_core::sync::conflicting_versions::ConflictingVersions;
use codex_manager_core::sync::plan::Conflict;
use codex_manager_core::sync::resolve::{KeepChoice, Offer, check_separable};
use codex_manager_core::sync::rollouts;
use codex_manager_core::sync::sides::Side;

/// A conflict, a conflict copy or a branch that needs a decision.
pub(super) struct OpenDecision {
    pub(super) subject: DecisionSubject,
    /// Empty if the conflict copy is not on this machine, or not complete.
    pub(super) offers: Vec<Offer>,
}

pub(super) enum DecisionSubject {
    Conflict(Conflict),
    /// The conflict copy, compared with its conversation if both are on this machine.
    ConflictCopy(ConflictCopy, Option<ConflictingVersions>),
    Branch(Branch),
}

impl OpenDecision {
    pub(super) fn of_branch(branch: Branch) -> Self {
        let obstacle = (!branch.is_whole).then(|| {
            "the earlier turns that it continues were replaced when another version was kept"
                .to_owned()
        });
        let offers = vec![
            (KeepChoice::Local, None),
            (KeepChoice::ConflictCopy, obstacle),
        ];
        Self {
            subject: DecisionSubject::Branch(branch),
            offers,
        }
    }

    /// Returns the versions that can be kept.
    pub(super) fn choices(&self) -> Vec<KeepChoice> {
        let offers = self.offers.iter();
        let possible = offers.filter(|(_, obstacle)| obstacle.is_none());
        possible.map(|(keep, _)| *keep).collect()
    }

    /// Returns the conflict, or the conflict of the branch; `None` for a conflict copy.
    pub(super) fn conflict(&self) -> Option<&Conflict> {
        match &self.subject {
            DecisionSubject::Conflict(conflict)
            | DecisionSubject::Branch(Branch { conflict, .. }) => Some(conflict),
            DecisionSubject::ConflictCopy(..) => None,
        }
    }

    /// Returns the path of the file, or the name of the conflict copy.
    pub(super) fn path_or_name(&self) -> &str {
        match &self.subject {
            DecisionSubject::Conflict(conflict)
            | DecisionSubject::Branch(Branch { conflict, .. }) => &conflict.path,
            DecisionSubject::ConflictCopy(copy, _) => &copy.name,
        }
    }

    /// Returns the two versions of the conversation; `None` for another file, and if the versions were not compared.
    pub(super) fn versions(&self) -> Option<&ConflictingVersions> {
        match &self.subject {
            DecisionSubject::Conflict(conflict)
            | DecisionSubject::Branch(Branch { conflict, .. }) => &conflict.versions,
            DecisionSubject::ConflictCopy(_, versions) => versions,
        }
        .as_ref()
    }

    /// Returns the id of the conversation; `None` for another file, and if the id is unknown.
    pub(super) fn session_id(&self) -> Option<&str> {
        match &self.subject {
            DecisionSubject::ConflictCopy(copy, _) => copy.session_id(),
            _ => Some(&self.versions()?.session_id),
        }
    }

    /// Returns the title. Without one, returns the path or the name of the conflict copy.
    pub(super) fn display_name(&self) -> String {
        let title = self.versions().map(format_conversation_name);
        title.unwrap_or_else(|| self.path_or_name().to_owned())
    }

    /// Returns the reason for the decision, with the messages that only one version has.
    pub(super) fn describe_reason(&self, context: &Context) -> String {
        let conflict = self.conflict();
        let reason = conflict.map_or("continued differently on another machine", |conflict| {
            &*conflict.reason
        });
        match self.versions() {
            None => reason.to_owned(),
            Some(versions) => format!("{reason}: {}", describe_messages(versions, context)),
        }
    }
}

/// Returns the versions of a conflict to choose from, each with the reason if it cannot be kept: other rollouts
/// continue the other version, or a conversation cannot be separated.
pub(super) fn list_offers(conflict: &Conflict, config: &SyncConfig) -> Vec<Offer> {
    let needed_side = conflict.needed_side;
    let find_obstacle = |side| {
        let would_lose_needed = needed_side.is_some_and(|needed| needed != side);
        would_lose_needed.then(|| Conflict::describe_continued(needed_side))
    };
    let mut offers = vec![
        (KeepChoice::Local, find_obstacle(Side::Local)),
        (KeepChoice::Cloud, find_obstacle(Side::Remote)),
    ];

    let other_version = match find_kept_side(conflict, KeepChoice::Both) {
        Side::Local => &conflict.remote,
        Side::Remote => &conflict.local,
    };
    if rollouts::key(&conflict.path).is_some()
        && let Some(other) = other_version
    {
        let separate = check_separable(&conflict.path, &other.full_path(config));
        let obstacle = separate.err().map(|error| error.to_string());
        offers.push((KeepChoice::Both, obstacle));
    }
    offers
}

/// Returns the side with the version that stays at the path of the conflict.
pub(super) fn find_kept_side(conflict: &Conflict, keep: KeepChoice) -> Side {
    match keep {
        KeepChoice::Cloud => Side::Remote,
        KeepChoice::Both => conflict.needed_side.unwrap_or(Side::Local),
        KeepChoice::Local | KeepChoice::ConflictCopy => Side::Local,
    }
}

pub(super) const NOT_DOWNLOADED: &str = "the conflict copy is not on this machine, or not complete";

pub(super) fn join_names(choices: &[KeepChoice]) -> String {
    let names: Vec<_> = choices.iter().map(|keep| keep.name()).collect();
    names.join(", ")
}

/// Finds a decision by the path of its file, or by the name or digest of its conflict copy. If none matches, searches
/// by the id or title of the conversation.
///
/// # Errors
/// No decision matches, or several.
pub(super) fn find_decision<'a>(
    name: &str,
    decisions: &'a [OpenDecision],
) -> Result<&'a OpenDecision> {
    let is_named = |decision: &&OpenDecision| match &decision.subject {
        DecisionSubject::ConflictCopy(copy, _) if copy.digest_prefix() == name => true,
        _ => decision.path_or_name() == name,
    };
    let mut matching: Vec<_> = decisions.iter().filter(is_named).collect();

    if matching.is_empty() {
        let id = |decision: &OpenDecision| decision.session_id().unwrap_or_default().to_owned();
        let has_title = |decision: &OpenDecision, fits: &dyn Fn(&str) -> bool| {
            let title = decision.versions().and_then(|v| v.title.as_deref());
            title.is_some_and(fits)
        };
        matching = thread_choice::find_named(&decisions.iter(), name, id, has_title);
    }

    match &*matching {
        [decision] => Ok(decision),
        [] => Err(
            CommandError::failed(format!("no conflict or conflict copy matches: {name}"))
                .hint("list them with: codex-manager sync resolve"),
        ),
        several => {
            let files = several.iter().map(|decision| decision.path_or_name());
            let files: Vec<_> = files.collect();
            Err(
                CommandError::failed(format!("{name:?} matches {} conflicts", several.len())).hint(
                    format!("give the path or the name of one: {}", files.join(", ")),
                ),
            )
        }
    }
}

/// Fails if the decision does not offer the version `keep`.
pub(super) fn check_choice(decision: &OpenDecision, keep: KeepChoice) -> Result<()> {
    let name = decision.display_name();
    let choices = decision.choices();
    if choices.is_empty() {
        let message = format!("{NOT_DOWNLOADED}: {name}");
        return Err(CommandError::failed(message).hint("nothing was changed"));
    }

    let message = format!("{name} cannot be decided with --keep {}", keep.name());
    let mut offers = decision.offers.iter();
    let error = match offers.find(|(offered, _)| *offered == keep) {
        Some((_, None)) => return Ok(()),
        Some((_, Some(obstacle))) => CommandError::failed(format!("{message}: {obstacle}")),
        // No decision of this kind has this version.
        None => CommandError::usage(message),
    };
    let choices = join_names(&choices);
    Err(error.hint(format!("choose one of: {choices}; nothing was changed")))
}
