//! `sync` beside codexSync, unison and rsync: each with a cloud folder of its own, of one home.

use crate::measure::{Row, Runner, in_turn};
use crate::sample;
use crate::{Bench, Options, exists, quiet_disk};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// The synced folders and files of the sample homes.
const ROOTS: [&str; 4] = ["sessions", "archived_sessions", "skills", "history.jsonl"];

/// Rows for a home of few large files, and for one of many small ones.
pub(crate) fn rows(folder: &Path, options: &Options) -> std::io::Result<Vec<Row>> {
    let large = Sync::new(folder.join("large"), options, |home| {
        sample::write_home(home, options.shape())
    })?;
    let mut rows = large.first(&format!("{} MB", options.mb), options.rounds);
    rows.extend(large.again(&format!("{} MB", options.mb)));
    drop(large);
    let files = options.files;
    let many = Sync::new(folder.join("many"), options, |home| {
        sample::write_many(home, files)
    })?;
    // Long enough to be told by one round.
    rows.extend(many.first(&format!("{files} files"), 1));
    rows.extend(many.again(&format!("{files} files")));
    Ok(rows)
}

/// A measured sync program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    CodexSync,
    Unison,
    Rsync,
}

impl Who {
    /// The name of its folder, and of its program where that is looked for.
    fn word(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::CodexSync => "codexsync",
            Self::Unison => "unison",
            Self::Rsync => "rsync",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "codex-manager",
            Self::CodexSync => "codexsync 0.1.2",
            Self::Unison => "unison",
            Self::Rsync => "rsync -a, one way",
        }
    }
}

/// A home and a cloud folder for each of them.
struct Sync {
    bench: Rc<Bench>,
    codexsync: Option<PathBuf>,
    peers: Vec<Who>,
    rounds: usize,
}

impl Sync {
    fn new(
        folder: PathBuf,
        options: &Options,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let bench = Bench::new(folder);
        write(&bench.home)?;
        for root in &ROOTS[..3] {
            fs::create_dir_all(bench.home.join(root))?;
        }
        let history = bench.home.join(ROOTS[3]);
        if !history.exists() {
            fs::write(history, "{\"session_id\":\"x\",\"ts\":1,\"text\":\"x\"}\n")?;
        }
        let codexsync = options.codexsync.clone().filter(|_| options.peers);
        let mut peers = vec![Who::CodexSync, Who::Unison, Who::Rsync];
        peers.retain(|who| match who {
            Who::CodexSync => codexsync.is_some(),
            who => options.peers && exists(who.word()),
        });
        let sync = Self {
            bench: Rc::new(bench),
            codexsync,
            peers,
            rounds: options.rounds,
        };
        for who in [Who::Ours, Who::CodexSync] {
            fs::write(sync.config(who), sync.config_text(who))?;
            forget(&sync.bench, who);
        }
        Ok(sync)
    }

    fn everybody(&self) -> impl Iterator<Item = Who> {
        [Who::Ours].into_iter().chain(self.peers.iter().copied())
    }

    fn config(&self, who: Who) -> PathBuf {
        self.bench.folder.join(format!("{}.toml", who.word()))
    }

    /// One that codexSync and we both take: both look for a Codex that is not there.
    fn config_text(&self, who: Who) -> String {
        let own = own(&self.bench, who);
        format!(
            "[identity]\nmachine_id = \"bench\"\n\
             [sync]\ncompare = \"mtime\"\nsession_mode = \"all\"\n\
             [paths]\nlocal_state_dir = {home:?}\ncloud_root_dir = {cloud:?}\n\
             backup_dir = {backups:?}\ntemp_dir = {temp:?}\n\
             [targets]\ninclude_roots = {ROOTS:?}\n\
             [process_detection]\nprocess_names = [\"no-such-codex\"]\n\
             grace_period_seconds = 0\n\
             [state]\nmanifest_file = {manifest:?}\n\
             [logging]\nlevel = \"WARNING\"\n",
            home = self.bench.home.display().to_string(),
            cloud = own.join("cloud").display().to_string(),
            backups = own.join("backups").display().to_string(),
            temp = own.join("temp").display().to_string(),
            manifest = own.join("manifest.json").display().to_string(),
        )
    }

