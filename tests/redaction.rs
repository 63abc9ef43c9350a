//! The table of secrets: how many of each kind exports leave in, and what else they remove.

use crate::support::conversations::{Conversation, assistant, user, write};
use crate::support::env::TestEnv;
use crate::support::secret_samples::{Samples, kinds, texts};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const SEED: u64 = 20_261_122;

/// Samples of each kind. Each is in one text, and the forms of texts take turns.
const SAMPLES_PER_KIND: usize = 116;

/// Writes one conversation in which each text is followed by its number. Returns the exports, each cut into these
/// texts.
fn export_as(env: &TestEnv, texts: &[String], formats: &[&str]) -> Vec<Vec<String>> {
    let mut conversation = Conversation::new(1, 60, "Begin", "Case 0.");
    for (i, text) in texts.iter().enumerate() {
        conversation.lines.push(user(text));
        let mark = format!("Case {}.", i + 1);
        conversation.lines.push(assistant(&mark));
    }
    write(env, &conversation);
    formats
        .iter()
        .map(|format| {
            let run = env.run(["export", "01a1", "--format", format]).code(0);
            let mut rest = &*run.stdout;
            let mut parts = Vec::new();
            for i in 0..texts.len() {
                let (_, after) = rest.split_once(&format!("Case {i}.")).expect("begin");
                let (text, _) = after.split_once(&format!("Case {}.", i + 1)).expect("end");
                parts.push(text.to_owned());
                rest = after;
            }
            parts
        })
        .collect()
}

/// The checked and the missed samples of a kind.
#[derive(Debug, Default)]
struct Recall {
    checked: usize,
    missed: usize,
}

/// Returns the recall of each kind over all forms of text and all formats.
fn measure() -> BTreeMap<&'static str, Recall> {
    let mut samples = Samples(SEED);
    let mut cases = Vec::new();
    for kind in kinds() {
        for i in 0..SAMPLES_PER_KIND {
            let sample = samples.sample(&kind);
            let mut forms = texts(&kind, &sample.text);
            let form = i % forms.len();
            let text = forms.swap_remove(form).1;
            cases.push((kind.id, sample, text));
        }
    }
    let all: Vec<_> = cases.iter().map(|(_, _, text)| text.clone()).collect();
    let env = TestEnv::new();
    let mut recall: BTreeMap<&'static str, Recall> = BTreeMap::new();
    for export in export_as(&env, &all, &["md", "html", "json"]) {
        for ((id, sample, text), shown) in cases.iter().zip(export) {
            assert!(!sample.parts.is_empty(), "{id}: {text}");
            let entry = recall.entry(id).or_default();
            entry.checked += 1;
            let is_missed = sample.parts.iter().any(|part| shown.contains(part));
            assert!(is_missed || shown.contains("[redacted]"), "{id}: {text}");
            entry.missed += usize::from(is_missed);
        }
    }
    recall
}

const HEAD: &str = "\
# Which secrets are found?

Exports, `show`, messages, logs and `sync` use one table of the forms that secrets have. `[redacted]` replaces a secret
in a text; a file with one is not synced, and a warning names its kind and its line. The table has:

- tokens and keys that a prefix or a fixed form gives away, such as `rt_…`, `sk-…`, `ghp_…`, JWT and JWE,
- private keys in PEM, PGP and PuTTY files, also quoted, numbered, in a diff or in a string of JavaScript,
- values whose name tells: `PASSWORD=`, `\"password\":`, `SECRET_KEY`, `*_TOKEN`, names of providers, in shell, YAML,
  JSON, XML, TOML, `.netrc`, `.npmrc`, kubeconfig, Kubernetes secrets and code,
- passwords in URLs, `Authorization`, `X-Api-Key` and `Cookie` headers, options such as `--password`,
- variables of fish, csh and Apache, parameters of AWS, passwords of Redis, salts of WordPress and hashes in
  `/etc/shadow`.

Exports and `show` also look behind escapes and into base64. Messages and logs lose more: any long opaque word.

Not found: a password in a sentence or in a column of a table, in `.pgpass` with another port than 5432, a passphrase
of plain words outside `NAME=value`, some passwords that have brackets, without quotes or in URLs, a password of plain
letters behind a mark such as `$` or `!`, which is taken for a name, cookies behind a bracket that is not of JSON or
without a secret in their first 4 KB, a secret that goes on in the next line or in another string, base64 of base64, or
a secret in a picture or a compressed file. Examples and placeholders (`sk-your-key`, `AKIAIOSFODNN7EXAMPLE`) stay. So
look at an export before you publish it.

## Other text

How often is other text taken for a secret? 0.2 times per MB: 23 times in 132 MB of public sources, diffs, documents and
minified code that no form was adjusted to. Then 15 of the 23 were fixed. 157 other finds in this text are passwords and keys
of tests, or samples of them in manuals, most of them of one tool. They have the form of a secret, so exports lose them too.

