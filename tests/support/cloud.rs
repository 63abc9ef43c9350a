//! A simulated cloud folder whose clients replicate it late, in any order, partially, under conflict names, and with
//! files that disappear for a while; and the simulated machines that sync with it.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use codex_manager_core::io::environment::Environment;
use codex_manager_core::io::progress::Silent;
use codex_manager_core::sync::apply::{self, ApplyError, ApplyReport, ApplyRequest};
use codex_manager_core::sync::config::{ConfigContext, DeletePolicy, SyncConfig};
use codex_manager_core::sync::plan::{self, PlanError, PlanRequest, UndeliveredVersion};
use codex_manager_core::sync::state::Replica;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Deterministic random numbers (splitmix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        (!list.is_empty()).then(|| &list[self.below(list.len())])
    }
}

/// Content and time of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Content {
    bytes: Vec<u8>,
    mtime: SystemTime,
}

/// Record of a machine's cloud client about one file.
#[derive(Clone, Default)]
struct ClientRecord {
    /// The server version that this machine has; 0 if it has none.
    version: u64,
    /// The bytes that the client last wrote to or read from the folder.
    bytes: Option<Vec<u8>>,
    /// The complete content, while the folder has only a part of it.
    complete: Option<Content>,
    /// The content of a file that has disappeared from the folder for a while.
    hidden: Option<Content>,
}

/// The files of the server by path: version and content; without content the file is deleted.
#[derive(Default)]
pub(crate) struct Cloud {
    files: BTreeMap<String, (u64, Option<Content>)>,
    copies: u64,
    /// All versions of each skill that were ever on the server.
    skills: BTreeMap<String, Vec<Content>>,
}

/// All files of the server at one time.
pub(crate) struct Day(BTreeMap<String, Content>);

impl Cloud {
    /// Performs a random action of a machine's client, for one path or for all.
    pub(crate) fn client_event(&mut self, machine: &mut Machine, rng: &mut Rng) {
        let paths = self.paths(machine);
        let Some(path) = rng.pick(&paths).cloned() else {
            return;
        };
        match rng.below(12) {
            0 | 1 => {
                for path in &paths {
                    self.upload(machine, path, rng.next());
                }
            }
            2 | 3 => {
                for path in &paths {
                    self.download(machine, path, Delivery::Whole, rng.next());
                }
            }
            4 | 5 => self.upload(machine, &path, rng.next()),
            6 => self.download(machine, &path, Delivery::Whole, rng.next()),
            7 => self.download(machine, &path, Delivery::Half, rng.next()),
            8 => self.download(machine, &path, Delivery::WithZeros, rng.next()),
            9 => machine.hide(&path),
            10 if rng.chance(40) => {
                for path in &paths {
                    machine.hide(path);
                }
            }
            10 => machine.unhide_all(),
            _ => self.make_client_copy(machine, &path),
        }
    }

    /// Makes a client restore an earlier version of a skill, on the server or in one machine's folder.
    pub(crate) fn restore_version(&mut self, machine: &mut Machine, rng: &mut Rng) {
        let paths: Vec<&String> = self.skills.keys().collect();
        let Some(path) = rng.pick(&paths).map(|path| (*path).clone()) else {
            return;
        };
        let Some(content) = rng.pick(&self.skills[&path]).cloned() else {
            return;
        };
        let version = self.files.get(&path).map(|(version, _)| *version);
        if rng.chance(50) {
            let version = version.unwrap_or(0);
            self.files.insert(path, (version + 1, Some(content)));
            return;
        }
        let full = machine.cloud.join(&path);
        let known = machine.client.entry(path).or_default();
        // An emptied server has no earlier versions.
        let Some(version) = version else {
            return;
        };
        // Clients do not overwrite files that they have not uploaded.
        if known.hidden.is_none() && read(&full).map(|local| local.bytes) == known.bytes {
            write(&full, &content);
            known.bytes = Some(content.bytes);
            known.complete = None;
            known.version = version.saturating_sub(1);
        }
    }

    /// Empties the folder on the server and on all machines.
    pub(crate) fn empty(&mut self, machines: &mut [Machine]) {
        self.files.clear();
        for machine in machines {
            machine.client.clear();
            replace_files(&machine.cloud, &BTreeMap::new());
            machine.refill = true;
        }
    }

    /// Returns all files of the server as they are now.
    pub(crate) fn day(&self) -> Day {
        let files = self.files.iter();
        Day(files
            .filter_map(|(path, (_, content))| Some((path.clone(), content.clone()?)))
            .collect())
    }

    /// Restores the files of an earlier day on the server; files created later stay.
    pub(crate) fn restore_day(&mut self, day: &Day) {
        for (path, content) in &day.0 {
            let file = self.files.entry(path.clone()).or_default();
            *file = (file.0 + 1, Some(content.clone()));
        }
    }

    fn accept(&mut self, path: &str, version: u64, content: Option<Content>) {
        if let Some(content) = content.as_ref().filter(|_| path.starts_with("skills/")) {
            let all = self.skills.entry(path.to_owned()).or_default();
            all.push(content.clone());
        }
        self.files.insert(path.to_owned(), (version, content));
    }

    /// Uploads and downloads all files completely, until nothing changes.
    pub(crate) fn deliver_all(&mut self, machine: &mut Machine) {
        machine.unhide_all();
        for _ in 0..4 {
            for path in self.paths(machine) {
                self.upload(machine, &path, 7);
                self.download(machine, &path, Delivery::Whole, 0);
            }
        }
    }

