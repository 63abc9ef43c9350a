//! The work of a restore, from the first check to the last.

use super::live::{self, LiveFile};
use super::merge::{self, Merged};
use super::pending::Note;
use super::plan::{self, RestorePlan, Selection, Target};
use super::stage::{self, Carry, Extract, Root, Stage};
use super::swap::{self, Step, Swap};
use super::{RestoreError, stage::set_attributes};
use crate::accounts::choice::{self, AuthOutcome, AuthPolicy, Candidates, Choice, Decision};
use crate::accounts::profile::{Owner, Profile, Profiles};
use crate::archive::ArchiveError;
use crate::archive::capture::{self, Workplace};
use crate::archive::entry_name::EntryName;
use crate::archive::metadata::{Metadata, Mode};
use crate::archive::names;
use crate::archive::pack::Compression;
use crate::archive::publish::{self, Published};
use crate::archive::reader::{Archive, Contents, Layout};
use crate::archive::scan::CaptureScope;
use crate::codex::auth::{AuthFile, AuthSnapshot};
use crate::codex::config::CodexConfig;
use crate::codex::database;
use crate::codex::home::{self, Kind, kind_of};
use crate::codex::login_lock::{self, LoginLock};
use crate::codex::process::{self, Holder};
use crate::codex::rollout::{self, ConversationFile, Relation};
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::lock::LockError;
use crate::io::{IoContext, IoError, Progress, atomic, space, tree};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The label of archives that are made before a restore.
pub const SAFETY_LABEL: &str = "safety";

/// What to put back, and where.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// The folder that it is put into, absolute.
    pub folder: PathBuf,
    /// Whether that is the Codex home.
    pub target: Target,
    /// Which part.
    pub selection: Selection,
    /// Whether conversations that exist only here are kept.
    pub merge: bool,
    /// Which login goes live.
    pub auth: AuthPolicy,
    /// Whether another account's archive may be put over the live one's.
    pub may_switch_account: bool,
    /// Whether what will change is archived first.
    pub safety_backup: bool,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The process's environment.
    pub env: &'a Environment,
    /// The current instant in the local zone.
    pub now: Timestamp,
}

/// What was done.
#[derive(Debug)]
pub struct RestoreReport {
    /// How many files were put back, the login among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was removed.
    pub removed: BTreeSet<PathBuf>,
    /// The safety backup.
    pub safety: Option<Published>,
    /// What became of the login.
    pub auth: AuthOutcome,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Checks a request and decides what it would do. Writes nothing, not even beside a database.
///
/// # Errors
/// Whatever would stop [`apply`] before it changes anything, as far as it can be known by looking.
pub fn plan(request: &RestoreRequest<'_>) -> Result<RestorePlan, RestoreError> {
    let live = prepare(request)?;
    let mut plan = plan::plan_restore(
        request.archive,
        request.target,
        &request.selection,
        request.merge,
        &live,
    )?;
    plan.wants_login &= request.auth != AuthPolicy::Skip;
    check_account(request, &plan)?;
    Ok(plan)
}

/// Who uses the home that would be replaced.
pub fn holders(request: &RestoreRequest<'_>) -> Vec<Holder> {
    match request.target {
        Target::Home if request.folder.exists() => {
            let outside = process::outside_folders(&request.folder, request.env);
            process::find_holders(&request.folder, &outside)
        }
        _ => Vec::new(),
    }
}

fn prepare(request: &RestoreRequest<'_>) -> Result<Vec<LiveFile>, RestoreError> {
    match request.target {
        Target::Home => Ok(live::list(&request.folder)?),
        Target::Elsewhere => {
            let is_empty = match fs::read_dir(&request.folder) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => true,
                Err(e) => return Err(e).at("list", &request.folder).map_err(Into::into),
            };
            if is_empty {
                Ok(Vec::new())
            } else {
                Err(RestoreError::NotEmpty(request.folder.clone()))
            }
        }
    }
}

/// Puts the archive back. Nothing live is touched before everything is checked, saved and staged;
/// then it is exchanged, and a kill at any moment leaves the old state or the new one.
pub fn apply(
    request: &RestoreRequest<'_>,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let busy = holders(request);
    if !busy.is_empty() {
        return Err(RestoreError::Busy(busy));
    }
    let plan = plan(request)?;
    // A link is a name for the home; the exchange is done where the home is.
    let folder = request
        .folder
        .canonicalize()
        .unwrap_or_else(|_| request.folder.clone());
    let mut work = Work::begin(request, plan, folder)?;
    work.extract(progress)?;
    work.check_databases()?;
    work.unite()?;
    work.settle_databases()?;
    let safety = work.safety_backup(progress)?;
    work.carry()?;
    let (auth, login_lock) = work.login()?;
    let outcome = work.commit(auth, safety);
    drop(login_lock);
    outcome
}

