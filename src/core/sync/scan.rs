//! Lists the files of one side that are synced, with size and mtime. Opens none of them.

use super::cloud_names::{self, CloudName};
use super::notice::{Notice, NoticeList};
use super::rollouts;
use super::scope::{self, Scope, ScopeMatch};
use super::sides::{Side, Stat, is_absent};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::temp_name::TEMP_PREFIX;
use crate::io::{IoContext, IoError, OrdinaryPath, atomic, progress, tree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Returns true if the file at `path` exists only as a placeholder, under its own name or under a client's.
pub fn is_placeholder(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(meta) => is_dataless(&meta),
        Err(_) => cloud_names::possible_placeholders(path).any(|path| path.exists()),
    }
}

/// Returns true if the file's content is not on this machine, so that opening the file would download it.
pub(super) fn is_dataless(meta: &Metadata) -> bool {
    #[cfg(target_os = "macos")]
    {
        use std::os::macos::fs::MetadataExt;
        const SF_DATALESS: u32 = 0x4000_0000;
        meta.st_flags() & SF_DATALESS != 0
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::MetadataExt;
        // Set for files that are offline, or that are downloaded when they are opened or read.
        const OFFLINE_OR_RECALL: u32 = 0x1000 | 0x4_0000 | 0x40_0000;
        meta.file_attributes() & OFFLINE_OR_RECALL != 0
    }
    #[cfg(not(any(target_os = "macos", windows)))]
    {
        let _ = meta;
        false
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedFile {
    /// Path relative to the root of the side, with `/`.
    pub path: String,
    pub stat: Stat,
    /// True for a [`ScopeMatch::Companion`], and for a conversation of an earlier day than the only one that is synced.
    pub companion: bool,
}

#[derive(Debug)]
pub(crate) struct UnfollowedLink {
    pub side: Side,
    pub path: String,
    /// The reason not to follow the link.
    pub why: &'static str,
    /// False for a link at a path that is not synced. Paths below it may still be synced, as when a folder was moved
    /// and replaced by a link.
    pub is_synced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct SideListing {
    /// Files under their own names.
    pub files: Vec<ListedFile>,
    /// Conflict files that a cloud client created, each with the path of the file that it is a copy of.
    pub client_copies: Vec<(String, ListedFile)>,
    /// Files that exist only as placeholders and are not downloaded, under their own names.
    pub placeholders: Vec<ListedFile>,
    /// Entries of the home that are not synced, and of the cloud folder that are ignored.
    pub notices: Vec<Notice>,
    /// Links that are not followed. Nothing is read or written at or below their paths, and the remote files of these
    /// paths are not deleted.
    pub links: Vec<UnfollowedLink>,
    /// Temp files of this program that a killed run left.
    pub temp_files: Vec<PathBuf>,
}

/// Returns the name, or the reason why no file of this name is synced.
fn check_name(name: &OsStr) -> Result<&str, &'static str> {
    let name = name.to_str().ok_or("its name is not valid UTF-8")?;
    if name.chars().any(char::is_control) {
        return Err("its name has control characters");
    }
    Ok(name)
}

const NOT_FOLLOWED: &str = "a link is not followed";

pub(crate) const FORBIDDEN: &str = "this user may not list the folder";

/// Lists one side. A missing root is an empty listing. A folder that cannot be read is an error, because its
/// files must not count as absent. A folder of the home that this user may not list is treated like a link that is not
/// followed.
pub(crate) fn scan(root: &Path, scope: &Scope, side: Side) -> Result<SideListing, IoError> {
    let mut walk = SideWalk {
        root,
        scope,
        side,
        listing: SideListing::default(),
        folders: Vec::new(),
    };

    for start in scope.walk_roots() {
        walk.start_at(start)?;
    }
    while let Some((folder, relative)) = walk.folders.pop() {
        walk.scan_folder(&folder, &relative)?;
    }

    // Cloud clients create copies and placeholders of a root beside it, where the walk does not look.
    if side == Side::Remote {
        walk.scan_beside_roots(&scope.walk_roots())?;
    }
    Ok(walk.listing)
}

struct SideWalk<'a> {
    root: &'a Path,
    scope: &'a Scope,
    side: Side,
    listing: SideListing,
    folders: Vec<(PathBuf, String)>,
}

impl SideWalk<'_> {
    fn add_notice(&mut self, path: &str, why: &str) {
        let notice = NoticeList::of_unsynced(self.side).notice(path, why);
        self.listing.notices.push(notice);
    }

    /// Starts the walk at `start` after checking every folder on the way to it for links.
    fn start_at(&mut self, start: &str) -> Result<(), IoError> {
        let mut path = self.root.to_path_buf();
        let slashes = start.match_indices('/').map(|(slash, _)| slash);
        // The ends of `a`, `a/b` and `a/b/c` in `a/b/c`. An empty `start` has none.
        let path_ends = slashes.chain([start.len()]).filter(|end| *end > 0);
        for end in path_ends {
            let relative = &start[..end];
            path = self.root.join(relative);
            match fs::symlink_metadata(&path) {
                Err(e) if is_absent(&e) => return Ok(()),
                Err(e) => return Err(e).at("inspect", &path),
                Ok(meta) if meta.is_symlink() && !self.follow_or_note_link(&path, relative)? => {
                    return Ok(());
                }
                Ok(_) => {}
            }
        }

        self.add_or_queue(path, start.to_owned())
    }

    /// Adds the file at `path`, or queues the folder. Follows a link, so the caller has called
    /// [`Self::follow_or_note_link`].
    fn add_or_queue(&mut self, path: PathBuf, relative: String) -> Result<(), IoError> {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => self.folders.push((path, relative)),
            Ok(meta) => self.add_file(relative, || path, &meta),
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e).at("inspect", &path),
        }
        Ok(())
    }

    /// Returns true if the walk follows this link. In the user's home, `sessions` may be on another disk and
    /// AGENTS.md may be a link into a settings repository. In the cloud folder, other machines can create
    /// links to anywhere, so none is followed. Records each link that is not followed.
    fn follow_or_note_link(&mut self, path: &Path, relative: &str) -> Result<bool, IoError> {
        let why = if self.side == Side::Remote || !self.scope.follows_link(relative) {
            NOT_FOLLOWED
        } else if let Some(why) = scope::reason_not_to_follow(atomic::parent_of(path), path) {
            why
        } else {
            match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => return Ok(true),
                Ok(meta) if meta.is_file() => {
                    // The replacement is written beside the target of the link, so temp files have to be
                    // searched there.
                    if let Ok(target) = path.canonical() {
                        let temp_files = atomic::find_unlocked_temps(atomic::parent_of(&target));
                        self.listing.temp_files.extend(temp_files);
                    }
                    return Ok(true);
                }
                Ok(_) => "a link to something that is neither a file nor a folder is not followed",
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(e).at("inspect", path);
                }
                Err(_) => "a broken link",
            }
        };

        let is_synced = true;
        self.add_link(relative.to_owned(), why, is_synced);
        Ok(false)
    }

    fn add_link(&mut self, path: String, why: &'static str, is_synced: bool) {
        self.listing.links.push(UnfollowedLink {
            side: self.side,
            path,
            why,
            is_synced,
        });
    }

    fn scan_folder(&mut self, folder: &Path, relative: &str) -> Result<(), IoError> {
        progress::check_interrupt().at("list", folder)?;
        let entries = match fs::read_dir(folder) {
            // A cloud client removed the folder after its parent was listed. If the root is gone too, that is
            // an error.
            Err(e) if is_absent(&e) && self.root.is_dir() => return Ok(()),
            // Its files must not count as deleted.
            Err(e) if self.is_forbidden(&e, relative) => {
                let is_synced = true;
                self.add_link(relative.to_owned(), FORBIDDEN, is_synced);
                return Ok(());
            }
            entries => entries.at("list", folder)?,
        };

        for entry in entries {
            let entry = entry.at("list", folder)?;
            let name = entry.file_name();
            match check_name(&name) {
                Ok(name) => {
                    let kind = entry.file_type().at("inspect", folder)?;
                    self.scan_entry(&entry, name, kind, rollouts::join(relative, name))?;
                }
                Err(why) => {
                    let shown_path = entry.path().to_string_lossy().escape_debug().to_string();
                    self.add_notice(&shown_path, why);
                }
            }
        }
        Ok(())
    }

    /// Returns true for the error of a folder in the home that this user may not list. The home itself and the cloud
    /// folder must be readable.
    fn is_forbidden(&self, error: &io::Error, relative: &str) -> bool {
        self.side == Side::Local
            && !relative.is_empty()
            && error.kind() == io::ErrorKind::PermissionDenied
    }

    /// Adds, queues or notes an entry of a folder. Skips sockets, pipes and devices.
    fn scan_entry(
        &mut self,
        entry: &fs::DirEntry,
        name: &str,
        kind: FileType,
        path: String,
    ) -> Result<(), IoError> {
        if kind.is_dir() {
            if cloud_names::is_scratch(name) {
                self.note_scratch_name(&path, &entry.path());
            } else if tree::is_too_deep(Path::new(&path)) {
                self.add_notice(&path, tree::TOO_DEEP);
            } else if self.scope.may_enter(&path) {
                self.folders.push((entry.path(), path));
            }
        } else if kind.is_symlink() {
            // `kind` is the type of the link itself, not of its target.
            let is_synced = self.scope.classify(&path) == ScopeMatch::Synced;
            if !is_synced || cloud_names::is_scratch(name) {
                let is_synced = false;
                self.add_link(path, NOT_FOLLOWED, is_synced);
            } else if self.follow_or_note_link(&entry.path(), &path)? {
                self.add_or_queue(entry.path(), path)?;
            }
        } else if kind.is_file() {
            self.add_entry(entry, path)?;
        }
        Ok(())
    }

    /// Finds entries that cloud clients create beside the roots: copies and placeholders of the roots, and
    /// temp files of this program.
    fn scan_beside_roots(&mut self, roots: &[&str]) -> Result<(), IoError> {
        let named_roots = roots.iter().filter(|root| !root.is_empty());
        let folders = named_roots.map(|root| rollouts::parent_folder(root));
        let folders: BTreeSet<&str> = folders.collect();

        for relative in folders {
            // A link on the way is not followed, so nothing beside that root is listed.
            let is_real_folder =
                |part: &Path| fs::symlink_metadata(self.root.join(part)).is_ok_and(|m| m.is_dir());
            let mut ancestors = Path::new(relative).ancestors();
            let are_all_real = ancestors.all(|p| p.as_os_str().is_empty() || is_real_folder(p));
            if !are_all_real {
                continue;
            }

            let folder = self.root.join(relative);
            let entries = match fs::read_dir(&folder) {
                Err(e) if is_absent(&e) => continue,
                entries => entries.at("list", &folder)?,
            };
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                let name = entry.file_name();
                let Ok(name) = check_name(&name) else {
                    continue;
                };

                let path = rollouts::join(relative, name);
                // The walk has listed the roots themselves.
                if !roots.contains(&&*path) {
                    self.scan_entry_beside(&entry, path, roots)?;
                }
            }
        }
        Ok(())
    }

    fn scan_entry_beside(
        &mut self,
        entry: &fs::DirEntry,
        path: String,
        roots: &[&str],
    ) -> Result<(), IoError> {
        let kind = entry.file_type().at("inspect", entry.path())?;
        let class = cloud_names::classify(&path);
        let is_temp = entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX);
        let is_client_entry = matches!(class, CloudName::ClientCopy(_) | CloudName::Placeholder(_));
        if kind.is_file() && (is_temp || is_client_entry) {
            return self.add_entry(entry, path);
        }

        // A client's copy belongs to a root if its path begins with that of the root without the extension.
        let begins_like = |root: &&str| {
            let stem = root.rsplit_once('.').map_or(*root, |(stem, _)| stem);
            !stem.is_empty() && path.starts_with(stem)
        };

        let guessed_original = cloud_names::guess_original(&path);
        let is_copy = (class == CloudName::OtherCopy && roots.iter().any(begins_like))
            || guessed_original.is_some_and(|original| roots.contains(&&*original));

        if is_copy && !kind.is_symlink() {
            self.add_notice(&path, cloud_names::LOOKS_LIKE_COPY);
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &fs::DirEntry, path: String) -> Result<(), IoError> {
        match entry.metadata() {
            Ok(meta) => self.add_file(path, || entry.path(), &meta),
            // The file was removed between the listing and `stat`.
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e).at("inspect", entry.path()),
        }
        Ok(())
    }

    fn add_file(&mut self, path: String, full_path: impl FnOnce() -> PathBuf, meta: &Metadata) {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if name.starts_with(TEMP_PREFIX) {
            self.listing.temp_files.push(full_path());
            return;
        }

        let class = cloud_names::classify(&path);
        if class == CloudName::Scratch {
            if self.side == Side::Local {
                self.note_scratch_name(&path, &full_path());
            }
            return;
        }

        // A client's copy and a placeholder are in the scope if their original is.
        let synced_path = match &class {
            CloudName::ClientCopy(synced_path) | CloudName::Placeholder(synced_path) => synced_path,
            _ => &path,
        };
        let scope_match = self.scope.classify(synced_path);
        if scope_match == ScopeMatch::Excluded {
            if let Some(why) = self.reason_to_report(synced_path) {
                self.add_notice(&path, why);
            }
            return;
        }

        let listed_file = ListedFile {
            stat: Stat::from_metadata(meta),
            companion: scope_match == ScopeMatch::Companion,
            path,
        };
        self.list_file(class, listed_file, is_dataless(meta));
    }

    /// Returns the reason to report for an excluded file; `None` if the file is not reported. Of the home, only files
    /// of the user are reported: most other files stay local, and their list would be too long to find those files in
    /// it. Of the cloud folder, all are reported.
    fn reason_to_report(&self, synced_path: &str) -> Option<&'static str> {
        if self.side == Side::Local {
            return match kind_of(Path::new(synced_path)) {
                HomeEntryKind::UserContent => scope::never_synced_reason(synced_path),
                _ => None,
            };
        }
        let why = self.scope.exclusion_reason(synced_path)?;
        let is_never_synced = scope::never_synced_reason(synced_path).is_some();
        Some(if is_never_synced {
            "it is never synced, and does not belong in this folder"
        } else {
            why
        })
    }

    /// Adds a file in the scope to the list for names of its class.
    fn list_file(&mut self, class: CloudName, mut file: ListedFile, is_dataless: bool) {
        let listing = &mut self.listing;
        match (class, self.side) {
            (CloudName::Plain, _) if is_dataless => listing.placeholders.push(file),
            (CloudName::Plain, _) => listing.files.push(file),
            (CloudName::ClientCopy(original), Side::Remote) if !is_dataless => {
                listing.client_copies.push((original, file));
            }
            (CloudName::Placeholder(path), Side::Remote) => {
                // Ignores the placeholder of a file that would be ignored itself, such as a scratch file.
                if cloud_names::classify(&path) == CloudName::Plain {
                    file.path = path;
                    listing.placeholders.push(file);
                }
            }
            (CloudName::Placeholder(_), Side::Local) => {
                let why = "its name is that of a placeholder for a file that is not downloaded";
                self.add_notice(&file.path, why);
            }
            _ => self.add_notice(&file.path, "a conflict copy that a cloud client made"),
        }
    }

    /// Reports a user's file that has the name of a scratch file, because the sync ignores such names. Files that
    /// operating systems and cloud clients put into any folder are not reported.
    fn note_scratch_name(&mut self, path: &str, full_path: &Path) {
        if self.side == Side::Local
            && self.scope.classify(path) == ScopeMatch::Synced
            && !cloud_names::is_junk(full_path)
        {
            let is_reserved = home::is_manager_name(full_path.file_name().unwrap_or_default());
            let why = if is_reserved {
                "its name is reserved for codex-manager"
            } else {
                "its name is that of a scratch file of a cloud client"
            };
            self.add_notice(path, why);
        }
    }
}
