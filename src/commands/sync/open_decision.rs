//! The conflicts, conflict copies and branches that need a decision, and the versions that can be kept.

use crate::context::Context;
use crate::error::CommandError;
use crate::history::thread_choice;
use crate::sync::branches::Branch;
use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::plan::Conflict;
use crate::sync::resolve::KeepChoice;
use crate::sync::rollouts;
use crate::views::sync_plan::{describe_messages, format_conversation_name};

/// A conflict, a conflict copy or a branch that needs a decision.
#[derive(Clone)]
pub(super) enum OpenDecision {
    Conflict(Conflict),
    /// The conflict copy, compared with its conversation if both are on this machine.
    ConflictCopy(ConflictCopy, Option<ConflictingVersions>),
    Branch(Branch),
}

impl OpenDecision {
    /// Returns the path of the file, or the name of the conflict copy.
    pub(super) fn path_or_name(&self) -> &str {
        match self {
            Self::Conflict(conflict) | Self::Branch(Branch { conflict, .. }) => &conflict.path,
            Self::ConflictCopy(copy, _) => &copy.name,
        }
    }

    pub(super) fn versions(&self) -> Option<&ConflictingVersions> {
        match self {
            Self::Conflict(conflict) | Self::Branch(Branch { conflict, .. }) => &conflict.versions,
            Self::ConflictCopy(_, versions) => versions,
        }
        .as_ref()
    }

    pub(super) fn session_id(&self) -> Option<&str> {
        match self {
            Self::ConflictCopy(copy, _) => copy.session_id(),
            _ => Some(&self.versions()?.session_id),
        }
    }

    /// Returns the name for people: the title, else the file.
    pub(super) fn display_name(&self) -> String {
        let title = self.versions().map(format_conversation_name);
        title.unwrap_or_else(|| self.path_or_name().to_owned())
    }

    /// Returns the versions that can be kept.
    pub(super) fn choices(&self) -> &'static [KeepChoice] {
        match self {
            Self::ConflictCopy(..) => &[
                KeepChoice::Local,
                KeepChoice::ConflictCopy,
                KeepChoice::Both,
            ],
            Self::Conflict(conflict) if rollouts::key(&conflict.path).is_some() => {
                &[KeepChoice::Local, KeepChoice::Cloud, KeepChoice::Both]
            }
            Self::Conflict(_) => &[KeepChoice::Local, KeepChoice::Cloud],
            Self::Branch(_) => &[KeepChoice::Local, KeepChoice::ConflictCopy],
        }
    }

    /// Returns the reason for the decision, with the messages that only one version has.
    pub(super) fn describe_reason(&self, context: &Context) -> String {
        let reason = match self {
            Self::Conflict(conflict) | Self::Branch(Branch { conflict, .. }) => &*conflict.reason,
            Self::ConflictCopy(..) => "continued differently on another machine",
        };
        match self.versions() {
            None => reason.to_owned(),
            Some(versions) => format!("{reason}: {}", describe_messages(versions, context)),
        }
    }
}

pub(super) fn join_names(choices: &[KeepChoice]) -> String {
    let names: Vec<_> = choices.iter().map(|keep| keep.name()).collect();
    names.join(", ")
}

/// Finds a decision by the path of its file, by the name or digest of its conflict copy, or else by the id or title of
/// its conversation.
///
/// # Errors
/// No decision matches, or several.
pub(super) fn find_decision<'a>(
    name: &str,
    decisions: &'a [OpenDecision],
) -> Result<&'a OpenDecision, CommandError> {
    let is_named = |decision: &OpenDecision| match decision {
        OpenDecision::ConflictCopy(copy, _) => copy.name == name || copy.digest_prefix() == name,
        other => other.path_or_name() == name,
    };
    let mut matching: Vec<&OpenDecision> = decisions
        .iter()
        .filter(|decision| is_named(decision))
        .collect();

    if matching.is_empty() {
        let id = |decision: &OpenDecision| decision.session_id().unwrap_or_default().to_owned();
        let has_title = |decision: &OpenDecision, fits: &dyn Fn(&str) -> bool| {
            let title = decision
                .versions()
                .and_then(|versions| versions.title.as_deref());
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
            let files: Vec<_> = several
                .iter()
                .map(|decision| decision.path_or_name())
                .collect();
            Err(
                CommandError::failed(format!("{name:?} matches {} conflicts", several.len())).hint(
                    format!("give the path or the name of one: {}", files.join(", ")),
                ),
            )
        }
    }
}

/// Fails if the decision does not offer the version `keep`.
pub(super) fn check_choice(decision: &OpenDecision, keep: KeepChoice) -> Result<(), CommandError> {
    if decision.choices().contains(&keep) {
        return Ok(());
    }
    let (name, choices) = (decision.display_name(), join_names(decision.choices()));
    let message = format!("this version of {name} cannot be kept: {}", keep.name());
    Err(CommandError::usage(message).hint(format!("choose one of: {choices}; nothing was changed")))
}
