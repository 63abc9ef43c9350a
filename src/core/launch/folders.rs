//! Finds the settings that apply to a folder: the profile of a folder, and the permission to store logins in a
//! home that other users can read.
//!
//! Folders are compared by path components, both as given and with symbolic links resolved. Reads and writes no file.

use crate::io::OrdinaryPath as _;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// The settings with one value for each folder. Keys are folders as the user typed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderSettings {
    /// `folders.PATH`: the profile for a folder and all below it.
    pub folders: BTreeMap<String, String>,
    /// `shared_logins.PATH`: whether logins may be stored in a home on a disk that keeps no file modes.
    pub shared_logins: BTreeMap<String, bool>,
}

impl FolderSettings {
    /// Returns true if the user allows logins in `home`, which others can read.
    pub fn allows_logins_in(&self, home: &Path, home_dir: Option<&Path>) -> bool {
        let setting = find_nearest_setting(home, &self.shared_logins, home_dir);
        setting.is_some_and(|(_, is_allowed)| *is_allowed)
    }

    /// Returns the setting of the nearest folder at or above the absolute folder `cwd`: that folder as the user typed
    /// it, and the name of the profile, which may not exist.
    pub fn find_profile(&self, cwd: &Path, home_dir: Option<&Path>) -> Option<(&String, &String)> {
        find_nearest_setting(cwd, &self.folders, home_dir)
    }
}

/// Returns true for an absolute path and for one with `~` as the first component.
pub fn is_absolute(folder: &str) -> bool {
    Path::new(folder).is_absolute() || Path::new(folder).starts_with("~")
}

/// Replaces a leading `~` of `folder` by `home_dir`. `None` if `folder` is relative, or begins with `~` without a known
/// `home_dir`.
pub fn expand_home(folder: &str, home_dir: Option<&Path>) -> Option<PathBuf> {
    let folder = Path::new(folder);
    match folder.strip_prefix("~") {
        Ok(below_home) => Some(home_dir?.join(below_home)),
        Err(_) => folder.is_absolute().then(|| folder.to_path_buf()),
    }
}

/// Returns the path of the current folder as the shell names it (`PWD`), because the kernel only knows the path without
/// symbolic links. Returns `current_dir` if `PWD` does not lead there.
pub fn logical_dir(current_dir: &Path, pwd: Option<&OsStr>) -> PathBuf {
    let is_same = |pwd: &&Path| {
        let real = pwd.canonical().ok();
        pwd.is_absolute() && real.is_some() && real == current_dir.canonical().ok()
    };
    let pwd = pwd.map(Path::new).filter(is_same);
    pwd.unwrap_or(current_dir).to_path_buf()
}