/// A login of another account is only replaced when that was asked for.
fn check_account(request: &RestoreRequest<'_>, plan: &RestorePlan) -> Result<(), RestoreError> {
    if request.target != Target::Home || !plan.wants_login {
        return Ok(());
    }
    let store = CodexConfig::read(&request.folder).store;
    if !store.reads_auth_json() && request.archive.metadata().mode == Mode::Auth {
        return Err(RestoreError::OtherStore(store.name()));
    }
    let live = AuthFile::read(&request.folder.join(home::AUTH_JSON))?;
    let (Some(live), Some(archived)) = (live.login(), archived_identity(request.archive)) else {
        return Ok(());
    };
    if live.identity.is_same(&archived) || request.may_switch_account {
        return Ok(());
    }
    Err(RestoreError::AnotherAccount {
        archive: archived.to_string(),
        live: live.identity.to_string(),
    })
}

fn archived_identity(archive: &Archive) -> Option<crate::codex::identity::Identity> {
    match archive.manifest() {
        Some(manifest) => manifest.account_auth.as_ref()?.identity.clone(),
        None => archive.metadata().identity(),
    }
}

/// A restore that is being staged.
struct Work<'a> {
    request: &'a RestoreRequest<'a>,
    plan: RestorePlan,
    /// The real folder that is replaced.
    folder: PathBuf,
    contents: Contents,
    live: Vec<LiveFile>,
    stage: Stage,
    swap: Swap,
    /// Whether the whole folder is exchanged in one call.
    whole: bool,
    merged: Merged,
    /// Databases that lie outside the home: live folder and staged folder.
    outside: Option<(PathBuf, PathBuf)>,
    notes: Vec<String>,
    _note: Note,
}

impl<'a> Work<'a> {
    fn begin(
        request: &'a RestoreRequest<'a>,
        plan: RestorePlan,
        folder: PathBuf,
    ) -> Result<Self, RestoreError> {
        let beside = swap::folder_beside(&folder);
        atomic::create_private_folder(atomic::parent_of(&folder))?;
        let note = Note::leave(request.manager_home, &beside)?;
        let (mut swap, note) = match Swap::begin(&beside) {
            Ok(swap) => (swap, note),
            // Nothing may be made beside it: stage within it.
            Err(swap::SwapError::Io(e)) if folder.exists() && is_denied(&e) => {
                drop(note);
                let within = swap::folder_within(&folder);
                let note = Note::leave(request.manager_home, &within)?;
                (Swap::begin(&within)?, note)
            }
            Err(e) => return Err(e.into()),
        };
        let whole = swap.folder() == beside && stage::can_exchange_whole(&folder, swap.folder());
        if !whole && swap.folder() == beside && !space::same_file_system(&folder, &beside) {
            // A home that is a mount of its own: renames only work within it.
            drop((swap, note));
            let within = swap::folder_within(&folder);
            let note = Note::leave(request.manager_home, &within)?;
            let swap = Swap::begin(&within)?;
            return Self::with(request, plan, folder, swap, false, note);
        }
        check_space(request, &plan, swap.folder())?;
        let _ = &mut swap;
        Self::with(request, plan, folder, swap, whole, note)
    }

    fn with(
        request: &'a RestoreRequest<'a>,
        plan: RestorePlan,
        folder: PathBuf,
        mut swap: Swap,
        whole: bool,
        note: Note,
    ) -> Result<Self, RestoreError> {
        let live = prepare(request)?;
        let mut roots = vec![Root {
            prefix: PathBuf::new(),
            live: folder.clone(),
            staged: swap.folder().join("new"),
        }];
        for root in linked_roots(&folder, &plan)? {
            swap.add_folder(&swap::folder_beside(&root.live))?;
            roots.push(root);
        }
        let outside = swap.folder().join("outside");
        atomic::create_private_folder(&roots[0].staged)?;
        let contents = request.archive.contents();
        let stage = Stage {
            roots,
            outside,
            login: None,
            rollouts: std::collections::HashMap::new(),
        };
        Ok(Self {
            request,
            plan,
            folder,
            contents,
            live,
            stage,
            swap,
            whole,
            merged: Merged::default(),
            outside: None,
            notes: Vec::new(),
            _note: note,
        })
    }

