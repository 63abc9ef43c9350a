//! Removes secrets from texts, by one table of forms (`forms.txt`): from exports and shown conversations, from
//! messages of Codex and of servers, from logs; and finds them in files that would be synced. The tokens of the user's
//! own logins are found by their values (`known_values`).
//!
//! Codex includes the body of a failed request in its error message, and that body may repeat the
//! token of the request.

mod checks;
mod encoded_text;
pub mod known_values;
mod phrases;
mod private_key;
mod randomness;
mod search;

use encoded_text::{Controls, UnescapedText, decode_base64_parts};
use regex::{Captures, Regex};
use search::{FoundSecret, TextKind};
use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest printed message, in characters.
const MAX_CHARS: usize = 300;

/// The replacement of a secret in text.
const REPLACEMENT: &str = "[redacted]";

/// Matches long opaque words. In a message, they may be secrets; in a document, most are not.
static OPAQUE_WORD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9_+-]{40,}=*(?:\.[A-Za-z0-9_+=-]+)*").ok());

/// Matches long words that are no secrets: names of rollouts, and words joined by hyphens.
static HARMLESS_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:rollout-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z]{1,16}(?:[-_][a-z]{1,16})+)(?:\.[a-z]{1,5}){0,2}$").ok()
});

/// The kind and line of a secret in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretInText {
    /// The kind in `forms.txt`.
    pub kind: &'static str,
    /// The line in which the secret begins, counted from 1.
    pub line: usize,
}

/// True if the user wants texts of conversations as they are.
static KEEPS_SECRETS: AtomicBool = AtomicBool::new(false);

/// Lets [`hide_secrets`] keep secrets for the rest of the process, because the user asked for it.
pub fn keep_secrets() {
    KEEPS_SECRETS.store(true, Ordering::Relaxed);
}

/// Replaces the secrets in a text that is shown, like [`redact_and_count`], unless [`keep_secrets`] was called.
pub fn hide_secrets(text: &str) -> Cow<'_, str> {
    if KEEPS_SECRETS.load(Ordering::Relaxed) {
        return Cow::Borrowed(text);
    }
    match redact_and_count(text) {
        (_, 0) => Cow::Borrowed(text),
        (redacted, _) => Cow::Owned(redacted),
    }
}

/// Replaces the tokens of the user's logins in a text, unless [`keep_secrets`] was called.
pub fn hide_logins(text: &str) -> Cow<'_, str> {
    let secrets = known_values::find_known_secrets(text.as_bytes());
    if secrets.is_empty() || KEEPS_SECRETS.load(Ordering::Relaxed) {
        return Cow::Borrowed(text);
    }
    let places = secrets.into_iter().map(|secret| secret.place);
    Cow::Owned(replace_places(text, places.collect()).0)
}

/// Returns the secrets in a text: by their values, then by their forms.
fn find_all(text: &[u8], kind: TextKind) -> impl Iterator<Item = FoundSecret> {
    let known = known_values::find_known_secrets(text).into_iter();
    known.chain(search::find_secrets(text, kind))
}

/// Returns the first secret in a text. Escapes and base64 are not decoded.
pub fn find_secret(text: &[u8]) -> Option<SecretInText> {
    let secret = find_all(text, TextKind::Document).next()?;
    let before = &text[..secret.place.start];
    Some(SecretInText {
        kind: secret.kind,
        line: memchr::memchr_iter(b'\n', before).count() + 1,
    })
}

/// Replaces the secrets in a text, including those hidden by escapes or base64. Returns the text and the number of
/// replacements.
pub fn redact_and_count(text: &str) -> (String, usize) {
    let find_places = |text: &str| {
        let secrets = find_all(text.as_bytes(), TextKind::Document);
        secrets.map(|secret| secret.place).collect::<Vec<_>>()
    };
    let mut secret_places = find_places(text);

    // Controls split words, or vanish without a trace, so a text with controls is searched in both readings.
    let mut decoded_texts = vec![UnescapedText::decode(text, Controls::Kept)];
    if decoded_texts[0].has_controls {
        decoded_texts.push(UnescapedText::decode(text, Controls::Removed));
    }
    for decoded in decoded_texts {
        // Base64 is searched in the unescaped text, because escapes may interrupt it.
        let mut decoded_places: Vec<Range<usize>> = decode_base64_parts(&decoded.text)
            .filter(|(_, hidden)| find_secret(hidden).is_some())
            .map(|(place, _)| place)
            .collect();
        if decoded.has_escapes() {
            decoded_places.extend(find_places(&decoded.text));
        }
        for place in decoded_places {
            secret_places.push(decoded.original_range(&place));
        }
    }

    replace_places(text, secret_places)
}

