//! The folder that a run syncs the home with, and that becomes the next snapshot. A conversation of the home is a hard
//! link if the home has its content, so that it takes no space; other files are copies.

use super::error::RemoteError;
use super::snapshot_manifest::copy_name;
use super::store::HOME;
use crate::codex::rollout;
use crate::io::{IoContext, IoError, atomic, file_id, file_open, links, sharing, tree};
use crate::sync::config::SyncConfig;
use crate::sync::file_group::state_key;
use crate::sync::file_kind::FileKind;
use crate::sync::manifest::ManifestEntry;
use crate::sync::sides::{Side, Stat, set_mtime};
use crate::sync::{contents, manager_folder};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Size and mtime of each file, by key and path.
pub(super) type StagedFiles = BTreeMap<String, BTreeMap<String, Stat>>;

/// A local file that may have the content of a file to place.
pub(super) struct Candidate<'a> {
    /// Path below the Codex home.
    pub(super) path: &'a str,
    /// Size and mtime with which the file certainly has the content.
    pub(super) trusted: Option<Stat>,
}

/// The staged tree: [`HOME`] and the manifest below `root`.
#[derive(Debug, Clone)]
pub(super) struct StagedTree {
    pub(super) root: PathBuf,
}

impl StagedTree {
    /// Creates the tree in the empty folder `root`.
    ///
    /// # Errors
    /// The Codex home is on another disk, so that every run would have to copy all conversations.
    pub(super) fn create(root: &Path, config: &SyncConfig) -> Result<Self, RemoteError> {
        let device = |path: &Path| file_id::read_device_and_inode(path).map(|(device, _)| device);
        let (own, home) = (device(root), device(&config.local));
        if own.is_some() && home.is_some() && own != home {
            return Err(RemoteError::OtherDisk(config.local.clone()));
        }
        let tree = Self {
            root: root.to_path_buf(),
        };
        atomic::create_unsynced_folder(&tree.home())?;
        Ok(tree)
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.join(HOME)
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.home().join(relative)
    }

    /// Creates the folder of a file, and returns the path of the file.
    pub(super) fn prepare(&self, relative: &str) -> Result<PathBuf, IoError> {
        let target = self.path(relative);
        let folder = atomic::parent_of(&target);
        if !folder.is_dir() {
            atomic::create_unsynced_below(&self.root, folder)?;
        }
        Ok(target)
    }

