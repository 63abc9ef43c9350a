//! Opens the search index and brings it up to date. Warns of rollouts that cannot be indexed.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui::progress::ByteBar;
use crate::views::account::printable;
use codex_manager_core::codex::{ARCHIVED_SESSIONS, SESSIONS};
use codex_manager_core::conversations::index::{
    self, IndexError, IndexSource, IndexStore, RefreshReport, Thoroughness,
};
use codex_manager_core::history::SkippedFile;
use codex_manager_core::io::{FileLock, IoError, Progress, Silent, atomic, progress};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// An update that reads at least this many bytes shows a progress bar.
const MIN_BAR_BYTES: u64 = 20_000_000;

pub(crate) struct IndexAccess<'a> {
    context: &'a Context,
    pub path: PathBuf,
    database: Option<PathBuf>,
}

impl<'a> IndexAccess<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Self {
            context,
            path: index::index_path(context.manager_home(), context.codex_home()),
            database: context.state_database(),
        }
    }

    /// Returns true if the home has folders of rollouts but no database of Codex, so that the index is the only list.
    pub(crate) fn is_only_list(&self) -> bool {
        let home = &self.context.codex_home();
        // Codex up to 0.104 lists conversations by reading their folders.
        let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|name| home.join(name));
        self.database.is_none() && folders.iter().any(|folder| folder.is_dir())
    }

    /// Takes the lock that keeps two processes from updating the index at the same time.
    fn acquire_lock(&self) -> Result<FileLock, IoError> {
        atomic::create_private_folder(atomic::parent_of(&self.path))?;
        FileLock::acquire_unless_interrupted(&lock_path(&self.path))
    }

    fn source(&self) -> IndexSource<'_> {
        IndexSource {
            home: self.context.codex_home(),
            database: self.database.as_deref(),
            now: self.context.now(),
        }
    }

    /// Opens the index without an update; `None` if there is no index of this version.
    pub(crate) fn open_existing(&self) -> Result<Option<IndexStore>> {
        Ok(IndexStore::open_existing(&self.path)?)
    }

    /// Returns true if no index of this version can be opened, or if no update has read all rollouts yet.
    pub(crate) fn lacks_complete_update(&self) -> bool {
        match IndexStore::open_existing(&self.path) {
            Ok(Some(store)) => index::lacks_complete_update(&store).unwrap_or(true),
            _ => true,
        }
    }

    /// Opens the index and brings it up to date. A damaged index is created again. If the index cannot be written, for
    /// example on a full disk or while another process updates it, uses it without an update and returns the error in
    /// [`RefreshReport::problem`]. If there is none, uses a temporary one and warns.
    ///
    /// # Errors
    /// The index can be neither updated nor opened as it is, and no other one created, or the user interrupts.
    pub(crate) fn open_updated(
        &self,
        thoroughness: Thoroughness,
    ) -> Result<(IndexStore, RefreshReport)> {
        match self.open_and_update(thoroughness) {
            Ok(updated) => Ok(updated),
            // If the user interrupts a query, SQLite reports an error of its own.
            Err(e) if progress::is_interrupted() || matches!(e, IndexError::Interrupted) => {
                Err(CommandError::interrupted())
            }
            Err(e) => match IndexStore::open_existing(&self.path) {
                Ok(Some(store)) => {
                    let report = RefreshReport {
                        problem: Some(e),
                        ..RefreshReport::default()
                    };
                    Ok((store, report))
                }
                _ => self.open_temporary(e, thoroughness),
            },
        }
    }

    /// Creates an index that is removed at the end, because of `problem`.
    fn open_temporary(
        &self,
        problem: IndexError,
        thoroughness: Thoroughness,
    ) -> Result<(IndexStore, RefreshReport)> {
        let bar = LateBar::new("indexing", self.context);
        let created = IndexStore::create_temporary().and_then(|mut store| {
            let report = index::refresh(&mut store, self.source(), thoroughness, &bar)?;
            Ok((store, report))
        });
        let problem = CommandError::from(problem);
        if created.is_ok() {
            let reason = problem.to_one_line();
            self.context
                .warn(format_args!("used a temporary search index: {reason}"));
        }
        created.map_err(|_| problem)
    }

    /// Opens and updates the index under the lock. Creates a damaged index again. Fails if another process keeps the
    /// lock: a search can use the index as it is.
    fn open_and_update(
        &self,
        thoroughness: Thoroughness,
    ) -> Result<(IndexStore, RefreshReport), IndexError> {
        atomic::create_private_folder(atomic::parent_of(&self.path))?;
        let _lock = FileLock::acquire_soon(&lock_path(&self.path))?;
        let bar = LateBar::new("indexing", self.context);
        let outcome = IndexStore::open(&self.path).and_then(|mut store| {
            let report = index::refresh(&mut store, self.source(), thoroughness, &bar)?;
            Ok((store, report))
        });
        match outcome {
            Err(e) if e.is_cured_by_rebuild() => index::rebuild(&self.path, self.source(), &bar),
            outcome => outcome,
        }
    }

    /// Opens the index and brings it up to date, without a message. While another process updates the index, opens it
    /// without an update. `None` if the index is damaged, or is missing and cannot be created.
    pub(crate) fn open_updated_quietly(&self) -> Option<IndexStore> {
        atomic::create_private_folder(atomic::parent_of(&self.path)).ok()?;
        let Ok(Some(_lock)) = FileLock::try_acquire(&lock_path(&self.path)) else {
            return self.open_existing().ok().flatten();
        };
        let mut store = IndexStore::open(&self.path).ok()?;
        // If the update fails, the existing index is searched.
        let _ = index::refresh(&mut store, self.source(), Thoroughness::Changes, &Silent);
        Some(store)
    }

    /// Creates the index again.
    ///
    /// # Errors
    /// The index cannot be written, or the user interrupts.
    pub(crate) fn rebuild(&self) -> Result<(IndexStore, RefreshReport)> {
        let _lock = self.acquire_lock()?;
        let bar = LateBar::new("indexing", self.context);
        Ok(index::rebuild(&self.path, self.source(), &bar)?)
    }

    /// Deletes the index. Returns the number of freed bytes.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub(crate) fn remove(&self) -> Result<u64> {
        if !atomic::parent_of(&self.path).exists() {
            return Ok(0);
        }
        let _lock = self.acquire_lock()?;
        Ok(index::remove_index(&self.path)?)
    }
}