/// Replaces the parts of a text at `places`. Returns the text and the number of replacements.
fn replace_places(text: &str, mut places: Vec<Range<usize>>) -> (String, usize) {
    places.sort_by_key(|place| (place.start, place.end));
    let mut redacted = String::with_capacity(text.len());
    let (mut copied_to, mut count) = (0, 0);
    for place in places {
        // Overlapping places become one replacement.
        if place.start >= copied_to {
            redacted.push_str(&text[copied_to..place.start]);
            redacted.push_str(REPLACEMENT);
            count += 1;
        }
        copied_to = copied_to.max(place.end);
    }

    redacted.push_str(&text[copied_to..]);
    (redacted, count)
}

/// Replaces the secrets in a message of a program or server, and most placeholders in the form of a secret: a message
/// has no reason to contain examples.
pub fn redact_message(text: &str) -> String {
    let secrets = find_all(text.as_bytes(), TextKind::Message);
    let places = secrets.map(|secret| secret.place).collect();
    let (redacted, _count) = replace_places(text, places);
    redacted
}

/// Returns `text` on one line, without possible secrets. Of more than 300 characters the middle is left out:
/// a chain of errors ends with its cause.
pub fn printable(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let mut line = redact_opaque_words(&redact_message(&words.join(" ")));
    let count = line.chars().count();
    if count > MAX_CHARS {
        let begin = line.chars().take(MAX_CHARS / 2);
        let end = line.chars().skip(count - MAX_CHARS / 2);
        line = begin.chain(['…']).chain(end).collect();
    }
    line
}

fn redact_opaque_words(line: &str) -> String {
    let redact_unless_harmless = |opaque_word: &Captures<'_>| {
        let word = &opaque_word[0];
        let pattern = HARMLESS_WORD.as_ref();
        let is_harmless = pattern.is_some_and(|pattern| pattern.is_match(word));
        let replacement = if is_harmless { word } else { REPLACEMENT };
        replacement.to_owned()
    };

    // The patterns are constant and tested, so this does not happen. An empty text is the safe result.
    let pattern = OPAQUE_WORD.as_ref();
    pattern.map_or(String::new(), |pattern| {
        pattern
            .replace_all(line, redact_unless_harmless)
            .into_owned()
    })
}

/// Matches an option whose value is secret, such as `--api-key`.
static SECRET_OPTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^-+[a-z_-]*(?:token|secret|password|passwd|key|authorization|header|cookie)$")
        .ok()
});