    /// Unpacks what is wanted into the stage; all of the archive is checked on the way.
    fn extract(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        let mut extract = Extract {
            stage: &mut self.stage,
            plan: &self.plan,
        };
        self.request.archive.read_through(&mut extract, progress)?;
        self.stage.structure(&self.contents, &self.plan)?;
        if matches!(self.request.archive.layout(), Layout::Python(_)) {
            self.notes.push(
                "made by the Python codex-manager: no digests; names, CRC and databases were checked"
                    .into(),
            );
        }
        Ok(())
    }

    fn staged_databases(&self) -> Vec<(EntryName, PathBuf)> {
        self.plan
            .writes
            .iter()
            .filter(|name| {
                name.as_path().parent()
                    == Some(Path::new(crate::archive::manifest::OUTSIDE_DATABASES))
                    || kind_of(name.as_path()) == Kind::Database
            })
            .map(|name| (name.clone(), self.stage.place(name.as_path())))
            .filter(|(_, path)| database::is_sqlite(path))
            .collect()
    }

    /// Ours were checked when they were taken and have digests; the Python tool's are copies of
    /// live files and may be torn.
    fn check_databases(&mut self) -> Result<(), RestoreError> {
        if !matches!(self.request.archive.layout(), Layout::Python(_)) {
            return Ok(());
        }
        for (name, path) in self.staged_databases() {
            let sound = database::fold_wal(&path).and_then(|()| database::check(&path));
            if let Err(e) = sound {
                return Err(ArchiveError::Damaged {
                    archive: self.request.archive.path().to_path_buf(),
                    detail: format!("{name}: {e}"),
                }
                .into());
            }
        }
        let beside: Vec<_> = self
            .plan
            .writes
            .iter()
            .filter(|n| kind_of(n.as_path()) == Kind::DatabaseSidecar)
            .cloned()
            .collect();
        for name in beside {
            tree::remove(&self.stage.place(name.as_path()))?;
            self.plan.writes.remove(&name);
        }
        Ok(())
    }

    fn unite(&mut self) -> Result<(), RestoreError> {
        if self.plan.merge && self.plan.target == Target::Home {
            self.merged = merge::merge(&mut self.stage, &mut self.plan, &self.folder, &self.live)?;
        }
        Ok(())
    }

    /// Brings the databases into line: where they go, the paths in them, and what they remember of
    /// rollouts that are no longer the same.
    fn settle_databases(&mut self) -> Result<(), RestoreError> {
        self.place_outside_databases()?;
        let source = PathBuf::from(&self.request.archive.metadata().source_codex_home);
        let same_home = self.plan.target == Target::Home
            && (source == self.request.folder || source == self.folder);
        for (name, path) in self.staged_databases() {
            if !home::is_database_named(name.as_path(), home::STATE_DATABASE_PREFIX) {
                continue;
            }
            if self.plan.merge {
                self.adopt_threads(&name, &path)?;
            }
            if !same_home || self.plan.merge {
                let mut rollouts = self.stage.rollouts.clone();
                rollouts.extend(self.merged.only_here.clone());
                if self.plan.partial {
                    rollouts.extend(live_rollouts(&self.live));
                }
                let changed =
                    database::rewrite_rollout_paths(&path, &self.folder_for_rows(), &rollouts)?;
                if changed > 0 {
                    self.notes.push(format!(
                        "{changed} paths in {name} now point into this home"
                    ));
                }
            }
        }
        self.forget_projections()
    }

    /// The home as its owner names it: what Codex would write into its rows.
    fn folder_for_rows(&self) -> PathBuf {
        if self.request.folder.exists() {
            self.request.folder.clone()
        } else {
            self.folder.clone()
        }
    }

    fn adopt_threads(&self, name: &EntryName, staged: &Path) -> Result<(), RestoreError> {
        let live = self.folder.join(name.as_path());
        if self.merged.only_here.is_empty() || !database::is_sqlite(&live) {
            return Ok(());
        }
        let copy = self.swap.folder().join("live-state.sqlite");
        // A damaged live database has no rows to offer: Codex makes them again from the rollouts.
        if database::snapshot(&live, &copy).is_ok() {
            let ids: HashSet<String> = self.merged.only_here.keys().cloned().collect();
            database::adopt_threads(staged, &copy, &ids)?;
        }
        tree::remove(&copy)?;
        Ok(())
    }