| kind of text | MB | finds | no password or key | per MB |
| --- | --- | --- | --- | --- |
| Python | 30.0 | 90 | 5 | 0.2 |
| JavaScript | 16.0 | 2 | 1 | 0.1 |
| logs and diffs of git | 14.0 | 0 | 0 | 0 |
| TypeScript | 12.0 | 2 | 1 | 0.1 |
| documents | 12.0 | 55 | 0 | 0 |
| CSS, source maps | 10.0 | 0 | 0 | 0 |
| minified JavaScript | 8.0 | 12 | 12 | 1.5, then 0.5 |
| translations | 8.0 | 0 | 0 | 0 |
| JSON | 7.3 | 1 | 1 | 0.1 |
| HTML, XML, SVG | 5.1 | 2 | 2 | 0.4 |
| Go | 3.1 | 2 | 1 | 0.3 |
| Rust | 3.1 | 0 | 0 | 0 |
| YAML, TOML, ini | 1.2 | 14 | 0 | 0 |
| lock files, Ruby, shell | 2.0 | 0 | 0 | 0 |

An earlier collection of 87 MB also had C, Perl, images as data URLs, UUIDs and hashes: nothing was found in them. A test
exports 8 MB of the crates that this program is built from, and refuses one find per MB.

## Recall

A test makes samples of each kind by what it visibly looks like, puts them into texts of 13 to 36 forms (shell, YAML,
JSON in JSON, quoted, numbered, a diff, code, bold, …), and exports them as Markdown, HTML and JSON. The kinds are those of
gitleaks' rules. This page is generated: `UPDATE_DOCS=1 cargo test redaction` writes it again.

";

fn page(recall: &BTreeMap<&'static str, Recall>) -> String {
    let mut page = HEAD.to_owned();
    let mut table = |title: &str, is_known: bool| {
        let _ = write!(page, "| {title} | recall |\n| --- | --- |\n");
        for kind in kinds().iter().filter(|kind| kind.is_known == is_known) {
            let Recall { checked, missed } = recall[kind.id];
            let tenths = (2000 * (checked - missed) + checked) / (2 * checked);
            let (percent, tenth) = (tenths / 10, tenths % 10);
            let _ = writeln!(page, "| {} | {percent}.{tenth} % |", kind.id);
        }
        page.push('\n');
    };
    table("kind of gitleaks", true);
    table("other kind", false);
    page.push_str("`pkcs12-file` is a kind of file, not of text: `sync` leaves out `*.p12` and `*.pfx` by their names.\n");
    page
}

#[test]
fn exports_leave_out_99_percent_of_each_kind_of_secret_and_docs_redaction_has_the_figures() {
    let recall = measure();
    assert_eq!(kinds().iter().filter(|kind| kind.is_known).count(), 221);
    let missed: Vec<_> = recall
        .iter()
        .filter(|(_, recall)| recall.missed * 100 > recall.checked)
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redaction.md");
    let text = page(&recall);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).expect("write");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == written,
        "docs/redaction.md is out of date: UPDATE_DOCS=1 cargo test redaction"
    );
}

#[test]
fn exports_redact_at_most_one_text_per_megabyte_of_hashes_ids_images_and_code() {
    let mut samples = Samples(SEED);
    let mut texts = Vec::new();
    for file in [
        "Cargo.lock",
        "src/base/history/check.rs",
        "src/base/io/atomic.rs",
        "docs/cli-reference.md",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        texts.push(fs::read_to_string(path).expect("file"));
    }
    let mut lines = |line: &str, count: usize| -> String {
        (0..count).map(|_| samples.fill(line) + "\n").collect()
    };
    texts.extend([
        lines("commit {40:h}\nindex {7:h}..{7:h} 100644\nAuthor: Me <me@example.org>", 4_000),
        lines("      \"integrity\": \"sha512-{86:b}==\",\n      \"version\": \"1.{2:d}.0\",", 4_000),
        lines("checksum = \"{64:h}\"", 6_000),
        lines("{64:h}  target/{16:h}/lib{8:l}.rlib", 6_000),
        lines("id: {uuid}\nsession_id = \"{uuid}\"\n  key: {8:s}-{4:s}", 5_000),
        lines("<img src=\"data:image/png;base64,{4000:b}\">", 120),
        lines("{76:b}", 6_000),
        lines("let token = lexer.next_token({1:d}); let key = &keys[{2:d}]; self.password_field.clear();", 5_000),
        lines("\"password\": \"Password\", \"forgot_password\": \"Forgot password?\", \"token\": \"Token\"", 4_000),
        lines("fn {12:s}_{8:s}(secret: &SecretBytes, token_count: u64) -> Result<Token, {8:s}Error>;", 4_000),
    ]);
    let bytes: usize = texts.iter().map(String::len).sum();
    assert!(bytes > 4_000_000, "{bytes}");
    let mut conversation = Conversation::new(1, 60, "Begin", "Done.");
    conversation
        .lines
        .extend(texts.iter().map(|text| user(text)));
    let env = TestEnv::new();
    write(&env, &conversation);
    let out = env.path("out.md");
    let args = ["export", "01a1", "--json", "--out"];
    let args = args.into_iter().chain([out.to_str().expect("text")]);
    let document = env.run(args).code(0).json();
    let count = document["files"][0]["redacted"].as_u64().expect("count");
    assert!(count * 1_000_000 < bytes as u64, "{count} in {bytes} bytes");
}

