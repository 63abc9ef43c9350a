//! A folder that a client replicates between machines, badly: late, in any order, in halves, under
//! other names, and with files gone for a while. And the machines that use it.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use codex_manager::io::environment::Environment;
use codex_manager::io::progress::Silent;
use codex_manager::sync::apply::{self, ApplyError, Work};
use codex_manager::sync::config::{DeletePolicy, Surroundings, SyncConfig};
use codex_manager::sync::plan::{self, NotArrived, PlanError, Request};
use codex_manager::sync::state::Replica;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Numbers that follow from a seed (splitmix64).
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

/// A file as a client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Content {
    bytes: Vec<u8>,
    mtime: SystemTime,
}

/// The state of a file in the client of one machine.
#[derive(Clone, Default)]
struct Known {
    /// The version of the server that this machine has, 0 for none.
    version: u64,
    /// The content that the client left in the folder.
    bytes: Option<Vec<u8>>,
    /// The whole file, while half of it lies in the folder.
    rest: Option<Content>,
    /// The content that is temporarily missing.
    hidden: Option<Content>,
}

/// The server: every path with its version; `None` was deleted.
#[derive(Default)]
pub(crate) struct Cloud {
    files: BTreeMap<String, (u64, Option<Content>)>,
    copies: u64,
    /// Every version of a skill that was ever there.
    skills: BTreeMap<String, Vec<Content>>,
}

/// All files of the server as they were once.
pub(crate) struct Day(BTreeMap<String, Content>);