    /// Decides where databases go that lay outside the archived home, or that Codex will look for
    /// outside this one.
    fn place_outside_databases(&mut self) -> Result<(), RestoreError> {
        let from_outside = self.plan.has_outside_databases();
        let staged_config = self.stage.home().staged.join(home::CONFIG_TOML);
        let config = if staged_config.exists() {
            CodexConfig::read(&self.stage.home().staged)
        } else {
            CodexConfig::read(&self.folder)
        };
        if self.plan.target == Target::Elsewhere {
            if config.sqlite_home.is_some() && staged_config.exists() {
                drop_sqlite_home(&staged_config)?;
                self.notes.push(
                    "sqlite_home was taken out of config.toml: the databases are in the folder itself"
                        .into(),
                );
            }
            return if from_outside {
                self.outside_into_home()
            } else {
                Ok(())
            };
        }
        let wanted = config
            .sqlite_home
            .map(|path| self.folder.join(self.request.env.absolute(&path)))
            .or_else(|| {
                self.request
                    .env
                    .get("CODEX_SQLITE_HOME")
                    .map(|p| self.request.env.absolute(Path::new(p)))
            });
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
        let wanted = wanted
            .map(|p| real(&p))
            .filter(|p| *p != real(&self.folder));
        match wanted {
            None if from_outside => self.outside_into_home(),
            None => Ok(()),
            Some(folder) => {
                let databases: Vec<_> = self
                    .staged_databases()
                    .into_iter()
                    .filter(|(name, _)| !from_outside || name.is_own())
                    .collect();
                if databases.is_empty() {
                    return Ok(());
                }
                if is_shared(&folder, &self.folder) {
                    return Err(RestoreError::SharedDatabases(folder));
                }
                atomic::create_private_folder(&folder)?;
                let staging = folder.join(".codex-manager-restore");
                self.swap.add_folder(&staging)?;
                for (name, path) in databases {
                    let file_name = name.as_path().file_name().unwrap_or_default();
                    move_file(&path, &staging.join(file_name))?;
                    self.plan.writes.remove(&name);
                    self.plan.added.remove(&name);
                }
                self.outside = Some((folder, staging));
                Ok(())
            }
        }
    }

    fn outside_into_home(&mut self) -> Result<(), RestoreError> {
        let names: Vec<_> = self
            .plan
            .writes
            .iter()
            .filter(|n| n.is_own())
            .cloned()
            .collect();
        for name in names {
            let file_name = name.as_path().file_name().unwrap_or_default();
            let staged = self.stage.place(name.as_path());
            let inside = self.stage.place(Path::new(file_name));
            if inside.symlink_metadata().is_ok() {
                tree::remove(&inside)?;
            }
            move_file(&staged, &inside)?;
            self.plan.writes.remove(&name);
            if let Ok(inside) = EntryName::of_path(Path::new(file_name)) {
                if !self.folder.join(inside.as_path()).exists() {
                    self.plan.added.insert(inside.clone());
                }
                self.plan.writes.insert(inside);
            }
        }
        Ok(())
    }

    /// Where the live projection database stays, what it remembers of rollouts that are replaced
    /// by something that is not an extension has to go. One that comes from the archive was taken
    /// before the archive's rollouts and fits them.
    fn forget_projections(&mut self) -> Result<(), RestoreError> {
        if self.plan.target == Target::Elsewhere {
            return Ok(());
        }
        let stale = self.rollouts_that_do_not_continue()?;
        if stale.is_empty() {
            return Ok(());
        }
        let projections: Vec<_> = self
            .live
            .iter()
            .filter(|f| {
                f.kind == Kind::Database
                    && home::is_database_named(&f.path, home::HISTORY_DATABASE_PREFIX)
            })
            .map(|f| f.path.clone())
            .collect();
        for path in projections {
            let Ok(name) = EntryName::of_path(&path) else {
                continue;
            };
            if self.plan.writes.contains(&name) || self.plan.removed.contains(&path) {
                continue;
            }
            let staged = self.stage.place(&path);
            atomic::create_private_folder(atomic::parent_of(&staged))?;
            let forgotten = database::snapshot(&self.folder.join(&path), &staged)
                .and_then(|()| database::forget_projections(&staged, &stale));
            match forgotten {
                Ok(()) => {
                    self.plan.writes.insert(name);
                }
                Err(_) => {
                    // It cannot be mended: Codex makes it again.
                    tree::remove(&staged)?;
                    self.plan.removed.insert(path.clone());
                }
            }
            let beside = home::database_sidecars(&path);
            self.plan
                .removed
                .extend(beside.into_iter().filter(|p| self.folder.join(p).exists()));
        }
        Ok(())
    }

    fn rollouts_that_do_not_continue(&self) -> Result<HashSet<String>, RestoreError> {
        let mut stale = HashSet::new();
        for file in self.live.iter().filter(|f| f.kind.is_rollout_folder()) {
            let Some(conversation) = ConversationFile::of(&file.path) else {
                continue;
            };
            let Some(id) = conversation.id() else {
                continue;
            };
            let here = self.folder.join(&file.path);
            let replaced_by = self
                .stage
                .rollouts
                .get(id)
                .map(|path| self.stage.place(path))
                .filter(|path| path.exists());
            let continues = match replaced_by {
                Some(staged) => matches!(
                    rollout::compare(&here, &staged).at("compare", &here)?,
                    Relation::Equal | Relation::SecondExtends
                ),
                None => !self.plan.removed.contains(&file.path),
            };
            if !continues {
                stale.insert(id.to_owned());
            }
        }
        Ok(stale)
    }