/// Returns texts of the crates in `Cargo.lock`, which each machine that builds this has, with their paths: the same
/// on each machine, `max_bytes` in all.
fn texts_of_crates(max_bytes: usize) -> Vec<(String, String)> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let registries = fs::read_dir(cargo_home.expect("a home").join("registry/src"));
    let registries: Vec<_> = registries.expect("sources of crates").collect();
    let lock = include_str!("../Cargo.lock");
    let mut files = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| Some(package.split_once(name)?.1.split_once('"')?.0);
        let (Some(name), Some(version)) = (field("name = \""), field("version = \"")) else {
            panic!("{package}");
        };
        for registry in &registries {
            let registry = registry.as_ref().expect("a registry").path();
            let walk = walkdir::WalkDir::new(registry.join(format!("{name}-{version}")));
            // Crates for other systems are not there.
            for entry in walk.into_iter().filter_map(Result::ok) {
                let path = entry.path();
                let ending = path.extension().and_then(|ending| ending.to_str());
                let is_text = matches!(
                    ending,
                    Some("rs" | "md" | "toml" | "json" | "txt" | "yml" | "c" | "h")
                );
                // The keys in the tests of age are real ones.
                if is_text && entry.file_type().is_file() && !name.starts_with("age") {
                    let shown = path
                        .strip_prefix(&registry)
                        .expect("below")
                        .display()
                        .to_string();
                    files.push((Sha256::digest(&shown), shown, path.to_owned()));
                }
            }
        }
    }
    files.sort();
    let mut bytes = 0;
    let read = files.into_iter().filter_map(|(_, shown, path)| {
        let text = fs::read_to_string(path).ok()?;
        Some((shown, text))
    });
    read.filter(|(_, text)| text.len() < 300_000)
        .take_while(|(_, text)| {
            bytes += text.len();
            bytes <= max_bytes
        })
        .collect()
}

#[test]
fn exports_redact_less_than_one_word_per_megabyte_of_crate_sources() {
    let files = texts_of_crates(8_000_000);
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes > 7_000_000, "{bytes}");
    let texts: Vec<_> = files.iter().map(|(_, text)| text.clone()).collect();
    let env = TestEnv::new();
    let mut lost = BTreeMap::new();
    for export in export_as(&env, &texts, &["md"]) {
        for ((path, text), shown) in files.iter().zip(export) {
            let count = |text: &str| text.matches("[redacted]").count();
            if count(&shown) > count(text) {
                lost.insert(path, count(&shown) - count(text));
            }
        }
    }
    let count: usize = lost.values().sum();
    assert!(
        count * 1_000_000 < bytes,
        "{count} in {bytes} bytes: {lost:?}"
    );
}

#[test]
fn damaged_secrets_are_exported_without_a_crash() {
    let kinds = kinds();
    let mut samples = Samples(SEED);
    let mut mutated = Vec::new();
    for _ in 0..10_000 {
        let kind = &kinds[samples.below(kinds.len())];
        let sample = samples.sample(kind);
        let mut forms = texts(kind, &sample.text);
        let form = samples.below(forms.len());
        let mut text: Vec<char> = forms.swap_remove(form).1.chars().collect();
        for _ in 0..=samples.below(8) {
            let at = samples.below(text.len());
            let strange = [
                'ü', '日', '😀', '"', '\'', '\\', '\n', '=', ':', '@', '%', '&', '\u{1b}',
            ];
            let strange = strange[samples.below(strange.len())];
            match samples.below(4) {
                0 => text[at] = strange,
                1 => text.insert(at, strange),
                2 if text.len() > 1 => drop(text.remove(at)),
                _ => text.truncate(at.max(1)),
            }
        }
        mutated.push(text.into_iter().collect::<String>());
    }
    let mut conversation = Conversation::new(1, 60, "Begin", "Done.");
    conversation
        .lines
        .extend(mutated.iter().map(|text| user(text)));
    let env = TestEnv::new();
    write(&env, &conversation);
    for args in [&["export", "01a1"][..], &["show", "01a1", "--json"]] {
        let run = env.run(args).code(0);
        assert!(run.stdout.contains("[redacted]"));
    }
}
