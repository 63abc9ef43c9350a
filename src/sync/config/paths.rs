//! `[paths]`: where the two sides and their backups are, each path absolute and written one way.

use super::keys::KeyReader;
use super::{ConfigContext, SyncConfigError};
use crate::io::environment::Environment;
use std::path::{Component, Path, PathBuf};
use toml_edit::{Item, TableLike};

/// A rule of `[[paths.map]]`: project folders of another machine and what they are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// The beginning of a path there.
    pub from: String,
    /// What it is here.
    pub to: String,
}

/// The folders of a configuration, and what other paths in it are relative to.
pub(super) struct SyncPaths {
    anchor: PathBuf,
    workspace: Option<PathBuf>,
    env: Environment,
    pub(super) local: PathBuf,
    pub(super) cloud: PathBuf,
    pub(super) backup_dir: PathBuf,
}

impl SyncPaths {
    pub(super) fn read(
        r: &mut KeyReader<'_>,
        around: &ConfigContext<'_>,
    ) -> Result<Self, SyncConfigError> {
        let folder = r.path.parent().unwrap_or(Path::new("."));
        let folder = around.env.current_dir.join(folder);
        let mut paths = Self {
            anchor: folder.clone(),
            workspace: None,
            env: around.env.clone(),
            local: around.codex_home.to_path_buf(),
            cloud: PathBuf::new(),
            backup_dir: around.manager_home.join("sync-backups"),
        };
        if let Some(workspace) = r.text("paths", "workspace_root_dir")? {
            let workspace = paths.absolute(&workspace);
            paths.anchor.clone_from(&workspace);
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
        // A rename replaces a file in one step only within its folder.
        let no_effect = "temporary files are written next to the files that they replace";
        r.without_effect("paths", "temp_dir", no_effect);
        Ok(paths)
    }

    /// A path of the configuration, absolute.
    pub(super) fn absolute(&self, text: &str) -> PathBuf {
        let text = match &self.workspace {
            Some(root) => text.replace("${workspace_root}", &root.to_string_lossy()),
            None => text.to_owned(),
        };
        let path = Path::new(&text);
        let full = if path.starts_with("~") {
            self.env.absolute(path)
        } else {
            self.anchor.join(path)
        };
        // `a/../b` and `./` would make two names of one folder.
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

/// `paths.map`, in either spelling of TOML.
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
                None => return Err(r.invalid("paths", "map", "is a list of tables")),
            }
        }
    } else {
        return Err(r.invalid("paths", "map", "is a list of tables"));
    }
    let text = |table: &dyn TableLike, key| {
        let value = table.get(key).and_then(Item::as_str);
        value
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| r.invalid("paths", "map", "needs from and to, both text"))
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
