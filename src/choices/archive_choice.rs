//! The archive that the user names.

use crate::context::Context;
use crate::copies::source::has_readable_rollout;
use crate::error::{CommandError, Result};
use crate::views::account::{self, backup_time};
use codex_manager_core::archive::ArchiveReader;
use codex_manager_core::inventory::archive_names::{
    LATEST, file_name, find_archive_file, find_by_number, list_numbered, parse_latest_offset,
    shortest_name,
};
use codex_manager_core::inventory::{ArchiveRecord, archive_names, store, trash};
use codex_manager_core::io::{pluralize, similar};
use std::path::{Path, PathBuf};

/// Returns the accepted archives in the order of `latest`, `latest~1`; see [`store::list_latest_first`]. If older
/// versions made the first ones, which do not record whether their conversations can be read, and none of them can be,
/// these archives come last.
pub(crate) fn list_latest<'r>(
    records: &'r [ArchiveRecord],
    context: &Context,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Vec<&'r ArchiveRecord> {
    let (home, machine) = (context.codex_home(), context.machine());
    let mut archives = store::list_latest_first(records, home, machine.as_deref(), accepts);
    let is_readable =
        |r: &&ArchiveRecord| r.metadata.is_full() && !lacks_readable_conversations(r, context);
    let first_readable = archives.iter().position(is_readable);
    archives.rotate_left(first_readable.unwrap_or_default());
    archives
}

/// Returns true if the archive should have conversations and none of them can be read. Reads the archive if the version
/// that made it did not record this.
pub(crate) fn lacks_readable_conversations(record: &ArchiveRecord, context: &Context) -> bool {
    let metadata = &record.metadata;
    if metadata.conversations.is_some() || !metadata.is_full() || metadata.has_no_conversations() {
        return metadata.has_no_conversations();
    }
    // A damaged archive is reported by the command that uses it.
    let archive = ArchiveReader::open(&context.backups().join(&record.path));
    archive.is_ok_and(|archive| !has_readable_rollout(&archive))
}

/// Returns the archive that `latest~offset` denotes among the accepted ones; see [`list_latest`].
///
/// # Errors
/// No accepted archive is at `offset`. The message says whether there are other archives.
pub(crate) fn find_latest<'r>(
    records: &'r [ArchiveRecord],
    offset: usize,
    context: &Context,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Result<&'r ArchiveRecord> {
    let archives = list_latest(records, context, &accepts);
    if let Some(record) = archives.get(offset) {
        return Ok(record);
    }

    Err(if !archives.is_empty() {
        let count = describe_count(archives.len());
        let message = format!("no {LATEST}~{offset}: {count}, without safety and partial archives");
        CommandError::failed(message).hint("list archives with: codex-manager list-backups")
    } else if records.iter().any(accepts) {
        CommandError::failed("latest: there are only safety and partial archives")
            .hint("name one of them; list them with: codex-manager list-backups")
            .hint(account::suggest_first_archive(context))
    } else if records.iter().any(|r| r.archive.is_some()) {
        CommandError::failed("latest: no archive is undamaged")
            .hint("list the problems with: codex-manager list-backups")
    } else {
        no_archives_error(context)
    })
}

fn describe_count(count: usize) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("there {verb} only {count}")
}

/// Returns the only archive in `backups/` whose name begins with `name_start`. `None` if there is none, or `name_start`
/// is empty or the whole name of an archive that is gone.
///
/// # Errors
/// Several names begin with `name_start`, or `name_start` is a number, which would match the year in a name.
pub(crate) fn find_by_prefix<'r>(
    records: &'r [ArchiveRecord],
    name_start: &str,
    context: &Context,
) -> Result<Option<&'r ArchiveRecord>> {
    if name_start.is_empty() {
        return Ok(None);
    }

    let mut matching = list_numbered(records);
    if !matching.is_empty() && name_start.parse::<usize>().is_ok() {
        let count = describe_count(matching.len());
        let error =
            CommandError::failed(format!("no archive has the number {name_start}: {count}"));
        return Err(error.hint("list archives with: codex-manager list-backups"));
    }

    matching.retain(|r| r.path.starts_with(name_start) && !adds_only_number(r, name_start));
    match matching.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        matches => {
            // The date in a name is the start of the quota window, so the message adds the time of the backup.
            let describe_archive = |r: &&ArchiveRecord| {
                let made_at = backup_time(&r.metadata, context);
                format!("{} (backed up {made_at})", shortest_name(r))
            };
            let names: Vec<_> = matches.iter().map(describe_archive).collect();
            let error = CommandError::failed(format!(
                "{name_start:?} is the beginning of {}",
                pluralize(names.len(), "archive name")
            ));
            Err(error.hint(format!("they are: {}", similar::join_first_names(&names))))
        }
    }
}

