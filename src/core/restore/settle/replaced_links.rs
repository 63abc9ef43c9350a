//! The top-level links that a restore replaces by files or removes: its safety backup records them, and a restore of the
//! safety backup brings them back.

use crate::archive::{EntryName, LinkEntry};
use crate::codex::{database, home};
use crate::io::{IoError, Silent, links, tree, user};
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::unchanged_files::has_archived_content;
use crate::restore::stage::staged_home::Stage;
use crate::restore::stage::workspace::Workspace;
use std::fs;
use std::path::Path;

/// Returns the links to files in the home that the restore replaces or removes, with their targets as they are.
pub(crate) fn list(plan: &RestorePlan, stage: &Stage, replaces_login: bool) -> Vec<LinkEntry> {
    let home = stage.home();
    let is_changed = |path: &Path| {
        let is_login = replaces_login && path == Path::new(home::AUTH_JSON);
        let is_in_home = stage.root_of(path).prefix.as_os_str().is_empty();
        is_login || (is_in_home && (plan.writes.contains(path) || plan.removed.contains(path)))
    };
    // A home that cannot be listed fails later.
    let entries = tree::list(&home.live).unwrap_or_default().into_iter();
    let changed_links = entries.filter(|(name, kind)| {
        kind.is_symlink() && is_changed(Path::new(name)) && home.live.join(name).is_file()
    });
    let with_target = changed_links.filter_map(|(name, _)| {
        Some(LinkEntry {
            target: fs::read_link(home.live.join(&name)).ok()?,
            path: EntryName::from_path(Path::new(&name)).ok()?,
        })
    });
    with_target.collect()
}

/// Stages the links that the archive records in place of the files that it has of them. A link whose target has changed
/// stays a file, because the target does not have the archived content.
pub(crate) fn stage(work: &mut Workspace<'_>) -> Result<(), IoError> {
    if work.plan.target != RestoreTarget::Home {
        return Ok(());
    }
    let home = work.stage.home();
    for LinkEntry { path, target } in &work.request.archive.contents().replaced_links {
        let name = path.as_path();
        let staged = home.staged.join(name);
        let is_staged = staged.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let is_at_top = name.components().count() == 1;
        let real_target = user::real_path(&home.live.join(target));
        let Some(real_target) = real_target.ok().filter(|path| path.is_file()) else {
            continue;
        };
        if is_at_top && is_staged && has_content_of(work, name, &staged, &real_target) {
            tree::remove(&staged)?;
            links::make_link(target, &staged)?;
            let (path, target) = (home.live.join(name), target.display());
            work.notes
                .push(format!("{} is a link to {target} again", path.display()));
        }
    }
    Ok(())
}

/// Returns true if `target` has the content that the archive has of `name`, and so has the staged login.
fn has_content_of(work: &Workspace<'_>, name: &Path, staged: &Path, target: &Path) -> bool {
    let mut files = work.request.archive.contents().files.iter();
    let Some(archived) = files.find(|file| file.path.as_path() == name) else {
        return false;
    };
    let is_archived = |path: &Path| has_archived_content(path, &archived, &Silent);
    if name == Path::new(home::AUTH_JSON) {
        // Another login than the archived one may go live.
        return is_archived(staged) && is_archived(target);
    }
    if !work.plan.writes.contains(name) {
        return false;
    }
    if !database::is_database(target) {
        return is_archived(target);
    }
    // The archive has a copy by SQLite, with the rows of the log beside the target.
    let copy = work.transaction.folder().join("target.sqlite");
    let is_same = database::write_snapshot(target, &copy).is_ok() && is_archived(&copy);
    let _ = tree::remove(&copy);
    is_same
}
