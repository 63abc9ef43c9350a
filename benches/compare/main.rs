//! Compares whole commands of the shipped binary with other programs (peers), on sample homes.
//!
//! `cargo bench --bench compare -- --help` prints the options. Times are of whole processes. All
//! programs do the same work in alternation (A B A B). A ratio is the median of the ratios of all
//! rounds, so that other load on the machine has little influence. The range of all rounds follows in
//! parentheses.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a separate program that works in its own folders"
)]

mod measure;
mod sample;
mod syncing;

use measure::{Row, Run, Runner, run_alternately, table};
use sample::Shape;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

const USAGE: &str = "\
cargo bench --bench compare -- [OPTION]...
  --mb N          size of the sample home in MB [default: 300]
  --sessions N    number of conversations in the sample home [default: 60]
  --seed N        seed of the random generator [default: 1]
  --accounts N    number of accounts [default: 20]
  --archives N    number of archives, and a quarter of it for `list-backups` [default: 1000]
  --files N       also measure the memory with a home of N small files [default: 0]
  --rollouts N    number of conversations in the home of `list` and `current` [default: 50000]
  --rounds N      number of runs of each program, in alternation [default: 5]
  --only PART     measure only this part: start, profiles, first-backup, next-backup or restore; repeatable
  --binary FILE   measure this build of codex-manager, backups and restores also beside the usual build, and the
                  first backup only at the default level
  --python FILE   also measure the Python codex-manager
  --sync          measure only sync, on the sample home and on one of --files small files [default: 50000]
  --codexsync FILE  also measure codexSync
  --no-peers      measure only codex-manager, for homes that take peers minutes";

/// The parts that `--only` takes.
const PARTS: [&str; 5] = [
    "start",
    "profiles",
    "first-backup",
    "next-backup",
    "restore",
];

struct Options {
    mb: u64,
    sessions: u32,
    seed: u64,
    accounts: u32,
    archives: u32,
    files: u32,
    rounds: usize,
    rollouts: u32,
    /// The parts to measure, or none for all of them.
    only: Vec<String>,
    binary: Option<PathBuf>,
    python: Option<PathBuf>,
    sync: bool,
    codexsync: Option<PathBuf>,
    peers: bool,
}

impl Options {
    /// Returns the shape of the home with few large files.
    fn shape(&self) -> Shape {
        Shape {
            bytes: self.mb * 1_000_000,
            sessions: self.sessions,
            seed: self.seed,
        }
    }

    fn measures(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Returns `None` if there is nothing to measure, because `cargo test --benches` also starts this program.
fn options() -> Result<Option<Options>, Box<dyn std::error::Error>> {
    let mut options = Options {
        mb: 300,
        sessions: 60,
        seed: 1,
        accounts: 20,
        archives: 1000,
        rollouts: 50_000,
        files: 0,
        rounds: 5,
        only: Vec::new(),
        binary: None,
        python: None,
        sync: false,
        codexsync: None,
        peers: true,
    };
    let mut measure = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} takes a number"));
        match word.as_str() {
            "--bench" => measure = true,
            "--mb" => options.mb = value()?.parse()?,
            "--sessions" => options.sessions = value()?.parse()?,
            "--seed" => options.seed = value()?.parse()?,
            "--accounts" => options.accounts = value()?.parse()?,
            "--archives" => options.archives = value()?.parse()?,
            "--rollouts" => options.rollouts = value()?.parse()?,
            "--files" => options.files = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--only" => {
                let part = value()?;
                if !PARTS.contains(&part.as_str()) {
                    return Err(format!("{part} is not one of {PARTS:?}").into());
                }
                options.only.push(part);
            }
            "--binary" => options.binary = Some(std::fs::canonicalize(value()?)?),
            "--python" => options.python = Some(value()?.into()),
            "--sync" => {
                options.sync = true;
                options.files = 50_000;
            }
            "--codexsync" => options.codexsync = Some(value()?.into()),
            "--no-peers" => options.peers = false,
            _ => {
                println!("{USAGE}");
                return Ok(None);
            }
        }
    }
    Ok(measure.then_some(options))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let folder = tempfile::Builder::new()
        .prefix("codex-manager-bench-")
        .tempdir()?;
    let rows = if options.sync {
        syncing::rows(folder.path(), &options)?
    } else {
        archives(folder.path(), &options)?
    };
    println!(
        "{} MB in {} conversations, {} rounds, {} processors\n\n{}",
        options.mb,
        options.sessions,
        options.rounds,
        std::thread::available_parallelism().map_or(1, usize::from),
        table(&rows)
    );
    Ok(())
}