    /// Archives what will change.
    fn safety_backup(
        &mut self,
        progress: &dyn Progress,
    ) -> Result<Option<Published>, RestoreError> {
        let changes = self.plan.changes();
        let replaces_login = self.plan.wants_login && self.folder.join(home::AUTH_JSON).exists();
        let nothing = changes.is_empty() && !replaces_login && self.outside.is_none();
        if !self.request.safety_backup || self.plan.target == Target::Elsewhere || nothing {
            self.keep_damaged_databases(&HashSet::new())?;
            return Ok(None);
        }
        let archived = self.request.archive.metadata();
        let mut scope = CaptureScope::new(&self.folder, archived.mode);
        scope.include_tmp = self
            .plan
            .writes
            .iter()
            .any(|n| kind_of(n.as_path()) == Kind::Tmp);
        scope.sqlite_home = self.outside.as_ref().map(|(folder, _)| folder.clone());
        scope.undo_removes = self.plan.added.iter().cloned().collect();
        if self.plan.partial
            || self.plan.merge
            || self.request.archive.manifest().is_some_and(|m| m.partial)
        {
            scope.mode = Mode::Full;
            let mut only = changes.clone();
            if replaces_login {
                only.insert(home::AUTH_JSON.into());
            }
            scope.only = Some(only);
        }
        let manager = self.request.manager_home;
        let (backups, tmp) = (manager.join("backups"), manager.join("tmp"));
        atomic::create_private_folder(&backups)?;
        let live = AuthFile::read(&self.folder.join(home::AUTH_JSON))?;
        let mut metadata = Metadata {
            created_at: self.request.now,
            source_codex_home: self.request.folder.display().to_string(),
            mode: scope.mode,
            label: Some(SAFETY_LABEL.into()),
            inference_basis: "time of creation: made before a restore".into(),
            ..Metadata::default()
        };
        let mut label = names::SIGNED_OUT.to_owned();
        if let Some(login) = live.login() {
            metadata.set_identity(&login.identity);
            metadata.plan.clone_from(&login.plan);
            label = login.identity.email.to_string();
        }
        let workplace = Workplace {
            backups: &backups,
            tmp: &tmp,
            compression: Compression::Fast,
        };
        let captured = capture::capture(&scope, &workplace, metadata, progress)?;
        let mut unsaved = captured.skipped.clone();
        let damaged: HashSet<PathBuf> = unsaved
            .extract_if(.., |s| kind_of(Path::new(&s.path)) == Kind::Database)
            .map(|s| PathBuf::from(s.path))
            .collect();
        // An unreadable login is kept beside the profiles, apart from archives.
        unsaved.retain(|s| s.path != home::AUTH_JSON && changes.contains(Path::new(&s.path)));
        if !unsaved.is_empty() {
            return Err(RestoreError::Unsaved(unsaved));
        }
        self.keep_damaged_databases(&damaged)?;
        let stem = names::stem(&self.request.now, &label);
        let published = publish::publish(
            captured.file,
            &captured.packed,
            &stem,
            &backups,
            &manager.join(".lock"),
        )?;
        Ok(Some(published))
    }

    /// A live database that is too damaged to be archived is moved to where Codex puts such ones,
    /// so that nothing is lost by replacing it.
    fn keep_damaged_databases(&mut self, damaged: &HashSet<PathBuf>) -> Result<(), RestoreError> {
        for relative in damaged {
            let folder = format!("sqlite-{}-1", self.request.now.timestamp());
            for path in std::iter::once(relative.clone()).chain(home::database_sidecars(relative)) {
                let here = self.folder.join(&path);
                if !here.exists() {
                    continue;
                }
                let kept = Path::new(home::DB_BACKUPS)
                    .join(&folder)
                    .join(path.file_name().unwrap_or_default());
                let staged = self.stage.place(&kept);
                atomic::create_private_folder(atomic::parent_of(&staged))?;
                fs::hard_link(&here, &staged).at("keep", &here)?;
            }
            self.notes.push(format!(
                "{} is damaged and could not be archived; it was kept in {}/{folder}",
                relative.display(),
                home::DB_BACKUPS,
            ));
        }
        Ok(())
    }

