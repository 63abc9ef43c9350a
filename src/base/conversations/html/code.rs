//! Highlights the comments, strings, keywords and numbers of code in HTML.
//!
//! One scanner serves all languages; a table has their comments and quotes. The scanner knows no grammar, so it may
//! choose wrong colours, but it never changes the text. Libraries for highlighting are large (syntect takes 40 MB and
//! 0.3 s for the first block) or compile a parser in C for each language.

use super::escape::{escape_html, push_escaped, push_span};
use std::fmt::Write as _;

struct LanguageFamily {
    /// The names of the languages after ```` ``` ````, separated by spaces.
    names: &'static str,
    /// The marks that begin and end a comment.
    comments: &'static [(&'static str, &'static str)],
    /// The marks that begin and end a string.
    quotes: &'static str,
    /// The keywords of all families, separated by spaces. Empty for markup, in which words are text.
    keywords: &'static str,
}

static FAMILIES: [LanguageFamily; 5] = [
    LanguageFamily {
        names: "rust rs",
        comments: &[("//", "\n"), ("/*", "*/")],
        quotes: "\"'",
        keywords: KEYWORDS,
    },
    LanguageFamily {
        names: "javascript js jsx typescript ts tsx mjs vue svelte go golang json jsonc json5 jsonl c h cpp c++ cc hpp \
                cxx objc objective-c cuda glsl java kotlin kt kts scala groovy csharp cs c# swift dart php zig proto \
                protobuf solidity sol css scss less",
        comments: &[("//", "\n"), ("/*", "*/")],
        quotes: "\"'`",
        keywords: KEYWORDS,
    },
    LanguageFamily {
        names: "sh bash shell zsh console shellscript python py toml ini conf cfg properties env dotenv hcl terraform \
                tf yaml yml ruby rb elixir ex perl pl r julia jl crystal dockerfile docker makefile make cmake just \
                justfile nix graphql",
        comments: &[("#", "\n")],
        quotes: "\"'`",
        keywords: KEYWORDS,
    },
    LanguageFamily {
        names: "sql sqlite postgresql mysql lua haskell hs",
        comments: &[("--", "\n"), ("/*", "*/")],
        quotes: "\"'`",
        keywords: KEYWORDS,
    },
    LanguageFamily {
        names: "html xml svg htm xhtml plist",
        comments: &[("<!--", "-->")],
        quotes: "\"",
        keywords: "",
    },
];

const KEYWORDS: &str = "abstract and as assert async auto await begin bool boolean break case catch chan class \
     const constexpr continue crate declare def default defer del delete do done double dyn elif else elsif end enum \
     esac except export extends extern fallthrough false False fi final finally float fn for foreach from fun func \
     function go goto guard if implements impl import in include inline instanceof int interface is keyof lambda let \
     local long loop match mod module move mut namespace new nil None nonlocal not null nullptr or override package \
     pass private protected protocol pub public raise range readonly ref require rescue return select self Self short \
     sizeof static struct super switch template then this throw throws trait true True try type typedef typeof \
     undefined union unless unsafe unsigned until use using val var virtual void volatile when where while with yield \
     ADD ALTER AND AS ASC BEGIN BY CASE CMD COPY CREATE DELETE DESC DISTINCT DROP ELSE END ENTRYPOINT ENV EXISTS FROM \
     GROUP HAVING IN INDEX INNER INSERT INTO IS JOIN KEY LEFT LIMIT NOT NULL ON OR ORDER PRIMARY RUN SELECT SET TABLE \
     THEN UNION UNIQUE UPDATE VALUES VIEW WHEN WHERE WITH WORKDIR";

/// Appends a block of code. `info` is the text after ```` ``` ````: the language, or the first line of a pasted text.
pub(super) fn push_code_block(html: &mut String, code: &str, info: &str) {
    let Some(language) = parse_language(info) else {
        // The first line of a pasted text belongs to the code.
        return push_code_block(html, &format!("{info}\n{code}"), "");
    };
    html.push_str("<pre><code");
    if !language.is_empty() && language != "text" {
        let _ = write!(html, " data-language=\"{}\"", escape_html(&language));
    }
    html.push('>');
    html.push_str(&highlight_code(code, &language));
    html.push_str("</code></pre>\n");
}

