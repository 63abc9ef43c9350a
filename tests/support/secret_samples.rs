//! Generates samples of secrets by what each form visibly looks like, and texts that contain them. It does not
//! know the patterns of the program.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// A pseudorandom generator (`SplitMix64`), so that a seed makes the same samples on each machine.
pub(crate) struct Samples(pub(crate) u64);

/// A secret and the parts of it that must not be seen.
pub(crate) struct Sample {
    pub(crate) text: String,
    pub(crate) parts: Vec<String>,
}

/// A kind of secret.
#[derive(Debug)]
pub(crate) struct SecretKind {
    /// The id of gitleaks' rule, or a name.
    pub(crate) id: &'static str,
    /// True if gitleaks has a rule of this id.
    pub(crate) is_known: bool,
    /// An example of the name of the value, for a form that has no mark of its own.
    pub(crate) name: Option<&'static str>,
    /// In a shape, `{N:CLASS}` stands for N random characters, `{uuid}` for a UUID, `{b64:SHAPE}` for base64,
    /// `{words:N}` and `{groups:N}` for N words and N groups of four letters with blanks between them.
    pub(crate) shape: String,
}

/// Returns the kinds in `secret_kinds.tsv`: id, name, shape.
pub(crate) fn kinds() -> Vec<SecretKind> {
    let mut is_known = false;
    let mut kinds = Vec::new();
    for line in include_str!("secret_kinds.tsv").lines() {
        if let Some(section) = line.strip_prefix("# ") {
            is_known = section.starts_with("The ids");
            continue;
        }
        let [id, name, shape] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        kinds.push(SecretKind {
            id,
            is_known,
            name: (name != "-").then_some(name),
            shape: shape.replace("\\n", "\n"),
        });
    }
    kinds
}

impl Samples {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    fn random_characters(&mut self, len: usize, class: &str) -> String {
        let lower = "abcdefghijklmnopqrstuvwxyz";
        let upper = lower.to_uppercase();
        let digits = "0123456789";
        let all = match class {
            "a" => format!("{lower}{upper}{digits}"),
            "w" => format!("{lower}{upper}{digits}_-"),
            "b" => format!("{lower}{upper}{digits}+/"),
            "l" => format!("{lower}{digits}"),
            "lw" => format!("{lower}{digits}_-"),
            "u" => format!("{upper}{digits}"),
            "h" => format!("{digits}abcdef"),
            "H" => format!("{digits}ABCDEF"),
            "d" => digits.to_owned(),
            "s" => lower.to_owned(),
            "v" => "aeiou".to_owned(),
            "L" => format!("{lower}{upper}"),
            "base32" => format!("{upper}234567"),
            "g" => format!("{lower}{upper}{digits}!#$%^*"),
            "bech" => "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".to_owned(),
            other => panic!("no class {other}"),
        };
        (0..len)
            .map(|_| char::from(all.as_bytes()[self.below(all.len())]))
            .collect()
    }

    /// Returns a secret of this kind.
    pub(crate) fn sample(&mut self, kind: &SecretKind) -> Sample {
        let mut parts = Vec::new();
        let text = self.random_secret(&kind.shape, &mut parts);
        Sample { text, parts }
    }

    /// Returns a text of this shape.
    pub(crate) fn fill(&mut self, shape: &str) -> String {
        self.random_secret(shape, &mut Vec::new())
    }

    /// Returns a secret of this shape, and appends the parts of it that are random.
    fn random_secret(&mut self, shape: &str, parts: &mut Vec<String>) -> String {
        let mut secret = String::new();
        let mut rest = shape;
        while let Some((before, inside)) = rest.split_once('{') {
            secret.push_str(before);
            let is_field = ["uuid}", "b64:", "b64url:", "words:", "groups:"]
                .iter()
                .any(|f| inside.starts_with(f))
                || inside.starts_with(|c: char| c.is_ascii_digit());
            if !is_field {
                secret.push('{');
                rest = inside;
                continue;
            }
            let mut depth = 1;
            let end = inside.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            let end = end.expect("closed");
            let field = &inside[..end];
            rest = &inside[end + 1..];
            let value = self.random_field(field);
            parts.extend(revealing_parts(&value));
            secret += &value;
        }
        secret + rest
    }

    /// Returns `count` random words with blanks between them.
    fn join(&mut self, count: &str, mut word: impl FnMut(&mut Self) -> String) -> String {
        let count: usize = count.parse().expect("a number");
        let words: Vec<_> = (0..count).map(|_| word(self)).collect();
        words.join(" ")
    }

    /// Returns random text for a field of a shape.
    fn random_field(&mut self, field: &str) -> String {
        match field.split_once(':') {
            None => {
                let lens = [8, 4, 4, 4, 12];
                lens.map(|len| self.random_characters(len, "h")).join("-")
            }
            Some(("words", count)) => {
                let words: Vec<_> = PHRASE_WORDS.split_ascii_whitespace().collect();
                self.join(count, |samples| {
                    words[samples.below(words.len())].to_owned()
                })
            }
            Some(("groups", count)) => {
                self.join(count, |samples| samples.random_characters(4, "s"))
            }
            Some(("b64", inner)) => STANDARD.encode(self.random_secret(inner, &mut Vec::new())),
            Some(("b64url", inner)) => {
                URL_SAFE_NO_PAD.encode(self.random_secret(inner, &mut Vec::new()))
            }
            Some((len, class)) => self.random_characters(len.parse().expect("length"), class),
        }
    }
}

