//! Finds the account of a folder: from the settings `folders.PATH`, or from a `.codex-account` file in
//! a folder that the user trusts.
//!
//! Folders are compared by path components, both as given and with symbolic links resolved. Reads no
//! file except `.codex-account`, and writes nothing.

use crate::accounts::profile_ops::name_problem;
use crate::io::{IoContext, IoError, OrdinaryPath, atomic, file_open, shell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// The file that names the profile of the folder it is in.
pub(crate) const FILE_NAME: &str = ".codex-account";

/// The largest `.codex-account` file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// The settings that decide the account of a folder. Keys are folders as the user typed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FolderAccounts {
    /// `folders.PATH`: the profile for a folder and all below it.
    pub folders: BTreeMap<String, String>,
    /// `trusted.PATH`: whether `.codex-account` files in a folder and below it are used.
    pub trusted: BTreeMap<String, bool>,
    /// `shared_logins.PATH`: whether logins may be stored in a home on a disk that keeps no file modes.
    pub shared_logins: BTreeMap<String, bool>,
}

impl FolderAccounts {
    /// Returns true if the user allows logins in `home`, which others can read.
    pub(crate) fn allows_logins_in(&self, home: &Path, home_dir: Option<&Path>) -> bool {
        let settings = resolve_folders(&self.shared_logins, home_dir);
        let ancestor_chains = ancestor_chains(home);
        let found = ancestor_chains
            .iter()
            .filter_map(|chain| find_nearest(chain, &settings));
        let found = found.min_by_key(|(steps, _)| *steps);
        found.is_some_and(|(_, found)| *found.value)
    }
}

/// The account of a folder, and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderAccount {
    /// The name of the profile. It is a valid name, but the profile may not exist.
    pub profile: String,
    /// The setting or file with the name.
    pub source: AccountSource,
}

/// The origin of a [`FolderAccount`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccountSource {
    /// The setting `folders.PATH`, with the path as the user typed it.
    Setting(String),
    /// A `.codex-account` file in a trusted folder.
    File(PathBuf),
}

/// The answer of [`find_account`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FolderChoice {
    /// The account of the folder, if it has one.
    pub account: Option<FolderAccount>,
    /// The `.codex-account` file that would have decided if its folder were trusted.
    pub ignored: Option<PathBuf>,
}

impl FolderChoice {
    /// One line for the user about the ignored file, with the command that trusts its folder.
    pub(crate) fn hint(&self) -> Option<String> {
        let folder = self.ignored.as_deref()?.parent()?;
        // A path that is not Unicode cannot be a setting, and control characters must not reach the
        // terminal.
        let is_plain = |folder: &&str| !folder.contains(char::is_control);
        let Some(folder) = folder.to_str().filter(is_plain) else {
            return Some(format!("ignored {FILE_NAME}: its folder is not trusted"));
        };
        let setting = shell::quote_if_needed(&format!("trusted.{folder}"));
        Some(format!(
            "ignored {FILE_NAME}: {folder} is not trusted; to use the file: \
             codex-manager config set {setting} true"
        ))
    }
}

/// A `.codex-account` file in a trusted folder that names no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountFileError {
    /// The file cannot be read, is larger than 4 KiB, or is not UTF-8.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The first line that is not blank is not the name of a profile.
    #[error("no profile name in the first line ({reason}): {}", path.display())]
    BadName {
        path: PathBuf,
        /// The defect of the line.
        reason: &'static str,
    },
}

/// Returns true for an absolute path and for one that begins with `~`.
pub(crate) fn is_absolute(folder: &str) -> bool {
    Path::new(folder).is_absolute() || Path::new(folder).starts_with("~")
}

/// Replaces a leading `~` of `folder`; `None` if it is relative, or the home folder is unknown.
pub(crate) fn expand_home(folder: &str, home_dir: Option<&Path>) -> Option<PathBuf> {
    let folder = Path::new(folder);
    match folder.strip_prefix("~") {
        Ok(rest) => Some(home_dir?.join(rest)),
        Err(_) => folder.is_absolute().then(|| folder.to_path_buf()),
    }
}

/// Returns the current folder as the shell names it (`PWD`), if that is the same folder as
/// `current_dir`. The kernel only knows the path without symbolic links.
pub(crate) fn logical_dir(current_dir: &Path, pwd: Option<&OsStr>) -> PathBuf {
    let is_same = |pwd: &&Path| {
        let real = pwd.canonical().ok();
        pwd.is_absolute() && real.is_some() && real == current_dir.canonical().ok()
    };
    let pwd = pwd.map(Path::new).filter(is_same);
    pwd.unwrap_or(current_dir).to_path_buf()
}

