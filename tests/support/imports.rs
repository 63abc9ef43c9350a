//! The imports between the source files of the program and of its library.
//!
//! An import is a path in a `use` or in code that starts at one of the crates, `super`, `self` or a child module. It
//! points to the file that defines the item, also if the path goes through a re-export (`pub use`). Tests
//! may import from any file, so test modules do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use walkdir::WalkDir;

/// The imports between the modules of a source folder. A module is named by its path from the crate root,
/// such as `sync::plan`.
pub(crate) struct Imports {
    /// The file of each module, relative to the source folder.
    files: BTreeMap<String, String>,
    /// The paths that each module re-exports, by their last part.
    re_exports: BTreeMap<String, BTreeMap<String, String>>,
    /// The modules that each module imports from, each with one imported path.
    targets: BTreeMap<String, BTreeMap<String, String>>,
}

impl Imports {
    /// Reads all files in `source` except the crate roots. The rooms of the libraries have the paths of rooms of the program.
    pub(crate) fn read(source: &Path) -> Self {
        let mut texts = BTreeMap::new();
        let mut files = BTreeMap::new();
        for entry in WalkDir::new(source) {
            let path = entry.expect("list the source").into_path();
            let relative = path.strip_prefix(source).expect("a path below the source");
            let file = relative.to_str().expect("a plain name");
            let Some(stem) = file.strip_suffix(".rs") else {
                continue;
            };
            let stem = ["base/", "core/"]
                .iter()
                .find_map(|library| stem.strip_prefix(library))
                .unwrap_or(stem);
            let module = stem.strip_suffix("/mod").unwrap_or(stem).replace('/', "::");
            if ["lib", "main"].contains(&module.as_str()) {
                continue;
            }
            texts.insert(module.clone(), fs::read_to_string(&path).expect("read"));
            files.insert(module, file.to_owned());
        }
        for module in test_modules(&texts) {
            texts.remove(&module);
            files.remove(&module);
        }
        let mut imports = Self {
            files,
            re_exports: BTreeMap::new(),
            targets: BTreeMap::new(),
        };
        let found: Vec<_> = texts
            .iter()
            .map(|(module, text)| (module, Paths::of(text)))
            .collect();
        for (module, paths) in &found {
            let re_exports = paths.re_exported.iter().filter_map(|path| {
                let target = imports.absolute(module, path)?;
                Some((last_part(&target).to_owned(), target))
            });
            let re_exports = re_exports.collect();
            imports.re_exports.insert((*module).clone(), re_exports);
        }
        for (module, paths) in &found {
            let targets = paths.used.iter().filter_map(|path| {
                let target = imports.absolute(module, path)?;
                let definer = imports.find_definer(&target)?;
                (definer != **module).then(|| (definer, path.clone()))
            });
            let targets = targets.collect();
            imports.targets.insert((*module).clone(), targets);
        }
        imports
    }

    /// Returns each import as importer, definer and path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.targets.iter().flat_map(|(from, targets)| {
            let targets = targets.iter();
            targets.map(move |(to, path)| (from.as_str(), to.as_str(), path.as_str()))
        })
    }

    /// Returns each maximal group of files in which every file imports every other one, directly or through
    /// others. The files of a group are in the order of their modules.
    pub(crate) fn circles(&self) -> BTreeSet<Vec<&str>> {
        let reached: BTreeMap<_, _> = self
            .targets
            .keys()
            .map(|module| (module, self.find_reachable(module)))
            .collect();
        let circle_of = |module| {
            let members = reached[module]
                .iter()
                .filter(|other| reached[**other].contains(module));
            members
                .map(|member| self.files[*member].as_str())
                .collect::<Vec<_>>()
        };
        let circles = self.targets.keys().map(circle_of);
        circles.filter(|circle| !circle.is_empty()).collect()
    }

    fn find_reachable(&self, module: &str) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<_> = self.targets[module].keys().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.targets[next].keys());
            }
        }
        reached
    }

    /// Returns `path`, as written in `module`, from the crate root; `None` for a path into another crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        match first {
            "crate" | "codex_manager_core" => Some(rest.to_owned()),
            "self" => Some(join(module, rest)),
            "super" if rest.starts_with("super::") => self.absolute(parent, rest),
            "super" => Some(join(parent, rest)),
            child => {
                let is_child = self.files.contains_key(&join(module, child));
                is_child.then(|| join(module, path))
            }
        }
    }

    /// Returns the module whose file defines the item at `target`.
    fn find_definer(&self, target: &str) -> Option<String> {
        let mut module = target;
        let mut item = "";
        while !self.files.contains_key(module) {
            (module, item) = module.rsplit_once("::")?;
        }
        let below = &target[module.len()..];
        let below = below
            .strip_prefix("::")
            .and_then(|below| below.strip_prefix(item));
        let origin = self.re_exports.get(module).and_then(|own| own.get(item));
        match (origin, below) {
            (Some(origin), Some(below)) if origin != target => {
                self.find_definer(&format!("{origin}{below}"))
            }
            _ => Some(module.to_owned()),
        }
    }
}

static UNIT_TESTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*mod \w+ \{").expect("valid"));
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").expect("valid"));
static USE_ITEM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))? )?use ([^;]+);").expect("valid"));
static PATH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[^\w:])((?:(?:crate|super|self)::|[a-z_]\w*::)(?:\w+::)*\w+)").expect("valid")
});

/// The paths in the code of one file.
struct Paths {
    re_exported: Vec<String>,
    used: Vec<String>,
}

impl Paths {
    fn of(text: &str) -> Self {
        let end = UNIT_TESTS
            .find(text)
            .map_or(text.len(), |found| found.start());
        let code = COMMENT.replace_all(&text[..end], "");
        let (mut re_exported, mut used) = (Vec::new(), Vec::new());
        for item in USE_ITEM.captures_iter(&code) {
            let paths = paths_of(&item[2]);
            match item.get(1) {
                Some(_) => re_exported.extend(paths),
                None => used.extend(paths),
            }
        }
        let code = USE_ITEM.replace_all(&code, "");
        used.extend(PATH.captures_iter(&code).map(|found| found[1].to_owned()));
        Self { re_exported, used }
    }
}

/// Returns the paths of a use tree: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((prefix, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().trim_end_matches("::self").to_owned()];
    };
    let list = list.trim_end();
    let list = list.strip_suffix('}').unwrap_or(list);
    let mut depth = 0;
    let parts = list.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    });
    let prefix = prefix.trim();
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .flat_map(|part| paths_of(&format!("{prefix}{part}")))
        .collect()
}

/// Returns the modules in files of their own that are compiled for tests only.
fn test_modules(texts: &BTreeMap<String, String>) -> Vec<String> {
    let declaration = Regex::new(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*mod (\w+);").expect("valid");
    let of_file = |(module, text): (&String, &String)| -> Vec<_> {
        let found = declaration.captures_iter(text);
        found.map(|name| join(module, &name[1])).collect()
    };
    texts.iter().flat_map(of_file).collect()
}

fn join(module: &str, rest: &str) -> String {
    match (module, rest) {
        ("", path) | (path, "") => path.to_owned(),
        _ => format!("{module}::{rest}"),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit_once("::").map_or(path, |(_, last)| last)
}