/// Returns the language in the text after ```` ``` ````. Only a known language may have attributes, as in
/// `rust,ignore` and `js {1,3}`. `None` for the first line of a pasted text, which must not be lost.
fn parse_language(info: &str) -> Option<String> {
    let name_end = info.find([' ', ',', '{', ':']).unwrap_or(info.len());
    let (name, attributes) = info.split_at(name_end);
    let name = name.to_ascii_lowercase();

    let is_language = if attributes.is_empty() {
        let is_name_char = |c: char| c.is_alphanumeric() || "+#-._".contains(c);
        name.chars().all(is_name_char)
    } else {
        let is_known = matches!(&*name, "diff" | "patch" | "text") || find_family(&name).is_some();
        is_known && (attributes.trim_start().starts_with('{') || !attributes.contains(' '))
    };
    is_language.then_some(name)
}

fn find_family(language: &str) -> Option<&'static LanguageFamily> {
    let has_name = |family: &&LanguageFamily| family.names.split(' ').any(|name| name == language);
    FAMILIES.iter().find(has_name)
}

/// Returns `code` as HTML, highlighted if the language is known.
pub(super) fn highlight_code(code: &str, language: &str) -> String {
    let mut html = String::with_capacity(code.len() * 2);
    if matches!(language, "diff" | "patch") {
        push_diff(&mut html, code);
    } else if let Some(family) = find_family(language) {
        CodeScanner { family, code }.push_tokens(&mut html);
    } else {
        push_escaped(&mut html, code);
    }
    html
}

/// Highlights the lines of a diff, or of a patch in Codex's own format.
fn push_diff(html: &mut String, diff: &str) {
    for line in diff.split_inclusive('\n') {
        let head_marks = ["+++", "---", "***", "@@", "diff ", "index "];
        let class = match line.as_bytes().first() {
            _ if head_marks.iter().any(|mark| line.starts_with(mark)) => "hunk",
            Some(b'+') => "added",
            Some(b'-') => "removed",
            _ => "",
        };
        push_span(html, class, line);
    }
}

struct CodeScanner<'a> {
    family: &'static LanguageFamily,
    /// The remaining code, which is not yet written.
    code: &'a str,
}

impl CodeScanner<'_> {
    fn push_tokens(mut self, html: &mut String) {
        let mut before = '\n';
        while let Some(first) = self.code.chars().next() {
            let (len, class) = self.scan_token(first, before);
            let (token, remaining) = self.code.split_at(len);
            push_span(html, class, token);
            before = token.chars().next_back().unwrap_or(before);
            self.code = remaining;
        }
    }

    /// Returns the length of the next token, and its CSS class. `first` is the first character of the token, `before`
    /// the character in front of it.
    fn scan_token(&self, first: char, before: char) -> (usize, &'static str) {
        let (code, family) = (self.code, self.family);
        for (begin, end) in family.comments {
            // In scripts, `#` within a word is no comment, as in `$#` and `a#b`.
            let may_begin = *begin != "#" || before.is_whitespace();
            if may_begin && let Some(inner) = code.strip_prefix(begin) {
                let inner_end = inner.find(end).map_or(inner.len(), |at| at + end.len());
                // The newline that ends a comment does not belong to it.
                let comment = code[..begin.len() + inner_end].trim_end();
                return (comment.len(), "comment");
            }
        }

        // In Rust, a single quote begins a character or a lifetime.
        if first == '\'' && family.names.starts_with("rust") {
            let is_char = code.starts_with("'\\") || code.chars().nth(2) == Some('\'');
            if !is_char {
                return (1, "");
            }
        }

        if family.quotes.contains(first) {
            return (string_len(code, first), "string");
        }

        if first.is_ascii_digit() {
            let is_number = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            return (code.find(|c| !is_number(c)).unwrap_or(code.len()), "number");
        }

        if is_word(first) || first == '$' {
            return self.scan_word(first);
        }

        (first.len_utf8(), "")
    }

    fn scan_word(&self, first: char) -> (usize, &'static str) {
        let code = self.code;
        let after = &code[first.len_utf8()..];
        let len = first.len_utf8() + after.find(|c| !is_word(c)).unwrap_or(after.len());
        let word = &code[..len];

        let mut keywords = self.family.keywords.split(' ');
        let class = if self.family.keywords.is_empty() {
            ""
        } else if keywords.any(|keyword| keyword == word) {
            "keyword"
        } else if first == '$' {
            "variable"
        } else if code[len..].starts_with('(') {
            "function"
        } else if first.is_uppercase() {
            "type"
        } else {
            ""
        };

        (len, class)
    }
}

