//! Runs the Codex of a launch: starts it, watches it, records its end, saves its login.

use super::binding::{self, OpenRollouts};
use super::record::{ConversationBinding, LaunchRecord, ProcessId};
use super::registry::LaunchRegistry;
use super::session::Launch;
use super::settle::{self, LaunchEnd};
use crate::accounts::{LeaseError, OwnerLocation, Profiles};
use crate::codex::{AUTH_JSON, AuthFile, login_lock};
use crate::inventory::store;
use crate::io::{Attached, AttachedExit, IoContext, IoError, Timestamp, Zone, message_with_causes};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// The interval between two checks of Codex's open files until its conversation is known. `codex exec` may
/// end after a third of a second.
const BINDING_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The interval between later checks, for further conversations that the user starts in the same Codex.
const LATER_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of checks at the first interval. After them, Codex is probably waiting for the user.
const BINDING_POLL_COUNT: u32 = 500;

#[derive(Debug)]
pub struct LaunchReport {
    /// The exit code or signal of Codex.
    pub exit: AttachedExit,
    /// The last record of the launch. It is settled unless a Codex of the launch still runs.
    pub record: LaunchRecord,
    /// Errors of recording or saving, which did not stop the launch.
    pub warnings: Vec<String>,
}

impl Launch<'_> {
    /// Records the launch, starts Codex with the terminal, waits for its end, and binds the
    /// conversation. `clock` returns the time at the end of Codex.
    ///
    /// If this process is killed, the next command that lists launches completes the record, and the next
    /// command that locks the account returns an isolated login to its profile.
    ///
    /// # Errors
    /// The launch cannot be recorded, Codex cannot be started, or the system does not report its end. Other errors
    /// after the start are warnings in the report.
    pub fn run(
        mut self,
        zone: Zone,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<LaunchReport, IoError> {
        let registry = LaunchRegistry::of(self.request.manager_home);
        // Recorded before the start: after a kill, the launch id in Codex's environment leads to this record.
        registry.append(&self.record)?;

        let program = PathBuf::from(self.command.get_program());
        let child = match Attached::start(&mut self.command).at("start", &program) {
            Ok(child) => child,
            Err(e) => {
                self.abandon(&registry, clock())?;
                return Err(e);
            }
        };

        let mut warnings = Vec::new();
        let codex = ProcessId::read(child.id());
        self.record.run.child = Some(codex);
        warn_on_error(registry.append(&self.record), &mut warnings);

        // From now on the running Codex itself shows that the isolated home is in use, so other commands
        // may lock the account.
        self.account_locks = None;

        // Only a running Codex shows by its open files which conversation it runs.
        let watcher = Watcher::start(&self.record, codex, registry.clone());

        let started = self.record.run.started_at;
        let manager_home = self.request.manager_home;
        let recorded = store::note_profiles_and(manager_home, &started.to_utc(), zone, |file| {
            file.record_use(&self.record.identity, started);
        });
        warn_on_error(recorded, &mut warnings);

        let exit = child.wait().at("wait for", &program)?;
        let mut last_check = None;
        if let Some(watched) = watcher.finish() {
            (self.record.binding, last_check) = watched;
        }

        let end = LaunchEnd {
            at: clock(),
            exit_code: Some(i32::from(exit.to_exit_code())),
            last_check,
        };
        self.finish(end, &registry, zone, &mut warnings);

        Ok(LaunchReport {
            exit,
            record: self.record,
            warnings,
        })
    }

    /// Settles the record of a Codex that did not start, and releases the isolated login.
    fn abandon(mut self, registry: &LaunchRegistry, now: Timestamp) -> Result<(), IoError> {
        self.record.settled = true;
        self.record.run.ended_at = Some(now);
        registry.append(&self.record)?;
        // `release` takes the lock again, and would wait for this one.
        self.account_locks = None;
        if let Some(isolated) = self.isolated.take() {
            let profiles = Profiles::of(self.request.manager_home);
            // On failure the next command that locks the account moves the login back to its profile.
            let _ = isolated.release(&profiles, now);
        }
        Ok(())
    }

    /// Completes the record, returns or saves the login, and records the usage. The record stays unsettled while a
    /// Codex of the launch runs. Errors become warnings.
    fn finish(
        &mut self,
        end: LaunchEnd,
        registry: &LaunchRegistry,
        zone: Zone,
        warnings: &mut Vec<String>,
    ) {
        let now = end.at;
        let profiles = Profiles::of(self.request.manager_home);

        // If npm's launcher was killed, Codex itself still runs.
        let has_ended = !self.record.is_codex_running();
        if has_ended {
            // An unreadable registry counts as empty here; the append below reports the error.
            let launches = registry.read().unwrap_or_default();
            settle::complete_record(&mut self.record, end, &launches);
            let rebased = settle::rebase_isolated_rollouts(&self.record, self.request.env);
            warn_on_error(rebased, warnings);
        }

        warn_on_error(registry.append(&self.record), warnings);
        warn_on_error(registry.compact(), warnings);

        match self.isolated.take() {
            Some(isolated) => warn_on_error(isolated.release(&profiles, now), warnings),
            None => warn_on_error(self.save_live_login(&profiles, now), warnings),
        }

        let manager_home = self.request.manager_home;
        let recorded = store::note_profiles_and(manager_home, &now.to_utc(), zone, |file| {
            settle::record_usage(file, &self.record);
        });
        warn_on_error(recorded, warnings);
    }

    /// Saves the live login, which Codex may have renewed, to its profile. Does nothing if the user has
    /// switched accounts meanwhile: the switch has saved the login.
    fn save_live_login(&self, profiles: &Profiles, now: Timestamp) -> Result<(), LeaseError> {
        let home = self.request.codex_home;
        let account = &self.record.identity;
        let _lock = profiles.lock_accounts(&[account], now, login_lock::REFRESH_TIMEOUT)?;
        if let AuthFile::Present(snapshot) = AuthFile::read(&home.join(AUTH_JSON))?
            && let Some(login) = &snapshot.login
            && login.identity.is_same(account)
        {
            profiles.save_back(&snapshot, login, OwnerLocation::Live(home), now)?;
        }
        Ok(())
    }
}

