//! The wording of doc comments, messages and docs follows CONTRIBUTING.md.

use std::fs;
use std::path::Path;

use regex::Regex;
use walkdir::WalkDir;

/// A doc comment starts with a noun or a verb, not with a bare question word or conjunction.
const OPENINGS: &str =
    r"^(What|Whether|Who|Whose|Whoever|Which|How|That|Where|Why|Not|It is not)\b";

/// Words without a referent, passives without an actor, and private terms that have a standard word.
const WORDS: &str = r"(?xi)\b(
    somebody | someone | nobody | no\ one | anybody | whoever | ours | thereof | herein
    | (is|are|was|were|be|been)\ (told|said|heard|minded|waited\ for)
    | sees\ to\ it | what\ stands | stands\ there | vouch\w* | wreck\w* | hollow | mend(s|ed|ing)?
    | amid | betimes | lest
)\b";

/// Places where a banned word is right: the file, and the text around the word.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// A piece of prose, with the line of its beginning.
struct Prose {
    line: usize,
    text: String,
}

/// Returns the doc comments of `code`, each as its paragraphs.
fn doc_comments(code: &str) -> Vec<Vec<Prose>> {
    let mut comments: Vec<Vec<Prose>> = Vec::new();
    let mut inside = false;
    for (index, line) in code.lines().enumerate() {
        let line = line.trim_start();
        let Some(text) = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
        else {
            inside = false;
            continue;
        };
        if !inside {
            comments.push(Vec::new());
        }
        let paragraphs = comments.last_mut().expect("a comment was pushed");
        let text = text.trim();
        match paragraphs.last_mut() {
            Some(prose) if inside && !text.is_empty() => {
                prose.text.push(' ');
                prose.text.push_str(text);
                prose.text = prose.text.trim_start().to_owned();
            }
            _ => paragraphs.push(Prose {
                line: index + 1,
                text: text.to_owned(),
            }),
        }
        inside = true;
    }
    comments
}

/// Returns the string literals of `code` that contain a space, and are therefore prose or nearly so.
fn messages(code: &str) -> Vec<Prose> {
    let literal = Regex::new(r#""((?:[^"\\]|\\.)*)""#).expect("a valid pattern");
    code.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .flat_map(|(index, line)| {
            literal
                .captures_iter(line)
                .map(move |found| Prose {
                    line: index + 1,
                    text: found[1].to_owned(),
                })
                .filter(|prose| prose.text.contains(' '))
        })
        .collect()
}

/// Returns the lines of a page outside of code blocks.
fn page_lines(page: &str) -> Vec<Prose> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(Prose {
                line: index + 1,
                text: line.to_owned(),
            });
        }
    }
    lines
}

/// Collects findings, each with the file and line to open.
struct Check {
    words: Regex,
    openings: Regex,
    findings: Vec<String>,
}

impl Check {
    fn new() -> Self {
        Self {
            words: Regex::new(WORDS).expect("a valid pattern"),
            openings: Regex::new(OPENINGS).expect("a valid pattern"),
            findings: Vec::new(),
        }
    }

    fn words(&mut self, file: &str, prose: &Prose) {
        for found in self.words.find_iter(&prose.text) {
            let is_exception = EXCEPTIONS
                .iter()
                .any(|(of, text)| *of == file && prose.text.contains(text));
            if !is_exception {
                self.findings.push(format!(
                    "{file}:{}: \"{}\" in: {}",
                    prose.line,
                    found.as_str(),
                    prose.text
                ));
            }
        }
    }

    fn code(&mut self, file: &str, code: &str) {
        for comment in doc_comments(code) {
            for prose in &comment {
                self.words(file, prose);
                if self.openings.is_match(&prose.text) {
                    self.findings
                        .push(format!("{file}:{}: opening: {}", prose.line, prose.text));
                }
            }
        }
    }
}

#[test]
fn prose_has_no_banned_openings_or_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut check = Check::new();
    let mut read = 0;
    for (folder, extension) in [
        ("src", "rs"),
        ("tests", "rs"),
        ("benches", "rs"),
        ("docs", "md"),
    ] {
        for entry in WalkDir::new(root.join(folder)).sort_by_file_name() {
            let path = entry.expect("list").into_path();
            if path.extension().is_none_or(|found| found != extension) {
                continue;
            }
            let file = path.strip_prefix(root).expect("below the root");
            let file = file.to_str().expect("a name of ASCII characters");
            if file == "tests/prose.rs" {
                continue;
            }
            let text = fs::read_to_string(&path).expect("read");
            read += 1;
            if extension == "md" {
                for line in page_lines(&text) {
                    check.words(file, &line);
                }
                continue;
            }
            check.code(file, &text);
            if folder == "src" {
                for message in messages(&text) {
                    check.words(file, &message);
                }
            }
        }
    }
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ] {
        let text = fs::read_to_string(root.join(page)).expect("read");
        for line in page_lines(&text) {
            check.words(page, &line);
        }
    }
    assert!(read > 300, "the scan found the source");
    assert!(
        check.findings.is_empty(),
        "{} findings:\n{}",
        check.findings.len(),
        check.findings.join("\n")
    );
}

#[test]
fn the_prose_check_finds_banned_words_and_openings() {
    let mut check = Check::new();
    check.code(
        "example.rs",
        "/// Whether nobody is told.\nfn a() {}\n/// Why.\nfn b() {}\n/// Returns the size in bytes.\nfn c() {}\n",
    );
    assert_eq!(
        check.findings,
        [
            "example.rs:1: \"nobody\" in: Whether nobody is told.",
            "example.rs:1: \"is told\" in: Whether nobody is told.",
            "example.rs:1: opening: Whether nobody is told.",
            "example.rs:3: opening: Why.",
        ]
    );
}
