//! Another account's login goes live.
//!
//! The order is the safety: with every lock taken and the plan checked the daemon is stopped, the
//! live login is read again and saved to its profile, and only then replaced, by one rename. Killed
//! in between, the old or the new login is live, whole, and the other is in its profile.

use super::loan::LoanError;
use super::profile::{Keeper, Owner, Profile, ProfileError, Profiles, SaveOutcome, SavedBack};
use super::profile::{canonical, save_outcome};
use crate::codex::auth::{AuthFile, Freshness};
use crate::codex::daemon::{self, Daemon, DaemonError};
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::codex::login_lock::LoginLock;
use crate::codex::process::{Holder, find_codex, turns_of_daemon};
use crate::codex::program::{Program, ProgramError};
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document};
use crate::io::environment::Environment;
use crate::io::lock::LockError;
use crate::io::progress::is_interrupted;
use crate::io::{IoError, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name of the document in `profiles/`.
const FILE_NAME: &str = ".switch.json";

/// How often it is looked whether Codex has renewed a login.
const POLL: Duration = Duration::from_millis(50);

/// What the last switch was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SwitchFile {
    /// Who was signed in before it.
    pub previous: Option<Identity>,
    /// Who has been since.
    #[serde(default)]
    pub current: Option<Identity>,
    /// When it was.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// When the one before it was: until then `previous` was not live.
    #[serde(default)]
    pub before: Option<Timestamp>,
    /// In which Codex home.
    #[serde(default)]
    pub home: Option<PathBuf>,
    /// Who was signed in before the last switch of each Codex home.
    #[serde(default)]
    pub homes: BTreeMap<PathBuf, Identity>,
}

impl SwitchFile {
    /// Who was signed in before the last switch in `home`, which is canonical.
    fn previous_in(&self, home: &Path) -> Option<&Identity> {
        // A file of before the homes were told apart speaks of one.
        let is_of = self.home.as_deref().is_none_or(|noted| noted == home);
        let last = self.previous.as_ref().filter(|_| is_of);
        self.homes.get(home).or(last)
    }
}

impl Document for SwitchFile {
    const SCHEMA: u64 = 1;
}

/// How long Codex may take to stop its daemon.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The same where it runs a turn: Codex 0.169 lets that go on for a minute before it cuts it off.
const CUT_PATIENCE: Duration = Duration::from_secs(90);

/// What may be done about Codex's background daemon, under which a switch is none.
#[derive(Debug, Clone, Copy)]
pub enum DaemonPolicy<'a> {
    /// Nothing: there is no switch then.
    Refuse,
    /// It is stopped by Codex's own command.
    Stop {
        /// The Codex program; sought on `PATH` where there is none.
        codex_bin: Option<&'a Path>,
        /// The environment that it is given.
        env: &'a Environment,
        /// Also while it runs a turn, which is cut off.
        force: bool,
    },
}

/// What is to be switched.
#[derive(Debug, Clone)]
pub struct SwitchRequest<'a> {
    /// The Codex home.
    pub codex_home: &'a Path,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The account that is to be live.
    pub to: &'a Identity,
    /// Put a login live that is older than the newest that was seen.
    pub force_stale: bool,
    /// What may be done about the daemon.
    pub daemon: DaemonPolicy<'a>,
    /// Now.
    pub now: Timestamp,
    /// How long Codex, and others of ours, may keep us waiting.
    pub patience: Duration,
}

/// What a switch will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchPlan {
    /// Who is signed in.
    pub from: Option<Identity>,
    /// The profile whose login goes live.
    pub profile: String,
    /// It is live already: nothing is to be done.
    pub is_current: bool,
    /// What becomes of the live login: its profile, if it has one, and what happens to that.
    pub save_back: Option<(Option<String>, SaveOutcome)>,
    /// What stands in the place of a login and is kept beside: the reason why it is none.
    pub unreadable: Option<String>,
    /// There is no auth.json.
    pub is_missing: bool,
    /// The login that goes live is older than the newest that was seen.
    pub is_stale: bool,
}

