//! Highlights the comments, strings, keywords and numbers of code in HTML.
//!
//! One scanner serves all languages; a table has the differences between them. The scanner knows no grammar, so it may
//! choose wrong colours, but it never changes the text. Libraries for highlighting are large (syntect takes 40 MB and
//! 0.3 s for the first block) or compile a parser in C for each language.

use super::escape::{escape_html, push_escaped, push_span};
use std::fmt::Write as _;

struct Language {
    /// The names of the language after ```` ``` ````, separated by spaces.
    names: &'static str,
    /// The marks that begin a comment up to the end of the line.
    line_comments: &'static [&'static str],
    /// The marks that begin and end a block comment.
    block_comment: Option<(&'static str, &'static str)>,
    /// The quotes of strings that cannot continue in the next line.
    quotes: &'static str,
    /// The quotes of strings that can have several lines, the longer quotes first.
    long_quotes: &'static [&'static str],
    /// The keywords, separated by spaces.
    keywords: &'static str,
    /// The characters that make the name before them a key.
    key_marks: &'static str,
}

const C_LIKE: Language = Language {
    names: "",
    line_comments: &["//"],
    block_comment: Some(("/*", "*/")),
    quotes: "\"'",
    long_quotes: &[],
    keywords: "",
    key_marks: "",
};

const SCRIPT: Language = Language {
    line_comments: &["#"],
    block_comment: None,
    ..C_LIKE
};

static LANGUAGES: [Language; 12] = [
    Language {
        names: "rust rs",
        quotes: "",
        long_quotes: &["\""],
        keywords: "as async await break const continue crate dyn else enum extern false fn for if impl in let \
                   loop match mod move mut pub ref return self Self static struct super trait true type unsafe \
                   use where while",
        ..C_LIKE
    },
    Language {
        names: "sh bash shell zsh console shellscript",
        quotes: "",
        long_quotes: &["\"", "'"],
        keywords: "if then else elif fi for in do done while until case esac function return local export set \
                   unset cd echo exit source sudo",
        ..SCRIPT
    },
    Language {
        names: "python py",
        long_quotes: &["\"\"\"", "'''"],
        keywords: "False None True and as assert async await break class continue def del elif else except \
                   finally for from global if import in is lambda match nonlocal not or pass raise return self \
                   try while with yield",
        ..SCRIPT
    },
    Language {
        names: "javascript js jsx typescript ts tsx mjs vue svelte go golang",
        long_quotes: &["`"],
        keywords: "abstract as async await break case catch chan class const continue declare default defer delete \
                   do else enum export extends fallthrough false finally for from func function get go goto if \
                   implements import in instanceof interface keyof let new nil null of package private protected \
                   public readonly return select set static struct super switch this throw true try type typeof \
                   undefined var void while yield",
        ..C_LIKE
    },
    Language {
        names: "json jsonc json5 jsonl",
        keywords: "true false null",
        key_marks: ":",
        ..C_LIKE
    },
    Language {
        names: "toml ini conf cfg properties env dotenv hcl terraform tf",
        line_comments: &["#", ";"],
        long_quotes: &["\"\"\"", "'''"],
        keywords: "true false",
        key_marks: "=",
        ..SCRIPT
    },
    Language {
        names: "yaml yml",
        keywords: "true false null",
        key_marks: ":",
        ..SCRIPT
    },
    Language {
        names: "c h cpp c++ cc hpp cxx objc objective-c cuda glsl java kotlin kt kts scala groovy csharp cs c# swift \
                dart php zig proto protobuf solidity sol",
        keywords: "abstract alignas as async auto await bool boolean break byte case catch char class comptime \
                   const constexpr continue default defer define delete do double else endif enum explicit extends \
                   extension extern false final finally float fn for foreach friend fun func function guard if \
                   ifdef ifndef implements import in include inline int int32 int64 interface internal is lateinit \
                   let long match namespace new nil noexcept null nullptr operator override package private \
                   protected protocol pub public readonly record return sealed self short signed sizeof static \
                   string struct super switch template this throw throws trait true try type typealias typedef \
                   typename uint256 union unsigned using usingnamespace val var variable virtual void volatile when \
                   where while with yield",
        ..C_LIKE
    },
    Language {
        names: "ruby rb elixir ex perl pl r julia jl crystal dockerfile docker makefile make cmake just justfile nix \
                graphql",
        keywords: "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN SHELL USER VOLUME WORKDIR \
                   alias and begin break case class def define defmodule do else elsif end endef endif ensure \
                   export false for function if ifdef ifeq import in include let module my next nil not or require \
                   rescue return self sub super then true unless until use using when while yield",
        ..SCRIPT
    },
    Language {
        names: "sql sqlite postgresql mysql lua haskell hs",
        line_comments: &["--"],
        keywords: "add all alter and as asc begin between break by case check class column commit constraint create \
                   cross data default delete deriving desc distinct do drop else elseif end exists false for \
                   foreign from full function group having if import in index inner insert instance into is join \
                   key left let like limit local module newtype nil not null of on or order outer pragma primary \
                   references repeat return returning right rollback select set table then transaction true type \
                   union unique until update using values view when where while with without",
        ..C_LIKE
    },
    Language {
        names: "css scss less",
        key_marks: ":",
        ..C_LIKE
    },
    Language {
        names: "html xml svg htm xhtml plist",
        line_comments: &[],
        block_comment: Some(("<!--", "-->")),
        quotes: "",
        long_quotes: &["\""],
        key_marks: "=",
        ..C_LIKE
    },
];