/// Returns true if the name of the archive is `name` and a number: then `name` is the whole name of an earlier archive of
/// the same window.
fn adds_only_number(record: &ArchiveRecord, name: &str) -> bool {
    let record_name = shortest_name(record);
    let number = record_name
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Creates the error for a text that denotes no archive. Suggests the nearest names of archives and of `other_names`.
pub(crate) fn unknown_archive_error(
    message: String,
    text: &str,
    records: &[ArchiveRecord],
    other_names: &[String],
    context: &Context,
) -> CommandError {
    let mut error = CommandError::failed(message);
    if let Some(trashed) = find_in_trash(text, context) {
        let trashed = trashed.display();
        return error
            .hint(format!("it is in the trash: {trashed}"))
            .hint("move the archives of the last prune back: codex-manager prune --undo");
    }

    let numbered_archives = list_numbered(records);
    let has_archives = !numbered_archives.is_empty();
    let mut known_names = Vec::new();
    if has_archives {
        known_names.push(LATEST.to_owned());
    }
    known_names.extend(numbered_archives.into_iter().map(shortest_name));
    known_names.extend_from_slice(other_names);
    let suggestion = similar::format_suggestion(text, known_names.iter().map(String::as_str));
    error.hints.extend(suggestion);
    error.hint(if has_archives {
        "list archives with: codex-manager list-backups".to_owned()
    } else {
        account::suggest_first_archive(context)
    })
}

/// Returns the archive in the trash whose name begins with `name_start`; of several, the one pruned last.
fn find_in_trash(name_start: &str, context: &Context) -> Option<PathBuf> {
    // A number is a position in `list-backups`, which does not list the trash.
    if name_start.is_empty() || name_start.parse::<usize>().is_ok() {
        return None;
    }
    // If the trash cannot be listed, the error only lacks this hint.
    let archives = trash::list_archives(context.manager_home()).unwrap_or_default();
    let mut archives = archives.into_iter();
    archives.find(|path| file_name(path).starts_with(name_start))
}

pub(crate) fn no_archives_error(context: &Context) -> CommandError {
    let backups = context.backups();
    CommandError::failed(format!("no archives in {}", backups.display()))
        .hint(account::suggest_first_archive(context))
}

/// Finds the archive that `name` denotes: `latest`, `latest~N`, a path, a name in `backups/` with or
/// without its suffix, its number in `list-backups`, or an unambiguous beginning of its name. `accepts`
/// limits what `latest` denotes.
///
/// # Errors
/// No archive matches, or several names begin with `name`.
pub(crate) fn find_archive(
    context: &Context,
    name: &Path,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Result<PathBuf> {
    let backups = context.backups();
    let name = &archive_names::of_sidecar(name);
    let name_text = name.to_string_lossy();
    let offset = parse_latest_offset(&name_text);
    if offset.is_none()
        && let Some(file) = find_archive_file(&backups, &context.env, name)
    {
        return Ok(file);
    }

    let records = context.archives()?;
    let record = if let Some(offset) = offset {
        Some(find_latest(&records, offset, context, accepts)?)
    } else if let Some(numbered) = find_by_number(&records, &name_text) {
        Some(numbered)
    } else {
        find_by_prefix(&records, &name_text, context)?
    };

    record.map(|r| backups.join(&r.path)).ok_or_else(|| {
        let message = format!("no such archive: {}", name.display());
        let no_other_names: [String; 0] = [];
        unknown_archive_error(message, &name_text, &records, &no_other_names, context)
    })
}
