//! The process's environment as a value that is passed around.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The environment, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The folder that relative paths are relative to.
    pub current_dir: PathBuf,
    /// The user's home folder.
    pub home_dir: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            current_dir: std::env::current_dir().unwrap_or_default(),
            home_dir: dirs::home_dir(),
        }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|v| !v.is_empty())
    }

    /// The value of a variable if it is valid UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// Every variable, as a child process is given them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The same environment with one variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// `path` with a leading `~` replaced by the home folder, made absolute.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home_dir) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.current_dir.join(path),
        }
    }

    /// The same environment without one variable.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut env = self.clone();
        env.variables.remove(OsStr::new(name));
        env
    }

    /// The folder for temporary files.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.get("TMPDIR")
            .map_or_else(|| "/tmp".into(), |dir| self.absolute(Path::new(dir)))
    }
}