    fn paths(&self, machine: &Machine) -> Vec<String> {
        let mut paths: BTreeSet<String> = self.files.keys().cloned().collect();
        paths.extend(machine.client.keys().cloned());
        paths.extend(files_below(&machine.cloud));
        // Clients do not replicate temp files.
        paths.retain(|path| !path.contains(".codex-manager-tmp-"));
        paths.into_iter().collect()
    }

    fn upload(&mut self, machine: &mut Machine, path: &str, chance: u64) {
        let full = machine.cloud.join(path);
        let local = read(&full);
        let known = machine.client.entry(path.to_owned()).or_default();
        if known.hidden.is_some() || local.as_ref().map(|c| &c.bytes) == known.bytes.as_ref() {
            return;
        }
        let server = self.files.get(path).cloned().unwrap_or((0, None));
        known.complete = None;
        if server.0 == known.version {
            known.bytes = local.as_ref().map(|c| c.bytes.clone());
            known.version = server.0 + 1;
            let version = known.version;
            self.accept(path, version, local);
            return;
        }
        // Another machine has uploaded a version before.
        match local {
            // A deletion loses against a change.
            None => *known = ClientRecord::default(),
            Some(local) if server.1.as_ref().is_some_and(|s| s.bytes == local.bytes) => {
                known.version = server.0;
                known.bytes = Some(local.bytes);
            }
            // A change wins against a deletion.
            Some(local) if server.1.is_none() => {
                known.bytes = Some(local.bytes.clone());
                known.version = server.0 + 1;
                let version = known.version;
                self.accept(path, version, Some(local));
            }
            Some(local) => {
                *known = ClientRecord::default();
                self.copies += 1;
                let copy = conflict_name(path, self.copies, chance, &machine.name);
                let target = machine.cloud.join(&copy);
                write(&target, &local);
                fs::remove_file(&full).unwrap();
            }
        }
    }

    fn download(&mut self, machine: &mut Machine, path: &str, how: Delivery, chance: u64) {
        let full = machine.cloud.join(path);
        let known = machine.client.entry(path.to_owned()).or_default();
        let local = read(&full);
        if known.hidden.is_some() || local.as_ref().map(|c| &c.bytes) != known.bytes.as_ref() {
            return;
        }
        let Some((version, content)) = self.files.get(path).cloned() else {
            return;
        };
        if version == known.version && known.complete.is_none() {
            return;
        }
        known.version = version;
        known.complete = None;
        let Some(mut content) = content else {
            known.bytes = None;
            if local.is_some() {
                fs::remove_file(&full).unwrap();
            }
            return;
        };
        // Clients keep times, round them to seconds, or set new ones.
        match chance % 3 {
            0 => {}
            1 => {
                let since = content
                    .mtime
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap();
                content.mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            }
            _ => content.mtime += Duration::from_millis(chance % 9_999_991),
        }
        let whole = content.clone();
        if !content.bytes.is_empty() && how != Delivery::Whole {
            let cut = usize::try_from(chance >> 8).unwrap_or(0) % content.bytes.len();
            if how == Delivery::Half {
                content.bytes.truncate(cut);
            } else {
                content.bytes[cut..].fill(0);
            }
            content.mtime += Duration::from_millis(1 + chance % 997);
            known.complete = Some(whole);
        }
        known.bytes = Some(content.bytes.clone());
        write(&full, &content);
    }

