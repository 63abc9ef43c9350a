//! Files that cannot get their place: where one side has a file, the other one has a folder, or what is
//! no file at all. An empty folder gives way.

use super::{CopyOp, Op, SyncPlan, SyncStep};
use crate::io::tree;
use crate::sync::config::SyncConfig;
use crate::sync::scan::Side;
use crate::sync::scope;
use std::collections::{HashMap, HashSet};
use std::fs;

/// Takes the steps out of a plan that cannot be done, and names what is in their way. What another step
/// removes is in nobody's way.
pub(super) fn drop_blocked_steps(plan: &mut SyncPlan, config: &SyncConfig) {
    let mut places = TargetCheck {
        config,
        removed: HashSet::new(),
        folders: HashMap::new(),
    };
    for op in plan.steps.iter().flat_map(|step| &step.ops) {
        if let Op::Remove(seen) = op {
            places.removed.insert((seen.side, seen.path.clone()));
        }
    }
    let mut blocked: Vec<(String, String)> = Vec::new();
    plan.steps.retain(|step| {
        let why = new_targets(step).find_map(|(side, path)| places.obstruction(side, path));
        let is_free = why.is_none();
        blocked.extend(why.map(|why| (step.path.clone(), why)));
        is_free
    });
    plan.skipped.extend(blocked);
}

/// Where a step puts files that are not there yet.
fn new_targets(step: &SyncStep) -> impl Iterator<Item = (Side, &str)> {
    step.ops.iter().flat_map(|op| {
        let places: Vec<(Side, &str)> = match op {
            Op::Copy(CopyOp { to, over: None, .. }) => vec![(to.0, &*to.1)],
            Op::Merge { to, .. } => {
                let new = to.iter().filter(|to| to.over.is_none());
                new.map(|to| (to.place.0, &*to.place.1)).collect()
            }
            Op::Rename { from, to } => vec![(from.side, &**to)],
            _ => Vec::new(),
        };
        places
    })
}

/// What is known of the places of a plan.
struct TargetCheck<'a> {
    config: &'a SyncConfig,
    removed: HashSet<(Side, String)>,
    /// Whether files can be put below a path: it is a folder, or nothing.
    folders: HashMap<(Side, String), bool>,
}

impl TargetCheck<'_> {
    /// What is in the way of a new file.
    fn obstruction(&mut self, side: Side, path: &str) -> Option<String> {
        let of_side = match side {
            Side::Local => "here",
            Side::Remote => "in the cloud folder",
        };
        let remedy = "rename or remove one of the two";
        for (end, _) in path.match_indices('/') {
            if !self.is_usable_folder(side, &path[..end]) {
                let above = &path[..end];
                return Some(format!(
                    "{above} is no folder {of_side}, and is one on the other side; {remedy}"
                ));
            }
        }
        let full = self.config.file_path(side, path);
        match fs::symlink_metadata(full) {
            Ok(meta) if meta.is_dir() && self.is_emptied(side, path) => None,
            Ok(meta) if meta.is_dir() => {
                let why =
                    format!("it is a folder {of_side}, and a file on the other side; {remedy}");
                Some(why)
            }
            Ok(meta) if !meta.is_file() => {
                let why = format!("what is in its place {of_side} is no file; remove that");
                Some(why)
            }
            // What has come there since is seen by whoever puts a file there.
            _ => None,
        }
    }

    /// Whether a folder has nothing in it but what goes.
    fn is_emptied(&self, side: Side, folder: &str) -> bool {
        let entries = tree::list(&self.config.root(side).join(folder));
        entries.is_ok_and(|entries| {
            entries.into_iter().all(|(name, kind)| {
                name.into_string().is_ok_and(|name| {
                    let path = format!("{folder}/{name}");
                    if kind.is_dir() {
                        self.is_emptied(side, &path)
                    } else {
                        self.removed.contains(&(side, path))
                    }
                })
            })
        })
    }

    fn is_usable_folder(&mut self, side: Side, folder: &str) -> bool {
        let key = (side, folder.to_owned());
        if let Some(known) = self.folders.get(&key) {
            return *known;
        }
        let full = self.config.root(side).join(folder);
        let is_followed = side == Side::Local && scope::follows_link(folder, &self.config.roots);
        let looked_at = if is_followed {
            fs::metadata(full)
        } else {
            fs::symlink_metadata(full)
        };
        let may = looked_at.map_or(true, |meta| meta.is_dir()) || self.removed.contains(&key);
        self.folders.insert(key, may);
        may
    }
}