    fn carry(&mut self) -> Result<(), RestoreError> {
        let own: BTreeSet<PathBuf> = self
            .swap
            .folder()
            .strip_prefix(&self.folder)
            .map(Path::to_path_buf)
            .into_iter()
            .collect();
        let exact = !self.plan.partial && !self.plan.merge;
        let carry = Carry {
            plan: &self.plan,
            skip: &own,
            exact,
        };
        // The linked folders first: where nothing of theirs is staged, nothing is exchanged.
        for root in &self.stage.roots[1..] {
            carry.root(root)?;
        }
        if self.whole {
            carry.root(self.stage.home())?;
        } else {
            for top in self.tops() {
                carry.top(self.stage.home(), &top)?;
            }
        }
        self.stage.finish_folders(&self.contents)?;
        Ok(())
    }

    /// The top-level names that change.
    fn tops(&self) -> BTreeSet<OsString> {
        let linked: HashSet<&Path> = self.stage.roots[1..]
            .iter()
            .map(|r| r.prefix.as_path())
            .collect();
        let top_of = |path: &Path| path.iter().next().map(OsString::from);
        let mut tops: BTreeSet<OsString> = self
            .plan
            .writes
            .iter()
            .map(EntryName::as_path)
            .chain(self.plan.removed.iter().map(PathBuf::as_path))
            .filter(|path| !linked.iter().any(|l| path.starts_with(l)))
            .filter_map(top_of)
            .collect();
        if let Ok(entries) = fs::read_dir(&self.stage.home().staged) {
            tops.extend(entries.flatten().map(|e| e.file_name()));
        }
        tops
    }

    /// Decides which login will be live and stages it, under Codex's own locks, which are held
    /// until the exchange is done.
    fn login(&mut self) -> Result<(AuthOutcome, Option<LoginLock>), RestoreError> {
        let staged = self.stage.home().staged.join(home::AUTH_JSON);
        if self.plan.target == Target::Elsewhere {
            let Some(bytes) = self.stage.login.take() else {
                return Ok((AuthOutcome::Skipped, None));
            };
            write_login(&staged, bytes.expose())?;
            self.notes.push(
                "the login in this folder is history: used in two places it stops working in both"
                    .into(),
            );
            return Ok((AuthOutcome::Restored, None));
        }
        let lock = if self.folder.exists() {
            Some(take_login_lock(&self.folder)?)
        } else {
            None
        };
        let live_path = self.folder.join(home::AUTH_JSON);
        let live = AuthFile::read(&live_path)?;
        let decision = self.decide(&live)?;
        let outcome = decision
            .as_ref()
            .map_or(AuthOutcome::Skipped, |(d, _)| d.outcome);
        match decision {
            Some((decision, Some(snapshot))) => {
                self.save_live(&live)?;
                write_login(&staged, snapshot.bytes.expose())?;
                self.take_ownership(&snapshot)?;
                if decision.is_stale {
                    self.notes.push(
                        "a newer login of this account was seen: this one is probably spent; run codex login if Codex refuses it".into(),
                    );
                }
                if decision.choice == Choice::Profile {
                    self.notes.push(
                        "the login of the profile went live: it is newer than the archive's".into(),
                    );
                }
            }
            // What is live stays, but never as a hard link: Codex loses a login that it renews
            // through one.
            _ if self.whole => keep_login(&live_path, &staged)?,
            _ => {}
        }
        Ok((outcome, lock))
    }

    /// Which login goes live, and its bytes where that is not the live one.
    fn decide(
        &mut self,
        live: &AuthFile,
    ) -> Result<Option<(Decision, Option<AuthSnapshot>)>, RestoreError> {
        if !self.plan.wants_login {
            return Ok(None);
        }
        let store = CodexConfig::read(&self.stage.home().staged).store;
        let store = if self.stage.home().staged.join(home::CONFIG_TOML).exists() {
            store
        } else {
            CodexConfig::read(&self.folder).store
        };
        if !store.reads_auth_json() {
            self.notes.push(format!(
                "the login was not restored: Codex keeps it by cli_auth_credentials_store = \"{}\"",
                store.name()
            ));
            return Ok(None);
        }
        let Some(bytes) = self.stage.login.take() else {
            return Ok(None);
        };
        let Ok(archived) = AuthSnapshot::parse(bytes.expose().to_vec()) else {
            self.notes
                .push("the archive's auth.json is none; the live one stays".into());
            return Ok(None);
        };
        let Some(login) = archived.login.clone() else {
            return Ok(None);
        };
        if let Some(live) = live.login()
            && !live.identity.is_same(&login.identity)
            && !self.request.may_switch_account
        {
            return Err(RestoreError::AnotherAccount {
                archive: login.identity.to_string(),
                live: live.identity.to_string(),
            });
        }
        let profile = Profiles::of(self.request.manager_home).find(&login.identity)?;
        let same = |s: &&AuthSnapshot| {
            s.login
                .as_ref()
                .is_some_and(|l| l.identity.is_same(&login.identity))
        };
        let of_profile = profile.as_ref().and_then(|p| p.auth.snapshot());
        let decision = choice::choose(
            self.request.auth,
            &Candidates {
                live: live.snapshot().filter(same),
                archive: &archived,
                profile: of_profile.filter(same),
                newest_seen: profile.as_ref().map(Profile::newest).unwrap_or_default(),
            },
        );
        let bytes = match decision.choice {
            Choice::KeepLive => None,
            Choice::Profile => of_profile.cloned(),
            Choice::Archive => Some(archived),
        };
        Ok(Some((decision, bytes)))
    }

