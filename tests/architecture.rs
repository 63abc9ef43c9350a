//! Rules of the source tree: dependencies point one way, files stay small, promises have tests.

use crate::support::imports::Imports;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms (top-level modules) from the bottom to the top. A room uses only rooms before it.
const ROOMS: &[&str] = &[
    "io",
    "codex",
    "journal",
    "quota",
    "logging",
    "history",
    "conversations",
    "usage",
    "storage",
    "shutdown",
    "archive",
    "accounts",
    "restore",
    "sync",
    "inventory",
    "vault",
    "recovery",
    "schedule",
    "launch",
    "transfer",
    "config",
    "error",
    "ui",
    "context",
    "doctor",
    "views",
    "copies",
    "choices",
    "steps",
    "mcp",
    "commands",
    "cli",
];

fn height(module: &str) -> usize {
    let room = room(module);
    let height = ROOMS.iter().position(|other| *other == room);
    height.unwrap_or_else(|| panic!("the room {room} is not in ROOMS"))
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
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

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let imports = Imports::read(&source());
    assert!(
        imports.all().count() > 500,
        "the scan found too few imports"
    );
    let upward = imports
        .all()
        .filter(|(from, to, _)| height(from) < height(to));
    let wrong: Vec<_> = upward
        .map(|(from, _, path)| format!("{from} uses {path}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "rooms that use a higher room:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_have_no_circular_imports() {
    let imports = Imports::read(&source());
    let circles = imports.circles();
    assert!(circles.is_empty(), "import circles: {circles:#?}");
}

#[test]
fn cloud_folder_imports_nothing_of_plan_apply_and_snapshots_of_sync() {
    let imports = Imports::read(&source());
    let of_folder = |module: &str| module.starts_with("sync::cloud_folder");
    let outside = ["sync::plan", "sync::apply", "sync::snapshots"];
    let wrong: Vec<_> = imports
        .all()
        .filter(|(from, to, _)| of_folder(from) && outside.iter().any(|o| to.starts_with(o)))
        .collect();
    assert!(wrong.is_empty(), "imports of the folder: {wrong:#?}");
    let used = imports
        .all()
        .any(|(from, to, _)| from.starts_with("sync::plan") && of_folder(to));
    assert!(used, "the scan found no import of the folder");
}

#[test]
fn a_command_imports_no_other_command() {
    let imports = Imports::read(&source());
    let verb = |module: &str| {
        let mut parts = module.split("::");
        (parts.next() == Some("commands")).then(|| parts.next().map(str::to_owned))?
    };
    let both: Vec<_> = imports
        .all()
        .filter_map(|(from, to, path)| Some((verb(from)?, verb(to)?, path.to_owned())))
        .filter(|(from, to, _)| from != to)
        .collect();
    assert!(both.is_empty(), "commands that import others: {both:#?}");
}

#[test]
fn type_names_are_unique_and_file_names_are_specific() {
    let declaration =
        Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) ([A-Z]\w*)")
            .expect("a pattern");
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let mut names: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let stem = file.file_stem().expect("a name").to_string_lossy();
        let vague = ["shared", "common", "util", "utils", "helper", "helpers"];
        assert!(!vague.contains(&&*stem), "{}", file.display());
        // Two files of which a system has one.
        if file.ends_with("io/processes/elsewhere.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("read");
        let code = text.split("#[cfg(test)]\nmod tests").next();
        for found in declaration.captures_iter(code.unwrap_or_default()) {
            names
                .entry(found[1].to_owned())
                .or_default()
                .push(file.clone());
        }
    }
    assert!(names.len() > 500, "the scan found too few types");
    names.retain(|_, files| files.len() > 1);
    assert!(names.is_empty(), "types of the same name: {names:#?}");
}

/// The compiler reports no unused item that is `pub` in a library.
#[test]
fn what_is_public_in_a_library_is_used_outside_of_it() {
    let item =
        Regex::new(r"(?m)^ *pub (?:const |unsafe )*(?:fn|const|static) (\w+)").expect("valid");
    let word = Regex::new(r"\w+").expect("valid");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz"] {
        rust_files(&root.join(folder), &mut files);
    }
    let read = |file: &PathBuf| fs::read_to_string(file).expect("read");
    for library in ["base", "core"].map(|name| source().join(name)) {
        let below = source().join("base");
        let (inside, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| file.starts_with(&library));
        let outside = others.into_iter().filter(|file| !file.starts_with(&below));
        let outside: Vec<_> = outside.map(read).collect();
        let used: BTreeSet<_> = outside
            .iter()
            .flat_map(|text| word.find_iter(text))
            .map(|found| found.as_str())
            .collect();
        let inside: Vec<_> = inside.into_iter().map(read).collect();
        let public = inside
            .iter()
            .flat_map(|text| item.captures_iter(text))
            .map(|found| found.extract::<1>().1[0]);
        let public: BTreeSet<_> = public.collect();
        assert!(public.len() > 300, "the scan found too few items");
        let unused: Vec<_> = public.difference(&used).collect();
        assert!(unused.is_empty(), "make these pub(crate): {unused:?}");
    }
}

#[test]
fn imports_are_followed_through_re_exports_and_use_trees() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(path, text).expect("write");
    };
    write("lib.rs", "pub mod a; pub mod b;");
    write(
        "a/mod.rs",
        "mod x;\nmod y;\npub use x::X;\n#[cfg(test)]\nmod fixture;\n",
    );
    write(
        "a/x.rs",
        "use std::fs;\nuse super::{\n    y::{Y, Z},\n};\npub struct X;\n",
    );
    write("a/y.rs", "fn f(_: crate::a::X) {} // crate::b::B\n");
    write("a/fixture.rs", "use crate::b::B;\n");
    write(
        "b.rs",
        "use crate::a::X;\n#[cfg(test)]\nmod tests {\n    use crate::a::y::Y;\n}\n",
    );
    let imports = Imports::read(folder.path());
    let all: Vec<_> = imports.all().map(|(from, to, _)| (from, to)).collect();
    assert_eq!(all, [("a::x", "a::y"), ("a::y", "a::x"), ("b", "a::x")]);
    let circle = vec!["a/x.rs", "a/y.rs"];
    assert_eq!(imports.circles(), BTreeSet::from([circle]));
}

