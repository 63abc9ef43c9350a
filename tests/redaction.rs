//! The table of secrets: how many of each kind exports leave in, and what else they remove.

use crate::support::conversations::{Conversation, assistant, user, write};
use crate::support::env::TestEnv;
use crate::support::secret_samples::{Samples, kinds, texts};
use codex_manager_core::codex::redaction::find_secret;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

const SEED: u64 = 20_261_122;

/// The seeds of the samples whose recall the page has.
const RECALL_SEEDS: [u64; 2] = [SEED, 75];

/// Samples of each kind and seed: five in each of 14 forms of texts. Kinds with more forms have fewer in each.
const SAMPLES_PER_KIND: usize = 70;

/// Samples of each kind with a name and of each seed that are in a text without the name.
const SAMPLES_WITHOUT_NAME: usize = 10;

/// The table of forms: kind, place, check, keywords, pattern, source.
const FORMS: &str = include_str!("../src/base/codex/redaction/forms.txt");

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
#[derive(Debug, Default, Clone, Copy)]
struct Recall {
    checked: usize,
    missed: usize,
}

impl Recall {
    fn add(&mut self, is_missed: bool) {
        self.checked += 1;
        self.missed += usize::from(is_missed);
    }

    fn is_at_least_99_percent(self) -> bool {
        self.missed * 100 <= self.checked
    }
}

impl fmt::Display for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checked, missed } = self;
        let tenths = (2000 * (checked - missed) + checked) / (2 * checked);
        write!(f, "{}.{} %", tenths / 10, tenths % 10)
    }
}

/// The recall of a kind in texts of all forms, and that of a kind with a name in a sentence without it.
#[derive(Debug, Default)]
struct KindRecall {
    total: Recall,
    without_name: Recall,
}

impl KindRecall {
    /// Returns the recall without a name. A kind of the other sort has none in any text.
    fn without_name(&self) -> Recall {
        if self.without_name.checked == 0 {
            self.total
        } else {
            self.without_name
        }
    }
}

/// Adds the recall of samples with this seed, over all forms of text and all formats.
fn measure(seed: u64, recall: &mut BTreeMap<&'static str, KindRecall>) {
    let mut samples = Samples(seed);
    let mut cases = Vec::new();
    for kind in kinds() {
        for i in 0..SAMPLES_PER_KIND {
            let sample = samples.sample(&kind);
            let mut forms = texts(&kind, &sample.text);
            let form = i % forms.len();
            let text = forms.swap_remove(form).1;
            cases.push((kind.id, sample, text, false));
        }
        let count = kind.name.map_or(0, |_| SAMPLES_WITHOUT_NAME);
        for _ in 0..count {
            let sample = samples.sample(&kind);
            let text = format!("Use {} for it.", sample.text);
            cases.push((kind.id, sample, text, true));
        }
    }
    let all: Vec<_> = cases.iter().map(|(_, _, text, _)| text.clone()).collect();
    let env = TestEnv::new();
    for export in export_as(&env, &all, &["md", "html", "json"]) {
        for ((id, sample, text, is_without_name), shown) in cases.iter().zip(export) {
            assert!(!sample.parts.is_empty(), "{id}: {text}");
            let is_missed = sample.parts.iter().any(|part| shown.contains(part));
            assert!(is_missed || shown.contains("[redacted]"), "{id}: {text}");
            let entry = recall.entry(id).or_default();
            if *is_without_name {
                entry.without_name.add(is_missed);
            } else {
                entry.total.add(is_missed);
            }
        }
    }
}

const HEAD: &str = "\
# Which secrets are found?

Exports, `show`, messages, logs and `sync` use one table of the forms that secrets have. `[redacted]` replaces a secret
in a text; a file with one is not synced, and a warning names its kind and its line. The table has:

- tokens and keys that a prefix or a fixed form gives away, such as `rt_…`, `sk-…`, `ghp_…`, JWT and JWE,
- private keys in PEM, PGP, PuTTY and OpenVPN files, also quoted, numbered, in a diff or in a string of JavaScript,
- values whose name tells: `PASSWORD=`, `\"password\":`, `SECRET_KEY`, `*_TOKEN`, names of providers, in shell, YAML,
  JSON, XML, TOML, `.netrc`, `.npmrc`, kubeconfig, Kubernetes secrets and code,
- passwords with blanks behind such a name: in quotes, or four words and more in lower case up to the end of the line,
- passwords in URLs, `Authorization`, `X-Api-Key` and `Cookie` headers, options such as `--password`, and the passwords
  that `ldapsearch`, `smbclient`, `sqlcmd`, `mysql`, `gh secret set`, `kubectl --from-literal` and
  `docker login --password-stdin` take,
- variables of fish, csh, Windows (`setx`) and Apache, parameters of AWS, passwords of Redis, salts of WordPress, hashes
  of passwords in `/etc/shadow` and of `htpasswd`.

Exports and `show` also look behind escapes and into base64. Messages and logs lose more: any long opaque word.

Not found: a password in a sentence or in a column of a table, in `.pgpass` with another port than 5432, a passphrase
of one to three plain words or of words of sentences, some passwords that have brackets, without quotes or in URLs, a
password of plain letters behind a mark such as `$` or `!`, which is taken for a name, cookies behind a bracket that is
not of JSON or without a secret in their first 4 KB, a secret that goes on in the next line or in another string, base64
of base64, or a secret in a picture or a compressed file. Examples and placeholders (`sk-your-key`,
`AKIAIOSFODNN7EXAMPLE`) stay. So look at an export before you publish it.