/// Words of passphrases: some of those of BIP 39 and of the large list of the EFF.
const PHRASE_WORDS: &str = "abandon ability bacon cabbage dolphin elbow fabric gadget habit iceberg jacket kangaroo \
    ladder magnet napkin oxygen paddle quantum rabbit saddle tackle umbrella vacuum wagon yogurt zebra acrobat \
    backpack cactus daffodil eclipse falcon galaxy hamster igloo jigsaw kettle lantern mammal nectar orchid panther \
    quarry raccoon satchel tadpole unicorn velvet walnut yonder zigzag there when old such long many then other";

/// Returns the long words of a random text, or the text itself if it has none. Of words with blanks between them, two
/// that follow each other are one part.
fn revealing_parts(value: &str) -> Vec<String> {
    let phrase: Vec<_> = value.split(' ').collect();
    if phrase.len() > 1 {
        return phrase.windows(2).map(|two| two.join(" ")).collect();
    }
    let words = value.split(|c: char| !c.is_ascii_alphanumeric());
    let long: Vec<_> = words
        .filter(|word| word.len() >= 8)
        .map(str::to_owned)
        .collect();
    if long.is_empty() && value.len() >= 5 {
        vec![value.to_owned()]
    } else {
        long
    }
}

/// Returns the texts in which a secret may be, each with the name of its form.
pub(crate) fn texts(kind: &SecretKind, secret: &str) -> Vec<(&'static str, String)> {
    let mut texts = assignments(kind.name, secret);
    let lines = texts[0].1.clone();
    let each = |mark: &dyn Fn(usize, &str) -> String| -> String {
        let marked = lines.lines().enumerate().map(|(i, line)| mark(i, line));
        marked.collect::<Vec<_>>().join("\n")
    };
    let json = |text: &str| serde_json::json!({ "data": text }).to_string();
    texts.extend([
        ("quoted", each(&|_, line| format!("> {line}"))),
        ("diff, added", each(&|_, line| format!("+{line}"))),
        ("diff, removed", each(&|_, line| format!("-{line}"))),
        ("numbered", each(&|i, line| format!("{:6}\t{line}", i + 1))),
        (
            "numbered by grep",
            each(&|i, line| format!("{}:{line}", i + 1)),
        ),
        (
            "numbered by bat",
            each(&|i, line| format!("{:4} │ {line}", i + 1)),
        ),
        ("comment", each(&|_, line| format!("// {line}"))),
        ("indented", each(&|_, line| format!("        {line}"))),
        ("JSON", json(&lines)),
        ("JSON in JSON", json(&json(&lines))),
        ("Markdown", format!("Text.\n\n```\n{lines}\n```\n")),
        (
            "JavaScript",
            each(&|_, line| format!("  '{}\\n' +", line.replace('\'', "\\'"))),
        ),
    ]);
    texts
}

/// Returns texts that give a name to a secret; a secret without a name and of one line is a value too.
fn assignments(name: Option<&str>, secret: &str) -> Vec<(&'static str, String)> {
    let snake = match name {
        None if secret.contains(['\n', ' ', '"', '=']) => {
            return vec![("text", secret.to_owned())];
        }
        None => "deploy_value".to_owned(),
        Some(name) if name.contains('_') || name == "password" => name.to_owned(),
        Some(name) => format!("{name}_api_key"),
    };
    let upper = snake.to_uppercase();
    let words = snake.to_lowercase();
    let mut camel = String::new();
    for (i, word) in words.split('_').filter(|word| !word.is_empty()).enumerate() {
        let (first, rest) = word.split_at(1);
        camel += &if i == 0 {
            first.to_owned()
        } else {
            first.to_uppercase()
        };
        camel += rest;
    }
    let mut texts = vec![
        ("shell", format!("export {upper}={secret}")),
        ("shell, quoted", format!("{upper}=\"{secret}\" ./run")),
        ("YAML", format!("{words}: {secret}")),
        ("YAML, quoted", format!("  {words}: '{secret}'")),
        ("JSON key", format!("{{\n  \"{words}\": \"{secret}\"\n}}")),
        ("TOML", format!("{words} = \"{secret}\"")),
        ("Go", format!("var {camel} string = \"{secret}\"")),
        ("Go, short", format!("{camel} := `{secret}`")),
        ("TypeScript", format!("const {camel}: string = '{secret}';")),
        ("PHP", format!("${camel} .= \"{secret}\"")),
        ("Ruby", format!("  \"{camel}\" => \"{secret}\"")),
        (
            "Java",
            format!("System.setProperty(\"{upper}\", \"{secret}\")"),
        ),
        ("Make", format!("{upper} ::= \"{secret}\"")),
        ("XML", format!("<{camel}>\n    {secret}\n</{camel}>")),
        ("Kubernetes", format!("- name: {upper}\n  value: {secret}")),
    ];
    texts.extend([
        ("inline code", format!("set `{words}: {secret}` first")),
        ("bold", format!("**{upper}={secret}**")),
        ("bold name", format!("- **{words}:** {secret}")),
        ("parentheses", format!("run it ({words}: {secret})")),
        ("list", format!("{words}: {secret}, then more")),
        ("Chinese", format!("设置 {words}={secret}，然后")),
        (
            "colours in JSON",
            format!(r"\u001b[32m{words}\u001b[0m: {secret}\u001b[0m"),
        ),
    ]);
    if name.is_none() {
        texts.push(("sentence", format!("use {secret} for it")));
        texts.push(("code", format!("run(`{secret}`)")));
    }
    texts
}
