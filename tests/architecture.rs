//! Dependencies point one way.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the outside in; a module may use its own layer and those behind it.
const LAYERS: &[&[&str]] = &[
    &["main", "cli"],
    &["commands"],
    &["doctor"],
    &["context", "config", "ui", "error"],
    &["transfer"],
    &[
        "inventory",
        "quota",
        "archive",
        "accounts",
        "closing",
        "history",
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
fn no_file_has_outgrown_one_purpose() {
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

/// The files that the README names in backticks as holding a promise.
#[test]
fn what_the_readme_names_as_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("read");
    let named: Vec<_> = readme
        .split('`')
        .filter(|word| {
            let is_source = word.starts_with("tests/") || word.starts_with("src/");
            is_source && !word.contains(char::is_whitespace)
        })
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        assert!(text.contains("#[test]"), "{name} holds no test");
    }
}