/// Measures commands on accounts and archives.
fn archives(folder: &Path, options: &Options) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let bench = Rc::new(Bench::new(folder.to_path_buf(), options));
    sample::write_home(&bench.home, options.shape())?;
    let mut rows = Vec::new();
    if options.measures("start") {
        rows.extend(small_commands(&bench, options)?);
    }
    if options.measures("profiles") {
        rows.extend(commands_on_profiles(folder, options)?);
    }
    if options.measures("first-backup") {
        rows.extend(first_backup(&bench, options));
    }
    if options.measures("next-backup") {
        rows.extend(next_backup(&bench, options));
    }
    if options.measures("restore") {
        rows.extend(verify_and_restore(&bench, options));
    }
    if options.files > 0 {
        rows.extend(many_files(folder, options)?);
    }
    Ok(rows)
}

/// The build of codex-manager that cargo made for this program.
const USUAL_BUILD: &str = env!("CARGO_BIN_EXE_codex-manager");

/// The measured build and the folders of a run.
struct Bench {
    program: PathBuf,
    folder: PathBuf,
    home: PathBuf,
    manager: PathBuf,
    /// The number of the next folder to unpack into; each run gets a new folder.
    unpacked: Cell<u32>,
}

impl Bench {
    fn new(folder: PathBuf, options: &Options) -> Self {
        Self {
            program: options.binary.clone().unwrap_or_else(|| USUAL_BUILD.into()),
            home: folder.join("codex"),
            manager: folder.join("manager"),
            folder,
            unpacked: Cell::new(0),
        }
    }

    fn manager_command(&self, manager: &Path, words: &[&str]) -> Command {
        self.command_of(&self.program, manager, words)
    }

    fn command_of(&self, program: &Path, manager: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--quiet", "--yes"])
            .args(words)
            .env_clear()
            .env("PATH", "/nowhere")
            .env("HOME", &self.folder)
            .env("CODEX_HOME", &self.home)
            .env("CODEX_MANAGER_HOME", manager)
            .env("CODEX_MANAGER_NOW", sample::NOW)
            .env("TZ", "Europe/Berlin");
        command
    }

    fn shell(script: &str, words: &[&Path]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(words);
        command
    }

    /// Removes the previously unpacked files, and waits for all disk writes.
    fn next_unpacked(&self) {
        let _ = std::fs::remove_dir_all(self.out());
        self.unpacked.set(self.unpacked.get() + 1);
        flush_disk();
    }

    fn out(&self) -> PathBuf {
        self.folder.join(format!("out-{}", self.unpacked.get()))
    }

    fn python_home(&self) -> PathBuf {
        self.folder.join("python")
    }

    /// Returns the archive of the Python tool with the conversations.
    fn python_archive(&self) -> Option<PathBuf> {
        let sessions = std::fs::read_dir(self.python_home().join("backups/sessions")).ok()?;
        let account = sessions.flatten().next()?.path();
        let entries = std::fs::read_dir(account).ok()?;
        entries
            .flatten()
            .map(|e| e.path())
            .find(|p| p.extension().is_some_and(|e| e == "gz"))
    }

    /// Returns the newest archive of the sample home.
    fn archive(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.manager.join("backups")).ok()?;
        entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "gz"))
            .max()
    }
}

/// Writes all dirty pages, so that the next run does not pay for earlier ones.
fn flush_disk() {
    let _ = Command::new("sync").status();
}

fn exists(program: &str) -> bool {
    // unison has only `-version`, libdeflate-gzip only `-V`, and the other programs have only `--version`.
    ["--version", "-version", "-V"].iter().any(|word| {
        let output = Command::new(program).arg(word).output();
        output.is_ok_and(|o| o.status.success())
    })
}

