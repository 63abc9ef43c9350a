//! Names of settings: a key of [`KEYS`], or a key of [`FOLDER_KEYS`] with a folder.

use super::key::{FOLDER_KEYS, KEYS};
use codex_manager_core::io::settings::SettingKey;
use codex_manager_core::io::similar::find_nearest;
use codex_manager_core::launch::folders;
use std::path::Path;

/// A reference to one setting, which the file may or may not contain.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static SettingKey,
    /// The folder as typed by the user; only for keys of [`FOLDER_KEYS`].
    pub(crate) folder: Option<String>,
}

impl Setting {
    /// Returns the name that `config get` accepts.
    pub(crate) fn name(&self) -> String {
        match &self.folder {
            Some(folder) => format!("{}.{folder}", self.key.name),
            None => self.key.name.to_owned(),
        }
    }

    /// Returns true if both are the same setting, even if the folder is spelled differently (`~/code`
    /// and `/home/me/code/`). Symbolic links are not resolved.
    pub(crate) fn is_same(&self, other: &Self, home_dir: Option<&Path>) -> bool {
        let absolute = |folder: &str| folders::expand_home(folder, home_dir);
        let is_same_folder = match (&self.folder, &other.folder) {
            (Some(a), Some(b)) => a == b || absolute(a).is_some_and(|a| Some(a) == absolute(b)),
            (a, b) => a == b,
        };
        self.key.name == other.key.name && is_same_folder
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("unknown setting {name:?}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The name as typed by the user or found in the file.
        name: String,
        /// The most similar name of [`KEYS`], if one is similar enough.
        nearest: Option<String>,
    },
    /// The setting has one value per folder, and the folder is missing or relative.
    #[error("the folder of {name:?} is not an absolute path")]
    NoFolder {
        /// The name as typed by the user or found in the file.
        name: String,
    },
}

/// Returns the setting called `name`. Everything after `folders.` and `shared_logins.` is the folder,
/// including dots.
///
/// # Errors
/// No setting has that name, or the folder is not an absolute path (a leading `~` counts as one).
pub(crate) fn find_setting(name: &str) -> Result<Setting, KeyError> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(Setting { key, folder: None });
    }

    let (table, folder) = name.split_once('.').unwrap_or((name, ""));
    match FOLDER_KEYS.iter().find(|key| key.name == table) {
        Some(key) if folders::is_absolute(folder) => Ok(Setting {
            key,
            folder: Some(folder.to_owned()),
        }),
        Some(_) => Err(KeyError::NoFolder {
            name: name.to_owned(),
        }),
        None => Err(KeyError::Unknown {
            name: name.to_owned(),
            nearest: find_nearest_name(name),
        }),
    }
}

/// Returns the name of [`KEYS`] that is most similar to `name`, or `None` if none is similar.
fn find_nearest_name(name: &str) -> Option<String> {
    // The user may have omitted the table. `find_nearest` also compares each word of a candidate, so the last part is
    // added as a word.
    let with_last_part = |key: &SettingKey| {
        let last_part = key.name.rsplit('.').next().unwrap_or_default();
        format!("{} {last_part}", key.name)
    };
    let candidates = KEYS.each_ref().map(with_last_part);
    let nearest = find_nearest(name, candidates.iter().map(String::as_str));
    nearest.first()?.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_suggests_the_nearest_setting() {
        let nearest = |name: &str| match find_setting(name) {
            Err(KeyError::Unknown { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("timezon").as_deref(), Some("timezone"));
        assert_eq!(nearest("codex_bin").as_deref(), Some("codex.bin"));
        assert_eq!(nearest("keep-last").as_deref(), Some("prune.keep_last"));
        assert_eq!(
            nearest("backup.compresion").as_deref(),
            Some("backup.compression")
        );
        assert_eq!(nearest("xyzzy"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_key_ends_with_a_folder_that_is_absolute_or_in_the_home() {
        for name in [
            "folders./srv/a.b/[c] \"d\"",
            "folders.~",
            "shared_logins.~/code/",
        ] {
            let found = find_setting(name).unwrap();
            assert_eq!(found.name(), name);
            assert_eq!(
                found.folder.as_deref(),
                name.split_once('.').map(|(_, rest)| rest)
            );
        }
        for name in [
            "folders",
            "folders.",
            "folders.work",
            "shared_logins..",
            "folders.~bob/work",
        ] {
            assert!(
                matches!(find_setting(name), Err(KeyError::NoFolder { .. })),
                "{name}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn two_spellings_of_a_folder_are_one_setting() {
        let home = Some(Path::new("/home/me"));
        let same = |a: &str, b: &str, home| {
            find_setting(a)
                .unwrap()
                .is_same(&find_setting(b).unwrap(), home)
        };
        assert!(same("folders.~/code", "folders./home/me/code/", home));
        assert!(!same("folders.~/code", "shared_logins.~/code", home));
        assert!(!same("folders.~/code", "folders.~/code/sub", home));
        assert!(!same("folders.~/a", "folders.~/b", None));
        assert!(same("timezone", "timezone", None));
    }
}
