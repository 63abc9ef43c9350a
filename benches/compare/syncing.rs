//! Compares `sync` with codexSync, unison and rsync, each with its own cloud folder of the same home.

use crate::measure::{Row, Runner, run_alternately};
use crate::{Bench, Options, exists, flush_disk, sample};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// The synced folders and files of the sample homes.
const ROOTS: [&str; 4] = ["sessions", "archived_sessions", "skills", "history.jsonl"];

/// Returns rows for a home of few large files and for a home of many small files.
pub(crate) fn rows(folder: &Path, options: &Options) -> std::io::Result<Vec<Row>> {
    let large = Sync::new(folder.join("large"), options, |home| {
        sample::write_home(home, options.shape())
    })?;
    let mut rows = large.first(&format!("{} MB", options.mb));
    rows.extend(large.again(&format!("{} MB", options.mb)));
    drop(large);
    let files = options.files;
    let many = Sync::new(folder.join("many"), options, |home| {
        sample::write_many(home, files)
    })?;
    rows.extend(many.first(&format!("{files} files")));
    rows.extend(many.again(&format!("{files} files")));
    Ok(rows)
}

/// A measured sync program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    CodexManager,
    CodexSync,
    Unison,
    Rsync,
}

impl Program {
    /// Returns the name of the program's folder and executable.
    fn word(self) -> &'static str {
        match self {
            Self::CodexManager => "ours",
            Self::CodexSync => "codexsync",
            Self::Unison => "unison",
            Self::Rsync => "rsync",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CodexManager => "codex-manager",
            Self::CodexSync => "codexsync 0.1.2",
            Self::Unison => "unison",
            Self::Rsync => "rsync -a, one way",
        }
    }
}

/// A home, and a cloud folder for each program.
struct Sync {
    bench: Rc<Bench>,
    codexsync: Option<PathBuf>,
    peers: Vec<Program>,
    rounds: usize,
}

impl Sync {
    fn new(
        folder: PathBuf,
        options: &Options,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let bench = Bench::new(folder, options);
        write(&bench.home)?;
        for root in &ROOTS[..3] {
            fs::create_dir_all(bench.home.join(root))?;
        }
        let history = bench.home.join(ROOTS[3]);
        if !history.exists() {
            fs::write(history, "{\"session_id\":\"x\",\"ts\":1,\"text\":\"x\"}\n")?;
        }
        let codexsync = options.codexsync.clone().filter(|_| options.peers);
        let mut peers = vec![Program::CodexSync, Program::Unison, Program::Rsync];
        peers.retain(|program| match program {
            Program::CodexSync => codexsync.is_some(),
            program => options.peers && exists(program.word()),
        });
        let sync = Self {
            bench: Rc::new(bench),
            codexsync,
            peers,
            rounds: options.rounds,
        };
        for program in [Program::CodexManager, Program::CodexSync] {
            fs::write(sync.config(program), sync.config_text(program))?;
            reset(&sync.bench, program);
        }
        Ok(sync)
    }

    fn programs(&self) -> impl Iterator<Item = Program> {
        [Program::CodexManager]
            .into_iter()
            .chain(self.peers.iter().copied())
    }

    fn config(&self, program: Program) -> PathBuf {
        self.bench.folder.join(format!("{}.toml", program.word()))
    }

    /// Returns a configuration that codexSync and codex-manager accept. No Codex with this process name runs.
    fn config_text(&self, program: Program) -> String {
        let own = own(&self.bench, program);
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
    fn runner(&self, program: Program, plan: bool) -> Runner {
        let (bench, config) = (Rc::clone(&self.bench), self.config(program));
        let codexsync = self.codexsync.clone().unwrap_or_default();
        Runner::new(program.name(), move || match program {
            Program::CodexManager => {
                let words: &[&str] = if plan { &["plan"] } else { &["run", "--apply"] };
                let mut command =
                    bench.manager_command(&own(&bench, program).join("manager"), &["sync", "-c"]);
                command.arg(&config).args(words);
                command
            }
            Program::CodexSync => {
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
            Program::Unison => {
                let mut command = Command::new("unison");
                let words = "-ui text -batch -auto -silent -times -confirmbigdel=false";
                command
                    .args([bench.home.clone(), own(&bench, program).join("cloud")])
                    .args(words.split(' '))
                    .args(ROOTS.iter().flat_map(|root| ["-path", root]))
                    .env("UNISON", own(&bench, program).join("archive"))
                    .stderr(Stdio::null());
                command
            }
            Program::Rsync => {
                let mut command = Command::new("rsync");
                command
                    .args(if plan { &["-an"][..] } else { &["-a"] })
                    .args(ROOTS)
                    .arg(own(&bench, program).join("cloud"))
                    .current_dir(&bench.home);
                command
            }
        })
    }

    /// Measures all programs with an empty cloud folder.
    fn first(&self, what: &str) -> Vec<Row> {
        let runners: Vec<Runner> = self
            .programs()
            .map(|program| {
                let bench = Rc::clone(&self.bench);
                self.runner(program, false).before(move || {
                    reset(&bench, program);
                    flush_disk();
                })
            })
            .collect();
        let runs = run_alternately(&runners, self.rounds);
        let work = format!("sync run, first, {what}");
        crate::rows_with_peers(work, &runs[0], &runners[1..], &runs[1..])
    }

    /// Measures `plan` and `run` without changes since the last run.
    fn again(&self, what: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (plan, command) in [(true, "plan"), (false, "run")] {
            let mut runners = vec![self.runner(Program::CodexManager, plan)];
            if plan {
                runners.push(self.find());
            }
            // unison has no dry run.
            let can = |program: &&Program| !plan || **program != Program::Unison;
            let peers = self.peers.iter().filter(can);
            runners.extend(peers.map(|program| self.runner(*program, plan)));
            let runs = run_alternately(&runners, self.rounds);
            let work = format!("sync {command}, nothing changed, {what}");
            rows.extend(crate::rows_with_peers(
                work,
                &runs[0],
                &runners[1..],
                &runs[1..],
            ));
        }
        rows
    }

    /// Returns a `find` over both sides, the lower bound of the time to list all files.
    fn find(&self) -> Runner {
        let home = self.bench.home.clone();
        let cloud = own(&self.bench, Program::CodexManager).join("cloud");
        Runner::new("find -printf, both sides", move || {
            let mut command = Command::new("find");
            command.args(ROOTS.iter().map(|root| home.join(root)));
            command.arg(&cloud).args(["-printf", "%p %s %T@\\n"]);
            command
        })
    }
}

/// Returns the folder with all files of a program.
fn own(bench: &Bench, program: Program) -> PathBuf {
    bench.folder.join(program.word())
}

/// Resets a program to the state before its first sync, with an empty cloud folder.
fn reset(bench: &Bench, program: Program) {
    let own = own(bench, program);
    let _ = fs::remove_dir_all(&own);
    let made = fs::create_dir_all(own.join("cloud"));
    assert!(made.is_ok(), "cannot create {}", own.display());
}