/// What a switch did.
#[derive(Debug)]
pub struct SwitchReport {
    /// What was planned, under the locks.
    pub plan: SwitchPlan,
    /// Where the login that was live is now.
    pub saved_back: Option<SavedBack>,
    /// Where bytes were kept that were no login.
    pub kept: Option<PathBuf>,
    /// Whether a daemon was stopped.
    pub daemon_stopped: bool,
    /// Codex programs that were started before, with the old account.
    pub still_running: Vec<Holder>,
}

/// Why there was no switch. Nothing was changed, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The login is in use, or a killed probe has it.
    #[error(transparent)]
    Loan(#[from] LoanError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The account has no profile.
    #[error("no login of {0} is at hand")]
    NoProfile(Identity),
    /// The profile has no login.
    #[error("the profile {profile} has no login: its auth.json is {reason}")]
    NoLogin {
        /// The profile.
        profile: String,
        /// What is there instead.
        reason: String,
    },
    /// The profile has somebody else's.
    #[error("the auth.json of the profile {profile} is the login of {of}")]
    Intruder {
        /// The profile.
        profile: String,
        /// Whose it is.
        of: Identity,
    },
    /// The login went to another machine.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// Another Codex home has it.
    #[error("the account of the profile {profile} is signed in in another Codex home: {}", home.display())]
    LiveElsewhere {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
    },
    /// A newer login of the account was seen.
    #[error(
        "the login of the profile {profile} is older than one that was seen: its refresh token is probably spent"
    )]
    Stale {
        /// The profile.
        profile: String,
    },
    /// Codex holds its locks for too long.
    #[error("Codex holds the login for too long: {}", .0.display())]
    Locked(PathBuf),
    /// A Codex that runs may be spending the refresh token.
    #[error("the live login is due to be renewed, and Codex may be doing that now: {}", holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Renewing {
        /// Who.
        holders: Vec<Holder>,
    },
    /// The daemon keeps the old account.
    #[error("Codex's background daemon (PID {0}) keeps the account that it was started with")]
    Daemon(u32),
    /// The daemon works for its user.
    #[error("Codex's background daemon (PID {pid}) is at work on {}", turns.join(", "))]
    DaemonAtWork {
        /// The daemon.
        pid: u32,
        /// The conversations.
        turns: Vec<String>,
    },
    /// There is no Codex to stop the daemon with.
    #[error("cannot stop Codex's background daemon")]
    NoProgram(#[from] ProgramError),
    /// The daemon is still there.
    #[error(transparent)]
    NotStopped(#[from] DaemonError),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What a switch to the account `to` will do, given what is live and all profiles.
///
/// Pure but for one look: whether another home has the account live.
///
/// # Errors
/// It cannot be done.
pub fn plan_switch(
    live: &AuthFile,
    profiles: &[Profile],
    request: &SwitchRequest<'_>,
) -> Result<SwitchPlan, SwitchError> {
    let of = |who: &Identity| {
        profiles
            .iter()
            .find(|p| p.identity().is_some_and(|i| i.is_same(who)))
    };
    let from = live.login().map(|l| l.identity.clone());
    let target = of(request.to);
    let is_current = from.as_ref().is_some_and(|from| from.is_same(request.to));
    let mut plan = SwitchPlan {
        profile: target.map(|p| p.name.clone()).unwrap_or_default(),
        is_current,
        save_back: None,
        unreadable: None,
        is_missing: matches!(live, AuthFile::Missing),
        is_stale: false,
        from,
    };
    let is_outdated = is_current
        && live.login().is_some_and(|live| {
            let kept = target.and_then(Profile::login);
            kept.is_some_and(|kept| kept.freshness.is_newer_than(&live.freshness))
        });
    plan.is_current = is_current && !is_outdated;
    if plan.is_current {
        return Ok(plan);
    }
    let Some(target) = target else {
        return Err(SwitchError::NoProfile(request.to.clone()));
    };
    let profile = || target.name.clone();
    if let Some(of) = target.intruder() {
        return Err(SwitchError::Intruder {
            profile: profile(),
            of: of.clone(),
        });
    }
    if let Some(reason) = target.damaged.clone() {
        let profile = profile();
        return Err(LoanError::Damaged { profile, reason }.into());
    }
    if target.file.owner == Owner::Moved {
        return Err(SwitchError::Moved(profile()));
    }
    let Some(login) = target.login() else {
        let reason = match &target.auth {
            AuthFile::Missing => "missing".into(),
            AuthFile::Unreadable { reason, .. } => reason.clone(),
            AuthFile::Present(_) => "without one".into(),
        };
        let profile = profile();
        return Err(SwitchError::NoLogin { profile, reason });
    };
    // An older login in this home does not hide a newer one in that which had it last.
    let noted = target.file.live_home.as_deref();
    let place = if is_outdated {
        noted.unwrap_or(request.codex_home)
    } else {
        request.codex_home
    };
    if let Some(home) = target.live_in(place)
        && !(is_outdated && canonical(&home) == canonical(request.codex_home))
    {
        let profile = profile();
        return Err(SwitchError::LiveElsewhere { profile, home });
    }
    // The home that is switched in is looked at anyway.
    if let Some(home) = target.lost_home()
        && home != canonical(request.codex_home)
        && !request.force_stale
    {
        let (profile, home) = (profile(), home.to_path_buf());
        return Err(LoanError::HomeLost { profile, home }.into());
    }
    plan.is_stale = is_stale(&target.newest(), &login.freshness);
    if plan.is_stale && !request.force_stale {
        return Err(SwitchError::Stale { profile: profile() });
    }
    match live {
        AuthFile::Present(snapshot) => match &snapshot.login {
            Some(login) => {
                let own = of(&login.identity);
                let outcome = save_outcome(own, snapshot, login);
                plan.save_back = Some((own.map(|p| p.name.clone()), outcome));
            }
            None => plan.unreadable = Some("without a login that is known here".into()),
        },
        AuthFile::Unreadable { reason, .. } => plan.unreadable = Some(reason.clone()),
        AuthFile::Missing => {}
    }
    Ok(plan)
}

fn is_stale(newest: &Freshness, login: &Freshness) -> bool {
    newest.is_newer_than(login)
}

/// Plans by what is there now. Takes no lock and writes nothing.
///
/// # Errors
/// It cannot be done.
pub fn plan(request: &SwitchRequest<'_>) -> Result<SwitchPlan, SwitchError> {
    let live = AuthFile::read(&request.codex_home.join(AUTH_JSON))?;
    let profiles = Profiles::of(request.manager_home).list()?;
    plan_switch(&live, &profiles, request)
}

/// That the daemon, as it is now, is not in the way. Changes nothing.
///
/// # Errors
/// It is alive and is to be left alone, or is at work.
pub fn check_daemon(request: &SwitchRequest<'_>) -> Result<(), SwitchError> {
    let Some(Daemon { pid, .. }) = daemon::find(request.codex_home) else {
        return Ok(());
    };
    let DaemonPolicy::Stop { force, .. } = request.daemon else {
        return Err(SwitchError::Daemon(pid));
    };
    let turns = turns_of_daemon(request.codex_home);
    if turns.is_empty() || force {
        Ok(())
    } else {
        Err(SwitchError::DaemonAtWork { pid, turns })
    }
}

/// Switches. `said` is told each step.
///
/// # Errors
/// See [`SwitchError`]; nothing was changed then, but that the live login may have been saved.
pub fn apply(
    request: &SwitchRequest<'_>,
    said: &dyn Fn(&str),
) -> Result<SwitchReport, SwitchError> {
    let home = request.codex_home;
    // Before anything is written, be it a lock.
    let first = plan(request)?;
    if !first.is_current
        && matches!(request.daemon, DaemonPolicy::Refuse)
        && let Some(daemon) = daemon::find(home)
    {
        return Err(SwitchError::Daemon(daemon.pid));
    }
    atomic::create_private_folder(home)?;
    let end = Instant::now() + request.patience;
    let profiles = Profiles::of(request.manager_home);
    let accounts: Vec<_> = std::iter::once(request.to).chain(&first.from).collect();
    let _claimed = profiles.claim(&accounts, request.now, request.patience)?;
    said("nobody else is at work on these logins");
    let mut daemon_stopped = false;
    let mut is_current = first.is_current;
    loop {
        let (lock, live) = take_at_rest(request, is_current, end)?;
        said("took Codex's locks on the login and read it again");
        let all = profiles.list()?;
        let plan = plan_switch(&live, &all, request)?;
        if is_current && !plan.is_current {
            // It was saved meanwhile; whether Codex is renewing it matters now.
            is_current = false;
            continue;
        }
        let is_needed = !plan.is_current || matches!(request.daemon, DaemonPolicy::Stop { .. });
        if is_needed && let Some(daemon) = daemon::find(home) {
            stop(request, daemon)?;
            said("stopped Codex's background daemon");
            daemon_stopped = true;
        }
        let mut report = SwitchReport {
            plan,
            saved_back: None,
            kept: None,
            daemon_stopped,
            still_running: Vec::new(),
        };
        if report.plan.is_current {
            return Ok(report);
        }
        let target = all.iter().find(|p| p.name == report.plan.profile);
        let Some((snapshot, login)) = target.and_then(|p| Some((p.snapshot()?, p.login()?))) else {
            return Err(SwitchError::NoProfile(request.to.clone()));
        };
        // What a killed probe left has been brought back by now.
        if target.is_some_and(|p| p.file.owner == Owner::Probe) {
            return Err(LoanError::Lent(report.plan.profile).into());
        }
        save_back(request, &profiles, &live, &mut report)?;
        if let Some(saved) = &report.saved_back {
            said(&format!(
                "saved the live login to the profile {}",
                saved.profile
            ));
        }
        report.still_running = find_codex(home);
        report.still_running.retain(|holder| holder.name == "codex");
        // Nothing waits for the locks that we hold but what was started after the look above.
        if may_be_renewed(&live, request) && !find_codex(home).is_empty() {
            drop(lock);
            continue;
        }
        // Noted before it is so: whose login is live is read from the file, but which files to read
        // is known from the notes alone.
        let note = |keeper| profiles.save_back(snapshot, login, keeper, request.now);
        note(Keeper::Live(home))?;
        atomic::write(&home.join(AUTH_JSON), snapshot.bytes.expose())?;
        if let AuthFile::Present(old) = &live
            && may_be_renewed(&live, request)
            && !find_codex(home).is_empty()
        {
            // Started in this moment: it may have read the old login, and would lose the new one.
            atomic::write(&home.join(AUTH_JSON), old.bytes.expose())?;
            note(Keeper::Profile)?;
            said("a Codex was started meanwhile: put the old login back until it is done");
            drop(lock);
            continue;
        }
        said(&format!("put the login of {} live", report.plan.profile));
        // From here on a crash leaves a note only of a home that had the old login.
        if let AuthFile::Present(old) = &live
            && let Some(old_login) = &old.login
            && !old_login.identity.is_same(request.to)
        {
            profiles.save_back(old, old_login, Keeper::Profile, request.now)?;
        }
        // The same account, renewed, is no switch.
        if !report
            .plan
            .from
            .as_ref()
            .is_some_and(|from| from.is_same(request.to))
        {
            remember(request, report.plan.from.as_ref())?;
        }
        said("noted who owns which login");
        return Ok(report);
    }
}

/// Saves what is live, whatever it is.
fn save_back(
    request: &SwitchRequest<'_>,
    profiles: &Profiles,
    live: &AuthFile,
    report: &mut SwitchReport,
) -> Result<(), SwitchError> {
    match live {
        AuthFile::Present(old) => {
            if let Some(login) = &old.login {
                // Until the rename it is live.
                let keeper = Keeper::Live(request.codex_home);
                let saved = profiles.save_back(old, login, keeper, request.now)?;
                report.saved_back = Some(saved);
            } else {
                report.kept = Some(profiles.keep_unreadable(&old.bytes)?);
            }
        }
        AuthFile::Unreadable { bytes, .. } => {
            report.kept = Some(profiles.keep_unreadable(bytes)?);
        }
        AuthFile::Missing => {}
    }
    Ok(())
}

/// Stops the daemon where that is wanted, and makes sure that there is none.
fn stop(request: &SwitchRequest<'_>, daemon: Daemon) -> Result<(), SwitchError> {
    let DaemonPolicy::Stop {
        codex_bin,
        env,
        force,
    } = request.daemon
    else {
        return Err(SwitchError::Daemon(daemon.pid));
    };
    let turns = turns_of_daemon(request.codex_home);
    if !turns.is_empty() && !force {
        let pid = daemon.pid;
        return Err(SwitchError::DaemonAtWork { pid, turns });
    }
    let patience = if turns.is_empty() {
        STOP_PATIENCE
    } else {
        CUT_PATIENCE
    };
    let program = Program::find(codex_bin, env)?;
    daemon::stop(&program, request.codex_home, env, patience)?;
    match daemon::find(request.codex_home) {
        Some(next) => Err(SwitchError::Daemon(next.pid)),
        None => Ok(()),
    }
}

/// Whether a Codex that reads this login renews it, which a switch would cut off.
fn may_be_renewed(live: &AuthFile, request: &SwitchRequest<'_>) -> bool {
    let now = request.now.to_utc();
    live.login().is_some_and(|l| l.is_renewal_due(&now))
}

/// Takes Codex's locks when no Codex can be renewing the live login: it asks the server before it
/// takes them (0.169), and would throw the new login away when it finds another account's. A daemon
/// at rest renews nothing.
fn take_at_rest(
    request: &SwitchRequest<'_>,
    is_current: bool,
    end: Instant,
) -> Result<(LoginLock, AuthFile), SwitchError> {
    let home = request.codex_home;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        let lock = LoginLock::take(home, rest).map_err(|e| match e {
            LockError::Io(e) => e.into(),
            LockError::Held(path) => SwitchError::Locked(path),
        })?;
        let live = AuthFile::read(&home.join(AUTH_JSON))?;
        let mut holders = Vec::new();
        let stays = is_current && live.login().is_some_and(|l| l.identity.is_same(request.to));
        if !stays && may_be_renewed(&live, request) {
            holders = find_codex(home);
            if let Some(daemon) = daemon::find(home).filter(|_| !turns_of_daemon(home).is_empty()) {
                holders.push(Holder {
                    pid: Some(daemon.pid),
                    name: "codex".into(),
                    why: "background daemon".into(),
                });
            }
        }
        if holders.is_empty() {
            return Ok((lock, live));
        }
        drop(lock);
        if Instant::now() >= end {
            return Err(SwitchError::Renewing { holders });
        }
        if is_interrupted() {
            return Err(SwitchError::Interrupted);
        }
        std::thread::sleep(POLL);
    }
}

fn state_path(manager_home: &Path) -> PathBuf {
    manager_home.join("profiles").join(FILE_NAME)
}

/// Who was signed in before the last switch in `codex_home`.
///
/// # Errors
/// The document is of a newer version or cannot be read.
pub fn previous(manager_home: &Path, codex_home: &Path) -> Result<Option<Identity>, ProfileError> {
    let file = document::read::<SwitchFile>(&state_path(manager_home))?.good();
    let home = canonical(codex_home);
    Ok(file.and_then(|file| file.previous_in(&home).cloned()))
}

/// The last switch in `codex_home`, if it was the last one of all.
///
/// # Errors
/// The document is of a newer version or cannot be read.
pub fn last(manager_home: &Path, codex_home: &Path) -> Result<Option<SwitchFile>, ProfileError> {
    let file = document::read::<SwitchFile>(&state_path(manager_home))?.good();
    let home = canonical(codex_home);
    Ok(file.filter(|file| file.home.as_ref() == Some(&home)))
}

fn remember(request: &SwitchRequest<'_>, from: Option<&Identity>) -> Result<(), ProfileError> {
    let change = |file: &mut SwitchFile| {
        let home = canonical(request.codex_home);
        // What an older version noted of another home is not lost.
        if let (Some(noted), Some(who)) = (&file.home, &file.previous) {
            file.homes
                .entry(noted.clone())
                .or_insert_with(|| who.clone());
        }
        file.previous = from.or(file.previous_in(&home)).cloned();
        if let Some(previous) = &file.previous {
            file.homes.insert(home.clone(), previous.clone());
        }
        file.before = file.at.filter(|_| file.home.as_ref() == Some(&home));
        file.home = Some(home);
        file.current = Some(request.to.clone());
        file.at = Some(request.now);
    };
    document::update(
        &state_path(request.manager_home),
        &canonical(request.manager_home).join(".lock"),
        |_| SwitchFile::default(),
        change,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::profile::ProfileFile;
    use crate::codex::auth::{AuthSnapshot, Login};
    use crate::io::secret::SecretBytes;

    fn who(name: &str) -> Identity {
        Identity {
            account_id: Some(name.into()),
            user_id: Some(name.into()),
            ..Identity::of_email(format!("{name}@x.com"))
        }
    }

    fn fresh(day: i64) -> Freshness {
        Freshness {
            last_refresh: chrono::DateTime::from_timestamp(day * 86_400, 0),
            ..Freshness::default()
        }
    }

    fn auth(name: &str, day: i64) -> AuthFile {
        AuthFile::Present(AuthSnapshot {
            bytes: SecretBytes::new(format!("{name} {day}").into_bytes()),
            login: Some(Login {
                identity: who(name),
                plan: None,
                freshness: fresh(day),
            }),
        })
    }

    fn profile(name: &str, day: i64, newest: i64) -> Profile {
        Profile {
            name: name.into(),
            file: ProfileFile {
                identity: Some(who(name)),
                newest: fresh(newest),
                ..ProfileFile::default()
            },
            auth: auth(name, day),
            damaged: None,
        }
    }

    fn plan(
        live: &AuthFile,
        profiles: &[Profile],
        to: &str,
        force_stale: bool,
    ) -> Result<SwitchPlan, String> {
        let nowhere = Path::new("/nonexistent");
        let to = who(to);
        let request = SwitchRequest {
            codex_home: nowhere,
            manager_home: nowhere,
            to: &to,
            force_stale,
            daemon: DaemonPolicy::Refuse,
            now: Timestamp::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap(),
            patience: Duration::ZERO,
        };
        plan_switch(live, profiles, &request).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_live_is_saved_when_newer_and_never_stepped_back() {
        let all = [profile("a", 2, 2), profile("b", 2, 2)];
        let saved = |live: &AuthFile| plan(live, &all, "b", false).unwrap().save_back;
        let a = || Some("a".to_owned());
        assert_eq!(saved(&auth("a", 3)), Some((a(), SaveOutcome::Updated)));
        assert_eq!(saved(&auth("a", 2)), Some((a(), SaveOutcome::Unchanged)));
        assert_eq!(saved(&auth("a", 1)), Some((a(), SaveOutcome::KeptNewer)));
        assert_eq!(saved(&auth("c", 1)), Some((None, SaveOutcome::Created)));
        assert_eq!(saved(&AuthFile::Missing), None);
        let none = AuthFile::Unreadable {
            bytes: SecretBytes::new(vec![0]),
            reason: "filled with NUL bytes".into(),
        };
        let planned = plan(&none, &all, "b", false).unwrap();
        assert_eq!(planned.unreadable.as_deref(), Some("filled with NUL bytes"));
    }

    #[test]
    fn a_login_older_than_the_newest_seen_needs_force() {
        let all = [profile("a", 2, 3)];
        assert!(
            plan(&AuthFile::Missing, &all, "a", false)
                .unwrap_err()
                .contains("older")
        );
        assert!(plan(&AuthFile::Missing, &all, "a", true).unwrap().is_stale);
    }

    #[test]
    fn what_cannot_go_live_is_said() {
        let mut moved = profile("a", 2, 2);
        moved.file.owner = Owner::Moved;
        let mut mixed = profile("b", 2, 2);
        mixed.auth = auth("c", 9);
        let mut empty = profile("d", 2, 2);
        empty.auth = AuthFile::Missing;
        let all = [moved, mixed, empty];
        for (to, reason) in [
            ("a", "moved"),
            ("b", "login of c@x.com"),
            ("d", "missing"),
            ("e", "no login"),
        ] {
            let error = plan(&AuthFile::Missing, &all, to, true).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let current = plan(&auth("e", 1), &all, "e", false).unwrap();
        assert!(current.is_current);
    }

    #[test]
    fn a_login_whose_home_cannot_be_looked_at_needs_force() {
        let mut lost = profile("a", 2, 2);
        lost.file.owner = Owner::Live;
        lost.file.live_home = Some("/nonexistent/disk".into());
        let all = [lost];
        let error = plan(&AuthFile::Missing, &all, "a", false).unwrap_err();
        assert!(error.contains("/nonexistent/disk"), "{error}");
        plan(&AuthFile::Missing, &all, "a", true).unwrap();
    }
}