    /// Saves the login that will no longer be live.
    fn save_live(&mut self, live: &AuthFile) -> Result<(), RestoreError> {
        let profiles = Profiles::of(self.request.manager_home);
        match live {
            AuthFile::Present(snapshot) => {
                if let Some(login) = &snapshot.login {
                    let saved =
                        profiles.save_back(snapshot, login, Owner::Profile, self.request.now)?;
                    self.notes.push(format!(
                        "the live login was saved to the profile {}",
                        saved.profile
                    ));
                }
            }
            AuthFile::Unreadable { bytes, reason } => {
                let kept = profiles.keep_unreadable(bytes)?;
                self.notes.push(format!(
                    "auth.json was {reason}; its bytes were kept in {}",
                    kept.display()
                ));
            }
            AuthFile::Missing => {}
        }
        Ok(())
    }

    /// From now on the live home owns this login.
    fn take_ownership(&self, snapshot: &AuthSnapshot) -> Result<(), RestoreError> {
        let profiles = Profiles::of(self.request.manager_home);
        if let Some(login) = &snapshot.login
            && profiles.find(&login.identity)?.is_some()
        {
            profiles.save_back(snapshot, login, Owner::Live, self.request.now)?;
        }
        Ok(())
    }

    fn commit(
        self,
        auth: AuthOutcome,
        safety: Option<Published>,
    ) -> Result<RestoreReport, RestoreError> {
        let steps = self.steps()?;
        let Self {
            request,
            plan,
            folder,
            contents,
            swap,
            notes,
            ..
        } = self;
        let busy = holders(request);
        if !busy.is_empty() {
            return Err(RestoreError::Busy(busy));
        }
        let staged = swap.folder().join("new");
        let staging = swap.folder().to_path_buf();
        let mut started = Vec::new();
        let done = swap.commit(steps, || {
            started = holders(request);
            started.is_empty()
        })?;
        if !done {
            let left_at = folder.with_file_name(format!(
                "{}.undone-restore-{}",
                folder.file_name().unwrap_or_default().to_string_lossy(),
                request.now.timestamp()
            ));
            atomic::rename(&staged, &left_at)?;
            tree::remove(&staging)?;
            return Err(RestoreError::StartedMeanwhile {
                holders: started,
                left_at,
            });
        }
        let restored_login = u64::from(auth == AuthOutcome::Restored);
        let sizes = contents
            .files
            .iter()
            .filter(|f| plan.writes.contains(&f.path));
        Ok(RestoreReport {
            files: plan.writes.len() as u64 + restored_login,
            bytes: sizes.map(|f| f.size).sum(),
            removed: plan.removed,
            safety,
            auth,
            notes,
        })
    }

    fn steps(&self) -> Result<Vec<Step>, RestoreError> {
        let mut steps = Vec::new();
        for root in self.stage.roots[1..]
            .iter()
            .filter(|r| r.staged.symlink_metadata().is_ok())
        {
            steps.push(Step::new(root.live.clone(), root.staged.clone()));
        }
        if let Some((folder, staging)) = &self.outside {
            for entry in fs::read_dir(staging).at("list", staging)? {
                let name = entry.at("list", staging)?.file_name();
                let live = folder.join(&name);
                for beside in home::database_sidecars(&live)
                    .into_iter()
                    .filter(|p| p.exists())
                {
                    let aside = staging
                        .join("old")
                        .join(beside.file_name().unwrap_or_default());
                    atomic::create_private_folder(atomic::parent_of(&aside))?;
                    steps.push(Step::new(beside, aside));
                }
                if database::is_sqlite(&staging.join(&name)) {
                    steps.push(Step::new(live, staging.join(&name)));
                }
            }
        }
        let root = self.stage.home();
        if self.whole {
            steps.push(Step::new(root.live.clone(), root.staged.clone()));
        } else {
            let old = self.swap.folder().join("old");
            steps.extend(stage::steps_by_entry(root, &self.tops(), &old)?);
        }
        Ok(steps)
    }
}

