//! Guard over the decision about one file: reasons to leave the file as it is on both sides.

use crate::io::IoContext;
use crate::sync::decide::{FileDecision, FileKind};
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::file_version::{FilePair, is_truncated_prefix};
use crate::sync::plan::inputs::Inputs;
use crate::sync::scan::Side;
use crate::sync::secrets::{self, FileSecret};

/// Returns the reason to leave a file as it is although `decision` would change it; `None` to carry the decision out.
pub(crate) fn reason_to_leave(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    decision: FileDecision,
) -> Result<Option<Notice>, PlanError> {
    if let Some(why) = reason_to_wait(inputs, pair, decision)? {
        return Ok(Some(NoticeList::Waiting.notice(pair.path, why)));
    }
    // Prompts are not searched: they quote what the user wrote, and skipping the file would lose them.
    if pair.kind == FileKind::Lines {
        return Ok(None);
    }
    let why = secret_reason(inputs, pair, decision)?;
    Ok(why.map(|why| NoticeList::Warning.notice(pair.path, why)))
}

/// Returns the reason to wait for another version before the decision is applied.
fn reason_to_wait(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    decision: FileDecision,
) -> Result<Option<&'static str>, PlanError> {
    let is_plain = pair.kind == FileKind::Plain;
    let (FileDecision::CopyToLocal(_), Some(local), Some(remote)) =
        (decision, &pair.local, &pair.remote)
    else {
        return Ok(None);
    };
    // Clients create a file empty before they fill it.
    let is_empty = remote.seen.stat.size == 0 && local.seen.stat.size > 0;
    let is_unattested = remote.digest.is_none();
    if is_empty && is_unattested && pair.last.is_none() && !inputs.request.accept_unlisted {
        return Ok(Some("is empty, and no machine lists it so"));
    }
    // Not even `--accept-unlisted` uses a truncated file, because the rest may still be on its way;
    // `sync resolve` for this file does.
    let may_be_truncated = is_plain && is_unattested && inputs.request.policy_override.is_none();
    if may_be_truncated && is_truncated_prefix(inputs.config, local, remote)? {
        let why = "is the beginning of the local file, cut off within a line; remove it from the cloud folder \
                   to copy the local file there again";
        return Ok(Some(why));
    }
    Ok(None)
}

/// The end of the reason if `--allow-secrets` syncs the file.
pub(crate) const ALLOWS_SECRET: &str = "--allow-secrets syncs it once";

/// Returns the reason not to copy a file that contains a token or key. In a conflict the user can choose either
/// version, so both are searched.
fn secret_reason(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    decision: FileDecision,
) -> Result<Option<String>, PlanError> {
    let sources = match decision.copied_side() {
        Some((Side::Local, _)) => [&pair.local, &None],
        Some((Side::Remote, _)) => [&None, &pair.remote],
        None if decision == FileDecision::Conflict => [&pair.local, &pair.remote],
        None => return Ok(None),
    };
    for source in sources.into_iter().flatten() {
        let path = source.seen.full_path(inputs.config);
        let is_allowed = inputs
            .request
            .allow_secrets
            .iter()
            .any(|allowed| allowed == pair.path);
        let why = match secrets::find_in_file(&path).at("read", &path)? {
            None => continue,
            Some(FileSecret::InText(_)) if is_allowed => continue,
            Some(FileSecret::Whole(what)) => {
                format!("is not synced: it contains what looks like {what}")
            }
            Some(found @ FileSecret::InText(_)) => {
                format!("is not synced: it contains what looks like {found}; {ALLOWS_SECRET}")
            }
        };
        return Ok(Some(why));
    }
    Ok(None)
}
