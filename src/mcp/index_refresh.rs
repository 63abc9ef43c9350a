//! Keeps the search index up to date, in a thread of its own, so that no call waits long for it.

use crate::choices::index_access::IndexAccess;
use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::conversations::index::{IndexError, IndexStore, Thoroughness};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// The least time between two walks over all rollouts.
const WALK_INTERVAL: Duration = Duration::from_secs(60);

/// The maximum time that a call waits for an update. After that, the answer uses the index as it is.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Work on the index. The variants are in ascending order: each includes the work of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IndexWork {
    /// Reads the conversations that changed according to Codex.
    UpdateListed,
    /// Looks at all rollouts, also those of conversations that Codex does not list.
    UpdateAll,
    /// Creates the index again.
    Rebuild,
}

#[derive(Default)]
struct RefreshState {
    wanted_work: Option<IndexWork>,
    is_working: bool,
    is_closed: bool,
    last_update: Option<Instant>,
    last_walk: Option<Instant>,
    /// The error of the last update.
    problem: Option<String>,
}

/// The state that the thread which updates the index shares with the calls that wait for an update.
#[derive(Default)]
pub(super) struct IndexRefresh {
    state: Mutex<RefreshState>,
    changed: Condvar,
}

impl IndexRefresh {
    /// Performs the updates that calls ask for, until [`Self::close`].
    pub(super) fn run_updates(&self, context: &Context) {
        let mut state = self.lock_state();
        while !state.is_closed {
            let Some(work) = state.wanted_work.take() else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };

            // The lock is released during the work, so that calls can ask for more work or stop waiting.
            state.is_working = true;
            drop(state);

            let access = IndexAccess::new(context);
            let outcome = match work {
                IndexWork::UpdateListed => access.open_updated(Thoroughness::Changes),
                IndexWork::UpdateAll => access.open_updated(Thoroughness::All),
                IndexWork::Rebuild => access.rebuild(),
            };
            let problem = match outcome {
                Ok((_store, report)) => report.problem.map(CommandError::from),
                Err(e) => Some(e),
            };

            state = self.lock_state();
            state.is_working = false;
            state.problem = problem.map(|e| e.to_one_line());
            state.last_update = Some(Instant::now());
            // A rebuild reads all rollouts too.
            if work != IndexWork::UpdateListed {
                state.last_walk = state.last_update;
            }
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        self.lock_state().is_closed = true;
        self.changed.notify_all();
    }

    /// Asks for `work` unless it was done within its interval, and reads from the index. Waits for this work and for
    /// running work, for at most [`MAX_WAIT`]; after that, reads the index as it is. A missing or damaged index is
    /// created and read in the same way.
    ///
    /// # Errors
    /// The index does not exist yet, it cannot be read, or another process writes it all the time.
    pub(super) fn update_and_read<T>(
        &self,
        work: IndexWork,
        context: &Context,
        read: impl Fn(&IndexStore) -> std::result::Result<T, IndexError>,
    ) -> Result<T> {
        let state = self.lock_state();
        let (last_done, interval) = match work {
            IndexWork::UpdateAll => (state.last_walk, WALK_INTERVAL),
            _ => (state.last_update, UPDATE_INTERVAL),
        };
        let is_due = last_done.is_none_or(|at| at.elapsed() >= interval);
        if state.is_working || is_due {
            self.request_and_wait(state, work);
        } else {
            drop(state);
        }

        let access = IndexAccess::new(context);
        let open_and_read = || {
            let store = IndexStore::open_read_only(&access.path)?;
            store.map(|store| read(&store)).transpose()
        };

        // An update creates a missing index. A damaged index needs a rebuild.
        let needed_work = match open_and_read() {
            Ok(Some(result)) => return Ok(result),
            Err(e) if e.is_cured_by_rebuild() => IndexWork::Rebuild,
            _ => IndexWork::UpdateListed,
        };
        self.request_and_wait(self.lock_state(), needed_work);

        let result = open_and_read();
        let problem = self.lock_state().problem.clone();
        match (result, problem) {
            (Ok(Some(result)), _) => Ok(result),
            // The failed update is the reason why the index cannot be read.
            (_, Some(problem)) => Err(CommandError::failed(problem)),
            (Ok(None), None) => Err(CommandError::failed(
                "the search index is being created; repeat the call in a minute",
            )),
            (Err(e), None) => Err(CommandError::from(e)),
        }
    }

    /// Asks for an update, and waits for it, at most [`MAX_WAIT`].
    fn request_and_wait(&self, mut state: MutexGuard<'_, RefreshState>, work: IndexWork) {
        // While an update runs, only `UpdateAll` is still requested: it finds files that the update may miss.
        if !state.is_working || work == IndexWork::UpdateAll {
            state.wanted_work = state.wanted_work.max(Some(work));
        }
        self.changed.notify_all();
        let is_pending = |state: &mut RefreshState| state.is_working || state.wanted_work.is_some();
        drop(self.changed.wait_timeout_while(state, MAX_WAIT, is_pending));
    }

    fn lock_state(&self) -> MutexGuard<'_, RefreshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