/// Finds the entry of the nearest folder at or above `folder`. None for a relative path.
fn find_nearest_setting<'a, T>(
    folder: &Path,
    settings: &'a BTreeMap<String, T>,
    home_dir: Option<&Path>,
) -> Option<(&'a String, &'a T)> {
    if !folder.is_absolute() {
        return None;
    }

    // A path with `..` is not compared as given: `Path::strip_prefix` would take `a` for a folder above `a/..`.
    let has_parent_dir = folder.components().any(|part| part == Component::ParentDir);
    let given = (!has_parent_dir).then(|| folder.to_path_buf());
    // The folder counts under its given and its real path, and the nearer setting wins.
    let folder_paths = [given, folder.canonical().ok()];
    // The number of folders between a setting and the nearer path, and the position of that path. At the same distance,
    // the given path wins, because it is the first.
    let distance_from = |setting: &Path| {
        let folder_paths = folder_paths.iter().flatten().enumerate();
        let distances = folder_paths.filter_map(|(position, folder)| {
            let below = folder.strip_prefix(setting).ok()?;
            Some((below.components().count(), position))
        });
        distances.min()
    };

    let candidates = settings.iter().filter_map(|(name, value)| {
        let path = expand_home(name, home_dir)?;
        let real = path.canonical().ok();
        let setting_paths = [Some(path), real].into_iter().flatten();
        let distance = setting_paths
            .filter_map(|path| distance_from(&path))
            .min()?;
        Some((distance, name, value))
    });
    let (_, name, value) = candidates.min_by_key(|(distance, ..)| *distance)?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(unix)]
    use std::{fs, os::unix::fs::symlink};
    use tempfile::TempDir;

    /// A folder for one test, without symbolic links in its path.
    fn root() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonical().unwrap();
        (folder, path)
    }

    fn accounts(folders: &[(&str, &str)]) -> FolderSettings {
        let own = |(folder, profile): &(&str, &str)| ((*folder).into(), (*profile).into());
        FolderSettings {
            folders: folders.iter().map(own).collect(),
            ..FolderSettings::default()
        }
    }

    /// Returns the profile of `cwd`. Folders in the settings are relative to `root`, `~` is `root/home`.
    fn found(root: &Path, cwd: &str, accounts: &FolderSettings) -> String {
        let under = |path: &str| match path {
            "~" => root.join("home"),
            _ => root.join(path.trim_start_matches('/')),
        };
        let rooted = |folder: &String| match folder.strip_prefix('/') {
            Some(_) => under(folder).to_str().unwrap().to_owned(),
            None => folder.clone(),
        };
        let folders = accounts.folders.iter();
        let accounts = FolderSettings {
            folders: folders.map(|(f, p)| (rooted(f), p.clone())).collect(),
            ..FolderSettings::default()
        };
        let found = accounts.find_profile(&under(cwd), Some(&under("~")));
        found.map_or_else(|| "none".to_owned(), |(_, profile)| profile.clone())
    }

    #[test]
    fn the_nearest_configured_parent_folder_decides_the_profile() {
        let (_keep, root) = root();
        let settings = accounts(&[
            ("~", "private"),
            ("~/code/", "work"),
            ("/srv/a.b", "client"),
        ]);
        for (cwd, profile) in [
            ("~", "private"),
            ("home/code", "work"),
            ("home/code/deep/er", "work"),
            ("home/workshop", "private"),
            ("srv/a.b/x", "client"),
            ("srv/a", "none"),
            ("srv", "none"),
        ] {
            assert_eq!(found(&root, cwd, &settings), profile, "{cwd}");
        }
        assert_eq!(settings.find_profile(&root, None), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_folder_is_matched_by_both_of_its_paths() {
        let (_keep, root) = root();
        fs::create_dir_all(root.join("disk/project/src")).unwrap();
        fs::create_dir_all(root.join("home/clients")).unwrap();
        symlink(root.join("disk/project"), root.join("home/clients/acme")).unwrap();
        let (given, real) = ("home/clients/acme/src", "disk/project/src");
        for (folder, cwd, expected) in [
            ("~/clients", given, "work"),
            ("~/clients", real, "none"),
            ("~/clients/acme", given, "work"),
            ("~/clients/acme", real, "work"),
            ("/disk", given, "work"),
            ("/disk/project", real, "work"),
        ] {
            let settings = accounts(&[(folder, "work")]);
            assert_eq!(found(&root, cwd, &settings), expected, "{folder} {cwd}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn pwd_is_used_only_if_it_names_the_current_folder() {
        let (_keep, root) = root();
        fs::create_dir_all(root.join("real/sub")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        let (real, link) = (root.join("real/sub"), root.join("link/sub"));
        assert_eq!(logical_dir(&real, Some(link.as_os_str())), link);
        for pwd in [Some(root.as_os_str()), Some("sub".as_ref()), None] {
            assert_eq!(logical_dir(&real, pwd), real, "{pwd:?}");
        }
    }

    proptest! {
        /// Compares with the simple rule: of all settings whose components are a prefix of the folder,
        /// the longest wins.
        #[test]
        fn the_longest_prefix_of_components_wins(
            cwd in path(),
            folders in prop::collection::btree_map((path(), any::<bool>()), "[a-c]{1,3}", 0..6),
        ) {
            let slashed = |((folder, slash), profile): (&(String, bool), &String)| {
                (format!("{folder}{}", if *slash { "/" } else { "" }), profile.clone())
            };
            let folders: BTreeMap<_, _> = folders.iter().map(slashed).collect();
            let components = |path: &str| -> Vec<String> {
                let parts = path.split('/').filter(|part| !part.is_empty());
                parts.map(str::to_owned).collect()
            };
            let here = components(&cwd);
            let matching = folders.keys().filter(|f| here.starts_with(&components(f)));
            let longest = matching.map(|f| components(f)).max_by_key(Vec::len);
            let settings = FolderSettings { folders: folders.clone(), ..FolderSettings::default() };
            let found = settings.find_profile(Path::new(&cwd), None);
            let folder = found.map(|(folder, profile)| {
                assert_eq!(&folders[folder], profile);
                components(folder)
            });
            prop_assert_eq!(folder, longest);
        }
    }

    /// The beginning of an absolute path.
    const ROOT: &str = if cfg!(windows) { "C:" } else { "" };

    /// A path that does not exist, with components of which one is a prefix of another.
    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("a|ab|b|\\.a", 0..5)
            .prop_map(|parts| format!("{ROOT}/nonexistent-root/{}", parts.join("/")))
    }
}
