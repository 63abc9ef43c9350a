//! Guards over the planned steps: each drops the steps that must not be applied, and returns the others.

use crate::io::tree;
use crate::sync::config::SyncConfig;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::sync_step::{CopyOp, Op, SyncStep};
use crate::sync::scan::Side;
use crate::sync::scope;
use crate::sync::secrets;
use std::collections::{HashMap, HashSet};
use std::fs;

/// Drops the steps that would copy a login under the name of a conversation or of a line-based file, and warns of the
/// files. The contents of such files are not searched for tokens, because conversations quote them; but a file that
/// is a login and nothing else is not copied. Plain files are searched in `plain`. Steps with unreadable files stay:
/// copying them fails with the reason.
pub(crate) fn drop_login_copies(
    mut steps: Vec<SyncStep>,
    config: &SyncConfig,
) -> (Vec<SyncStep>, Vec<Notice>) {
    let mut notices = Vec::new();
    steps.retain(|step| {
        let mut sources = step.ops.iter().flat_map(Op::sources);
        let login =
            sources.find(|seen| secrets::is_login(&seen.full_path(config)).unwrap_or_default());
        let why = "is not synced: it is a login under another name";
        notices.extend(login.map(|seen| NoticeList::Warning.notice(&seen.path, why)));
        login.is_none()
    });
    (steps, notices)
}

/// Drops the steps whose target path is blocked: it is a folder on one side and a file on the other, or a special file.
/// A file may replace an empty folder, and a file that another step removes does not block. The notices name the
/// obstacles.
pub(crate) fn drop_blocked_steps(
    mut steps: Vec<SyncStep>,
    config: &SyncConfig,
) -> (Vec<SyncStep>, Vec<Notice>) {
    let mut targets = TargetCheck {
        config,
        removed: HashSet::new(),
        folders: HashMap::new(),
    };
    for op in steps.iter().flat_map(|step| &step.ops) {
        if let Op::Remove(seen) = op {
            targets.removed.insert((seen.side, seen.path.clone()));
        }
    }
    let mut notices = Vec::new();
    steps.retain(|step| {
        let why = new_targets(step).find_map(|(side, path)| targets.obstruction(side, path));
        let is_free = why.is_none();
        notices.extend(why.map(|why| NoticeList::Skipped.notice(&step.path, why)));
        is_free
    });
    (steps, notices)
}

/// Returns the paths at which a step creates files.
fn new_targets(step: &SyncStep) -> impl Iterator<Item = (Side, &str)> {
    step.ops.iter().flat_map(|op| {
        let targets: Vec<(Side, &str)> = match op {
            Op::Copy(CopyOp { to, over: None, .. }) => vec![(to.0, &*to.1)],
            Op::Merge { to, .. } => {
                let new = to.iter().filter(|to| to.over.is_none());
                new.map(|to| (to.place.0, &*to.place.1)).collect()
            }
            Op::Rename { from, to } => vec![(from.side, &**to)],
            _ => Vec::new(),
        };
        targets
    })
}

/// Checks whether target paths are free once the plan's removals are done.
struct TargetCheck<'a> {
    config: &'a SyncConfig,
    /// Files that steps of the plan remove.
    removed: HashSet<(Side, String)>,
    /// Results of `is_usable_folder` by path.
    folders: HashMap<(Side, String), bool>,
}

impl TargetCheck<'_> {
    /// Returns the reason why a file cannot be created at `path`, with the remedy.
    fn obstruction(&mut self, side: Side, path: &str) -> Option<String> {
        let on_side = match side {
            Side::Local => "on this machine",
            Side::Remote => "in the cloud folder",
        };
        let remedy = "rename or remove one of the two";
        for (end, _) in path.match_indices('/') {
            if !self.is_usable_folder(side, &path[..end]) {
                let above = &path[..end];
                return Some(format!(
                    "{above} is not a folder {on_side}, but is one on the other side; {remedy}"
                ));
            }
        }
        let full = self.config.file_path(side, path);
        match fs::symlink_metadata(full) {
            Ok(meta) if meta.is_dir() && self.becomes_empty(side, path) => None,
            Ok(meta) if meta.is_dir() => {
                let why = format!("is a folder {on_side}, but a file on the other side; {remedy}");
                Some(why)
            }
            Ok(meta) if !meta.is_file() => {
                let why = format!("a special file is in its place {on_side}; remove that file");
                Some(why)
            }
            // `apply` checks again that the path is as the plan observed it.
            _ => None,
        }
    }

    /// Returns true if a folder contains nothing but files that the plan removes.
    fn becomes_empty(&self, side: Side, folder: &str) -> bool {
        let entries = tree::list(&self.config.root(side).join(folder));
        entries.is_ok_and(|entries| {
            entries.into_iter().all(|(name, kind)| {
                name.into_string().is_ok_and(|name| {
                    let path = format!("{folder}/{name}");
                    if kind.is_dir() {
                        self.becomes_empty(side, &path)
                    } else {
                        self.removed.contains(&(side, path))
                    }
                })
            })
        })
    }

    /// Returns true if files can be created below a path: it is a folder, absent, or a file that the plan removes.
    fn is_usable_folder(&mut self, side: Side, folder: &str) -> bool {
        let key = (side, folder.to_owned());
        if let Some(known) = self.folders.get(&key) {
            return *known;
        }
        let full = self.config.root(side).join(folder);
        let is_followed =
            side == Side::Local && scope::follows_link(folder, &self.config.scope.roots);
        let metadata = if is_followed {
            fs::metadata(full)
        } else {
            fs::symlink_metadata(full)
        };
        let is_usable = metadata.map_or(true, |meta| meta.is_dir()) || self.removed.contains(&key);
        self.folders.insert(key, is_usable);
        is_usable
    }
}