/// Formats a command line without possible tokens. An argument of several words is likely a prompt, and
/// is shown as `[text]`.
pub fn format_command_line(arguments: &[OsString]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut previous_names_secret = false;
    for (i, argument) in arguments.iter().enumerate() {
        let text = argument.to_string_lossy();
        let has_blanks = text.contains(char::is_whitespace);
        // The path of the program may have blanks too.
        let is_program = i == 0;
        words.push(if previous_names_secret && !text.starts_with('-') {
            REPLACEMENT.into()
        } else if !is_program && has_blanks {
            "[text]".into()
        } else {
            text.clone().into_owned()
        });

        // Without the pattern every value counts as secret.
        previous_names_secret = SECRET_OPTION
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(&text));
    }

    printable(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_redacted_by_their_form_or_by_a_name_before_them() {
        for token in [
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.c2ln",
            "sk-proj-0123456789",
            "sk-mock-0000",
            "rt.acct-alice.f1.2",
            "rt_68c1f0AbCdEf",
            "0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            let text = printable(&format!("GET failed: 503; body={token}, sorry"));
            assert_eq!(text, "GET failed: 503; body=[redacted], sorry", "{token}");
        }
        for text in [
            r#"{"refresh_token":"short","x":1}"#,
            r#"{\"refresh_token\":\"short\"}"#,
            "Authorization: Bearer short",
            "authorization=short",
            "bearer short",
        ] {
            assert!(!printable(text).contains("short"), "{}", printable(text));
        }
    }

    #[test]
    fn a_command_line_shows_neither_secrets_nor_prompts() {
        let shown = |words: &[&str]| {
            format_command_line(&words.iter().map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(
            shown(&[
                "/opt/my codex/codex",
                "exec",
                "--json",
                "fix the login of bob"
            ]),
            "/opt/my codex/codex exec --json [text]"
        );
        assert_eq!(
            shown(&[
                "codex",
                "--api-key",
                "hunter2",
                "-c",
                "x.bearer_token=abc",
                "--json"
            ]),
            "codex --api-key [redacted] -c x.bearer_token=[redacted] --json"
        );
        assert_eq!(
            shown(&["codex", "--remote", "wss://bob:pw@host/x"]),
            "codex --remote wss://[redacted]@host/x"
        );
        assert_eq!(shown(&["codex", "sk-proj-0123456789"]), "codex [redacted]");
        // A shell's own script, as in sh -c.
        assert_eq!(
            shown(&["sh", "-c", "TOKEN=abc codex\nexec"]),
            "sh -c [text]"
        );
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn harmless_text_is_kept() {
        let text = "GET http://127.0.0.1:1/backend-api/wham/usage failed: 401 Unauthorized; \
                    body={\"error\":{\"code\":\"token_expired\"}}";
        assert_eq!(printable(text), text);
        for name in [
            "sessions/2026/11/20/rollout-2026-11-20T06-00-00-01a1f789-1a2b-7c3d-8e4f-0123456789ab.jsonl.zst",
            "skills/a-skill-whose-name-says-all-that-it-is-good-for/x.md",
        ] {
            assert_eq!(printable(name), name);
        }
        let token = "rollout-2026-11-20T06-00-00-0123456789abcdef0123456789abcdef0123";
        assert_eq!(printable(token), REPLACEMENT);
    }

    #[test]
    fn output_is_one_line_of_limited_length() {
        assert_eq!(printable("a\n\u{1b}[31mb\tc"), "a [31mb c");
        assert_eq!(
            printable(&"ab ".repeat(1000)).chars().count(),
            MAX_CHARS + 1
        );
        let chain = format!("failed to start: {}: no such table", "in /home ".repeat(50));
        let shown = printable(&chain);
        assert!(shown.starts_with("failed to start: "), "{shown}");
        assert!(shown.ends_with(": no such table"), "{shown}");
    }

    /// Returns `len` mixed letters and digits.
    fn random(len: usize) -> String {
        let all = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z";
        all.chars().cycle().take(len).collect()
    }

    #[test]
    fn found_tokens_are_replaced_as_a_whole_and_counted() {
        let key = format!("sk-proj-{}", random(40));
        let text = format!("a {key} b rt_{}.{} c", random(43), random(20));
        assert_eq!(
            redact_and_count(&text),
            ("a [redacted] b [redacted] c".to_owned(), 2)
        );
        let lines = format!("{}\n", random(64)).repeat(5);
        let pem = format!(
            "x -----BEGIN PRIVATE KEY-----\n{lines}{}==\n-----END PRIVATE KEY----- y",
            random(22)
        );
        let (redacted, count) = redact_and_count(&pem);
        assert_eq!(count, 1);
        assert!(!redacted.contains(&random(20)), "{redacted}");
        assert!(
            redacted.starts_with("x ") && redacted.ends_with(" y"),
            "{redacted}"
        );
        for text in [
            "rt.block_on(async)",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b",
            "",
        ] {
            assert_eq!(redact_and_count(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn passwords_and_keys_in_sentences_commands_and_short_names_are_replaced() {
        let password = random(14);
        for text in [
            "auth: { user: 'me', pass: '?' }",
            r#"{"user": "me", "pass": "?"}"#,
            r#"{\"user\": \"me\", \"pass\": \"?\"}"#,
            "smtp:\n  pass: ?\n",
            "CREATE USER me IDENTIFIED BY '?'",
            "ALTER ROLE me WITH PASSWORD '?'",
            "gpg --passphrase ? -d x",
            "set `DB_PASSWORD: ?` and **API password:** ?.",
            r"\u001b[32mpassword\u001b[0m=?\u001b[0m",
            "https://h/x#password%253D?",
            "`X-Api-Key: ?7c1d9e`",
            "**DB_PASSWORD=?**",
            "(api_key: ?7c1d9e)",
            "GITHUB_TOKEN: ?7c1d9e, then",
            "**Authorization: Basic ?**",
            "**Authorization:** Basic ?",
            "**Authorization**: `Bearer ?`",
            "密码 password=?，然后",
            "set -gx DB_PASSWORD ?",
            "set -x -g DB_PASSWORD '?'",
            "setenv DB_PASSWORD ?",
            "SetEnv DB_PASSWORD ?",
            "requirepass ?",
            "127.0.0.1:6379> AUTH ?",
            "proxy_set_header Authorization \"Basic ?\";",
            r#"{"Name": "/prod/db", "Type": "SecureString", "Value": "?"}"#,
            r#"[{"value": "?", "name": "DB_PASSWORD"}]"#,
            "root:$6$Zk3jQ9wLm2Xv8Bn5$?:19000:0:99999:7:::",
            "define( 'NONCE_SALT',  'v]k;q#8Lr2{Tz+m9<Wx!c4^B (n6&Vd1*Jg%Ys0 ?' );",
            "FERNET_KEY=???=",
            "PresharedKey = ???=",
            "(password: ?)",
        ] {
            let (redacted, _) = redact_and_count(&text.replace('?', &password));
            assert!(!redacted.contains(&password), "{redacted}");
        }
    }

    #[test]
    fn random_values_with_the_letters_of_words_are_replaced() {
        for secret in [
            "pscale_oauth_m5DnW7bwT9_hR8IVBWfhOzJt1J4N4YOuRKgLeFVVCmC",
            "367507899143173|LT6R23pQOUYouRODwKg-BBZkJpb",
            "o-tmu7l1-p_b3hyw95_1dloh_cgoo1v0",
            "suciiQgrudysyQ",
        ] {
            let (redacted, _) = redact_and_count(&format!("sumo_api_key: {secret}"));
            assert_eq!(redacted, "sumo_api_key: [redacted]");
        }
    }

    #[test]
    fn tokens_hidden_by_escapes_or_base64_are_replaced() {
        use base64::Engine;
        let key = format!("sk-proj-{}", random(40));
        let base64 = base64::engine::general_purpose::STANDARD.encode(format!("user:{key}\n"));
        for hidden in [
            key.replace('-', r"\u002d"),
            key.replace('-', r"\\u002D"),
            key.replace('-', "&#45;"),
            key.replace('-', "&#x2d;"),
            key.replace('-', "%2D"),
            key.replace('-', r"\-"),
            key.replace("proj", "\u{1b}[31mproj\u{1b}[0m"),
            key.replace('-', "-\u{200b}"),
            key.replace("proj", "\u{1b}(B\u{1b}[mproj\u{f}"),
            key.replace("proj", "\u{1b}]8;;file:///x\u{7}proj\u{1b}]8;;\u{1b}\\"),
            format!("\u{1b}]52;c;{base64}\u{7}"),
            key.replace('-', "%2D")
                .replace("sk", "\u{1b}]8;;https://h/x?k=sk")
                + "\u{7}link\u{1b}]8;;\u{7}",
            key.replace('-', r"\u002d").replace("sk", "\u{1b}]0;sk"),
            key.replace("proj", "\u{202e}proj\r"),
            key.chars().flat_map(|c| [c, '\0']).collect(),
            format!("x\r\u{1b}[31m{key}"),
            format!(r"x\n{key}"),
            base64.clone(),
            base64.replace('=', ""),
            format!("/path/{base64}/b?key={base64}"),
            base64.replace('=', r"\u003d"),
        ] {
            let (text, count) = redact_and_count(&format!("ü {{\"a\": \"{hidden}\"}} ü"));
            let expected = hidden.matches(&base64).count().max(1);
            assert_eq!(count, expected, "{hidden}: {text}");
            assert!(!text.contains(&random(20)), "{hidden}: {text}");
            assert!(!text.contains(&base64[..20]), "{hidden}: {text}");
            assert!(
                text.starts_with("ü {\"a\": \"") && text.ends_with("\"} ü"),
                "{text}"
            );
        }
    }

    #[test]
    fn encoded_text_without_tokens_is_kept() {
        for text in [
            r"C:\users\new \u00e4 \u002d 100% &amp; &#45;",
            "aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxkLCBoZWxsbyB3b3JsZA==",
            "\u{1b}[32mok\u{1b}[0m\r\0",
        ] {
            assert_eq!(redact_and_count(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn secrets_are_found_with_kind_and_line() {
        for (text, kind) in [
            (
                format!("rt_{}.{}", random(43), random(20)),
                "codex-refresh-token",
            ),
            (format!("AKIA{}", "Q3EGRZ7K2N5MXW4T"), "aws-key-id"),
            (format!("eyJ{0}.{0}.{0}", random(43)), "jwt"),
            (
                format!("-----BEGIN RSA PRIVATE KEY-----\\n{}", random(64)),
                "private-key",
            ),
            (
                format!("postgres://app:{}@db/app", random(12)),
                "url-password",
            ),
            (
                format!("https://app:{}:foo@host/", random(12)),
                "url-password",
            ),
            (
                format!("\"db_password\": \"{}\"", random(12)),
                "named-password",
            ),
            (format!("--api-key {}", random(20)), "option"),
        ] {
            let found = find_secret(format!("a\n\nb {text}\n").as_bytes());
            assert_eq!(found, Some(SecretInText { kind, line: 3 }), "{text}");
        }
    }

    #[test]
    fn a_private_key_with_line_prefixes_or_quotes_is_replaced_even_if_truncated() {
        let lines = [
            "-----BEGIN PRIVATE KEY-----",
            &random(64),
            &format!("x{}", random(63)),
            &random(20),
            "-----END PRIVATE KEY-----",
        ];
        for (before, after) in [
            ("", ""),
            ("> ", ""),
            ("> > ", ""),
            ("+", ""),
            ("  12\t", ""),
            ("12: ", ""),
            ("# ", ""),
            ("  \"", "\\n\" +"),
            ("  '", "',"),
        ] {
            let text: String = lines
                .map(|line| format!("{before}{line}{after}\n"))
                .concat();
            let (redacted, count) = redact_and_count(&text);
            assert_eq!(count, 1, "{redacted}");
            assert!(!redacted.contains(&random(16)), "{redacted}");
            // A key that is cut.
            let (beginning, _) = text.split_once("xaB3d").unwrap();
            let (_, end) = text.split_once("PRIVATE KEY-----").unwrap();
            for part in [beginning, end] {
                let (redacted, count) = redact_and_count(part);
                assert_eq!(count, 1, "{redacted}");
                assert!(!redacted.contains(&random(16)), "{redacted}");
            }
        }
    }

    #[test]
    fn words_names_and_examples_are_no_secrets() {
        for text in [
            "the risk-averse task-runner-for-long-hyphenated-names-of-things-v2",
            "sk-your-api-key-goes-here-and-nothing-else-matters",
            "sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "OPENAI_API_KEY=sk-...",
            "rt_the_name_of_some_function_that_is_very_long_indeed_2",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "xoxb-your-token-here",
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAYOURACCESSKEYIDX",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "a file that begins with -----BEGIN OPENSSH PRIVATE KEY----- is never to be committed, whatever it is",
            "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n",
            "eyJ is how a JWT begins",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b",
            "a1b2C3/sk-",
            "PASSWORD=$1 TOKEN=\"$(cat token)\" SECRET=${SECRET}",
            "password: string; token: Token<'a>; secret = config.secret2.value;",
            "\"password\": \"Password\", \"token_type\": \"Bearer\", \"api_key\": \"<your key>\"",
            "https://user:password@example.com and https://host:8080/a@b",
            "Authorization: Bearer <token>",
            "publicKeyToken=b77a5c561934e089",
            "token: \"https://host/oauth2/v1/token\"",
            "pub const ERROR_INVALID_PASSWORD: WIN32_ERROR = WIN32_ERROR(86u32);",
            "RESET_PASSWORD = '/v1/accounts:resetPassword'",
            "password_encryption = scram-sha-256\n",
            "token_range = \"%d,%d-%d,%d:\"",
            "fn open(pwd: Utf8PathBuf, password: Base64Url) {}",
            "pub typeFormat: MLOperatorSchemaEdgeTypeFormat,",
            "-----END RSA PRIVATE KEY-----\ntree 3f786850e387550fdab836ed7e6dc881de23001b\n",
            "__author_email__ = 'me@mailbox.net'",
            "override(ACCOUNT_AUTHENTICATION_METHOD=settings.AuthenticationMethod.USERNAME)",
            "encrypt(password: Uint8Array | string): string;",
            "`ITokenizedModel`, `ITextModelWithDecorations` to `ITextModel`",
            "GITHUB_SHA=3f786850e387550fdab836ed7e6dc881de23001b",
            "exports.CHECK_SECRET_USAGE=exports.POLICY_TLS_V1_2_2021=exports.LAYER_VERSION=void 0",
            "{Zendesk:convertCfnIntegrationZendeskSourcePropertiesPropertyToCloudFormation(p)}",
            "API_GWV2_AUTHORIZATION_TYPE_CONFIGURED = \"API_GWV2_AUTHORIZATION_TYPE_CONFIGURED\"",
            "saslAuth: arn:aws:secretsmanager:us-east-1:01234567890:secret:SaslScram256",
            "client_auth_class = OAuth2ClientAuth\n",
            "tokenPostfix: \".freemarker2\",",
            "> Auth OAuth2.0 flow: the secret holds data: user1:pw2",
            "password: \"$dbPassword1\", passwd='${DB_PASS1:-Abc}', pwd = \"<Your-Password1>\"",
            "password = '{{ vault.Password1 }}' or \"%(Password1)s\" or '#{user.Password1}'",
            "password_pattern = '^[A-Z0-9]{8,}$'; \"password\": \"row[0].Password\"",
            "self.password_handler = HTTPBasicAuthHandler2(pm); pass_leaf = Leaf2(text_type, 'pass')",
            "passwords: Dict2[str, AuthInfo] = {}; fn new(passphrase: Option<&'static str>)",
            "auth = dict(Email=credentials[0], Passwd=credentials[1], service=service)",
            "--responses NEW_PASSWORD=[Password1] --auth-parameters USERNAME=me,PASSWORD=[Password1]",
            "create_engine(\"mysql+mysqldb://scott:tiger@localhost/test\")",
        ] {
            assert_eq!(find_secret(text.as_bytes()), None, "{text}");
        }
        let inside = format!("task-{0}risk-{0}", random(40));
        assert_eq!(find_secret(inside.as_bytes()), None);
    }

    #[test]
    fn redaction_time_is_linear_in_the_text_size() {
        // Quadratic time would be hours for these texts.
        for part in ["a", "=", "\""] {
            let text = part.repeat(10 << 20);
            assert_eq!(redact_and_count(&text).1, 0, "{part:?}");
        }
        for part in [
            "'",
            "\\",
            "\\n",
            "&",
            "%41",
            "://",
            "://a:",
            "|1",
            "MT.",
            ":a",
            "q~",
            "-us",
            "eyJ.",
            "eyJ-",
            "sk-",
            "sk- ",
            "PRIVATE KEY-----:",
            "PRIVATE KEY-----\n",
            "password=",
            "\"password\":\"",
            "token: ",
            "Bearer ",
            "kind: Secret\n",
            "curl ",
            "login a password ",
            "Private-Lines: 8\n",
            "--token ",
            "mysql -",
            "cookie: a=b ",
            "-END PRIVATE KEY",
            "data: a: bbbb ",
            "data: {a: bbbb ",
            " data:\n  a: bbbb\n",
            "cookie: a=abcdefghijklmnopqrst ",
        ] {
            redact_and_count(&part.repeat((1 << 18) / part.len()));
        }
    }
}
