//! Rules of the source tree: dependencies point one way, files stay small, promises have tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the outside in; a module may use its own layer and those below it.
const LAYERS: &[&[&str]] = &[
    &["main", "cli"],
    &["commands"],
    &["doctor"],
    &["context", "config", "ui", "error"],
    &["transfer"],
    &[
        "inventory",
        "quota",
        "restore",
        "archive",
        "accounts",
        "shutdown",
        "history",
        "launch",
        "logging",
        "schedule",
        "storage",
        "sync",
    ],
    &["codex"],
    &["io"],
];

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} belongs to no layer"))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("list")
        .map(|e| e.expect("entry").path())
    {
        if entry.is_dir() {
            rust_files(&entry, files);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry);
        }
    }
}

fn top_module(relative: &Path) -> String {
    let first = relative.iter().next().expect("a component");
    Path::new(first)
        .file_stem()
        .expect("a stem")
        .to_string_lossy()
        .into_owned()
}

/// The modules named after `crate::` in `text`, also in `crate::{a, b}`.
fn used_modules(text: &str) -> Vec<&str> {
    text.match_indices("crate::")
        .flat_map(|(at, found)| {
            let rest = &text[at + found.len()..];
            let list = match rest.strip_prefix('{') {
                Some(inner) => inner.split('}').next().unwrap_or_default(),
                None => rest
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default(),
            };
            list.split(',')
                .map(|m| m.trim().split("::").next().unwrap_or_default())
        })
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 40, "the scan found the source");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).expect("below src");
        let from = top_module(relative);
        if from == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("read");
        // Tests inside a file may look anywhere.
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        for to in used_modules(code) {
            if layer(to) < layer(&from) {
                wrong.push(format!("{} uses {to}", relative.display()));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "against the direction of dependencies:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn source_files_stay_below_700_lines() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let large: Vec<_> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).expect("read")))
        .map(|(file, text)| {
            let code = text
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap_or_default();
            (file, code.lines().count())
        })
        .filter(|(_, lines)| *lines > 700)
        .collect();
    assert!(large.is_empty(), "{large:?}");
}

/// The name of every test, as `cargo test` prints it.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    for folder in ["tests", "src"] {
        let mut files = Vec::new();
        rust_files(&root.join(folder), &mut files);
        for file in files {
            let relative = file.strip_prefix(root.join(folder)).expect("below it");
            let parts = relative.with_extension("");
            let parts = parts.iter().map(|part| part.to_string_lossy());
            let module: Vec<_> = parts.filter(|part| part != "mod").collect();
            let inner = if folder == "src" { "::tests" } else { "" };
            let text = fs::read_to_string(&file).expect("read");
            for after in text.split("#[test]").skip(1) {
                let name = after
                    .split_once("fn ")
                    .and_then(|(_, rest)| rest.split_once('('));
                let (name, _) = name.expect("the test's name");
                names.insert(format!("{}{inner}::{name}", module.join("::")));
            }
        }
    }
    names
}

#[test]
fn every_promise_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("read");
    let tests = tests();
    assert!(tests.len() > 400, "the scan found the tests");
    let promises: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| I")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .collect();
    let numbers: Vec<_> = promises.iter().map(|row| row[0].to_owned()).collect();
    let expected: Vec<_> = (1..=14).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
    let mut wrong = Vec::new();
    for row in promises {
        let named: Vec<_> = row[2]
            .split(", ")
            .map(|name| name.trim_matches('`'))
            .collect();
        for name in &named {
            if !tests.contains(*name) {
                wrong.push(format!("I{}: there is no test {name}", row[0]));
            }
        }
        // The number in a test's name leads from the promise to the test.
        let mark = format!("i{}_", row[0]);
        if !named.iter().any(|name| name.contains(&mark)) {
            wrong.push(format!("I{}: no test carries the number", row[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