/// Returns the length of the string at the beginning of `code`. Only a string in single quotes ends with its line.
fn string_len(code: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + quote.len_utf8();
        }
        if c == '\n' && quote == '\'' {
            return at;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    code.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(code: &str, language: &str) -> String {
        let html = highlight_code(code, language);
        html.replace("<span class=\"", "[")
            .replace("\">", ":")
            .replace("</span>", "]")
    }

    #[test]
    fn comments_strings_keywords_and_numbers_are_marked() {
        for (language, code, html) in [
            (
                "rust",
                "fn f<'a>(c: char) { 'x'; 12u8 } // y",
                "[keyword:fn] f&lt;&#39;a&gt;(c: char) { [string:&#39;x&#39;]; [number:12u8] } [comment:// y]",
            ),
            ("rs", "'\\n' Vec", "[string:&#39;\\n&#39;] [type:Vec]"),
            (
                "sh",
                "if a#b; $# $x # c",
                "[keyword:if] a#b; [variable:$]# [variable:$x] [comment:# c]",
            ),
            (
                "json",
                "{\"a\": \"b\\\"\"}",
                "{[string:&quot;a&quot;]: [string:&quot;b\\&quot;&quot;]}",
            ),
            (
                "toml",
                "a-b = 1 # c\nd",
                "a-b = [number:1] [comment:# c]\nd",
            ),
            (
                "py",
                "\"a\nb\" 'x' y",
                "[string:&quot;a\nb&quot;] [string:&#39;x&#39;] y",
            ),
            ("c", "'open\nint", "[string:&#39;open]\n[keyword:int]"),
            ("sql", "SELECT x", "[keyword:SELECT] x"),
            (
                "diff",
                "+a\n-b\n c\n@@ x",
                "[added:+a\n][removed:-b\n] c\n[hunk:@@ x]",
            ),
            (
                "html",
                "<!-- x --> <a b=\"c\">",
                "[comment:&lt;!-- x --&gt;] &lt;a b=[string:&quot;c&quot;]&gt;",
            ),
            ("unknown", "let x", "let x"),
            ("", "let x", "let x"),
        ] {
            assert_eq!(marked(code, language), html, "{language}");
        }
    }

    #[test]
    fn the_text_after_the_fence_is_a_language_or_the_first_line() {
        for (info, language) in [
            ("", Some("")),
            ("Rust", Some("rust")),
            ("unknown", Some("unknown")),
            ("rust,ignore", Some("rust")),
            ("js {1,3}", Some("js")),
            ("ts:src/a.ts", Some("ts")),
            ("js{1,3}", Some("js")),
            ("id,name,age", None),
            ("Error: no module", None),
            ("bash: x: command not found", None),
            ("make CC=gcc all", None),
            ("rust title=\"x.rs\"", None),
            ("{r, echo=FALSE}", None),
            ("go build -ldflags=-s", None),
            ("{\"a\":1}", None),
            ("{foo}", None),
            ("$x", None),
        ] {
            assert_eq!(parse_language(info).as_deref(), language, "{info}");
        }
        let mut html = String::new();
        push_code_block(&mut html, "1,a,9\n", "id,name,age");
        assert_eq!(html, "<pre><code>id,name,age\n1,a,9\n</code></pre>\n");
    }

    #[test]
    fn highlighting_leaves_the_text_of_the_code_unchanged() {
        let texts = [
            "'", "'\\", "'ü", "'ü'", "\"ü\\", "/*", "`", "\"\"\"", "$", "$ü", "#", "ü'''", "--[[",
            "<!--",
        ];
        for text in texts {
            for name in FAMILIES.iter().flat_map(|family| family.names.split(' ')) {
                for code in [text.to_owned(), format!("x{text}\n{text}y")] {
                    let html = highlight_code(&code, name);
                    let mut plain = String::new();
                    for part in html.split('<') {
                        plain.push_str(part.split_once('>').map_or(part, |(_, text)| text));
                    }
                    assert_eq!(plain, escape_html(&code), "{name}");
                }
            }
        }
    }
}