    /// Makes a client create a conflict copy of a file without a conflict.
    fn make_client_copy(&mut self, machine: &mut Machine, path: &str) {
        if path.starts_with(".codex-manager") && !self.copies.is_multiple_of(3) {
            return;
        }
        let under_way = machine
            .client
            .get(path)
            .is_some_and(|known| known.complete.is_some());
        if let Some(content) = read(&machine.cloud.join(path)).filter(|_| !under_way) {
            self.copies += 1;
            let copy = conflict_name(path, self.copies, 0, &machine.name);
            write(&machine.cloud.join(copy), &content);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Whole,
    Half,
    WithZeros,
}

/// Returns true if the run was interrupted, before or after its backup.
pub(crate) fn is_interrupted(error: &ApplyError) -> bool {
    match error {
        ApplyError::Interrupted => true,
        ApplyError::Stopped { cause, .. } => is_interrupted(cause),
        _ => false,
    }
}

/// Applies a plan by `apply`, and ends it before its `killed_before`-th change of a file: an odd number kills the run,
/// an even one interrupts it. Returns `None` if it was killed. `run` sets the time of the run.
pub(crate) fn apply_or_kill(
    (config, replica): (&SyncConfig, &Replica),
    run: i64,
    killed_before: Option<usize>,
    apply: impl FnOnce(&ApplyRequest<'_>) -> Result<ApplyReport, ApplyError>,
) -> Option<Result<ApplyReport, ApplyError>> {
    let left = Cell::new(killed_before.unwrap_or(usize::MAX));
    // An interrupted run records its state first; a killed one does not.
    let is_killed = killed_before.is_some_and(|n| n % 2 == 1);
    let keep_going = || {
        let n = left.get();
        left.set(n.saturating_sub(1));
        if n == 0 && is_killed {
            resume_unwind(Box::new(Killed));
        }
        n > 0
    };
    let request = ApplyRequest {
        config,
        replica,
        keep_going: &keep_going,
        progress: &Silent,
        now: chrono::DateTime::from_timestamp(1_795_100_000 + run, 0).unwrap(),
    };
    match catch_unwind(AssertUnwindSafe(|| apply(&request))) {
        Ok(applied) => Some(applied),
        Err(panic) if panic.is::<Killed>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

fn conflict_name(path: &str, n: u64, chance: u64, machine: &str) -> String {
    let (stem, end) = path.rsplit_once('.').unwrap_or((path, ""));
    let mark = match chance % 5 {
        0 => format!(" ({n})"),
        1 => format!(".sync-conflict-20261118-{n:06}-ABCDEF7"),
        2 => format!(" ({machine}'s conflicted copy 2026-11-18 {n})"),
        3 => format!("-{}-safeBackup-{n:04}", machine.to_uppercase()),
        _ => format!("_conflict-20261118-{n:06}"),
    };
    format!("{stem}{mark}.{end}")
}

/// The phase of a schedule. At its end all machines must have the same files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settling {
    /// Users and clients are still active.
    NotYet,
    /// Users have stopped, and clients deliver everything.
    Running,
    /// All machines have all files.
    Done,
}

/// A backup of a machine's disk.
pub(crate) struct Disk {
    home: BTreeMap<String, Content>,
    state: BTreeMap<String, Content>,
    written: BTreeSet<String>,
    skills_written: BTreeSet<String>,
}

/// A write of the user to a file of the home while a run publishes: a further line of a conversation, or another text of
/// a skill, which an editor writes in place.
pub(crate) struct UserWrite {
    path: PathBuf,
    line: String,
    at: SystemTime,
    /// The former text of the skill, once the write is done; of a conversation the rest of the line.
    before: RefCell<Option<String>>,
}

impl UserWrite {
    fn is_of_skill(&self) -> bool {
        self.path.ends_with("SKILL.md")
    }

    /// Begins a message of a conversation: half of its line is written.
    pub(crate) fn begin(&self) {
        if !self.is_of_skill() && self.path.exists() {
            let text = message(&self.line, self.at);
            self.before.replace(Some(text[text.len() / 2..].to_owned()));
            append(&self.path, &text[..text.len() / 2], self.at);
        }
    }

    /// Writes the rest of a message that was begun.
    pub(crate) fn end(&self) {
        if !self.is_of_skill() && self.before.borrow().is_some() {
            self.perform();
        }
    }

    pub(crate) fn perform(&self) {
        if self.is_of_skill() {
            // The run may have deleted the skill.
            let Ok(before) = fs::read_to_string(&self.path) else {
                return;
            };
            self.before.replace(Some(before));
            let bytes = skill_text(&self.line).into_bytes();
            write(
                &self.path,
                &Content {
                    bytes,
                    mtime: self.at,
                },
            );
        } else if self.path.exists() {
            let begun = self.before.replace(Some(String::new()));
            let rest = begun.unwrap_or_else(|| message(&self.line, self.at));
            append(&self.path, &rest, self.at);
        }
    }
}

/// Panic payload that simulates a killed run.
pub(crate) struct Killed;

/// A machine: a home, a manager home, its copy of the cloud folder, and a user.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    cloud: PathBuf,
    pub(crate) config: SyncConfig,
    pub(crate) replica: Replica,
    client: BTreeMap<String, ClientRecord>,
    clock: SystemTime,
    counter: u64,
    /// Lines of conversations, prompts and names that the user wrote.
    written: BTreeSet<String>,
    /// False if the user writes no skills.
    pub(crate) has_skills: bool,
    /// Texts of skills that the user wrote.
    pub(crate) skills_written: BTreeSet<String>,
    /// Texts of skills that the user has overwritten or deleted.
    pub(crate) skills_replaced: BTreeSet<String>,
    /// Edits of skills by the user: old and new text.
    pub(crate) skill_edits: Vec<(String, String)>,
    /// Texts of skills that were in the machine's cloud folder after a run.
    pub(crate) skills_uploaded: BTreeSet<String>,
    /// Texts of skills that were in the machine's home after an edit or a run.
    pub(crate) skills_had: BTreeSet<String>,
    /// Texts of skills that the user has deleted.
    pub(crate) skills_deleted: BTreeSet<String>,
    /// Paths of skills for which `conflict.policy` decided a conflict.
    pub(crate) skills_in_conflict: BTreeSet<String>,
    /// True if the last run could have ended before it staged the home.
    pub(crate) was_idle: bool,
    /// True if the user passes `--refill`, because the cloud folder was emptied.
    pub(crate) refill: bool,
    /// True if the user passes `--accept-unlisted` at the end of the schedule.
    pub(crate) accept_unlisted: bool,
    /// Undelivered versions of the last plan.
    pub(crate) undelivered: Vec<UndeliveredVersion>,
    /// True if the last run ended before it published the manifest of the files that it wrote.
    pub(crate) has_unpublished_files: bool,
    pub(crate) runs: i64,
}

impl Machine {
    pub(crate) fn new(root: &Path, index: usize, rng: &mut Rng) -> Self {
        let name = ["anna", "bert", "cleo"][index].to_owned();
        let root = root.join(&name);
        let (home, cloud) = (root.join("codex"), root.join("cloud"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&cloud).unwrap();
        let compare = ["mtime", "mtime_hash_fallback", "three_way"][rng.below(3)];
        let policies = [
            "prefer_local",
            "prefer_cloud",
            "prefer_newer_mtime",
            "manual_abort",
        ];
        let mut policy = policies[rng.below(4)];
        if policy == "manual_abort" && index == 1 {
            policy = "manual";
        }
        let compression = ["none", "zip"][rng.below(2)];
        let text = format!(
            "[identity]\nmachine_id = \"{name}\"\n[paths]\ncloud_root_dir = {cloud:?}\n\
             local_state_dir = {home:?}\nbackup_dir = {:?}\n\
             [targets]\ninclude_roots = [\"sessions\", \"archived_sessions\", \"history.jsonl\", \"session_index.jsonl\", \"skills\"]\n\
             [sync]\ncompare = \"{compare}\"\nequal_mtime_action = \"prefer_cloud\"\n\
             [conflict]\npolicy = \"{policy}\"\n[backup]\ncompression = \"{compression}\"\nretention_days = 0\n",
            root.join("backups")
        );
        let env = Environment::default();
        let around = ConfigContext {
            env: &env,
            codex_home: &home,
            manager_home: &root,
        };
        let config = SyncConfig::parse(Path::new("/sync.toml"), &text, &around).unwrap();
        fs::write(root.join("sync.toml"), &text).unwrap();
        // Clocks of machines differ by up to an hour.
        let skew = Duration::from_secs(rng.below(3600) as u64);
        Self {
            replica: Replica::of(&root.join("manager"), &home, &cloud),
            config,
            home,
            cloud,
            name,
            client: BTreeMap::new(),
            clock: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000) + skew,
            counter: 0,
            written: BTreeSet::new(),
            has_skills: true,
            skills_written: BTreeSet::new(),
            skills_replaced: BTreeSet::new(),
            skill_edits: Vec::new(),
            skills_uploaded: BTreeSet::new(),
            skills_had: BTreeSet::new(),
            skills_deleted: BTreeSet::new(),
            skills_in_conflict: BTreeSet::new(),
            was_idle: false,
            refill: false,
            accept_unlisted: false,
            undelivered: Vec::new(),
            has_unpublished_files: false,
            runs: 0,
        }
    }

    /// Returns true if the client has not uploaded all files of `.codex-manager`.
    pub(crate) fn has_unsent_manifest(&self) -> bool {
        let manifests = files_below(&self.cloud.join(".codex-manager")).into_iter();
        manifests
            .map(|path| format!(".codex-manager/{path}"))
            .any(|path| {
                let content = read(&self.cloud.join(&path)).map(|content| content.bytes);
                self.client.get(&path).and_then(|known| known.bytes.clone()) != content
            })
    }

    /// Returns true if the client hides a file of `.codex-manager`, as a placeholder does.
    pub(crate) fn has_hidden_manifest(&self) -> bool {
        let mut known = self.client.iter();
        known.any(|(path, known)| path.starts_with(".codex-manager/") && known.hidden.is_some())
    }

    /// Backs up the Codex home and the sync state.
    pub(crate) fn disk(&self) -> Disk {
        let of = |folder: &Path| -> BTreeMap<String, Content> {
            let paths = files_below(folder).into_iter();
            paths
                .filter_map(|path| Some((path.clone(), read(&folder.join(path))?)))
                .collect()
        };
        Disk {
            home: of(&self.home),
            state: of(&self.replica.folder),
            written: self.written.clone(),
            skills_written: self.skills_written.clone(),
        }
    }

    /// Restores the sync state only. Returns the names and lines of the conflict copies that the restored state lacks.
    pub(crate) fn restore_state(&self, disk: &Disk) -> Vec<(String, Vec<String>)> {
        let folder = self.replica.conflict_copies();
        let copies = files_below(&folder).into_iter();
        let lines = |name: String| {
            let text = plain_text(&folder.join(&name));
            (name, lines_of(&text))
        };
        let mut copies: Vec<_> = copies.map(lines).collect();
        replace_files(&self.replica.folder, &disk.state);
        copies.retain(|(name, _)| !folder.join(name).exists());
        copies
    }

    /// Restores the sync state and the Codex home. Lines written since the backup may be lost.
    pub(crate) fn restore_disk(&mut self, disk: &Disk) {
        self.restore_state(disk);
        replace_files(&self.home, &disk.home);
        self.written.retain(|line| disk.written.contains(line));
        let skills_then = &disk.skills_written;
        self.skills_written
            .retain(|text| skills_then.contains(text));
    }

    /// Turns this machine into a clone of another one, with or without its cloud folder.
    pub(crate) fn become_clone_of(&mut self, other: &Self, with_cloud: bool) {
        let disk = other.disk();
        self.restore_disk(&disk);
        self.config.machine_id.clone_from(&other.config.machine_id);
        if with_cloud {
            let paths = files_below(&other.cloud).into_iter();
            let files = paths.filter_map(|path| {
                let content = read(&other.cloud.join(&path))?;
                Some((path, content))
            });
            replace_files(&self.cloud, &files.collect());
            self.client.clone_from(&other.client);
        }
    }

    /// Replaces a `conflict.policy` that leaves conflicts to the user by one that decides them.
    pub(crate) fn use_deciding_policy(&mut self) {
        use codex_manager_core::sync::config::ConflictPolicy;
        if self.config.policy.rules.conflict != ConflictPolicy::PreferCloud {
            self.config.policy.rules.conflict = ConflictPolicy::PreferLocal;
        }
    }

    /// Plans and applies a sync. With `killed_before`, the run is interrupted (even number) or killed (odd number) before
    /// that change of a file. Returns true if the run changed a file or was stopped.
    pub(crate) fn sync(&mut self, killed_before: Option<usize>, settling: Settling) -> bool {
        self.runs += 1;
        let request = PlanRequest {
            accept_unlisted: settling != Settling::NotYet && self.accept_unlisted,
            delete_many: settling != Settling::NotYet,
            refill: self.refill,
            ..PlanRequest::new(&self.config, &self.replica)
        };
        let planned = plan::plan(&request);
        let (plan, state) = match planned {
            Ok(planned) => planned,
            Err(PlanError::MostFilesMissing { .. }) if settling == Settling::NotYet => {
                return false;
            }
            Err(error) => panic!("{}: {error}", self.name),
        };
        if !plan.conflicts.is_empty() {
            assert!(
                settling == Settling::NotYet,
                "{}: {:?}",
                self.name,
                plan.conflicts
            );
        }
        if plan.is_stopped_by_conflict(self.config.policy.rules.conflict) {
            return false;
        }
        if settling == Settling::Done {
            // A client's copy of a skill that was deleted later is indistinguishable from a new file.
            let waiting = plan
                .notices
                .waiting
                .iter()
                .filter(|(path, _)| !path.contains("SKILL ("));
            let waiting: Vec<_> = waiting.collect();
            assert!(
                waiting.is_empty(),
                "{}: still waits: {waiting:?}",
                self.name
            );
        }
        self.undelivered.clone_from(&plan.notices.undelivered);
        let chosen = plan.steps.iter().filter(|step| step.conflict.is_some());
        self.skills_in_conflict
            .extend(chosen.map(|step| step.path.clone()));
        let places = (&self.config, &self.replica);
        let applied = apply_or_kill(places, self.runs, killed_before, |request| {
            apply::apply(&plan, state, request)
        });
        self.has_unpublished_files = true;
        let Some(applied) = applied else {
            return true;
        };
        self.note_skills(&self.cloud.clone());
        match applied {
            Ok(report) => {
                assert_eq!(report.skipped, [], "{}: {:#?}", self.name, plan.steps);
                self.has_unpublished_files = false;
                !report.done.is_empty()
            }
            Err(error) if is_interrupted(&error) => true,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// Records the texts of skills in the home and in a cloud folder.
    pub(crate) fn note_skills(&mut self, cloud: &Path) {
        for name in ["a", "b"] {
            let path = format!("skills/{name}/SKILL.md");
            let uploaded = fs::read_to_string(cloud.join(&path));
            self.skills_uploaded.extend(uploaded);
            let had = fs::read_to_string(self.home.join(&path));
            self.skills_had.extend(had);
        }
    }

    /// Makes the user keep both versions of a random conflict copy, as two conversations.
    pub(crate) fn keep_both(&self, rng: &mut Rng) {
        let copies = files_below(&self.replica.conflict_copies());
        let Some(name) = rng.pick(&copies) else {
            return;
        };
        // A copy that is not complete yet, or whose conversation is missing, is refused.
        let output = Command::new(env!("CARGO_BIN_EXE_codex-manager"))
            .env_clear()
            .env("HOME", &self.home)
            .env("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z")
            .arg("--manager-home")
            .arg(self.home.with_file_name("manager"))
            .args(["sync", "-c"])
            .arg(self.home.with_file_name("sync.toml"))
            .args(["resolve", name, "--keep", "both"])
            .output();
        let output = output.expect("start codex-manager");
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1 | 2 | 5 | 6)), "{output:?}");
    }

    fn hide(&mut self, path: &str) {
        let full = self.cloud.join(path);
        let Some(content) = read(&full) else { return };
        let known = self.client.entry(path.to_owned()).or_default();
        // Clients do not lose files that they have not uploaded.
        if known.bytes.as_ref() == Some(&content.bytes) && known.hidden.is_none() {
            known.hidden = Some(content);
            fs::remove_file(full).unwrap();
        }
    }

    fn unhide_all(&mut self) {
        let paths: Vec<String> = self.client.keys().cloned().collect();
        for path in paths {
            let known = self.client.get_mut(&path).unwrap();
            if let Some(content) = known.hidden.take() {
                let full = self.cloud.join(&path);
                // A file that was re-created meanwhile is a local change.
                if !full.exists() {
                    write(&full, &content);
                }
            }
        }
    }

    fn advance_clock(&mut self, rng: &mut Rng) -> SystemTime {
        self.clock += Duration::from_millis(1 + rng.below(90_000) as u64);
        self.clock
    }

    fn next_line(&mut self) -> String {
        self.counter += 1;
        format!("{}-{}", self.name, self.counter)
    }

    fn conversations(&self) -> Vec<PathBuf> {
        let below = files_below(&self.home);
        below
            .into_iter()
            .filter(|path| path.contains("rollout-"))
            .map(|path| self.home.join(path))
            .collect()
    }

    /// Performs a random action of the user with Codex.
    pub(crate) fn user_event(&mut self, rng: &mut Rng) {
        let at = self.advance_clock(rng);
        let known = self.conversations();
        match rng.below(12) {
            0 | 1 => self.start_conversation(None, rng, at),
            2 => {
                let parent = rng.pick(&known).cloned();
                self.start_conversation(parent, rng, at);
            }
            3..7 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    self.continue_conversation(&path, at);
                }
            }
            7 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    self.archive_conversation(&path);
                }
            }
            8 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    Self::compress_conversation(&path);
                }
            }
            9 => {
                let line = self.next_line();
                let secs = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                let text = format!("{{\"session_id\":\"x\",\"ts\":{secs},\"text\":\"{line}\"}}\n");
                append(&self.home.join("history.jsonl"), &text, at);
                self.written.insert(line);
            }
            10 => {
                let line = self.next_line();
                let time = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
                let text = format!(
                    "{{\"id\":\"x\",\"thread_name\":\"{line}\",\"updated_at\":\"{time}\"}}\n"
                );
                append(&self.home.join("session_index.jsonl"), &text, at);
                self.written.insert(line);
            }
            _ if self.has_skills => self.write_skill(rng, at),
            _ => {}
        }
    }

    /// Sets `delete_policy = "propagate"`.
    pub(crate) fn propagate_deletions(&mut self) {
        self.config.policy.rules.delete = DeletePolicy::Propagate;
    }

    /// Makes the user delete a skill.
    pub(crate) fn delete_skill(&mut self, rng: &mut Rng) {
        let name = ["a", "b"][rng.below(2)];
        let path = self.home.join(format!("skills/{name}/SKILL.md"));
        if let Ok(text) = fs::read_to_string(&path) {
            // No other machine has the texts since the last upload, so these edits do not count.
            let mut unsent = text.clone();
            while !self.skills_uploaded.contains(&unsent) {
                let edit = self
                    .skill_edits
                    .iter()
                    .position(|(_, newer)| *newer == unsent);
                let Some(edit) = edit else { break };
                (unsent, _) = self.skill_edits.remove(edit);
            }
            self.skills_deleted.insert(text.clone());
            // The version of the cloud folder is deleted with it.
            let remote = self.cloud.join(format!("skills/{name}/SKILL.md"));
            self.skills_deleted.extend(fs::read_to_string(remote));
            self.skills_replaced.insert(text);
            fs::remove_file(path).unwrap();
        }
    }

    /// Makes the user edit a skill, on a machine whose clock may be slow.
    pub(crate) fn edit_skill(&mut self, rng: &mut Rng) {
        let at = self.advance_clock(rng);
        self.write_skill(rng, at);
    }

    fn write_skill(&mut self, rng: &mut Rng, at: SystemTime) {
        let line = self.next_line();
        let name = ["a", "b"][rng.below(2)];
        let text = skill_text(&line);
        let path = self.home.join(format!("skills/{name}/SKILL.md"));
        if let Ok(before) = fs::read_to_string(&path) {
            // The user has overwritten this text, so it need not survive.
            self.skills_replaced.insert(before.clone());
            self.skill_edits.push((before, text.clone()));
        }
        let bytes = text.clone().into_bytes();
        write(&path, &Content { bytes, mtime: at });
        self.skills_had.insert(text.clone());
        self.skills_written.insert(text);
    }

    /// Returns what the user may write while a run publishes; [`Self::note_write`] records what was written.
    pub(crate) fn write_meanwhile(&mut self, number: usize, rng: &mut Rng) -> Vec<UserWrite> {
        let mut paths = self.conversations();
        paths.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
        let conversation = rng.pick(&paths).cloned().filter(|_| number != 0);
        let skill = self.home.join("skills/a/SKILL.md");
        let skill = (number != 1 && self.has_skills && skill.exists()).then_some(skill);
        let paths = conversation.into_iter().chain(skill);
        let writes = paths.map(|path| UserWrite {
            path,
            line: self.next_line(),
            at: self.advance_clock(rng),
            before: RefCell::default(),
        });
        writes.collect()
    }

    /// Records a performed write.
    pub(crate) fn note_write(&mut self, write: UserWrite) {
        let is_of_skill = write.is_of_skill();
        let Some(before) = write.before.into_inner() else {
            return;
        };
        if !is_of_skill {
            self.written.insert(write.line);
            return;
        }
        let text = skill_text(&write.line);
        self.skills_replaced.insert(before.clone());
        self.skill_edits.push((before, text.clone()));
        self.skills_had.insert(text.clone());
        self.skills_written.insert(text);
    }

    fn start_conversation(&mut self, parent: Option<PathBuf>, rng: &mut Rng, at: SystemTime) {
        let line = self.next_line();
        let id = format!(
            "01a1f78b-{:04x}-7000-8000-{:012x}",
            rng.below(65536),
            rng.next() >> 16
        );
        let base = parent.map_or(String::new(), |parent| {
            let name = parent.file_name().unwrap().to_string_lossy().into_owned();
            let id = &name[28..64];
            format!(",\"history_base\":{{\"thread_id\":\"{id}\",\"end_byte_offset\":1}}")
        });
        let day = 10 + rng.below(9);
        let path = self.home.join(format!(
            "sessions/2026/11/{day}/rollout-2026-11-{day}T10-00-00-{id}.jsonl"
        ));
        let time = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
        let text = format!(
            "{{\"timestamp\":\"{time}\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"{base}}}}}\n{}",
            message(&line, at)
        );
        append(&path, &text, at);
        self.written.insert(line);
    }

    fn continue_conversation(&mut self, path: &Path, at: SystemTime) {
        let line = self.next_line();
        let text = message(&line, at);
        // Codex decompresses a conversation before it continues it.
        let plain = if path.extension().is_some_and(|e| e == "zst") {
            let plain = path.with_extension("");
            fs::write(&plain, plain_text(path)).unwrap();
            fs::remove_file(path).unwrap();
            plain
        } else {
            path.to_path_buf()
        };
        append(&plain, &text, at);
        self.written.insert(line);
    }

    /// Makes the user rewrite a conversation with Codex, without writing anything: rewind it, migrate it, or compact it
    /// in place. Returns the lines that the user gave up with that.
    pub(crate) fn rewrite_conversation(&mut self, rng: &mut Rng) -> Vec<String> {
        let at = self.advance_clock(rng);
        let known = self.conversations();
        let Some(path) = rng.pick(&known).cloned() else {
            return Vec::new();
        };
        match rng.below(4) {
            0 => self.rewind(&path, rng, at),
            1 => return Self::compact(&path, at),
            _ => Self::migrate(&path),
        }
        Vec::new()
    }

    /// Begins another rollout of the conversation, as Codex 0.169 does.
    fn rewind(&mut self, path: &Path, rng: &mut Rng, at: SystemTime) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (thread, line) = (name[28..64].to_owned(), self.next_line());
        let id = format!(
            "01a1f78c-{:04x}-7000-8000-{:012x}",
            rng.below(65536),
            rng.next() >> 16
        );
        let time = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
        let text = format!(
            "{{\"timestamp\":\"{time}\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{thread}\",\"history_mode\":\
             \"paginated\",\"history_base\":{{\"thread_id\":\"{thread}\",\"end_byte_offset\":1}}}}}}\n{}",
            message(&line, at)
        );
        append(
            &path.with_file_name(format!("{}_{id}.jsonl", &name[..64])),
            &text,
            at,
        );
        self.written.insert(line);
    }

    /// Rewrites a plain conversation as `codex migrate-rollouts --apply` does: numbered lines, a mode in the first one,
    /// and the former mtime.
    fn migrate(path: &Path) {
        let text = String::from_utf8(plain_text(path)).unwrap();
        if path.extension().is_some_and(|e| e == "zst") || text.contains("history_mode") {
            return;
        }
        let mtime = path.metadata().unwrap().modified().unwrap();
        let lines = text.lines().enumerate().map(|(n, line)| {
            let line = line.replacen(",\"type\":", &format!(",\"ordinal\":{n},\"type\":"), 1);
            line.replacen(
                "\"payload\":{\"id\"",
                "\"payload\":{\"history_mode\":\"paginated\",\"id\"",
                1,
            ) + "\n"
        });
        let bytes = lines.collect::<String>().into_bytes();
        write(path, &Content { bytes, mtime });
    }

    /// Drops the second line of a plain conversation; returns what the user wrote there.
    fn compact(path: &Path, mtime: SystemTime) -> Vec<String> {
        let text = String::from_utf8(plain_text(path)).unwrap();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        if path.extension().is_some_and(|e| e == "zst") || lines.len() < 3 {
            return Vec::new();
        }
        let dropped: serde_json::Value = serde_json::from_str(lines.remove(1)).unwrap();
        let bytes = lines.concat().into_bytes();
        write(path, &Content { bytes, mtime });
        dropped["n"]
            .as_str()
            .map(str::to_owned)
            .into_iter()
            .collect()
    }

    /// Removes lines that the user gave up from those that must not be lost.
    pub(crate) fn give_up(&mut self, lines: &[String]) {
        self.written.retain(|line| !lines.contains(line));
    }

    fn archive_conversation(&self, path: &Path) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let relative = path.strip_prefix(&self.home).unwrap();
        let target = if relative.starts_with("sessions") {
            self.home.join("archived_sessions").join(&name)
        } else {
            let day = &name[16..18];
            self.home
                .join(format!("sessions/2026/11/{day}"))
                .join(&name)
        };
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if !target.exists() {
            fs::rename(path, target).unwrap();
        }
    }

    fn compress_conversation(path: &Path) {
        if path.extension().is_some_and(|e| e == "zst") {
            return;
        }
        let mtime = path.metadata().unwrap().modified().unwrap();
        let text = fs::read(path).unwrap();
        let content = Content {
            bytes: zstd::encode_all(&*text, 1).unwrap(),
            mtime,
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".zst");
        write(Path::new(&name), &content);
        fs::remove_file(path).unwrap();
    }

    /// Returns the lines that the user wrote on this machine, each with the machine's name.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&String, &String)> {
        self.written.iter().map(|line| (line, &self.name))
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        let mut texts: Vec<_> = files_below(&self.home)
            .iter()
            .map(|path| plain_text(&self.home.join(path)))
            .collect();
        let conflict_copies = self.replica.conflict_copies();
        texts.extend(
            files_below(&conflict_copies)
                .iter()
                .map(|path| plain_text(&conflict_copies.join(path))),
        );
        texts
    }

    /// Returns all lines that this machine has in conversations, conflict copies, prompts and names.
    pub(crate) fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for text in self.texts() {
            lines.extend(lines_of(&text));
        }
        lines
    }

    /// Returns the files that should be equal on all machines: uncompressed text by path.
    pub(crate) fn shared_files(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for path in files_below(&self.home) {
            let text = String::from_utf8_lossy(&plain_text(&self.home.join(&path))).into_owned();
            all.insert(path.trim_end_matches(".zst").to_owned(), text);
        }
        let conflict_copies = self.replica.conflict_copies();
        for path in files_below(&conflict_copies) {
            let text = fs::read_to_string(conflict_copies.join(&path)).unwrap();
            all.insert(format!("forks/{path}"), text);
        }
        all
    }

    /// Returns all texts of the home, the cloud folder and the backups.
    pub(crate) fn plain_versions(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = self
            .texts()
            .into_iter()
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect();
        let cloud = files_below(&self.cloud);
        all.extend(
            cloud
                .iter()
                .filter_map(|path| fs::read_to_string(self.cloud.join(path)).ok()),
        );
        let backups = &self.config.backup.folder;
        for path in files_below(backups) {
            let full = backups.join(&path);
            if full.extension().is_some_and(|e| e == "zip") {
                let mut zip = zip::ZipArchive::new(fs::File::open(&full).unwrap()).unwrap();
                for index in 0..zip.len() {
                    let mut text = Vec::new();
                    zip.by_index(index).unwrap().read_to_end(&mut text).unwrap();
                    all.insert(String::from_utf8_lossy(&text).into_owned());
                }
            } else {
                all.insert(String::from_utf8_lossy(&fs::read(full).unwrap()).into_owned());
            }
        }
        all
    }

    /// Asserts one file per conversation, complete lines, and no repeated prompt. The order of prompts is not
    /// checked, because clocks differ.
    pub(crate) fn assert_files_intact(&self, context: &dyn Fn() -> String) {
        let mut names = BTreeSet::new();
        for path in files_below(&self.home) {
            let text = plain_text(&self.home.join(&path));
            assert!(
                text.ends_with(b"\n") && !text.contains(&0),
                "{path} is torn\n{}",
                context()
            );
            let name = path
                .rsplit('/')
                .next()
                .unwrap()
                .trim_end_matches(".zst")
                .to_owned();
            if name.starts_with("rollout-") {
                assert!(names.insert(name), "{path} exists twice\n{}", context());
            }
            if path == "history.jsonl" {
                let text = String::from_utf8(text).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let once: BTreeSet<&&str> = lines.iter().collect();
                assert_eq!(
                    once.len(),
                    lines.len(),
                    "a line exists twice\n{}",
                    context()
                );
            }
        }
    }

    /// Returns all files with their texts, for the message of a failed assertion.
    pub(crate) fn listing(&self) -> String {
        let mut out = format!(
            "--- {} ({:?} {:?})\n",
            self.name, self.config.policy.rules.compare, self.config.policy.rules.conflict
        );
        for (label, folder) in [
            ("home", self.home.clone()),
            ("cloud", self.cloud.clone()),
            ("forks", self.replica.conflict_copies()),
        ] {
            for path in files_below(&folder) {
                let text = plain_text(&folder.join(&path));
                let tail: Vec<_> = String::from_utf8_lossy(&text)
                    .lines()
                    .map(|line| line.chars().take(60).collect::<String>())
                    .collect();
                let _ = writeln!(out, "{label} {path}\n    {}", tail.join("\n    "));
            }
        }
        out
    }
}

