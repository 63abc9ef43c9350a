//! The table `[paths]`: absolute, normalized paths of the two sides and the backup folder.

use super::error::SyncConfigError;
use super::keys::KeyReader;
use super::settings::PathRule;
use crate::io::environment::Environment;
use std::path::{Component, Path, PathBuf};
use toml_edit::{Item, TableLike};

/// Paths that relative and absent values refer to.
#[derive(Debug, Clone, Copy)]
pub struct ConfigContext<'a> {
    /// Resolves `~` and the current folder.
    pub env: &'a Environment,
    /// Default value of `paths.local_state_dir`.
    pub codex_home: &'a Path,
    /// The default of `paths.backup_dir` is below this folder.
    pub manager_home: &'a Path,
}

/// The folders of a configuration, and the base of its relative paths.
pub(super) struct SyncPaths {
    base: PathBuf,
    workspace: Option<PathBuf>,
    env: Environment,
    pub(super) local: PathBuf,
    pub(super) cloud: PathBuf,
    pub(super) backup_dir: PathBuf,
}

impl SyncPaths {
    pub(super) fn read(
        r: &mut KeyReader<'_>,
        context: &ConfigContext<'_>,
    ) -> Result<Self, SyncConfigError> {
        let folder = r.path.parent().unwrap_or(Path::new("."));
        let folder = context.env.current_dir.join(folder);
        let mut paths = Self {
            base: folder.clone(),
            workspace: None,
            env: context.env.clone(),
            local: context.codex_home.to_path_buf(),
            cloud: PathBuf::new(),
            backup_dir: context.manager_home.join("sync-backups"),
        };
        if let Some(workspace) = r.text("paths", "workspace_root_dir")? {
            let workspace = paths.absolute(&workspace);
            paths.base.clone_from(&workspace);
            paths.workspace = Some(workspace);
        }
        if let Some(local) = r.text("paths", "local_state_dir")? {
            paths.local = paths.absolute(&local);
        }
        let Some(cloud) = r.text("paths", "cloud_root_dir")? else {
            return Err(r.invalid("paths", "cloud_root_dir", "is missing"));
        };
        paths.cloud = paths.absolute(&cloud);
        if let Some(backups) = r.text("paths", "backup_dir")? {
            paths.backup_dir = paths.absolute(&backups);
        }
        // A rename replaces a file atomically only within one file system.
        let no_effect = "temporary files are written next to the files that they replace";
        r.warn_if_set("paths", "temp_dir", no_effect);
        Ok(paths)
    }

    /// Returns a path of the configuration as an absolute one.
    pub(super) fn absolute(&self, text: &str) -> PathBuf {
        let text = match &self.workspace {
            Some(root) => text.replace("${workspace_root}", &root.to_string_lossy()),
            None => text.to_owned(),
        };
        let path = Path::new(&text);
        let full = if path.starts_with("~") {
            self.env.absolute(path)
        } else {
            self.base.join(path)
        };
        // `a/../b` and `./` would give one folder several names.
        let mut clean = PathBuf::new();
        for part in full.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    clean.pop();
                }
                part => clean.push(part),
            }
        }
        clean
    }
}

/// Reads `paths.map`, as an array of tables or of inline tables.
pub(super) fn path_rules(r: &mut KeyReader<'_>) -> Result<Vec<PathRule>, SyncConfigError> {
    let Some(item) = r.take("paths", "map") else {
        return Ok(Vec::new());
    };
    let mut tables: Vec<&dyn TableLike> = Vec::new();
    if let Some(list) = item.as_array_of_tables() {
        tables.extend(list.iter().map(|t| t as &dyn TableLike));
    } else if let Some(list) = item.as_array() {
        for value in list {
            match value.as_inline_table() {
                Some(table) => tables.push(table),
                None => return Err(r.invalid("paths", "map", "must be a list of tables")),
            }
        }
    } else {
        return Err(r.invalid("paths", "map", "must be a list of tables"));
    }
    let text = |table: &dyn TableLike, key| {
        let value = table.get(key).and_then(Item::as_str);
        value
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| r.invalid("paths", "map", "needs from and to, both strings"))
    };
    tables
        .into_iter()
        .map(|table| {
            Ok(PathRule {
                from: text(table, "from")?,
                to: text(table, "to")?,
            })
        })
        .collect()
}