    /// Places a file from the first of the local `candidates` that has the content or begins with it. Returns the size
    /// and mtime of the placed file; `None` if no candidate has the content.
    pub(super) fn place_from_home(
        &self,
        config: &SyncConfig,
        to: &str,
        entry: &ManifestEntry,
        candidates: &[Candidate<'_>],
    ) -> Result<Option<Stat>, IoError> {
        for candidate in candidates {
            let from = config.file_path(Side::Local, candidate.path);
            let Some(stat) = Stat::read(&from)? else {
                continue;
            };
            let same_form = candidate.path.ends_with(rollout::ZST) == to.ends_with(rollout::ZST);
            if !same_form {
                continue;
            }
            let has_digest =
                || contents::read_raw_digest(&from).is_ok_and(|digest| digest == entry.digest);
            let has_content =
                stat.size == entry.size && (candidate.trusted == Some(stat) || has_digest());
            if has_content && self.place(&from, to, stat)? {
                return Ok(Some(stat));
            }
            if stat.size > entry.size && self.copy_beginning(&from, to, entry)? {
                return Ok(Some(entry.stat()));
            }
        }
        Ok(None)
    }

    /// Places a hard link to a conversation, because Codex only appends to it, or a copy of any other file, because an
    /// editor may overwrite it during the publication. Returns false, and places nothing, if the source of a copy no
    /// longer has the size and mtime `stat`.
    pub(super) fn place(&self, from: &Path, to: &str, stat: Stat) -> Result<bool, IoError> {
        if FileKind::from_key(&state_key(to)) == FileKind::Rollout {
            self.link(from, to)?;
            return Ok(true);
        }
        let target = self.prepare(to)?;
        links::copy_file(from, &target)?;
        let is_unchanged = Stat::read(from)? == Some(stat);
        if !is_unchanged {
            tree::remove(&target)?;
        }
        Ok(is_unchanged)
    }

    /// Places a hard link to a file, or a copy if the disk has no links.
    pub(super) fn link(&self, from: &Path, to: &str) -> Result<(), IoError> {
        links::link_or_copy(from, &self.prepare(to)?)
    }

    /// Copies the beginning of a file that has grown. Returns false if the beginning is not the content of `entry`.
    fn copy_beginning(
        &self,
        from: &Path,
        to: &str,
        entry: &ManifestEntry,
    ) -> Result<bool, IoError> {
        if !contents::raw_begins_with(from, entry.size, &entry.digest).unwrap_or_default() {
            return Ok(false);
        }
        let target = self.prepare(to)?;
        let source = file_open::open(from).at("open", from)?;
        let mut file = atomic::create_private(&target)?;
        let copied = io::copy(&mut source.take(entry.size), &mut file);
        copied.at("copy", from)?;
        set_mtime(&file, entry.mtime_ns).at("set the time of", &target)?;
        Ok(true)
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), IoError> {
        tree::remove(&self.path(relative))
    }

    /// Moves the hard links to conversations to `kept`, and removes all other files, because copies would take space
    /// until the next run.
    pub(super) fn keep(&self, kept: &Path) -> Result<(), IoError> {
        for (key, files) in self.list()? {
            let is_rollout = FileKind::from_key(&key) == FileKind::Rollout;
            for path in files.keys() {
                if !is_rollout || !file_id::has_second_link(&self.path(path)) {
                    self.remove(path)?;
                }
            }
        }
        tree::remove(kept)?;
        atomic::create_private_folder(atomic::parent_of(kept))?;
        sharing::rename(&self.home(), kept).at("move", self.home())
    }

    /// Moves the files that the last run kept in `kept` back into the tree, and lists them.
    pub(super) fn reuse_kept(&self, kept: &Path) -> Result<StagedFiles, IoError> {
        tree::remove(&self.home())?;
        match sharing::rename(kept, &self.home()) {
            // This is the first run, or a plan, which holds no lock, has moved the folder.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                atomic::create_unsynced_folder(&self.home())?;
                Ok(StagedFiles::new())
            }
            moved => {
                moved.at("move", kept)?;
                self.list()
            }
        }
    }

    /// Empties the folder of the manifests, which a snapshot does not need.
    pub(super) fn remove_manifests(&self) -> Result<(), IoError> {
        tree::remove(&manager_folder::manifests_folder(&self.home()))
    }

    /// Lists all files, without the manifests.
    pub(super) fn list(&self) -> Result<StagedFiles, IoError> {
        let mut found = StagedFiles::new();
        let mut folders = vec![(self.home(), String::new())];
        while let Some((folder, relative)) = folders.pop() {
            for (name, kind) in tree::list_if_exists(&folder)? {
                let name = name.to_string_lossy().into_owned();
                let below = match &*relative {
                    "" => name.clone(),
                    above => format!("{above}/{name}"),
                };
                if kind.is_dir() {
                    folders.push((folder.join(&name), below));
                } else if !below.starts_with(manager_folder::MANAGER_FOLDER)
                    || copy_name(&below).is_some()
                {
                    let path = folder.join(&name);
                    let meta = fs::symlink_metadata(&path).at("inspect", &path)?;
                    let files = found.entry(state_key(&below)).or_default();
                    files.insert(below, Stat::from_metadata(&meta));
                }
            }
        }
        Ok(found)
    }
}

/// Checks the content of the fetched file `from`, and moves it to `to`, whose folder exists. A file that is longer than
/// its `entry` is truncated first. The inner error describes how the file differs from its entry; then it is not moved.
pub(crate) fn place_fetched(
    from: &Path,
    to: &Path,
    name: &str,
    entry: &ManifestEntry,
) -> Result<Result<(), String>, IoError> {
    let Some(stat) = Stat::read(from)? else {
        return Ok(Err(format!("{name} is listed, but missing")));
    };
    let mut options = fs::OpenOptions::new();
    let file = sharing::open_to_write(options.read(true).write(true), from).at("open", from)?;
    if stat.size > entry.size {
        file.set_len(entry.size).at("cut", from)?;
    }
    if contents::read_raw_digest(from).at("read", from)? != entry.digest {
        let detail = format!("the content of {name} does not match its manifest");
        return Ok(Err(detail));
    }
    set_mtime(&file, entry.mtime_ns).at("set the time of", from)?;
    drop(file);
    sharing::rename(from, to).at("move", from)?;
    Ok(Ok(()))
}