/// Measures commands that mainly start and read small files.
fn small_commands(
    bench: &Rc<Bench>,
    options: &Options,
) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    // Commands of a millisecond need more rounds.
    let rounds = options.rounds * 20;
    let ours = |manager: &Path, words: &'static [&'static str]| {
        let (bench, manager) = (Rc::clone(bench), manager.to_path_buf());
        Runner::new("codex-manager", move || {
            bench.manager_command(&manager, words)
        })
    };
    let mut rows = Vec::new();
    for (folder, archives) in [("few", options.archives / 4), ("all", options.archives)] {
        let folder = bench.folder.join(folder);
        let (indexed, bare) = (folder.join("indexed"), folder.join("bare"));
        for manager in [&indexed, &bare] {
            sample::write_manager(manager, options.accounts, archives)?;
        }
        codex_manager_core::inventory::store::refresh(&indexed)?;
        let backups = indexed.join("backups");
        let list = [
            ours(&indexed, &["list-backups"]),
            ours(&bare, &["list-backups"]),
            Runner::new("ls -l", move || {
                let mut command = Command::new("ls");
                command.arg("-l").arg(&backups);
                command
            }),
        ];
        let runs = run_alternately(&list, rounds / 2);
        for (i, how) in ["", ", index lost"].iter().enumerate() {
            let work = format!("list-backups, {archives} archives{how}");
            rows.push(Row::new(work, &runs[i], Some((&list[2], &runs[2]))));
        }
    }
    let recommend = [
        ours(&bench.folder.join("all/indexed"), &["recommend"]),
        Runner::new("/bin/true", || Command::new("/bin/true")),
    ];
    let runs = run_alternately(&recommend, rounds);
    rows.push(Row::new(
        format!("recommend, {} accounts", options.accounts),
        &runs[0],
        Some((&recommend[1], &runs[1])),
    ));
    Ok(rows)
}

/// The number of recorded launches.
const LAUNCHES: u32 = 10_000;

/// Measures commands on profiles in a home with many conversations, which they need not read.
fn commands_on_profiles(
    folder: &Path,
    options: &Options,
) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let bench = Rc::new(Bench::new(folder.join("looking"), options));
    // Four of five files are conversations.
    sample::write_many(&bench.home, options.rollouts / 4 * 5)?;
    sample::write_manager(&bench.manager, options.accounts, 0)?;
    sample::write_launches(&bench.manager, &bench.home, LAUNCHES)?;
    // `/bin/true` takes no time, so only the work of codex-manager is measured.
    let launch = ["launch", "user1", "--codex-bin", "/bin/true", "--", "exec"];
    let apart = [
        "launch",
        "user2",
        "--isolated",
        "--codex-bin",
        "/bin/true",
        "--",
        "exec",
    ];
    let works: [(&'static str, Vec<&'static str>); 5] = [
        ("list", vec!["list"]),
        ("current", vec!["current"]),
        ("launches", vec!["launches"]),
        ("launch", launch.to_vec()),
        ("launch --isolated", apart.to_vec()),
    ];
    let mut runners = Vec::new();
    for (_, words) in works.clone() {
        let command = Rc::clone(&bench);
        runners.push(Runner::new("codex-manager", move || {
            command.manager_command(&command.manager, &words)
        }));
    }
    runners.push(Runner::new("/bin/true", || Command::new("/bin/true")));
    let runs = run_alternately(&runners, options.rounds * 20);
    let last = works.len();
    let rows = works.iter().enumerate().map(|(i, (name, _))| {
        let work = format!(
            "{name}, {} accounts, {LAUNCHES} launches, {} conversations",
            options.accounts, options.rollouts
        );
        Row::new(work, &runs[i], Some((&runners[last], &runs[last])))
    });
    Ok(rows.collect())
}

/// The peer name of the build of cargo if another one is measured.
const USUAL: &str = "the usual build";

const LEVELS: [&str; 3] = ["fast", "default", "best"];