    /// Returns the command for a sync, or with `plan` for a dry run if the program has one.
    fn runner(&self, who: Who, plan: bool) -> Runner {
        let (bench, config) = (Rc::clone(&self.bench), self.config(who));
        let codexsync = self.codexsync.clone().unwrap_or_default();
        Runner::new(who.name(), move || match who {
            Who::Ours => {
                let words: &[&str] = if plan { &["plan"] } else { &["run", "--apply"] };
                let mut command = bench.ours(&own(&bench, who).join("manager"), &["sync", "-c"]);
                command.arg(&config).args(words);
                command
            }
            Who::CodexSync => {
                let words: &[&str] = if plan {
                    &["plan"]
                } else {
                    &["sync", "--apply"]
                };
                let mut command = Command::new(&codexsync);
                command.arg("-c").arg(&config).args(words);
                command.stderr(Stdio::null());
                command
            }
            Who::Unison => {
                let mut command = Command::new("unison");
                let words = "-ui text -batch -auto -silent -times -confirmbigdel=false";
                command
                    .args([bench.home.clone(), own(&bench, who).join("cloud")])
                    .args(words.split(' '))
                    .args(ROOTS.iter().flat_map(|root| ["-path", root]))
                    .env("UNISON", own(&bench, who).join("archive"))
                    .stderr(Stdio::null());
                command
            }
            Who::Rsync => {
                let mut command = Command::new("rsync");
                command
                    .args(if plan { &["-an"][..] } else { &["-a"] })
                    .args(ROOTS)
                    .arg(own(&bench, who).join("cloud"))
                    .current_dir(&bench.home);
                command
            }
        })
    }

    /// Measures all programs with an empty cloud folder.
    fn first(&self, what: &str, rounds: usize) -> Vec<Row> {
        let runners: Vec<Runner> = self
            .everybody()
            .map(|who| {
                let bench = Rc::clone(&self.bench);
                self.runner(who, false).before(move || {
                    forget(&bench, who);
                    quiet_disk();
                })
            })
            .collect();
        let runs = in_turn(&runners, rounds);
        let work = format!("sync run, first, {what}");
        crate::beside(work, &runs[0], &runners[1..], &runs[1..])
    }

    /// `plan` and `run` when nothing has changed since.
    fn again(&self, what: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (plan, command) in [(true, "plan"), (false, "run")] {
            let mut runners = vec![self.runner(Who::Ours, plan)];
            if plan {
                runners.push(self.find());
            }
            // unison has no way to say what it would do and end.
            let can = |who: &&Who| !plan || **who != Who::Unison;
            let peers = self.peers.iter().filter(can);
            runners.extend(peers.map(|who| self.runner(*who, plan)));
            let runs = in_turn(&runners, self.rounds);
            let work = format!("sync {command}, nothing changed, {what}");
            rows.extend(crate::beside(work, &runs[0], &runners[1..], &runs[1..]));
        }
        rows
    }

    /// Returns a `find` over both sides, the lower bound of the time to list all files.
    fn find(&self) -> Runner {
        let home = self.bench.home.clone();
        let cloud = own(&self.bench, Who::Ours).join("cloud");
        Runner::new("find -printf, both sides", move || {
            let mut command = Command::new("find");
            command.args(ROOTS.iter().map(|root| home.join(root)));
            command.arg(&cloud).args(["-printf", "%p %s %T@\\n"]);
            command
        })
    }
}

/// The folder of all that one of them has.
fn own(bench: &Bench, who: Who) -> PathBuf {
    bench.folder.join(who.word())
}

/// As if it had never synced: an empty cloud folder, and nothing else.
fn forget(bench: &Bench, who: Who) {
    let own = own(bench, who);
    let _ = fs::remove_dir_all(&own);
    let made = fs::create_dir_all(own.join("cloud"));
    assert!(made.is_ok(), "make {}", own.display());
}