fn skill_text(line: &str) -> String {
    format!("skill {line}\n")
}

/// Returns a line with a message of the user, as Codex writes it, with the name of the line.
fn message(line: &str, at: SystemTime) -> String {
    let time = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
    format!(
        "{{\"timestamp\":\"{time}\",\"type\":\"response_item\",\"payload\":{{\"type\":\"message\",\"role\":\"user\",\
         \"content\":[{{\"type\":\"input_text\",\"text\":\"{line}\"}}]}},\"n\":\"{line}\"}}\n"
    )
}

/// Replaces all files of a folder by these.
fn replace_files(folder: &Path, files: &BTreeMap<String, Content>) {
    for path in files_below(folder) {
        fs::remove_file(folder.join(path)).unwrap();
    }
    for (path, content) in files {
        write(&folder.join(path), content);
    }
}

fn append(path: &Path, text: &str, at: SystemTime) {
    let mut bytes = fs::read(path).unwrap_or_default();
    bytes.extend_from_slice(text.as_bytes());
    write(path, &Content { bytes, mtime: at });
}

fn write(path: &Path, content: &Content) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &content.bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(content.mtime).unwrap();
}

fn read(path: &Path) -> Option<Content> {
    let bytes = fs::read(path).ok()?;
    let mtime = path.metadata().ok()?.modified().ok()?;
    Some(Content { bytes, mtime })
}

/// Returns the lines of a file that a user wrote.
fn lines_of(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let values = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let texts = values.flatten().flat_map(|value| {
        ["n", "text", "thread_name"].map(|key| value[key].as_str().map(str::to_owned))
    });
    texts.flatten().collect()
}

fn plain_text(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let read = codex_manager_core::codex::rollout::open_plain(path)
        .and_then(|mut reader| reader.read_to_end(&mut text));
    // A partial compressed file cannot be unpacked and is returned as it is.
    if read.is_err() {
        text = fs::read(path).unwrap_or_default();
    }
    text
}

/// Returns the relative paths of all files below a folder, with `/`, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(folder).unwrap();
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
