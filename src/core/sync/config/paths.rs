//! Absolute, normalized paths of a configuration.

use crate::io::environment::Environment;
use crate::io::settings::SettingValues;
use std::path::{Component, Path, PathBuf};

/// The paths to which relative and absent values of a configuration refer.
#[derive(Debug, Clone, Copy)]
pub struct ConfigContext<'a> {
    /// Resolves `~` and the current folder.
    pub env: &'a Environment,
    /// Default value of `paths.local_state_dir`.
    pub codex_home: &'a Path,
    /// The default of `paths.backup_dir` is below this folder.
    pub manager_home: &'a Path,
}

/// Resolves the paths in a configuration.
pub(super) struct PathBase<'a> {
    values: SettingValues<'a>,
    env: &'a Environment,
    /// The base of relative paths: `paths.workspace_root_dir`, else the folder of the configuration.
    folder: PathBuf,
    workspace: Option<PathBuf>,
}

impl<'a> PathBase<'a> {
    pub(super) fn new(file: &Path, values: SettingValues<'a>, context: &ConfigContext<'a>) -> Self {
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut base = Self {
            values,
            env: context.env,
            folder: context.env.current_dir.join(folder),
            workspace: None,
        };

        // The workspace itself is relative to the folder of the configuration.
        if let Some(workspace) = base.resolve_setting("paths.workspace_root_dir") {
            base.folder.clone_from(&workspace);
            base.workspace = Some(workspace);
        }

        base
    }

    /// Returns the absolute path in a setting, if it is set.
    pub(super) fn resolve_setting(&self, name: &str) -> Option<PathBuf> {
        self.values.text(name).map(|text| self.to_absolute(text))
    }

    /// Returns the absolute path for a value, without `.` and `..`.
    fn to_absolute(&self, value: &str) -> PathBuf {
        let expanded = match &self.workspace {
            Some(root) => value.replace("${workspace_root}", &root.to_string_lossy()),
            None => value.to_owned(),
        };

        let path = Path::new(&expanded);
        let full = if path.starts_with("~") {
            self.env.absolute(path)
        } else {
            self.folder.join(path)
        };

        // `a/../b` and `./` would give one folder several names.
        let mut normalized = PathBuf::new();
        for part in full.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    normalized.pop();
                }
                part => normalized.push(part),
            }
        }
        normalized
    }
}
