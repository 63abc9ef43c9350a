//! The folder that a run syncs the home with, and that becomes the next snapshot. A conversation in it is a hard link
//! to the file of the home if that has the same content, so that it takes no space; other files are copies.

use super::error::RemoteError;
use super::snapshot_manifest::is_allowed_path;
use super::store::HOME;
use crate::codex::rollout::open_plain;
use crate::io::{IoContext, IoError, atomic, file_id, file_open, links, sharing, tree};
use crate::sync::config::SyncConfig;
use crate::sync::file_group::state_key;
use crate::sync::file_kind::FileKind;
use crate::sync::manifest::ManifestEntry;
use crate::sync::sides::{Stat, set_mtime};
use crate::sync::{contents, manager_folder, rollouts};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Size and mtime of each file, by key and path.
pub(super) type StagedFiles = BTreeMap<String, BTreeMap<String, Stat>>;

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
        let (tree_device, home_device) = (device(root), device(&config.local));
        if tree_device.is_some() && home_device.is_some() && tree_device != home_device {
            return Err(RemoteError::OtherDisk(config.local.clone()));
        }

        let root = root.to_path_buf();
        let tree = Self { root };
        atomic::create_unsynced_folder(&tree.home_path())?;
        Ok(tree)
    }

    pub(super) fn home_path(&self) -> PathBuf {
        self.root.join(HOME)
    }

    pub(super) fn path_of(&self, relative: &str) -> PathBuf {
        self.home_path().join(relative)
    }

    /// Creates the folder of a file, and returns the path of the file.
    pub(super) fn prepare_target(&self, relative: &str) -> Result<PathBuf, IoError> {
        let target = self.path_of(relative);
        let folder = atomic::parent_of(&target);
        if !folder.is_dir() {
            atomic::create_unsynced_below(&self.root, folder)?;
        }
        Ok(target)
    }

    /// Places the content of `entry` from the local file `source`, if `source` has or begins with this content. A
    /// `source` with the size and mtime `trusted` has the content, so its digest is not read. Returns the size and
    /// mtime of the placed file; `None` if `source` does not have the content or cannot be read.
    pub(super) fn place_from_home(
        &self,
        source: &Path,
        trusted: Option<Stat>,
        to: &str,
        entry: &ManifestEntry,
    ) -> Result<Option<Stat>, IoError> {
        let Some(stat) = Stat::read(source)? else {
            return Ok(None);
        };
        let has_listed_digest =
            || contents::read_raw_digest(source).is_ok_and(|digest| digest == entry.digest);
        let has_content = stat.size == entry.size && (trusted == Some(stat) || has_listed_digest());

        if has_content && self.place(source, to, stat)? {
            return Ok(Some(stat));
        }
        // The file may have grown, so its beginning may be the content of `entry`.
        if stat.size > entry.size && self.copy_beginning(source, to, entry)? {
            return Ok(Some(entry.stat()));
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
        let target = self.prepare_target(to)?;
        links::copy_file(from, &target)?;
        let is_unchanged = Stat::read(from)? == Some(stat);
        if !is_unchanged {
            tree::remove(&target)?;
        }
        Ok(is_unchanged)
    }

    /// Places a hard link to a file, or a copy if the file system has no hard links.
    pub(super) fn link(&self, from: &Path, to: &str) -> Result<(), IoError> {
        links::link_or_copy(from, &self.prepare_target(to)?)
    }

    /// Copies the beginning of a file that has grown. Returns false if the beginning is not the content of `entry` or
    /// cannot be read.
    fn copy_beginning(
        &self,
        from: &Path,
        to: &str,
        entry: &ManifestEntry,
    ) -> Result<bool, IoError> {
        if !contents::raw_begins_with(from, entry.size, &entry.digest).unwrap_or_default() {
            return Ok(false);
        }
        let target = self.prepare_target(to)?;
        let source = file_open::open(from).at("open", from)?;
        let mut file = atomic::create_private(&target)?;
        let copied = io::copy(&mut source.take(entry.size), &mut file);
        copied.at("copy", from)?;
        set_mtime(&file, entry.mtime_ns).at("set the time of", &target)?;
        Ok(true)
    }

    /// Places the text of the compressed rollout `source`; `None` if the text is not the content of `entry` or cannot
    /// be read. The file takes space until the end of the run, but the repository has to send nothing.
    pub(super) fn place_expanded(
        &self,
        source: &Path,
        to: &str,
        entry: &ManifestEntry,
    ) -> Result<Option<Stat>, IoError> {
        let Ok(text) = open_plain(source) else {
            return Ok(None);
        };
        let target = self.prepare_target(to)?;
        let mut file = atomic::create_private(&target)?;
        // Copies one byte more than listed, so that a longer text gets another digest.
        let is_copied = io::copy(&mut text.take(entry.size + 1), &mut file).is_ok();
        let has_content = is_copied
            && contents::read_raw_digest(&target).is_ok_and(|digest| digest == entry.digest);
        if !has_content {
            tree::remove(&target)?;
            return Ok(None);
        }
        set_mtime(&file, entry.mtime_ns).at("set the time of", &target)?;
        Ok(Some(entry.stat()))
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), IoError> {
        tree::remove(&self.path_of(relative))
    }

    /// Keeps the hard links to conversations in `kept_folder` for the next run. Removes all other files, because copies
    /// would take space until then.
    pub(super) fn move_links_to(&self, kept_folder: &Path) -> Result<(), IoError> {
        for (key, files) in self.list_files()? {
            let is_rollout = FileKind::from_key(&key) == FileKind::Rollout;
            for path in files.keys() {
                if !is_rollout || !file_id::has_second_link(&self.path_of(path)) {
                    self.remove(path)?;
                }
            }
        }
        tree::remove(kept_folder)?;
        atomic::create_private_folder(atomic::parent_of(kept_folder))?;
        sharing::rename(&self.home_path(), kept_folder).at("move", self.home_path())
    }

    /// Moves the files that the last run kept in `kept_folder` back into the tree, and lists them.
    pub(super) fn reuse_kept(&self, kept_folder: &Path) -> Result<StagedFiles, IoError> {
        tree::remove(&self.home_path())?;
        match sharing::rename(kept_folder, &self.home_path()) {
            Ok(()) => self.list_files(),
            // This is the first run, or a plan, which holds no lock, has moved the folder.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                atomic::create_unsynced_folder(&self.home_path())?;
                Ok(StagedFiles::new())
            }
            Err(e) => Err(e).at("move", kept_folder),
        }
    }

    /// Removes the folder of the manifests, which a snapshot does not need.
    pub(super) fn remove_manifests(&self) -> Result<(), IoError> {
        tree::remove(&manager_folder::manifests_folder(&self.home_path()))
    }

    /// Lists all files, without the manifests.
    pub(super) fn list_files(&self) -> Result<StagedFiles, IoError> {
        let mut staged_files = StagedFiles::new();
        let mut folders = vec![(self.home_path(), String::new())];
        while let Some((folder, relative_folder)) = folders.pop() {
            for (name, kind) in tree::list_if_exists(&folder)? {
                let name = name.to_string_lossy().into_owned();
                let relative_path = rollouts::join(&relative_folder, &name);

                if kind.is_dir() {
                    folders.push((folder.join(&name), relative_path));
                } else if is_allowed_path(&relative_path) {
                    let path = folder.join(&name);
                    let meta = fs::symlink_metadata(&path).at("inspect", &path)?;
                    let files = staged_files.entry(state_key(&relative_path)).or_default();
                    files.insert(relative_path, Stat::from_metadata(&meta));
                }
            }
        }
        Ok(staged_files)
    }
}

/// Checks the content of the fetched file `from`, and moves it to `to`, whose folder exists. A file that is longer than
/// its `entry` is truncated first. The inner error describes how the file differs from its entry; then it is not moved.
pub(crate) fn place_fetched(
    from: &Path,
    to: &Path,
    shown_path: &str,
    entry: &ManifestEntry,
) -> Result<Result<(), String>, IoError> {
    let Some(stat) = Stat::read(from)? else {
        return Ok(Err(format!("{shown_path} is listed, but missing")));
    };

    let mut options = fs::OpenOptions::new();
    let file = sharing::open_to_write(options.read(true).write(true), from).at("open", from)?;
    if stat.size > entry.size {
        file.set_len(entry.size).at("cut", from)?;
    }

    if contents::read_raw_digest(from).at("read", from)? != entry.digest {
        let detail = format!("the content of {shown_path} does not match its manifest");
        return Ok(Err(detail));
    }

    set_mtime(&file, entry.mtime_ns).at("set the time of", from)?;
    drop(file);
    sharing::rename(from, to).at("move", from)?;
    Ok(Ok(()))
}