/// Compares the first full backup, at each compression level, with each compressor. With `--binary`, only at
/// the default level, which the usual build has too.
fn first_backup(bench: &Rc<Bench>, options: &Options) -> Vec<Row> {
    let backup = |name: &'static str, program: &Path, level: &'static str| {
        let (before, command, made) = (Rc::clone(bench), Rc::clone(bench), Rc::clone(bench));
        let program = program.to_path_buf();
        Runner::new(name, move || {
            let words = ["backup", "--no-status", "--compression", level];
            command.command_of(&program, &command.manager, &words)
        })
        .before(move || {
            let _ = std::fs::remove_dir_all(&before.manager);
            flush_disk();
        })
        .outputs(move || made.archive().into_iter().collect())
    };
    let levels: &[_] = match &options.binary {
        Some(_) => &["default"],
        None => &LEVELS,
    };
    let mut runners: Vec<_> = levels
        .iter()
        .map(|level| backup("codex-manager", &bench.program, level))
        .collect();
    if options.binary.is_some() {
        runners.push(backup(USUAL, USUAL_BUILD.as_ref(), "default"));
    }
    for (program, name) in [("gzip", "tar c | gzip -6"), ("pigz", "tar c | pigz -6")] {
        if !options.peers || !exists(program) {
            continue;
        }
        let (home, packed) = (bench.home.clone(), bench.folder.join("peer.tar.gz"));
        let made = packed.clone();
        let script = format!("tar cf - -C \"$1\" . | {program} -6 > \"$2\"");
        runners.push(
            Runner::new(name, move || Bench::shell(&script, &[&home, &packed]))
                .before(flush_disk)
                .outputs(move || vec![made.clone()]),
        );
    }
    if options.peers && exists("libdeflate-gzip") {
        runners.push(parts_by_libdeflate(bench));
    }
    if let Some(python) = options.python.clone() {
        let (made, command) = (Rc::clone(bench), Rc::clone(bench));
        let status = bench.folder.join("status.txt");
        let text = "Email: user1@example.com\nQuota: 40% left (resets 15:55 on 24 Nov)\n";
        assert!(
            std::fs::write(&status, text).is_ok(),
            "write the status text"
        );
        runners.push(
            Runner::new("codex-manager 23 (Python)", move || {
                let mut line = Command::new(&python);
                line.arg("backup").arg("--source-dir").arg(&command.home);
                line.arg("--status-file").arg(&status);
                line.env("HOME", &command.folder)
                    .env("CODEX_MANAGER_HOME", command.python_home());
                line
            })
            .before(flush_disk)
            .outputs(move || made.python_archive().into_iter().collect()),
        );
    }
    let runs = run_alternately(&runners, options.rounds);
    let mut rows = Vec::new();
    for (level, ours) in levels.iter().zip(&runs) {
        let work = format!("first full backup, --compression {level}");
        rows.extend(rows_with_peers(
            work,
            ours,
            &runners[levels.len()..],
            &runs[levels.len()..],
        ));
    }
    rows
}

/// Returns the limit of two processors: two processes at a time compress the parts of the home's tar, which is
/// packed and cut before the measurement. Parts of equal size are not equal work: with only two, one processor
/// would wait for the other.
fn parts_by_libdeflate(bench: &Bench) -> Runner {
    let tar = bench.folder.join("peer.tar");
    let script = "tar cf \"$2\" -C \"$1\" . && split -n 16 \"$2\" \"$2.\"";
    let cut = Bench::shell(script, &[&bench.home, &tar]).status();
    assert!(cut.is_ok_and(|s| s.success()), "tar or split failed");
    let packed: Vec<_> = ('a'..='p')
        .map(|end| bench.folder.join(format!("peer.tar.a{end}.gz")))
        .collect();
    let old = packed.clone();
    let script = "printf '%s\\0' \"$1\".a? | xargs -0 -P 2 -n 1 libdeflate-gzip -6 -k";
    Runner::new("two processes of libdeflate-gzip -6", move || {
        Bench::shell(script, &[&tar])
    })
    .before(move || {
        for file in &old {
            let _ = std::fs::remove_file(file);
        }
        flush_disk();
    })
    .outputs(move || packed.clone())
}

/// Compares the next backup, after changes of 1 % of the conversations, with the first one.
fn next_backup(bench: &Rc<Bench>, options: &Options) -> Vec<Row> {
    let first = bench.folder.join("first");
    let backup = |program: &Path, manager: &Path| {
        let (bench, program, manager) = (
            Rc::clone(bench),
            program.to_path_buf(),
            manager.to_path_buf(),
        );
        move || bench.command_of(&program, &manager, &["backup", "--no-status"])
    };
    let next = |name: &'static str, program: &Path| {
        let command = backup(program, &bench.folder.join(format!("again, {name}")));
        let prepared = command().stdout(std::process::Stdio::null()).status();
        assert!(prepared.is_ok_and(|s| s.success()), "the backup failed");
        Runner::new(name, command).before(flush_disk)
    };
    let (changed, forgotten) = (Rc::clone(bench), first.clone());
    let share = options.sessions.div_ceil(100);
    let mut runners = vec![
        next("codex-manager", &bench.program).before(move || {
            sample::append_lines(&changed.home, share);
            flush_disk();
        }),
        Runner::new("the first", backup(&bench.program, &first)).before(move || {
            let _ = std::fs::remove_dir_all(&forgotten);
            flush_disk();
        }),
    ];
    if options.binary.is_some() {
        runners.push(next(USUAL, USUAL_BUILD.as_ref()));
    }
    let runs = run_alternately(&runners, options.rounds);
    let work = "next backup, 1 % changed".to_owned();
    rows_with_peers(work, &runs[0], &runners[1..], &runs[1..])
}