fn warn_on_error<T, E: Error>(result: Result<T, E>, warnings: &mut Vec<String>) {
    if let Err(e) = result {
        warnings.push(message_with_causes(&e));
    }
}

/// A thread that finds the conversations of a running Codex by its open files.
struct Watcher {
    stop: Sender<()>,
    thread: Option<JoinHandle<WatchResult>>,
}

/// The binding, and the time of the last check of Codex's open files; `None` if the system never listed the files.
type WatchResult = (ConversationBinding, Option<SystemTime>);

impl Watcher {
    /// Watches the process `codex`, and appends the record once its conversation is known.
    fn start(record: &LaunchRecord, codex: ProcessId, registry: LaunchRegistry) -> Self {
        let (stop, stop_receiver) = mpsc::channel();
        let record = record.clone();
        let watch = move || watch_open_rollouts(record, codex, &registry, &stop_receiver);
        Self {
            stop,
            // If no thread can be started, the conversation is bound by the other evidence.
            thread: thread::Builder::new().spawn(watch).ok(),
        }
    }

    /// Stops watching. `None` if the thread could not be started, or has panicked.
    fn finish(self) -> Option<WatchResult> {
        // The thread stops when the channel is closed.
        drop(self.stop);
        self.thread.and_then(|thread| thread.join().ok())
    }
}

/// Checks the open files of the process `codex` until the sender of `stop_receiver` is gone.
fn watch_open_rollouts(
    mut record: LaunchRecord,
    codex: ProcessId,
    registry: &LaunchRegistry,
    stop_receiver: &Receiver<()>,
) -> WatchResult {
    let (mut last_check, mut last_open_paths) = (None, Vec::new());
    let mut open_rollouts = OpenRollouts::of_process(codex, Path::new(&record.run.codex_home));
    let mut polls = 0;

    loop {
        let was_bound = !record.binding.conversations.is_empty();
        let now = read_file_clock();
        // Codex has no open files after its end, so the last list is kept.
        if let Some(paths) = open_rollouts.list_open_rollouts() {
            (last_check, last_open_paths) = (Some(now), paths);
        }

        if add_open_conversations(&mut record, &last_open_paths) {
            // Codex owns the terminal now, so an error is reported after its end.
            let _ = registry.append(&record);
        }

        polls += 1;
        let pause = if was_bound || polls > BINDING_POLL_COUNT {
            LATER_POLL_INTERVAL
        } else {
            BINDING_POLL_INTERVAL
        };

        let is_stopped = stop_receiver.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        if is_stopped {
            // A rollout without a first line was not bound. Codex may have written the line after the last check.
            add_open_conversations(&mut record, &last_open_paths);
            return (record.binding, last_check);
        }
    }
}

/// Returns the system time, even if `CODEX_MANAGER_NOW` sets another time: it is compared with the times of files.
#[allow(clippy::disallowed_methods, reason = "compared with times of files")]
fn read_file_clock() -> SystemTime {
    SystemTime::now()
}

/// Adds the conversations of these open rollouts to the record, unless it has them. Returns true if it added any. If
/// another account created a rollout, only notes in the record why the rollout is not bound.
fn add_open_conversations(record: &mut LaunchRecord, open_rollouts: &[PathBuf]) -> bool {
    let old_count = record.binding.conversations.len();
    for path in open_rollouts {
        let path_text = path.to_string_lossy();
        let mut bound_conversations = record.binding.conversations.iter();
        if bound_conversations.any(|c| c.rollout_path == path_text) {
            continue;
        }

        match find_start_offset(path, record) {
            Ok(start_offset) => {
                let conversation = binding::read_open_conversation(path, start_offset);
                record.binding.conversations.extend(conversation);
            }
            Err(reason) => record.binding.unbound_because = Some(reason),
        }
    }
    record.binding.conversations.len() > old_count
}

/// Returns the offset at which the lines of the launch begin in an open rollout, or the reason not to bind the rollout:
/// another account created it.
fn find_start_offset(path: &Path, record: &LaunchRecord) -> Result<u64, String> {
    if let Some(resumed) = &record.binding.resumed
        && resumed.rollout_path == path.to_string_lossy()
    {
        // The arguments name this conversation, so its offset was read before Codex started.
        return Ok(resumed.start_offset);
    }
    if is_older_than_launch(path, record) {
        // The conversation is resumed at its current end.
        return Ok(path.metadata().map_or(0, |meta| meta.len()));
    }
    match binding::find_other_creator(path, record) {
        None => Ok(0),
        Some(account) => Err(format!(
            "another account started the conversation: {account}"
        )),
    }
}

/// Returns true if the rollout is older than the launch, or its id has no time.
fn is_older_than_launch(path: &Path, record: &LaunchRecord) -> bool {
    let created = binding::parse_rollout_time(path);
    created.is_none_or(|at| at < record.run.started_at.to_utc())
}