/// Returns the account of the folder `cwd`, which is absolute.
///
/// The setting of the nearest folder counts, unless a `.codex-account` file in a trusted folder is
/// nearer. Files in untrusted folders are not read.
///
/// # Errors
/// The deciding file names no profile. The caller must not continue with another account.
pub(crate) fn find_account(
    cwd: &Path,
    home_dir: Option<&Path>,
    accounts: &FolderAccounts,
) -> Result<FolderChoice, AccountFileError> {
    let settings = resolve_folders(&accounts.folders, home_dir);
    let mut trusted = resolve_folders(&accounts.trusted, home_dir);
    // If two spellings of one folder disagree, it is not trusted: `false` sorts first.
    trusted.sort_by_key(|entry| *entry.value);
    let ancestor_chains = ancestor_chains(cwd);
    let by_chain = ancestor_chains
        .iter()
        .map(|chain| find_nearest(chain, &settings));
    let setting = by_chain.flatten().min_by_key(|(steps, _)| *steps);
    // A file in the folder of the setting is not nearer than the setting.
    let limit = setting.map_or(usize::MAX, |(steps, _)| steps);
    let mut files: Vec<_> = ancestor_chains
        .iter()
        .flat_map(|chain| chain.iter().enumerate().take(limit))
        .map(|(steps, folder)| (steps, folder.join(FILE_NAME)))
        .filter(|(_, file)| file.is_file())
        .collect();
    files.sort_by_key(|(steps, _)| *steps);
    let mut ignored = None;
    for (_, file) in files {
        if is_trusted(&file, &trusted) {
            let profile = read_profile(&file)?;
            let source = AccountSource::File(file);
            let account = Some(FolderAccount { profile, source });
            return Ok(FolderChoice { account, ignored });
        }
        ignored.get_or_insert(file);
    }
    let account = setting.map(|(_, found)| FolderAccount {
        profile: found.value.clone(),
        source: AccountSource::Setting(found.folder.to_owned()),
    });
    Ok(FolderChoice { account, ignored })
}

/// Returns `cwd` and the folders above it, nearest first: once as given, unless it contains `..`, and once with symbolic
/// links resolved, if that differs. Empty for a relative path.
fn ancestor_chains(cwd: &Path) -> Vec<Vec<PathBuf>> {
    let above = |path: &Path| path.ancestors().map(Path::to_path_buf).collect::<Vec<_>>();
    let has_parent_dir = cwd.components().any(|part| part == Component::ParentDir);
    if !cwd.is_absolute() {
        return Vec::new();
    }
    let mut ancestor_chains = Vec::new();
    // `Path::ancestors` would take `a` for the parent of `a/..`.
    if !has_parent_dir {
        ancestor_chains.push(above(cwd));
    }
    if let Ok(real) = cwd.canonical()
        && real != cwd
    {
        ancestor_chains.push(above(&real));
    }
    ancestor_chains
}

/// A setting with one value per folder.
struct FolderSetting<'a, T> {
    /// The folder as the user typed it.
    folder: &'a str,
    /// The folder as an absolute path, and with symbolic links resolved if it exists.
    paths: Vec<PathBuf>,
    value: &'a T,
}

fn resolve_folders<'a, T>(
    settings: &'a BTreeMap<String, T>,
    home_dir: Option<&Path>,
) -> Vec<FolderSetting<'a, T>> {
    let entry = |(folder, value): (&'a String, &'a T)| {
        let path = expand_home(folder, home_dir)?;
        let real = path.canonical().ok();
        let paths = [Some(path), real].into_iter().flatten().collect();
        Some(FolderSetting {
            folder,
            paths,
            value,
        })
    };
    settings.iter().filter_map(entry).collect()
}

/// Finds the entry for the first folder of `chain` that has one, with the number of folders before it.
fn find_nearest<'e, 'a, T>(
    chain: &[PathBuf],
    entries: &'e [FolderSetting<'a, T>],
) -> Option<(usize, &'e FolderSetting<'a, T>)> {
    chain.iter().enumerate().find_map(|(steps, folder)| {
        let entry = entries.iter().find(|entry| entry.paths.contains(folder))?;
        Some((steps, entry))
    })
}