/// Returns the source files with a line of code, outside of unit tests, that contains one of the texts.
fn files_with(texts: &[&str]) -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let mut found = BTreeSet::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if texts.iter().any(|text| code.contains(text)) {
            let name = file.strip_prefix(source()).expect("below it");
            found.insert(name.to_string_lossy().replace('\\', "/"));
        }
    }
    found
}

#[test]
fn only_codex_connection_opens_databases() {
    let mut opening = files_with(&["Connection::open", "OpenFlags"]);
    // The oracle of the search is compiled for tests only.
    opening.remove("base/conversations/search/tests/home.rs");
    assert_eq!(
        opening,
        BTreeSet::from(["base/codex/connection.rs".to_owned()])
    );
}

/// The file checks that Codex can store the login of the home after a renewal.
#[test]
fn only_codex_program_makes_commands_that_start_codex_on_a_home() {
    assert_eq!(
        files_with(&[".env(\"CODEX_HOME\""]),
        BTreeSet::from(["base/codex/program.rs".to_owned()])
    );
}

#[test]
fn source_files_stay_below_700_lines() {
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
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

/// Returns the name of every test, as `cargo test` prints it.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    for folder in ["tests", "src"] {
        let mut files = Vec::new();
        rust_files(&root.join(folder), &mut files);
        for file in files {
            let relative = file.strip_prefix(root.join(folder)).expect("below it");
            let relative = ["base", "core"]
                .iter()
                .find_map(|library| relative.strip_prefix(library).ok())
                .unwrap_or(relative);
            let parts = relative.with_extension("");
            let parts = parts.iter().map(|part| part.to_string_lossy());
            let module: Vec<_> = parts.filter(|part| part != "mod").collect();
            let is_test_file = module.iter().any(|part| part == "tests");
            let inner = if folder == "src" && !is_test_file {
                "::tests"
            } else {
                ""
            };
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
fn every_test_that_the_page_on_windows_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/windows.md")).expect("read");
    let tests = tests();
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::"))
        .collect();
    assert!(named.len() > 20, "the page names too few tests");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "there are no tests {missing:?}");
}

#[test]
fn every_promise_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("read");
    let tests = tests();
    assert!(tests.len() > 400, "the scan found too few tests");
    let promises: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| I")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .collect();
    let numbers: Vec<_> = promises.iter().map(|row| row[0].to_owned()).collect();
    let expected: Vec<_> = (1..=16).map(|n| n.to_string()).collect();
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