impl Cloud {
    /// One thing that clients do, at one path or at all.
    pub(crate) fn does_something(&mut self, machine: &mut Machine, rng: &mut Rng) {
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
                    self.download(machine, path, Arrives::Whole, rng.next());
                }
            }
            4 | 5 => self.upload(machine, &path, rng.next()),
            6 => self.download(machine, &path, Arrives::Whole, rng.next()),
            7 => self.download(machine, &path, Arrives::Half, rng.next()),
            8 => self.download(machine, &path, Arrives::WithZeros, rng.next()),
            9 => machine.hide(&path),
            10 if rng.chance(40) => {
                for path in &paths {
                    machine.hide(path);
                }
            }
            10 => machine.unhide_all(),
            _ => self.doubles(machine, &path),
        }
    }

    /// A client brings an earlier version of a skill back: late and to one machine alone, or for all.
    pub(crate) fn brings_back(&mut self, machine: &mut Machine, rng: &mut Rng) {
        let paths: Vec<&String> = self.skills.keys().collect();
        let Some(path) = rng.pick(&paths).map(|path| (*path).clone()) else {
            return;
        };
        let Some(content) = rng.pick(&self.skills[&path]).cloned() else {
            return;
        };
        let version = self.files.get(&path).map_or(0, |(version, _)| *version);
        if rng.chance(50) {
            self.files.insert(path, (version + 1, Some(content)));
            return;
        }
        let full = machine.cloud.join(&path);
        let known = machine.client.entry(path).or_default();
        // What has not been uploaded is not overwritten by clients.
        if known.hidden.is_none() && read(&full).map(|local| local.bytes) == known.bytes {
            write(&full, &content);
            known.bytes = Some(content.bytes);
            known.rest = None;
            known.version = version.saturating_sub(1);
        }
    }

    /// Everything as it is now.
    pub(crate) fn day(&self) -> Day {
        let there = self.files.iter();
        Day(there
            .filter_map(|(path, (_, content))| Some((path.clone(), content.clone()?)))
            .collect())
    }

    /// Resets the whole folder to an earlier state; newer files stay.
    pub(crate) fn goes_back(&mut self, day: &Day) {
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

    /// Everything arrives, whole, until nothing is under way.
    pub(crate) fn delivers_everything(&mut self, machine: &mut Machine) {
        machine.unhide_all();
        for _ in 0..4 {
            for path in self.paths(machine) {
                self.upload(machine, &path, 7);
                self.download(machine, &path, Arrives::Whole, 0);
            }
        }
    }

    fn paths(&self, machine: &Machine) -> Vec<String> {
        let mut paths: BTreeSet<String> = self.files.keys().cloned().collect();
        paths.extend(machine.client.keys().cloned());
        paths.extend(files_below(&machine.cloud));
        // Clients leave temp files of others alone.
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
        known.rest = None;
        if server.0 == known.version {
            known.bytes = local.as_ref().map(|c| c.bytes.clone());
            known.version = server.0 + 1;
            let version = known.version;
            self.accept(path, version, local);
            return;
        }
        // Somebody else was faster.
        match local {
            // A deletion loses against a change.
            None => *known = Known::default(),
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
                *known = Known::default();
                self.copies += 1;
                let copy = conflict_name(path, self.copies, chance, &machine.name);
                let target = machine.cloud.join(&copy);
                write(&target, &local);
                fs::remove_file(&full).unwrap();
            }
        }
    }

    fn download(&mut self, machine: &mut Machine, path: &str, how: Arrives, chance: u64) {
        let full = machine.cloud.join(path);
        let known = machine.client.entry(path.to_owned()).or_default();
        let local = read(&full);
        if known.hidden.is_some() || local.as_ref().map(|c| &c.bytes) != known.bytes.as_ref() {
            return;
        }
        let Some((version, content)) = self.files.get(path).cloned() else {
            return;
        };
        if version == known.version && known.rest.is_none() {
            return;
        }
        known.version = version;
        known.rest = None;
        let Some(mut content) = content else {
            known.bytes = None;
            if local.is_some() {
                fs::remove_file(&full).unwrap();
            }
            return;
        };
        // Clients keep times, round them, or make them anew.
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
        if !content.bytes.is_empty() && how != Arrives::Whole {
            let cut = usize::try_from(chance >> 8).unwrap_or(0) % content.bytes.len();
            if how == Arrives::Half {
                content.bytes.truncate(cut);
            } else {
                content.bytes[cut..].fill(0);
            }
            content.mtime += Duration::from_millis(1 + chance % 997);
            known.rest = Some(whole);
        }
        known.bytes = Some(content.bytes.clone());
        write(&full, &content);
    }

    /// A client that has made a copy of what it had already.
    fn doubles(&mut self, machine: &mut Machine, path: &str) {
        if path.starts_with(".codex-manager") && !self.copies.is_multiple_of(3) {
            return;
        }
        let under_way = machine
            .client
            .get(path)
            .is_some_and(|known| known.rest.is_some());
        if let Some(content) = read(&machine.cloud.join(path)).filter(|_| !under_way) {
            self.copies += 1;
            let copy = conflict_name(path, self.copies, 0, &machine.name);
            write(&machine.cloud.join(copy), &content);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrives {
    Whole,
    Half,
    WithZeros,
}

/// Returns true if a run was interrupted, before or after it kept something.
fn is_interrupted(error: &ApplyError) -> bool {
    match error {
        ApplyError::Interrupted => true,
        ApplyError::Stopped { cause, .. } => is_interrupted(cause),
        _ => false,
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

/// The phase of the end of a simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The simulation still runs normally.
    None,
    /// No machine writes any more, and all files arrive.
    Coming,
    /// All machines have learned of all.
    Reached,
}

/// A disk as it was once.
pub(crate) struct Disk {
    home: BTreeMap<String, Content>,
    state: BTreeMap<String, Content>,
    written: BTreeSet<String>,
    skills_written: BTreeSet<String>,
}

/// The panic payload of a killed machine.
struct Killed;

/// A machine: a home, a manager home, its copy of the cloud folder, and a user.
pub(crate) struct Machine {
    pub(crate) name: String,
    home: PathBuf,
    cloud: PathBuf,
    config: SyncConfig,
    replica: Replica,
    client: BTreeMap<String, Known>,
    clock: SystemTime,
    counter: u64,
    /// Lines of conversations, prompts and names that the user wrote.
    written: BTreeSet<String>,
    /// Contents of skills that the user wrote.
    pub(crate) skills_written: BTreeSet<String>,
    /// Those that the user has overwritten.
    pub(crate) skills_replaced: BTreeSet<String>,
    /// Which text of a skill the user wrote over which.
    pub(crate) skills_over: Vec<(String, String)>,
    /// Those that it has put into the cloud folder.
    skills_sent: BTreeSet<String>,
    /// Those that the user has deleted.
    pub(crate) skills_deleted: BTreeSet<String>,
    /// Skills of which `conflict.policy` has chosen a version, by path.
    pub(crate) skills_chosen: BTreeSet<String>,
    /// True if the user accepts files without attestation in the final phase.
    pub(crate) accepts_unlisted: bool,
    /// The files that its last run found in other manifests and not in the folder.
    pub(crate) not_arrived: Vec<NotArrived>,
    /// True if its last run ended before it published its manifest.
    pub(crate) is_untold: bool,
    runs: i64,
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
        let around = Surroundings {
            env: &env,
            codex_home: &home,
            manager_home: &root,
        };
        let config = SyncConfig::parse(Path::new("/sync.toml"), &text, &around).unwrap();
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
            skills_written: BTreeSet::new(),
            skills_replaced: BTreeSet::new(),
            skills_over: Vec::new(),
            skills_sent: BTreeSet::new(),
            skills_deleted: BTreeSet::new(),
            skills_chosen: BTreeSet::new(),
            accepts_unlisted: false,
            not_arrived: Vec::new(),
            is_untold: false,
            runs: 0,
        }
    }

    /// Returns true if its client has not uploaded a manifest of this machine yet.
    pub(crate) fn has_unsent_words(&self) -> bool {
        let words = files_below(&self.cloud.join(".codex-manager")).into_iter();
        words
            .map(|path| format!(".codex-manager/{path}"))
            .any(|path| {
                let there = read(&self.cloud.join(&path)).map(|content| content.bytes);
                self.client.get(&path).and_then(|known| known.bytes.clone()) != there
            })
    }

    /// Returns the contents of the home and of the state on its disk.
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

    /// The state is put back; what the home has stays.
    pub(crate) fn forgets(&self, disk: &Disk) {
        lay_out(&self.replica.folder, &disk.state);
    }

    /// All of the disk is put back. What the user has written since may be gone with it.
    pub(crate) fn is_put_back(&mut self, disk: &Disk) {
        self.forgets(disk);
        lay_out(&self.home, &disk.home);
        self.written.retain(|line| disk.written.contains(line));
        let of_then = &disk.skills_written;
        self.skills_written.retain(|text| of_then.contains(text));
    }

    /// It becomes a copy of another machine, with the cloud folder or without.
    pub(crate) fn becomes(&mut self, other: &Self, with_cloud: bool) {
        let disk = other.disk();
        self.is_put_back(&disk);
        self.config.machine_id.clone_from(&other.config.machine_id);
        if with_cloud {
            let paths = files_below(&other.cloud).into_iter();
            let files = paths.filter_map(|path| {
                let content = read(&other.cloud.join(&path))?;
                Some((path, content))
            });
            lay_out(&self.cloud, &files.collect());
            self.client.clone_from(&other.client);
        }
    }

    /// Lets the user decide about conflicts in the final phase.
    pub(crate) fn decides_by_itself(&mut self) {
        use codex_manager::sync::config::ConflictPolicy;
        if self.config.conflict != ConflictPolicy::PreferCloud {
            self.config.conflict = ConflictPolicy::PreferLocal;
        }
    }

    /// Plans and applies; ended or killed before the given change of a file. Whether anything was done.
    pub(crate) fn sync(&mut self, killed_before: Option<usize>, rest: Rest) -> bool {
        self.runs += 1;
        let request = Request {
            config: &self.config,
            replica: &self.replica,
            refill: false,
            accept_unlisted: rest != Rest::None && self.accepts_unlisted,
            delete_many: rest != Rest::None,
            chosen: None,
        };
        let planned = plan::plan(&request);
        let (plan, state) = match planned {
            Ok(planned) => planned,
            Err(PlanError::Hollow { .. }) if rest == Rest::None => return false,
            Err(error) => panic!("{}: {error}", self.name),
        };
        if !plan.conflicts.is_empty() {
            assert!(rest == Rest::None, "{}: {:?}", self.name, plan.conflicts);
        }
        if plan.is_stopped(self.config.conflict) {
            return false;
        }
        if rest == Rest::Reached {
            // A copy that a client made of a skill that was deleted since may be a skill of its own.
            let waiting = plan
                .waiting
                .iter()
                .filter(|(path, _)| !path.contains("SKILL ("));
            let waiting: Vec<_> = waiting.collect();
            assert!(waiting.is_empty(), "{}: at rest {waiting:?}", self.name);
        }
        self.not_arrived.clone_from(&plan.not_arrived);
        let chosen = plan.steps.iter().filter(|step| step.conflict.is_some());
        self.skills_chosen
            .extend(chosen.map(|step| step.path.clone()));
        let left = Cell::new(killed_before.unwrap_or(usize::MAX));
        // Whoever is asked to end puts things in order first; whoever is killed does not.
        let is_killed = killed_before.is_some_and(|n| n % 2 == 1);
        let go_on = || {
            let n = left.get();
            left.set(n.saturating_sub(1));
            if n == 0 && is_killed {
                resume_unwind(Box::new(Killed));
            }
            n > 0
        };
        let now = chrono::DateTime::from_timestamp(1_795_100_000 + self.runs, 0).unwrap();
        let work = Work {
            config: &self.config,
            replica: &self.replica,
            go_on: &go_on,
            progress: &Silent,
            now,
        };
        let applied = catch_unwind(AssertUnwindSafe(|| apply::apply(&plan, state, &work)));
        self.is_untold = true;
        let applied = match applied {
            Ok(applied) => applied,
            Err(panic) if panic.is::<Killed>() => return true,
            Err(panic) => resume_unwind(panic),
        };
        for name in ["a", "b"] {
            let path = self.cloud.join(format!("skills/{name}/SKILL.md"));
            self.skills_sent.extend(fs::read_to_string(path));
        }
        match applied {
            Ok(report) => {
                assert_eq!(report.skipped, [], "{}: {:#?}", self.name, plan.steps);
                self.is_untold = false;
                !report.done.is_empty()
            }
            Err(error) if is_interrupted(&error) => true,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    fn hide(&mut self, path: &str) {
        let full = self.cloud.join(path);
        let Some(content) = read(&full) else { return };
        let known = self.client.entry(path.to_owned()).or_default();
        // What has not been uploaded yet is not lost by clients.
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
                // One that was made again meanwhile is a change like any other.
                if !full.exists() {
                    write(&full, &content);
                }
            }
        }
    }

    fn tick(&mut self, rng: &mut Rng) -> SystemTime {
        self.clock += Duration::from_millis(1 + rng.below(90_000) as u64);
        self.clock
    }

    fn line(&mut self) -> String {
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

    /// Simulates one action of the user in Codex.
    pub(crate) fn user_does_something(&mut self, rng: &mut Rng) {
        let at = self.tick(rng);
        let known = self.conversations();
        match rng.below(12) {
            0 | 1 => self.starts(None, rng, at),
            2 => {
                let parent = rng.pick(&known).cloned();
                self.starts(parent, rng, at);
            }
            3..7 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    self.goes_on(&path, at);
                }
            }
            7 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    self.archives(&path);
                }
            }
            8 => {
                if let Some(path) = rng.pick(&known).cloned() {
                    Self::packs(&path);
                }
            }
            9 => {
                let line = self.line();
                let secs = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                let text = format!("{{\"session_id\":\"x\",\"ts\":{secs},\"text\":\"{line}\"}}\n");
                append(&self.home.join("history.jsonl"), &text, at);
                self.written.insert(line);
            }
            10 => {
                let line = self.line();
                let time = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
                let text = format!(
                    "{{\"id\":\"x\",\"thread_name\":\"{line}\",\"updated_at\":\"{time}\"}}\n"
                );
                append(&self.home.join("session_index.jsonl"), &text, at);
                self.written.insert(line);
            }
            _ => self.writes_skill(rng, at),
        }
    }

    /// Deletions go over from now on.
    pub(crate) fn sends_deletions_on(&mut self) {
        self.config.delete = DeletePolicy::Propagate;
    }

    /// The user deletes a skill.
    pub(crate) fn deletes_a_skill(&mut self, rng: &mut Rng) {
        let name = ["a", "b"][rng.below(2)];
        let path = self.home.join(format!("skills/{name}/SKILL.md"));
        if let Ok(text) = fs::read_to_string(&path) {
            if !self.skills_sent.contains(&text) {
                // It came over nothing that another machine has.
                self.skills_over.retain(|(_, newer)| *newer != text);
            }
            self.skills_deleted.insert(text.clone());
            // What both sides had goes with it.
            let there = self.cloud.join(format!("skills/{name}/SKILL.md"));
            self.skills_deleted.extend(fs::read_to_string(there));
            self.skills_replaced.insert(text);
            fs::remove_file(path).unwrap();
        }
    }

    /// Simulates an edit of a skill, on a machine whose clock may be slow.
    pub(crate) fn edits_a_skill(&mut self, rng: &mut Rng) {
        let at = self.tick(rng);
        self.writes_skill(rng, at);
    }

    fn writes_skill(&mut self, rng: &mut Rng, at: SystemTime) {
        let line = self.line();
        let name = ["a", "b"][rng.below(2)];
        let text = format!("skill {line}\n");
        let path = self.home.join(format!("skills/{name}/SKILL.md"));
        if let Ok(before) = fs::read_to_string(&path) {
            // What somebody overwrites is theirs to lose.
            self.skills_replaced.insert(before.clone());
            self.skills_over.push((before, text.clone()));
        }
        let bytes = text.clone().into_bytes();
        write(&path, &Content { bytes, mtime: at });
        self.skills_written.insert(text);
    }

    fn starts(&mut self, parent: Option<PathBuf>, rng: &mut Rng, at: SystemTime) {
        let line = self.line();
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
        let text = format!(
            "{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"{base}}}}}\n{{\"n\":\"{line}\"}}\n"
        );
        append(&path, &text, at);
        self.written.insert(line);
    }

    fn goes_on(&mut self, path: &Path, at: SystemTime) {
        let line = self.line();
        let text = format!("{{\"n\":\"{line}\"}}\n");
        // As Codex: unpacked first.
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

    fn archives(&self, path: &Path) {
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

    fn packs(path: &Path) {
        if path.extension().is_some_and(|e| e == "zst") {
            return;
        }
        let mtime = path.metadata().unwrap().modified().unwrap();
        let text = fs::read(path).unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let content = Content {
            bytes: ruzstd::encoding::compress_to_vec(&*text, level),
            mtime,
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".zst");
        write(Path::new(&name), &content);
        fs::remove_file(path).unwrap();
    }

    /// Every line that the user wrote, with the machine's name.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&String, &String)> {
        self.written.iter().map(|line| (line, &self.name))
    }

    fn texts(&self) -> Vec<Vec<u8>> {
        let mut texts: Vec<_> = files_below(&self.home)
            .iter()
            .map(|path| plain_text(&self.home.join(path)))
            .collect();
        let forks = self.replica.forks();
        texts.extend(
            files_below(&forks)
                .iter()
                .map(|path| plain_text(&forks.join(path))),
        );
        texts
    }

    /// All lines that this machine has: in conversations, in kept forks, in prompts and names.
    pub(crate) fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for text in self.texts() {
            for line in String::from_utf8_lossy(&text).lines() {
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(line) {
                    for key in ["n", "text", "thread_name"] {
                        lines.extend(value[key].as_str().map(str::to_owned));
                    }
                }
            }
        }
        lines
    }

    /// Returns the contents that have to be equal on all machines: text by path, without the form.
    pub(crate) fn holds(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for path in files_below(&self.home) {
            let text = String::from_utf8_lossy(&plain_text(&self.home.join(&path))).into_owned();
            all.insert(path.trim_end_matches(".zst").to_owned(), text);
        }
        let forks = self.replica.forks();
        for path in files_below(&forks) {
            let text = fs::read_to_string(forks.join(&path)).unwrap();
            all.insert(format!("forks/{path}"), text);
        }
        all
    }

    /// Every version of a skill that is in the home or in a backup.
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
        let backups = &self.config.backup_dir;
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

    /// One file for each conversation, whole lines, no prompt twice. (Their order is that in which they
    /// were written where one machine's clock is slow and nothing had to be merged.)
    pub(crate) fn assert_in_order(&self, told: &dyn Fn() -> String) {
        let mut names = BTreeSet::new();
        for path in files_below(&self.home) {
            let text = plain_text(&self.home.join(&path));
            assert!(
                text.ends_with(b"\n") && !text.contains(&0),
                "{path} is torn\n{}",
                told()
            );
            let name = path
                .rsplit('/')
                .next()
                .unwrap()
                .trim_end_matches(".zst")
                .to_owned();
            if name.starts_with("rollout-") {
                assert!(names.insert(name), "{path} is there twice\n{}", told());
            }
            if path == "history.jsonl" {
                let text = String::from_utf8(text).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let once: BTreeSet<&&str> = lines.iter().collect();
                assert_eq!(once.len(), lines.len(), "a line is there twice\n{}", told());
            }
        }
    }

    /// All files, for people who look for what went wrong.
    pub(crate) fn listing(&self) -> String {
        let mut out = format!(
            "--- {} ({:?} {:?})\n",
            self.name, self.config.compare, self.config.conflict
        );
        for (label, folder) in [
            ("home", self.home.clone()),
            ("cloud", self.cloud.clone()),
            ("forks", self.replica.forks()),
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

/// Makes a folder hold these files and no others.
fn lay_out(folder: &Path, files: &BTreeMap<String, Content>) {
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

fn plain_text(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let read = codex_manager::codex::rollout::open_plain(path)
        .and_then(|mut reader| reader.read_to_end(&mut text));
    // Half a packed file of the cloud folder is shown as it is.
    if read.is_err() {
        text = fs::read(path).unwrap_or_default();
    }
    text
}

/// Files below a folder, relative, with `/`, ordered.
fn files_below(folder: &Path) -> Vec<String> {
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
