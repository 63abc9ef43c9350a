//! Finds the entries that prevent a plan from creating a file.

use super::fact_reader::FactReader;
use crate::io::tree;
use crate::sync::plan::sync_step::SyncStep;
use crate::sync::scope;
use crate::sync::sides::Side;
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

/// Obstacles by the side and the path of the file to create.
pub(crate) type Obstacles = HashMap<(Side, String), Obstacle>;

impl FactReader<'_> {
    /// Finds the obstacles of all files that the steps create. [`apply`](crate::sync::apply) checks the paths again.
    pub(crate) fn find_obstacles(&self, steps: &[SyncStep]) -> Obstacles {
        let mut folders = HashMap::new();
        let targets = steps.iter().flat_map(SyncStep::new_targets);
        let found = targets.filter_map(|(side, path)| {
            let obstacle = self.find_obstacle(side, path, &mut folders)?;
            Some(((side, path.to_owned()), obstacle))
        });
        found.collect()
    }

    /// Finds the obstacle of one file. `folders` caches the results for its folders, because most files share them.
    fn find_obstacle(
        &self,
        side: Side,
        path: &str,
        folders: &mut HashMap<(Side, String), bool>,
    ) -> Option<Obstacle> {
        for (end, _) in path.match_indices('/') {
            let above = path[..end].to_owned();
            let is_usable = folders.entry((side, above.clone()));
            if !*is_usable.or_insert_with(|| self.is_usable_folder(side, &above)) {
                return Some(Obstacle::NotAFolder(above));
            }
        }
        let full = self.config.file_path(side, path);
        let meta = fs::symlink_metadata(&full).ok()?;
        if meta.is_dir() {
            let mut files = Vec::new();
            list_files(&full, path, &mut files);
            // A file may replace an empty folder.
            return (!files.is_empty()).then_some(Obstacle::Folder(files));
        }
        (!meta.is_file()).then_some(Obstacle::SpecialFile)
    }

    /// Returns true if files can be created below the path `folder`: a folder is there, or nothing.
    fn is_usable_folder(&self, side: Side, folder: &str) -> bool {
        let full = self.config.root(side).join(folder);
        let is_followed =
            side == Side::Local && scope::follows_link(folder, &self.config.scope.roots);
        // A folder of the home that the user replaced by a link is on another disk.
        let metadata = if is_followed {
            fs::metadata(full)
        } else {
            fs::symlink_metadata(full)
        };
        metadata.map_or(true, |meta| meta.is_dir())
    }
}

/// Adds the relative paths of all files, links and unreadable folders below `folder` to `files`.
fn list_files(folder: &Path, relative: &str, files: &mut Vec<String>) {
    let Ok(entries) = tree::list(folder) else {
        files.push(relative.to_owned());
        return;
    };
    for (name, kind) in entries {
        let path = format!("{relative}/{}", name.to_string_lossy());
        if kind.is_dir() {
            list_files(&folder.join(&name), &path, files);
        } else {
            files.push(path);
        }
    }
}