/// The top-level links to elsewhere whose content the archive replaces: what they lead to is
/// replaced, the links stay. Never so for logins, settings and databases: those are replaced as
/// names.
fn linked_roots(folder: &Path, plan: &RestorePlan) -> Result<Vec<Root>, RestoreError> {
    let mut roots = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(roots);
    };
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let prefix = PathBuf::from(entry.file_name());
        let is_name = matches!(kind_of(&prefix), Kind::Auth | Kind::Config | Kind::Database);
        let is_link = entry.file_type().at("read", entry.path())?.is_symlink();
        let is_changed = plan.writes.iter().any(|n| n.as_path().starts_with(&prefix))
            || plan.removed.iter().any(|p| p.starts_with(&prefix));
        if !is_link || is_name || !is_changed {
            continue;
        }
        let Ok(target) = entry.path().canonicalize() else {
            continue;
        };
        if !target.starts_with(folder) {
            let staged = swap::folder_beside(&target).join("new");
            roots.push(Root {
                prefix,
                live: target,
                staged,
            });
        }
    }
    Ok(roots)
}

/// Whether the databases in `folder` serve another home too: it is a home itself, or has rows of
/// conversations that lie elsewhere.
fn is_shared(folder: &Path, home: &Path) -> bool {
    let is_home = [home::AUTH_JSON, home::CONFIG_TOML, home::SESSIONS]
        .iter()
        .any(|name| folder.join(name).exists());
    let foreign_rows = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            home::is_database_named(&entry.path(), home::STATE_DATABASE_PREFIX)
                && database::rollout_paths(&entry.path()).is_ok_and(|rows| {
                    rows.iter().any(|(_, path)| {
                        let path = Path::new(path);
                        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
                        path.is_absolute() && !path.starts_with(home) && !real.starts_with(home)
                    })
                })
        });
    is_home || foreign_rows
}

fn check_space(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    staging: &Path,
) -> Result<(), RestoreError> {
    let _ = request;
    match space::free_bytes(staging) {
        Some(free_bytes) if free_bytes < plan.bytes => Err(ArchiveError::NoSpace {
            folder: staging.to_path_buf(),
            needed_bytes: plan.bytes,
            free_bytes,
        }
        .into()),
        _ => Ok(()),
    }
}

fn take_login_lock(home: &Path) -> Result<LoginLock, RestoreError> {
    LoginLock::take(home, login_lock::PATIENCE).map_err(|e| match e {
        LockError::Io(e) => e.into(),
        LockError::Held(path) => RestoreError::Io(IoError {
            action: "lock",
            path,
            source: io::Error::new(io::ErrorKind::TimedOut, "Codex holds it for too long"),
        }),
    })
}

fn live_rollouts(live: &[LiveFile]) -> impl Iterator<Item = (String, PathBuf)> {
    live.iter()
        .filter(|f| f.kind.is_rollout_folder())
        .filter_map(|f| {
            let id = ConversationFile::of(&f.path)?.id()?.to_owned();
            Some((id, f.path.clone()))
        })
}

fn write_login(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    use std::io::Write;
    let mut file = stage::create_private(path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("fsync", path)
}

/// The live login as it is: a link stays a link, a file becomes a file of its own with its time.
fn keep_login(live: &Path, staged: &Path) -> Result<(), IoError> {
    let meta = match live.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("read", live),
    };
    if meta.is_symlink() {
        return stage::make_link(&fs::read_link(live).at("read", live)?, staged);
    }
    write_login(staged, &fs::read(live).at("read", live)?)?;
    set_attributes(staged, 0o600, crate::archive::scan::mtime_ns_of(&meta))
}

/// Takes `sqlite_home` out of a staged config.toml; everything else stays as it is written.
fn drop_sqlite_home(path: &Path) -> Result<(), IoError> {
    let text = fs::read_to_string(path).at("read", path)?;
    if let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() {
        document.remove("sqlite_home");
        atomic::write(path, document.to_string().as_bytes())?;
    }
    Ok(())
}

/// Moves a staged file; copies it where the places are on different file systems.
#[allow(
    clippy::disallowed_methods,
    reason = "staged files: made durable before they count"
)]
fn move_file(from: &Path, to: &Path) -> Result<(), IoError> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            fs::copy(from, to).at("copy", from)?;
            fs::remove_file(from).at("remove", from)
        }
        other => other.at("move", from),
    }
}

fn is_denied(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
