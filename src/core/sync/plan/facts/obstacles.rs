//! Finds the entries that prevent a plan from creating a file.

use super::fact_reader::FactReader;
use crate::io::tree;
use crate::sync::plan::sync_step::SyncStep;
use crate::sync::sides::{Side, SidePath};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The reason why a file cannot be created.
#[derive(Debug, Clone)]
pub(crate) enum Obstacle {
    /// This path above the file is not a folder, but a file or a link.
    NotAFolder(String),
    /// The path of the file is a folder that contains these files.
    Folder(Vec<String>),
    SpecialFile,
}

/// Obstacles by the path of the file to create.
pub(crate) type Obstacles = HashMap<SidePath, Obstacle>;

impl FactReader<'_> {
    /// Finds the obstacles of all files that the steps create. [`apply`](crate::sync::apply) checks the paths again.
    pub(crate) fn find_obstacles(&self, steps: &[SyncStep]) -> Obstacles {
        let mut usable_folders = HashMap::new();
        let targets = steps.iter().flat_map(SyncStep::new_targets);
        let obstacles = targets.filter_map(|target| {
            let obstacle = self.find_obstacle(target, &mut usable_folders)?;
            Some((target.clone(), obstacle))
        });
        obstacles.collect()
    }

    /// Finds the obstacle of one file. `usable_folders` caches the results for its folders, because most files share
    /// them.
    fn find_obstacle(
        &self,
        target: &SidePath,
        usable_folders: &mut HashMap<(Side, String), bool>,
    ) -> Option<Obstacle> {
        let SidePath { side, path } = target;
        for (slash, _) in path.match_indices('/') {
            let parent = path[..slash].to_owned();
            let cached_result = usable_folders.entry((*side, parent.clone()));
            let is_usable = cached_result.or_insert_with(|| self.is_usable_folder(*side, &parent));
            if !*is_usable {
                return Some(Obstacle::NotAFolder(parent));
            }
        }

        let full_path = self.config.file_path(*side, path);
        let meta = fs::symlink_metadata(&full_path).ok()?;
        if meta.is_dir() {
            let mut files = Vec::new();
            collect_files_below(&full_path, path, &mut files);
            // A file may replace an empty folder.
            return (!files.is_empty()).then_some(Obstacle::Folder(files));
        }
        (!meta.is_file()).then_some(Obstacle::SpecialFile)
    }

    /// Returns true if files can be created below the path `folder`: a folder is there, or nothing.
    fn is_usable_folder(&self, side: Side, folder: &str) -> bool {
        let full_path = self.config.root(side).join(folder);
        // A folder of the home that the user replaced by a link is on another disk.
        let metadata = if self.config.follows_link(side, folder) {
            fs::metadata(full_path)
        } else {
            fs::symlink_metadata(full_path)
        };
        // A missing folder is created.
        metadata.map_or(true, |meta| meta.is_dir())
    }
}

/// Adds the relative paths of all files, links and unreadable folders below `folder` to `files`.
fn collect_files_below(folder: &Path, relative: &str, files: &mut Vec<String>) {
    let Ok(entries) = tree::list(folder) else {
        files.push(relative.to_owned());
        return;
    };

    for (name, kind) in entries {
        let relative_path = format!("{relative}/{}", name.to_string_lossy());
        if kind.is_dir() {
            collect_files_below(&folder.join(&name), &relative_path, files);
        } else {
            files.push(relative_path);
        }
    }
}