## Other text

How often is other text taken for a secret? 0.14 times per MB: 16 times in 112 MB of what the tools of an agent
print on one machine. `benches/outputs.sh` makes these outputs: `rg`, `grep`, `git log -p`, `git diff`, `git blame`,
`cargo`, `npm`, `pip`, tests of Python, `ls -lR`, `find`, logs, manuals, and sources of ten languages as `cat` shows
them. The searches ask for the words near which secrets are, because false finds are likeliest there. 579 other finds
are passwords and keys of tests, or samples of them in manuals. They have the form of a secret, so exports lose them too.

The finds were judged by their values, most of them in groups. The forms were adjusted to this text, which had 2244
false finds before. 56 MB of other outputs had 2; some finds in them were known while the forms were adjusted. These
were the ten most frequent forms of the false finds:

| text that is no secret | before | now |
| --- | --- | --- |
| names with `::`, as `xray::YAMLRecord`, `\"AWS::Config::Authorization\": \"283b…\"` | 1404 | 0 |
| names of types, as `'secret_ref': 'V1LocalObjectReference'` | 184 | 1 |
| the number of a line behind the name of a file, as `set_password.py:17:Changes` | 150 | 0 |
| UUIDs of requests and changes, as `\"LifecycleActionToken\": \"bcd2…\"` | 127 | 1 |
| marks of pages, locks and versions, as `\"NextToken\": \"WGDY…\"` | 72 | 0 |
| joined words, as `sk-ecdsa-sha2-nistp256-cert-v01` | 62 | 4 |
| words that a tool printed in several colours | 60 | 0 |
| other constants, as `_SECRET_NAMESPACE = 'oauth2client:secrets#ns'` | 48 | 1 |
| paths, as `--secret=projects/123/secrets/a/versions/1` | 37 | 0 |
| the first line of a private key in code, before a path | 34 | 0 |
| other | 66 | 9 |

A test exports 8 MB of the crates that this program is built from, and refuses one find per MB.

## Recall

A test makes samples of each kind by what it visibly looks like, with two seeds, puts them into texts of 13 to 38 forms
(shell, YAML, JSON in JSON, quoted, numbered, a diff, code, bold, …), and exports them as Markdown, HTML and JSON. The
kinds are those of gitleaks' rules, and others. This page is generated: `UPDATE_DOCS=1 cargo test redaction` writes it
again.

";

fn page(recall: &BTreeMap<&'static str, KindRecall>) -> String {
    let mut page = HEAD.to_owned();
    let without_form = kinds().into_iter().map(|kind| kind.id);
    let without_form: Vec<_> = without_form
        .filter(|id| !recall[id].without_name().is_at_least_99_percent())
        .map(|id| format!("`{id}`"))
        .collect();
    let _ = writeln!(
        page,
        "Not found without a name before them, because they have no form of their own: {}.\n",
        without_form.join(", ")
    );
    let mut table = |title: &str, is_known: bool| {
        let _ = write!(
            page,
            "| {title} | recall | without a name |\n| --- | --- | --- |\n"
        );
        for kind in kinds().iter().filter(|kind| kind.is_known == is_known) {
            let total = recall[kind.id].total;
            let without_name = recall[kind.id].without_name();
            let without_name = if without_name.is_at_least_99_percent() {
                without_name.to_string()
            } else {
                "not found".to_owned()
            };
            let _ = writeln!(page, "| {} | {total} | {without_name} |", kind.id);
        }
        page.push('\n');
    };
    table("kind of gitleaks", true);
    table("other kind", false);
    page.push_str("`pkcs12-file` is a kind of file, not of text: `sync` leaves out `*.p12` and `*.pfx` by their names.\n");
    page.push_str("\n## Forms\n\nThe table of forms, with the page that describes each.\n\n| form | source |\n| --- | --- |\n");
    for (form, source) in forms() {
        let source = match source.split_once(':') {
            Some(("gitleaks", rule)) => format!("rule `{rule}` of gitleaks"),
            Some(_) => format!("<{source}>"),
            None => "no specification".to_owned(),
        };
        let _ = writeln!(page, "| {form} | {source} |");
    }
    page
}

/// Returns the kinds of `forms.txt` with their sources, except those that are searched in messages only.
fn forms() -> Vec<(&'static str, &'static str)> {
    let lines = FORMS.lines().filter(|line| !line.starts_with('#'));
    let columns = lines.filter_map(|line| {
        let [kind, _, check, _, _, source] = line.split_ascii_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        (check != "message").then_some((kind, source))
    });
    columns.collect()
}

#[test]
fn exports_leave_out_99_percent_of_each_kind_of_secret_and_docs_redaction_has_the_figures() {
    let mut recall = BTreeMap::new();
    for seed in RECALL_SEEDS {
        measure(seed, &mut recall);
    }
    assert_eq!(kinds().iter().filter(|kind| kind.is_known).count(), 221);
    let missed: Vec<_> = recall
        .iter()
        .filter(|(_, recall)| !recall.total.is_at_least_99_percent())
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
fn each_form_of_the_table_finds_a_sample() {
    let mut samples = Samples(SEED);
    let mut found = HashSet::new();
    for kind in kinds() {
        for _ in 0..5 {
            let sample = samples.sample(&kind);
            for (_, text) in texts(&kind, &sample.text) {
                found.extend(find_secret(text.as_bytes()).map(|secret| secret.kind));
            }
        }
    }
    let missed: Vec<_> = forms()
        .into_iter()
        .filter(|(form, _)| !found.contains(form))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
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