fn lock_path(index: &Path) -> PathBuf {
    index.with_extension("lock")
}

/// A progress bar that appears only if at least [`MIN_BAR_BYTES`] are read.
pub(crate) struct LateBar<'a> {
    label: &'static str,
    context: &'a Context,
    expected_bytes: AtomicU64,
    bar: OnceLock<ByteBar>,
}

impl<'a> LateBar<'a> {
    pub(crate) fn new(label: &'static str, context: &'a Context) -> Self {
        Self {
            label,
            context,
            expected_bytes: AtomicU64::new(0),
            bar: OnceLock::new(),
        }
    }
}

impl Progress for LateBar<'_> {
    fn expect_bytes(&self, bytes: u64) {
        let total = self.expected_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = self.bar.get() {
            bar.expect_bytes(bytes);
        } else if total >= MIN_BAR_BYTES {
            self.bar
                .get_or_init(|| self.context.ui.bar(self.label, total));
        }
    }

    fn add_bytes(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.add_bytes(bytes);
        }
    }
}

/// Warns that the index was used without an update if there was a `problem`.
pub(crate) fn warn_of_stale_index(problem: Option<IndexError>, context: &Context) {
    if let Some(problem) = problem {
        let problem = CommandError::from(problem).to_one_line();
        context.warn(format_args!(
            "the search index is not up to date: {problem}"
        ));
    }
}

pub(crate) fn warn_of_skipped_files(skipped: &[SkippedFile], context: &Context) {
    for file in skipped {
        context.warn(format_args!(
            "skipped: {}: {}",
            printable(&file.reason),
            printable(&file.path.to_string_lossy())
        ));
    }
}
