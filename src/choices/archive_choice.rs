//! The archive that the user names.

use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::choices::account_choice;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::archive_names::{numbered, typed_name};
use crate::inventory::records::ArchiveRecord;
use crate::inventory::store;
use crate::io::quantity::pluralize;
use crate::io::similar;
use crate::quota::account::{Account, AccountEntry};
use crate::views::account;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The argument that denotes the newest archive of a home; see [`latest`].
pub(crate) const LATEST: &str = "latest";

/// Returns how many archives before the latest one `text` denotes: 0 for `latest`, N for `latest~N`.
pub(crate) fn latest_offset(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(LATEST)?;
    if rest.is_empty() {
        return Some(0);
    }
    rest.strip_prefix('~')?.parse().ok()
}

/// Returns the archive that `latest~offset` denotes among those that `accepts` accepts; see
/// [`store::latest_first`].
///
/// # Errors
/// There is none. The message says whether there are other archives.
pub(crate) fn latest<'r>(
    records: &'r [ArchiveRecord],
    offset: usize,
    context: &Context,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Result<&'r ArchiveRecord, CommandError> {
    let all = store::latest_first(records, &accepts);
    if let Some(record) = all.get(offset) {
        return Ok(record);
    }
    Err(if !all.is_empty() {
        let few = match all.len() {
            1 => "there is only 1".to_owned(),
            n => format!("there are only {n}"),
        };
        let message = format!("no {LATEST}~{offset}: {few}, without safety and partial archives");
        CommandError::failed(message).hint("list archives with: codex-manager list-backups")
    } else if records.iter().any(accepts) {
        CommandError::failed("latest: there are only safety and partial archives")
            .hint("name one of them: codex-manager list-backups")
            .hint(account::first_archive(context))
    } else if records.iter().any(|r| r.archive.is_some()) {
        CommandError::failed("latest: no archive is undamaged")
            .hint("list the problems with: codex-manager list-backups")
    } else {
        no_archives(context)
    })
}

/// Returns the archive with the number `text` in `list-backups`.
pub(crate) fn by_number<'r>(records: &'r [ArchiveRecord], text: &str) -> Option<&'r ArchiveRecord> {
    let index = text.parse::<usize>().ok()?.checked_sub(1)?;
    numbered(records).get(index).copied()
}

/// Returns the only archive in `backups/` whose name begins with `text`.
///
/// # Errors
/// Several names do.
pub(crate) fn by_beginning<'r>(
    records: &'r [ArchiveRecord],
    text: &str,
) -> Result<Option<&'r ArchiveRecord>, CommandError> {
    let mut fitting = numbered(records);
    fitting.retain(|r| !text.is_empty() && r.path.starts_with(text));
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names: Vec<_> = several.iter().map(|r| typed_name(r)).collect();
            let error = CommandError::failed(format!(
                "{text:?} is the beginning of {}",
                pluralize(names.len(), "archive name")
            ));
            Err(error.hint(format!("they are: {}", similar::first_of(&names))))
        }
    }
}

/// Creates the error for a text that denotes no archive, with the nearest of the names that it could be:
/// archives and `others`.
pub(crate) fn unknown(
    message: String,
    text: &str,
    records: &[ArchiveRecord],
    others: &[String],
    context: &Context,
) -> CommandError {
    let archives = numbered(records);
    let has_archives = !archives.is_empty();
    let latest = has_archives.then(|| LATEST.to_owned());
    let names: Vec<_> = latest
        .into_iter()
        .chain(archives.into_iter().map(typed_name))
        .chain(others.iter().cloned())
        .collect();
    let mut error = CommandError::failed(message);
    let suggestion = similar::suggestion(text, names.iter().map(String::as_str));
    error.hints.extend(suggestion);
    error.hint(if has_archives {
        "list archives with: codex-manager list-backups".to_owned()
    } else {
        account::first_archive(context)
    })
}

/// Creates the error for a folder without archives.
pub(crate) fn no_archives(context: &Context) -> CommandError {
    let backups = store::backups(&context.settings.manager_home);
    CommandError::failed(format!("no archives in {}", backups.display()))
        .hint(account::first_archive(context))
}

/// Finds the archive that `name` denotes: `latest`, `latest~N`, a path, a name in `backups/` with or
/// without its suffix, its number in `list-backups`, or an unambiguous beginning of its name. `accepts`
/// limits what `latest` denotes.
///
/// # Errors
/// There is none, or several names begin so.
pub(crate) fn find_archive(
    context: &Context,
    name: &Path,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Result<PathBuf, CommandError> {
    let manager_home = &context.settings.manager_home;
    let backups = store::backups(manager_home);
    let text = name.to_string_lossy();
    let offset = latest_offset(&text);
    if offset.is_none()
        && let Some(file) = find_file(context, name)
    {
        return Ok(file);
    }
    let records = store::archives(manager_home)?;
    let found = match offset {
        Some(offset) => Some(latest(&records, offset, context, accepts)?),
        None => match by_number(&records, &text) {
            Some(record) => Some(record),
            None => by_beginning(&records, &text)?,
        },
    };
    found.map(|r| backups.join(&r.path)).ok_or_else(|| {
        let message = format!("no such archive: {}", name.display());
        unknown(message, &text, &records, &[], context)
    })
}

/// Finds the file of an archive: a path, or a name in `backups/` with or without its suffix.
pub(crate) fn find_file(context: &Context, name: &Path) -> Option<PathBuf> {
    let in_backups = store::backups(&context.settings.manager_home).join(name);
    let as_path = context.env.absolute(name);
    let is_name = name.components().count() == 1;
    let order = if is_name {
        [in_backups, as_path]
    } else {
        [as_path, in_backups]
    };
    let with_suffix = |p: &PathBuf| {
        let mut full = p.as_os_str().to_owned();
        full.push(names::ARCHIVE_SUFFIX);
        PathBuf::from(full)
    };
    let candidates = order.iter().cloned().chain(order.iter().map(with_suffix));
    let file = candidates.clone().find(|p| p.is_file());
    // A folder or pipe with an archive's name is returned too, so that opening it gives the precise
    // error.
    let named = || {
        let is_archive = name.to_string_lossy().ends_with(".tar.gz") || !is_name;
        candidates.clone().find(|p| is_archive && p.exists())
    };
    file.or_else(named)
}

/// Returns the known accounts, followed by those that only archives have.
pub(crate) fn entries_of<'r>(
    accounts: impl IntoIterator<Item = &'r Account>,
    records: impl IntoIterator<Item = &'r ArchiveRecord>,
) -> Vec<AccountEntry> {
    let mut seen = HashSet::new();
    let mut metadata = records
        .into_iter()
        .map(|record| &record.metadata)
        .collect::<Vec<_>>();
    metadata.retain(|metadata| seen.insert(identity_fields(metadata)));
    let identities = metadata.into_iter().filter_map(Metadata::identity);
    account_choice::entries_with(accounts, identities)
}

/// Returns the fields that decide [`Metadata::identity`], to compare many records without copies.
pub(crate) fn identity_fields(metadata: &Metadata) -> [Option<&str>; 3] {
    [&metadata.email, &metadata.account_id, &metadata.user_id].map(|field| field.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_can_be_followed_by_the_number_of_archives_before_it() {
        assert_eq!(latest_offset("latest"), Some(0));
        assert_eq!(latest_offset("latest~2"), Some(2));
        for other in ["lates", "latest~", "latest~x", "latest2", "Latest"] {
            assert_eq!(latest_offset(other), None, "{other}");
        }
    }
}
