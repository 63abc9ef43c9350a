//! The conflicts and conflict copies that need a decision, and which of their versions can be kept.

use crate::choices::conversation_choice;
use crate::codex::threads::ThreadRow;
use crate::context::Context;
use crate::error::CommandError;
use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::plan::Conflict;
use crate::sync::resolve::KeepChoice;
use crate::sync::rollouts;
use crate::views::sync_plan::{describe_messages, name_of};
use clap::ValueEnum;
use std::collections::BTreeMap;

/// The version to keep, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeepArg {
    /// The version on this machine
    Local,
    /// The version in the cloud folder
    Cloud,
    /// The conflict copy, in place of the conversation
    Fork,
    /// Both versions, one as a new conversation
    Both,
}

/// A conflict or a conflict copy that needs a decision.
#[derive(Clone)]
pub(super) enum OpenDecision {
    Conflict(Conflict),
    /// The conflict copy, compared with its conversation if both are on this machine.
    ConflictCopy(ConflictCopy, Option<ConflictingVersions>),
}

impl OpenDecision {
    /// Returns the path of the file, or the name of the conflict copy.
    pub(super) fn file(&self) -> &str {
        match self {
            Self::Conflict(conflict) => &conflict.path,
            Self::ConflictCopy(copy, _) => &copy.name,
        }
    }

    pub(super) fn versions(&self) -> Option<&ConflictingVersions> {
        match self {
            Self::Conflict(conflict) => conflict.versions.as_ref(),
            Self::ConflictCopy(_, versions) => versions.as_ref(),
        }
    }

    pub(super) fn session_id(&self) -> Option<&str> {
        match self {
            Self::Conflict(conflict) => Some(conflict.versions.as_ref()?.session_id()),
            Self::ConflictCopy(copy, _) => copy.session_id(),
        }
    }

    /// Returns the title or the file, as printed.
    pub(super) fn name(&self) -> String {
        let title = self.versions().map(name_of);
        title.unwrap_or_else(|| self.file().to_owned())
    }

    /// Returns the versions that can be kept.
    pub(super) fn choices(&self) -> &'static [KeepArg] {
        match self {
            Self::ConflictCopy(..) => &[KeepArg::Local, KeepArg::Fork, KeepArg::Both],
            Self::Conflict(conflict) if rollouts::key(&conflict.path).is_some() => {
                &[KeepArg::Local, KeepArg::Cloud, KeepArg::Both]
            }
            Self::Conflict(_) => &[KeepArg::Local, KeepArg::Cloud],
        }
    }

    /// Returns the reason, with what each version has of its own.
    pub(super) fn reason(&self, context: &Context) -> String {
        let (reason, other) = match self {
            Self::Conflict(conflict) => (&*conflict.reason, "in the cloud folder"),
            Self::ConflictCopy(..) => (
                "continued differently on another machine",
                "in the conflict copy",
            ),
        };
        match self.versions() {
            None => reason.to_owned(),
            Some(versions) => {
                format!("{reason}: {}", describe_messages(versions, other, context))
            }
        }
    }
}

impl KeepArg {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Fork => "fork",
            Self::Both => "both",
        }
    }
}

pub(super) fn names_of(choices: &[KeepArg]) -> String {
    let names: Vec<_> = choices.iter().map(|keep| keep.name()).collect();
    names.join(", ")
}

/// Returns the conflict or conflict copy that the user names: by its file, or by the conversation as other commands
/// take it.
pub(super) fn find<'a>(
    what: &str,
    open: &'a [OpenDecision],
) -> Result<&'a OpenDecision, CommandError> {
    let is_file = |decision: &OpenDecision| match decision {
        OpenDecision::Conflict(conflict) => conflict.path == what,
        OpenDecision::ConflictCopy(copy, _) => copy.name == what || copy.digest_prefix() == what,
    };
    let mut found: Vec<&OpenDecision> = open.iter().filter(|decision| is_file(decision)).collect();
    if found.is_empty() {
        let rows: BTreeMap<&str, ThreadRow> = open
            .iter()
            .filter_map(|decision| {
                let id = decision.session_id()?;
                let title = decision.versions().and_then(ConflictingVersions::title);
                let row = ThreadRow {
                    id: id.to_owned(),
                    name: title.unwrap_or_default().to_owned(),
                    ..ThreadRow::default()
                };
                Some((id, row))
            })
            .collect();
        let rows: Vec<ThreadRow> = rows.into_values().collect();
        let named = conversation_choice::find(&rows, what)?.map(|row| &*row.id);
        found.extend(
            open.iter()
                .filter(|decision| named.is_some() && decision.session_id() == named),
        );
    }
    match &*found {
        [one] => Ok(one),
        [] => Err(
            CommandError::failed(format!("no conflict or conflict copy matches: {what}"))
                .hint("list them with: codex-manager sync resolve"),
        ),
        several => {
            let names: Vec<_> = several.iter().map(|decision| decision.file()).collect();
            Err(
                CommandError::failed(format!("{what:?} matches {} conflicts", several.len())).hint(
                    format!("give the path or the name of one: {}", names.join(", ")),
                ),
            )
        }
    }
}

pub(super) fn choice(found: &OpenDecision, keep: KeepArg) -> Result<KeepChoice, CommandError> {
    match (found, keep) {
        (_, KeepArg::Local) | (OpenDecision::Conflict(_), KeepArg::Cloud) => {
            Ok(KeepChoice::Current)
        }
        (OpenDecision::ConflictCopy(..), KeepArg::Fork) => Ok(KeepChoice::ConflictCopy),
        (OpenDecision::ConflictCopy(..), KeepArg::Both) => Ok(KeepChoice::Both),
        (OpenDecision::Conflict(conflict), KeepArg::Both)
            if rollouts::key(&conflict.path).is_some() =>
        {
            Ok(KeepChoice::Both)
        }
        (OpenDecision::Conflict(_), _) => Err(CommandError::usage(
            "not a conversation: choose --keep local or --keep cloud; nothing was changed",
        )),
        (OpenDecision::ConflictCopy(..), KeepArg::Cloud) => Err(CommandError::usage(
            "a conflict copy needs --keep local, --keep fork or --keep both; nothing was changed",
        )),
    }
}