/// Returns true if the user trusts the folder of `file`. Only the path without symbolic links counts,
/// because a link in a trusted folder may lead anywhere.
fn is_trusted(file: &Path, trusted: &[FolderSetting<'_, bool>]) -> bool {
    let Ok(folder) = atomic::parent_of(file).canonical() else {
        return false;
    };
    let chain: Vec<_> = folder.ancestors().map(Path::to_path_buf).collect();
    find_nearest(&chain, trusted).is_some_and(|(_, found)| *found.value)
}

/// Reads the profile name in `file`: its first line that is not blank.
fn read_profile(file: &Path) -> Result<String, AccountFileError> {
    let text = file_open::read_small_to_string(file, MAX_FILE_BYTES).at("read", file)?;
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().map(str::trim);
    let name = lines.find(|line| !line.is_empty()).unwrap_or_default();
    match name_problem(name) {
        None => Ok(name.to_owned()),
        Some(reason) => Err(AccountFileError::BadName {
            path: file.to_path_buf(),
            reason,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    #[cfg(unix)]
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A folder for one test, without symbolic links in its path.
    fn root() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonical().unwrap();
        (folder, path)
    }

    fn write(path: &Path, text: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn accounts(folders: &[(&str, &str)], trusted: &[(&str, bool)]) -> FolderAccounts {
        let own = |(folder, profile): &(&str, &str)| ((*folder).into(), (*profile).into());
        FolderAccounts {
            folders: folders.iter().map(own).collect(),
            trusted: trusted.iter().map(|(f, t)| ((*f).into(), *t)).collect(),
            ..FolderAccounts::default()
        }
    }

    /// Returns profile and source. Folders in the settings are relative to `root`, `~` is `root/home`.
    fn found(root: &Path, cwd: &str, accounts: &FolderAccounts) -> (String, String) {
        let under = |path: &str| match path {
            "~" => root.join("home"),
            _ => root.join(path.trim_start_matches('/')),
        };
        let rooted = |folder: &String| match folder.strip_prefix('/') {
            Some(_) => under(folder).to_str().unwrap().to_owned(),
            None => folder.clone(),
        };
        let accounts = FolderAccounts {
            folders: accounts
                .folders
                .iter()
                .map(|(f, p)| (rooted(f), p.clone()))
                .collect(),
            trusted: accounts
                .trusted
                .iter()
                .map(|(f, t)| (rooted(f), *t))
                .collect(),
            ..FolderAccounts::default()
        };
        let choice = find_account(&under(cwd), Some(&under("~")), &accounts).unwrap();
        let relative = |path: &Path| {
            let path = path.strip_prefix(root).unwrap().display().to_string();
            path.replace('\\', "/")
        };
        let account = choice.account.map_or_else(
            || "none".to_owned(),
            |account| match account.source {
                AccountSource::Setting(_) => account.profile,
                AccountSource::File(file) => {
                    format!("{} by {}", account.profile, relative(&file))
                }
            },
        );
        let ignored = choice.ignored.as_deref().map(relative);
        (account, ignored.unwrap_or_default())
    }

    #[test]
    fn the_nearest_folder_above_decides_by_components() {
        let (_keep, root) = root();
        let settings = accounts(
            &[
                ("~", "private"),
                ("~/code/", "work"),
                ("/srv/a.b", "client"),
            ],
            &[],
        );
        for (cwd, profile) in [
            ("~", "private"),
            ("home/code", "work"),
            ("home/code/deep/er", "work"),
            ("home/workshop", "private"),
            ("srv/a.b/x", "client"),
            ("srv/a", "none"),
            ("srv", "none"),
        ] {
            let expected = (profile.to_owned(), String::new());
            assert_eq!(found(&root, cwd, &settings), expected, "{cwd}");
        }
        let unknown_home = find_account(&root, None, &settings).unwrap();
        assert_eq!(unknown_home, FolderChoice::default());
    }

    #[test]
    fn a_file_counts_only_in_a_trusted_folder() {
        let (_keep, root) = root();
        write(
            &root.join("home/code/.codex-account"),
            "\n  client-a \nmore\n",
        );
        fs::create_dir_all(root.join("home/code/deep")).unwrap();
        let file = "home/code/.codex-account";
        let by_file = format!("client-a by {file}");
        for (trusted, expected, ignored) in [
            (&[][..], "none", file),
            (&[("~/code", true)], &by_file, ""),
            (&[("/", true)], &by_file, ""),
            (&[("~/code/deep", true)], "none", file),
            (&[("~/wor", true)], "none", file),
            (&[("~/code", false)], "none", file),
            (&[("~", true), ("~/code", false)], "none", file),
            (&[("~", false), ("~/code", true)], &by_file, ""),
            // Two spellings of one folder that disagree.
            (&[("/home/code", true), ("~/code", false)], "none", file),
            (&[("/home/code", false), ("~/code", true)], "none", file),
        ] {
            let settings = accounts(&[], trusted);
            let expected = (expected.to_owned(), ignored.to_owned());
            assert_eq!(
                found(&root, "home/code/deep", &settings),
                expected,
                "{trusted:?}"
            );
            assert_eq!(found(&root, "home", &settings).0, "none");
        }
    }

    #[test]
    fn the_nearer_of_file_and_setting_wins_and_the_setting_in_the_same_folder() {
        let (_keep, root) = root();
        write(&root.join("a/.codex-account"), "outer");
        write(&root.join("a/b/c/.codex-account"), "inner");
        let trusted = &[("/", true)];
        for (folder, expected) in [
            ("/a/b/c/d", "set"),
            ("/a/b/c", "set"),
            ("/a/b", "inner by a/b/c/.codex-account"),
            ("/", "inner by a/b/c/.codex-account"),
        ] {
            let settings = accounts(&[(folder, "set")], trusted);
            assert_eq!(found(&root, "a/b/c/d", &settings).0, expected, "{folder}");
        }
        // An untrusted file is reported, and the next answer above it counts.
        let settings = accounts(&[], &[("/a", true), ("/a/b", false)]);
        let expected = (
            "outer by a/.codex-account".into(),
            "a/b/c/.codex-account".into(),
        );
        assert_eq!(found(&root, "a/b/c", &settings), expected);
        let settings = accounts(&[("/a/b", "set")], &[]);
        let expected = ("set".into(), "a/b/c/.codex-account".into());
        assert_eq!(found(&root, "a/b/c", &settings), expected);
        // It would not have decided: nothing to report.
        let settings = accounts(&[("/a/b/c", "set")], &[]);
        assert_eq!(
            found(&root, "a/b/c", &settings),
            ("set".into(), String::new())
        );
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
            let settings = accounts(&[(folder, "work")], &[]);
            assert_eq!(found(&root, cwd, &settings).0, expected, "{folder} {cwd}");
        }
        // The link is in a trusted folder, its target is not.
        write(&root.join("disk/project/.codex-account"), "other");
        let settings = accounts(&[], &[("~/clients", true)]);
        let ignored = "home/clients/acme/.codex-account".to_owned();
        assert_eq!(found(&root, given, &settings), ("none".into(), ignored));
        let settings = accounts(&[], &[("~/clients/acme", true)]);
        let by_file = "other by home/clients/acme/.codex-account";
        assert_eq!(found(&root, given, &settings).0, by_file);
    }

    #[cfg(unix)]
    #[test]
    fn a_trusted_file_without_a_profile_name_is_an_error() {
        let (_keep, root) = root();
        let file = root.join(FILE_NAME);
        let trusted = accounts(&[("/", "work")], &[("/", true)]);
        let choice = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            find_account(&root, None, &trusted).map(|choice| choice.account.unwrap().profile)
        };
        assert_eq!(
            choice("\u{feff}client-a\r\n".as_bytes()).unwrap(),
            "client-a"
        );
        let long = vec![b'a'; 5000];
        for text in [
            b"".as_slice(),
            b"\n \n",
            b"../client",
            b"client a",
            b"cli\x1b[31ment",
            b"\xff\xfec\0l\0",
            &long,
        ] {
            let error = choice(text).unwrap_err().to_string();
            assert!(error.ends_with(".codex-account"), "{error}");
            assert!(!error.contains('\x1b'), "{error}");
        }
        // A path that is no regular file is ignored and not opened.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let choice = find_account(&root, None, &trusted).unwrap();
        assert_eq!(
            (choice.account.unwrap().profile.as_str(), choice.ignored),
            ("work", None)
        );
    }

    #[test]
    fn the_hint_contains_a_valid_shell_command() {
        let hint = |folder: &str| {
            let ignored = Some(Path::new(folder).join(FILE_NAME));
            let choice = FolderChoice {
                account: None,
                ignored,
            };
            choice.hint().unwrap()
        };
        assert_eq!(
            hint("/srv/it's"),
            r"ignored .codex-account: /srv/it's is not trusted; to use the file: codex-manager config set 'trusted./srv/it'\''s' true"
        );
        assert!(!hint("/srv/\x1b[2J").contains(['\x1b', '/']));
        assert_eq!(FolderChoice::default().hint(), None);
    }

    #[cfg(unix)]
    #[test]
    fn pwd_counts_if_it_is_the_current_folder() {
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
            let settings = FolderAccounts { folders: folders.clone(), ..FolderAccounts::default() };
            let choice = find_account(Path::new(&cwd), None, &settings).unwrap();
            let folder = choice.account.map(|account| match account.source {
                AccountSource::Setting(folder) => {
                    assert_eq!(folders[&folder], account.profile);
                    components(&folder)
                }
                AccountSource::File(file) => panic!("{}", file.display()),
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
