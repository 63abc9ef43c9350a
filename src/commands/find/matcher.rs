//! The condition of a search: a query of the index, or a pattern for the rollouts themselves.

use crate::error::{CommandError, Result};
use codex_manager_core::conversations::search::query::{self, Query};
use codex_manager_core::conversations::search::snippet::{self, Snippet};
use regex::{Regex, RegexBuilder};

const MAX_COMPILED_REGEX_BYTES: usize = 16 << 20;

pub(super) enum Matcher {
    Query(Query),
    Pattern(Regex),
}

impl Matcher {
    /// # Errors
    /// `words` is not a valid query.
    pub(super) fn parse_query(words: &[String]) -> Result<Self> {
        let query = query::parse(words).map_err(|e| {
            CommandError::usage(e.to_string())
                .hint("search for text as it is written: codex-manager find --exact TEXT")
        })?;
        Ok(Self::Query(query))
    }

    /// # Errors
    /// `pattern` is not a regular expression.
    pub(super) fn parse_regex(pattern: &str) -> Result<Self> {
        let pattern = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED_REGEX_BYTES)
            // `^` and `$` match at the ends of each line of a message.
            .multi_line(true)
            .build()
            .map_err(|e| {
                // The message repeats the pattern, and gives the reason in its last line.
                let reason = e.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                CommandError::usage(format!("not a regular expression: {reason}"))
                    .hint("search for text as it is written: codex-manager find --exact TEXT")
            })?;
        Ok(Self::Pattern(pattern))
    }

    /// Returns the part of `line` to show, with its matches: for a query the part with the most matches, for a pattern
    /// the part around the first match. `None` if nothing in the line matches.
    pub(super) fn find_snippet(&self, line: &str) -> Option<Snippet> {
        let snippet = match self {
            Self::Query(query) => snippet::make_snippet(line, &query.terms),
            Self::Pattern(pattern) => snippet::make_snippet_by(line, |line| {
                pattern.find_iter(line).map(|found| found.range()).collect()
            }),
        };
        (!snippet.matches.is_empty()).then_some(snippet)
    }
}