/// Measures once each the commands whose memory could depend on the number of files.
fn many_files(folder: &Path, options: &Options) -> std::io::Result<Vec<Row>> {
    let files = options.files;
    let bench = Rc::new(Bench::new(folder.join("many"), options));
    sample::write_many(&bench.home, files)?;
    let works: [(&str, &'static [&'static str]); 6] = [
        ("first backup", &["backup", "--no-status"]),
        ("next backup", &["backup", "--no-status"]),
        ("verify", &["verify"]),
        ("restore --to", &["restore", "latest", "--to"]),
        (
            "restore --only one file",
            &["restore", "latest", "--only=config.toml"],
        ),
        ("restore over the home", &["restore", "latest"]),
    ];
    let mut rows = Vec::new();
    for (work, words) in works {
        let (command, before) = (Rc::clone(&bench), Rc::clone(&bench));
        let runner = Runner::new("codex-manager", move || {
            let mut line = command.manager_command(&command.manager, words);
            if words.last() == Some(&"--to") {
                line.arg(command.out());
            }
            line
        })
        .before(move || before.next_unpacked());
        let runs = run_alternately(&[runner], 1);
        rows.push(Row::new(format!("{work}, {files} files"), &runs[0], None));
    }
    Ok(rows)
}

/// Returns one row per peer, or one row without a peer if there is none.
fn rows_with_peers(work: String, ours: &[Run], peers: &[Runner], theirs: &[Vec<Run>]) -> Vec<Row> {
    if peers.is_empty() {
        return vec![Row::new(work, ours, None)];
    }
    let pairs = peers.iter().zip(theirs);
    pairs
        .map(|(peer, runs)| Row::new(work.clone(), ours, Some((peer, runs))))
        .collect()
}

/// Compares verifying and unpacking the default archive with `tar xzf` of the same archive.
fn verify_and_restore(bench: &Rc<Bench>, options: &Options) -> Vec<Row> {
    let _ = std::fs::remove_dir_all(&bench.manager);
    let status = bench
        .manager_command(&bench.manager, &["backup", "--no-status"])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.is_ok_and(|s| s.success()), "the backup failed");
    let archive = bench.archive().unwrap_or_default();
    let of_build = |name, program: &Path, words: &'static [&'static str], elsewhere: bool| {
        let (command, before, archive) = (Rc::clone(bench), Rc::clone(bench), archive.clone());
        let program = program.to_path_buf();
        Runner::new(name, move || {
            let mut command_line = command.command_of(&program, &command.manager, words);
            command_line.arg(&archive);
            if elsewhere {
                command_line.arg("--to").arg(command.out());
            }
            command_line
        })
        .before(move || before.next_unpacked())
    };
    let ours = |words: &'static [&'static str], elsewhere| {
        of_build("codex-manager", &bench.program, words, elsewhere)
    };
    let tar = |name, script: &'static str| {
        let (command, before, archive) = (Rc::clone(bench), Rc::clone(bench), archive.clone());
        Runner::new(name, move || {
            Bench::shell(script, &[&archive, &command.out()])
        })
        .before(move || before.next_unpacked())
    };
    let all = "mkdir \"$2\" && tar xzf \"$1\" -C \"$2\"";
    let durable = "mkdir \"$2\" && tar xzf \"$1\" -C \"$2\" && sync -f \"$2\"";
    let one = "mkdir \"$2\" && tar xzf \"$1\" -C \"$2\" config.toml";
    let mut runners = vec![
        ours(&["verify"], false),
        ours(&["restore"], true),
        ours(&["restore"], false),
        ours(&["restore", "--only=config.toml"], true),
    ];
    if options.peers {
        runners.push(tar("tar xzf", all));
        runners.push(tar("tar xzf, sync", durable));
        runners.push(tar("tar xzf", one));
    }
    let peers = runners.len();
    if options.binary.is_some() {
        for (words, elsewhere) in [(&["verify"], false), (&["restore"], true)] {
            runners.push(of_build(USUAL, USUAL_BUILD.as_ref(), words, elsewhere));
        }
    }
    let runs = run_alternately(&runners, options.rounds);
    let at = |i: usize| runners.get(i).map(|r| (r, runs[i].as_slice()));
    let peer = |i: usize| at(i).filter(|_| options.peers);
    let mut rows = vec![
        Row::new("verify", &runs[0], peer(4)),
        Row::new("restore --to", &runs[1], peer(4)),
        Row::new("restore --to", &runs[1], peer(5)),
        Row::new("restore over the home, safety backup", &runs[2], peer(5)),
        Row::new("restore --only one file", &runs[3], peer(6)),
    ];
    if options.binary.is_some() {
        rows.push(Row::new("verify", &runs[0], at(peers)));
        rows.push(Row::new("restore --to", &runs[1], at(peers + 1)));
    }
    rows
}
