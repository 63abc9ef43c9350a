//! README, the release workflow and the npm packages agree, and npm installs a program that runs.

use crate::support::env::TestEnv;
use crate::support::tool_install::E2E_VARIABLE;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn platforms() -> serde_json::Map<String, Value> {
    serde_json::from_str(&text("npm/platforms.json")).expect("JSON")
}

#[test]
fn readme_workflow_and_npm_packages_agree() {
    let (workflow, readme) = (text(".github/workflows/release.yml"), text("README.md"));
    let built: BTreeSet<_> = workflow
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { os: "))
        .filter_map(|line| Some(line.split_once("target: ")?.1.trim_end_matches(" }")))
        .collect();
    let platforms = platforms();
    let packed: BTreeSet<_> = platforms.keys().map(String::as_str).collect();
    assert_eq!(built, packed);
    for (target, platform) in &platforms {
        let of = |key: &str| platform[key].as_str().expect("a text");
        let name = format!("codex-manager-{}-{}", of("os"), of("cpu"));
        assert_eq!(of("package"), name, "{target}");
    }
    let count = format!("= {}\n", platforms.len() + 1);
    assert!(
        workflow.contains(&count),
        "the workflow counts the packages"
    );
    // The workflow publishes the files that the README names.
    let archive = "name=codex-manager-${GITHUB_REF_NAME#v}-${{ matrix.target }}";
    assert!(workflow.contains(archive));
    let (_, install) = readme.split_once("\n## Install\n").expect("a section");
    let (install, _) = install.split_once("\n## ").expect("the end of the section");
    let name = format!("name=codex-manager-{VERSION}-");
    let named = install.lines().find_map(|line| line.strip_prefix(&name));
    let target = named.and_then(|rest| rest.split_whitespace().next());
    assert!(
        target.is_some_and(|target| built.contains(target)),
        "{install}"
    );
    assert!(workflow.contains("$name.tar.gz") && install.contains("$name.tar.gz.sha256"));
    assert!(install.contains("\nnpm install -g codex-manager\n"));
    assert!(workflow.contains("node npm/pack.mjs") && workflow.contains("npm publish"));
    assert!(install.contains("\ncargo install --path . --locked "));
    let ci = text(".github/workflows/ci.yml");
    assert!(ci.contains("cargo install --path . --locked"));
    for platform in ["Linux (x86-64, ARM)", "macOS", "Windows"] {
        assert!(install.contains(platform), "{platform}");
    }
}

/// Runs a program in the temp home and checks that it succeeded.
#[track_caller]
fn run_in(env: &TestEnv, program: &str, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(args)
        .env("HOME", env.path("home"))
        .env("npm_config_cache", env.path("cache"))
        .env("npm_config_update_notifier", "false")
        .current_dir(env.path("install"))
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    output
}

#[test]
fn npm_installs_a_program_that_runs() {
    let is_there = |program| Command::new(program).arg("--version").output().is_ok();
    if !is_there("npm") || !is_there("node") {
        let required = std::env::var(E2E_VARIABLE).is_ok_and(|value| value == "require");
        assert!(!required, "npm and node are required");
        eprintln!("skipped: there is no npm");
        return;
    }
    let env = TestEnv::on_disk();
    for folder in ["binaries", "packages", "install"] {
        fs::create_dir_all(env.path(folder)).unwrap();
    }
    let arch = std::env::consts::ARCH;
    let target = format!("{arch}-unknown-linux-gnu");
    let package = platforms()[&target]["package"].as_str().unwrap().to_owned();
    let binary = env.path(&format!("binaries/{target}/codex-manager"));
    fs::create_dir_all(binary.parent().unwrap()).unwrap();
    // Packing is much faster without debug information.
    let binary = binary.display().to_string();
    let stripped = ["-o", &binary, env!("CARGO_BIN_EXE_codex-manager")];
    let _ = run_in(&env, "strip", &stripped);
    let script = project("npm/pack.mjs").display().to_string();
    let folders = ["binaries", "packages"].map(|name| env.path(name).display().to_string());
    let _ = run_in(&env, "node", &[&script, VERSION, &folders[0], &folders[1]]);
    // The packages of other platforms are optional dependencies and do not exist here.
    let names = [package, "codex-manager".to_owned()];
    let packages = names.map(|name| format!("{}/{name}-{VERSION}.tgz", folders[1]));
    let install = ["install", "--offline", "--no-audit", "--no-fund"];
    let _ = run_in(
        &env,
        "npm",
        &[&install[..], &[&packages[0], &packages[1]]].concat(),
    );
    let run = run_in(&env, "node_modules/.bin/codex-manager", &["--version"]);
    let shown = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(shown, format!("codex-manager {VERSION}\n"));
    // Exit codes and signals are those of the program.
    let installed = env.path("install/node_modules/.bin/codex-manager");
    let wrong = Command::new(&installed).arg("--no-such-flag").output();
    assert_eq!(wrong.unwrap().status.code(), Some(4));
    let missing = env.path(&format!(
        "install/node_modules/{}",
        platforms()[&target]["package"].as_str().unwrap()
    ));
    fs::remove_dir_all(missing).unwrap();
    let without = Command::new(&installed).output().unwrap();
    let stderr = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(stderr.contains("is not installed\n\nhint: "), "{stderr}");
    assert_eq!(without.status.code(), Some(1));
}