/// Appends a block of code. `info` is the text after ```` ``` ````: the language, or the first line of a pasted text.
pub(super) fn push_code_block(html: &mut String, code: &str, info: &str) {
    let Some(language) = parse_language(info) else {
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
/// `rust,ignore`, `js {1,3}` and `py title="x"`. `None` for the first line of a pasted text, which must not be lost.
fn parse_language(info: &str) -> Option<String> {
    let in_braces = info
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let named = in_braces.unwrap_or(info);
    let name_end = named.find([' ', ',', '{', ':']).unwrap_or(named.len());
    let (name, attributes) = named.split_at(name_end);
    let name = name.to_ascii_lowercase();

    let is_language = if attributes.is_empty() && in_braces.is_none() {
        let is_name_char = |c: char| c.is_alphanumeric() || "+#-._".contains(c);
        name.chars().all(is_name_char)
    } else {
        let is_known =
            matches!(&*name, "diff" | "patch" | "text") || find_language(&name).is_some();
        is_known && are_attributes(attributes)
    };
    is_language.then_some(name)
}

/// Returns false for the text after a language's name in a pasted line, as in `bash: x: not found` and `make CC=gcc`.
fn are_attributes(text: &str) -> bool {
    let is_key_char = |c: char| c.is_ascii_lowercase() || c == '_';
    let has_key = text.split_once('=').is_some_and(|(before, _)| {
        let key = before.rsplit([' ', ',']).next().unwrap_or_default();
        !key.is_empty() && key.chars().all(is_key_char)
    });
    text.trim_start().starts_with('{') || !text.contains(' ') || has_key
}

fn find_language(name: &str) -> Option<&'static Language> {
    let has_name = |language: &&Language| language.names.split(' ').any(|known| known == name);
    LANGUAGES.iter().find(has_name)
}

/// Returns `code` as HTML, highlighted if the language is known.
pub(super) fn highlight_code(code: &str, language: &str) -> String {
    let mut html = String::with_capacity(code.len() * 2);
    if matches!(language, "diff" | "patch") {
        push_diff(&mut html, code);
    } else if let Some(language) = find_language(language) {
        CodeScanner { language, code }.push_tokens(&mut html);
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
    language: &'static Language,
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
        let (code, language) = (self.code, self.language);
        if let Some((begin, end)) = language.block_comment
            && let Some(inner) = code.strip_prefix(begin)
        {
            let len = inner
                .find(end)
                .map_or(code.len(), |at| begin.len() + at + end.len());
            return (len, "comment");
        }

        let is_comment = |mark: &str| {
            // In scripts, `#` within a word is no comment, as in `$#` and `a#b`.
            code.starts_with(mark) && (mark.len() > 1 || before.is_whitespace())
        };
        if language.line_comments.iter().any(|mark| is_comment(mark)) {
            return (code.find('\n').unwrap_or(code.len()), "comment");
        }

        let mut long_quotes = language.long_quotes.iter();
        if let Some(quote) = long_quotes.find(|quote| code.starts_with(**quote)) {
            return self.scan_string(quote, code.len());
        }

        if language.quotes.contains(first) {
            let line_end = code.find('\n').unwrap_or(code.len());
            return self.scan_string(&code[..first.len_utf8()], line_end);
        }

        // In Rust, a single quote begins a character or a lifetime.
        if first == '\'' && language.names.starts_with("rust") {
            let len = rust_char_len(code);
            let is_lifetime = len == 1;
            return (len, if is_lifetime { "" } else { "string" });
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

    /// Returns the length and the CSS class of the string that begins with `quote`. A string without a closing quote
    /// ends at `limit`.
    fn scan_string(&self, quote: &str, limit: usize) -> (usize, &'static str) {
        let code = &self.code[..limit];
        let mut is_escaped = false;
        let mut end = limit;

        for (at, c) in code.char_indices().skip(quote.chars().count()) {
            if !is_escaped && code[at..].starts_with(quote) {
                end = at + quote.len();
                break;
            }
            is_escaped = c == '\\' && !is_escaped;
        }

        let is_key = self.is_before_key_mark(end);
        (end, if is_key { "key" } else { "string" })
    }

    fn scan_word(&self, first: char) -> (usize, &'static str) {
        let code = self.code;
        // In languages with keys, names may have hyphens.
        let is_part = |c: char| is_word(c) || c == '-' && !self.language.key_marks.is_empty();
        let after = &code[first.len_utf8()..];
        let len = first.len_utf8() + after.find(|c| !is_part(c)).unwrap_or(after.len());
        let word = &code[..len];

        let lower_word = word.to_ascii_lowercase();
        let is_sql = self.language.names.starts_with("sql");
        let keyword_form = if is_sql { &*lower_word } else { word };
        let mut keywords = self.language.keywords.split(' ');

        let class = if self.is_before_key_mark(len) {
            "key"
        } else if keywords.any(|keyword| keyword == keyword_form) {
            "keyword"
        } else if first == '$' {
            "variable"
        } else if code[len..].starts_with('(') {
            "function"
        } else if first.is_uppercase() && self.language.key_marks.is_empty() {
            "type"
        } else {
            ""
        };

        (len, class)
    }

    /// Returns true if the next character after `end`, apart from blanks, makes the text before `end` a key.
    fn is_before_key_mark(&self, end: usize) -> bool {
        let after = self.code[end..].trim_start_matches([' ', '\t']);
        let next = after.chars().next();
        next.is_some_and(|next| self.language.key_marks.contains(next))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of a Rust character literal at the beginning of `code`, or 1 for the quote of a lifetime.
fn rust_char_len(code: &str) -> usize {
    let mut chars = code.char_indices().skip(1);
    let is_escape = chars.next().is_some_and(|(_, c)| c == '\\');
    if is_escape {
        // The third byte is the escaped character, which may itself be a quote. `\u{10ffff}` is the longest escape.
        let end = code.bytes().skip(3).take(10).position(|b| b == b'\'');
        return end.map_or(1, |at| at + 4);
    }
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 1,
    }
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
                "{[key:&quot;a&quot;]: [string:&quot;b\\&quot;&quot;]}",
            ),
            ("toml", "a-b = 1", "[key:a-b] = [number:1]"),
            (
                "py",
                "'''a\nb''' x",
                "[string:&#39;&#39;&#39;a\nb&#39;&#39;&#39;] x",
            ),
            ("c", "\"open\nint", "[string:&quot;open]\n[keyword:int]"),
            ("sql", "SELECT x", "[keyword:SELECT] x"),
            (
                "diff",
                "+a\n-b\n c\n@@ x",
                "[added:+a\n][removed:-b\n] c\n[hunk:@@ x]",
            ),
            (
                "html",
                "<!-- x --> <a b=\"c\">",
                "[comment:&lt;!-- x --&gt;] &lt;a [key:b]=[string:&quot;c&quot;]&gt;",
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
            ("rust title=\"x.rs\"", Some("rust")),
            ("js {1,3}", Some("js")),
            ("ts:src/a.ts", Some("ts")),
            ("{r}", Some("r")),
            ("{r, echo=FALSE}", Some("r")),
            ("id,name,age", None),
            ("Error: no module", None),
            ("bash: x: command not found", None),
            ("make CC=gcc all", None),
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
            for name in LANGUAGES
                .iter()
                .flat_map(|language| language.names.split(' '))
            {
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
