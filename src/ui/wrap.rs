//! Wraps prose at the width of a terminal, between words and if possible not inside a command, so that people can copy
//! the command.

use super::text_width::{columns, fitting_prefix};

/// The first word of a command, which is kept on one line.
const PROGRAM: &str = "codex-manager";

/// Wraps `text` into lines of at most `width` columns; lines after the first begin with `indent` blanks. A word of more
/// than `width` columns gets a separate line, and is broken only between wide characters. Existing newlines stay.
pub(super) fn wrap(text: &str, indent: usize, width: usize) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| wrap_line(line, indent, width))
        .collect();
    lines.join("\n")
}

/// Wraps `text` like [`wrap()`], but puts each command that follows a colon on a line of its own, which is never
/// broken, so that people can copy the command.
pub(super) fn wrap_commands_apart(
    text: &str,
    indent: usize,
    width: usize,
    home_options: &[String],
) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        // A command for another machine gets no options, because the homes of that machine are not known.
        let is_local = !line.contains(" other machine");
        let home_options: &[String] = if is_local { home_options } else { &[] };

        let mut prose: Vec<&str> = Vec::new();
        let mut words = line.split(' ').peekable();
        while let Some(word) = words.next() {
            let mut later_words = words.clone();
            let next_words = [later_words.next(), later_words.next()];
            let previous = prose.last().map(|word| word.trim_end_matches("\x1b[0m"));
            let is_command =
                previous.is_some_and(introduces_command) && begins_command(word, next_words);
            if !is_command {
                prose.push(word);
                continue;
            }

            let command = take_command(word, &mut words);
            lines.push(wrap_line(&prose.join(" "), indent, width));
            lines.push(complete_command(&command, indent + 2, width, home_options));

            prose.clear();
            if words.peek().is_some() {
                // The words after the command continue the sentence. The empty words indent them.
                prose.extend(std::iter::repeat_n("", indent));
            }
        }

        if !prose.is_empty() {
            lines.push(wrap_line(&prose.join(" "), indent, width));
        }
    }
    lines.join("\n")
}

/// Returns the command that begins with `first_word`, without the comma or semicolon that ends it. Takes its other
/// words from `words`.
fn take_command<'w>(first_word: &str, words: &mut impl Iterator<Item = &'w str>) -> String {
    let mut command = first_word.to_owned();
    while !command.ends_with([',', ';']) {
        let Some(word) = words.next() else { break };
        command.extend([" ", word]);
    }
    command.trim_end_matches([',', ';']).to_owned()
}

/// Adds the missing `home_options` to a command of this program, and `CODEX_HOME` to a command of Codex. Returns it as
/// one unbroken line, indented by `indent` spaces, or by fewer if it would not fit.
pub(super) fn complete_command(
    command: &str,
    indent: usize,
    width: usize,
    home_options: &[String],
) -> String {
    let mut words: Vec<_> = command.split(' ').collect();
    if words[0] == PROGRAM {
        for option in home_options {
            let flag = option.split(' ').next().unwrap_or_default();
            match flag {
                _ if words.contains(&flag) => {}
                "-c" if words.contains(&"sync") => words.push(option),
                // Only the commands of `sync` have this option.
                "-c" => {}
                _ => words.insert(1, option),
            }
        }
    }

    let mut command = words.join(" ");
    let mut homes = home_options.iter();
    if words[0] == "codex"
        && let Some(home) = homes.find_map(|option| option.strip_prefix("--codex-home "))
    {
        // Without the variable, `codex login` would revoke the login in the default home.
        command = format!("CODEX_HOME={home} {command}");
    }

    let fits_width = |blanks: &usize| blanks + columns(&command) <= width;
    // An indentation of 4 is enough to set the command apart.
    let blanks = [indent, 4].into_iter().find(fits_width).unwrap_or(0);
    format!("{}{command}", " ".repeat(blanks))
}

/// Returns true if a command may follow the word: it ends with a colon, but is not a label of prose such as "error:".
fn introduces_command(word: &str) -> bool {
    word.ends_with(':')
        && !["error:", "warning:", "by:"]
            .iter()
            .any(|label| word.ends_with(label))
}

fn begins_command(word: &str, next_words: [Option<&str>; 2]) -> bool {
    let [next, second] = next_words;
    match word {
        PROGRAM | "chmod" | "chown" | "cp" | "mkdir" | "mv" | "rm" | "tar" => true,
        // In prose, `codex` is the name of the program: `codex login failed` and `codex app-server ended` are messages.
        "codex" => match next {
            Some("login") => second.is_none_or(|option| option.starts_with('-')),
            Some("app-server") => second == Some("daemon"),
            Some("resume" | "--version") => true,
            _ => false,
        },
        _ => word.starts_with("CODEX_HOME=") || next == Some("--version"),
    }
}

fn wrap_line(line: &str, indent: usize, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }

    let mut wrapped = String::with_capacity(line.len() + 16);
    let mut line_width = 0;
    let mut has_words = false;
    let has_wide_chars = |text: &str| columns(text) > text.chars().count();
    let units = split_unbreakable_units(line, width.saturating_sub(indent));
    for (unit_index, unit) in units.iter().enumerate() {
        // An empty unit stands for a further blank between two words, or for one of the indentation.
        let unit_width = columns(unit);
        if has_words && line_width + 1 + unit_width > width {
            // Blanks at the end of a line are dropped.
            if unit_width == 0 {
                continue;
            }
            wrapped.truncate(wrapped.trim_end_matches(' ').len());
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            line_width = indent;
        } else if unit_index > 0 {
            wrapped.push(' ');
            line_width += 1;
        }
        has_words |= unit_width > 0;

        let mut remaining = unit.as_str();
        // A text without blanks, such as Japanese, may be broken between any two of its wide characters.
        while has_wide_chars(remaining) && line_width + columns(remaining) > width {
            let fitting = fitting_prefix(remaining, width.saturating_sub(line_width));
            if fitting.is_empty() {
                break;
            }
            wrapped.extend([fitting, "\n", &" ".repeat(indent)]);
            line_width = indent;
            remaining = &remaining[fitting.len()..];
        }
        wrapped.push_str(remaining);
        line_width += columns(remaining);
    }
    wrapped
}

/// Returns true for a number with its unit, such as "4 h" or "1.5 MB,".
fn is_quantity(number: &str, unit: &str) -> bool {
    const UNITS: [&str; 10] = ["s", "min", "h", "d", "%", "B", "kB", "MB", "GB", "TB"];
    let number = number.trim_start_matches('(');
    let unit = unit.trim_end_matches([',', ';', ':', '.', ')']);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_number && UNITS.contains(&unit)
}

/// Splits a line into units that are not broken: commands of at most `max_command_width` columns, settings with their
/// values, numbers with their units, and words.
fn split_unbreakable_units(line: &str, max_command_width: usize) -> Vec<String> {
    let words: Vec<_> = line.split(' ').collect();
    let mut units = Vec::new();
    let mut unit_start = 0;
    while unit_start < words.len() {
        let remaining = &words[unit_start..];
        let is_command = remaining[0].trim_start_matches(['(', '"', '`']) == PROGRAM;
        let ends_command = |word: &&str| word.ends_with([',', ';', ':', ')']);
        let command_end = remaining.iter().position(ends_command);
        let command = command_end.map_or(remaining, |end| &remaining[..=end]);

        let word_count = match remaining {
            _ if is_command && columns(&command.join(" ")) <= max_command_width => command.len(),
            [_, "=", _, ..] => 3,
            [number, unit, ..] if is_quantity(number, unit) => 2,
            _ => 1,
        };
        units.push(remaining[..word_count].join(" "));
        unit_start += word_count;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_commands_are_kept_whole() {
        let text = "it is archived; bring it back: codex-manager restore me@x.com, or wait";
        assert_eq!(
            wrap(text, 2, 36),
            "it is archived; bring it back:\n  codex-manager restore me@x.com, or\n  wait"
        );
        assert_eq!(wrap(text, 2, 80), text);
        assert_eq!(wrap("of it 88 % left", 2, 8), "of it\n  88 %\n  left");
        // Where a command does not fit at all, it is broken like the rest.
        assert_eq!(
            wrap("codex-manager restore me@x.com", 2, 20),
            "codex-manager\n  restore me@x.com"
        );
    }

    #[test]
    fn a_text_of_wide_characters_is_broken_at_the_width() {
        assert_eq!(
            wrap("lost: 移行スクリプト 18", 2, 10),
            "lost:\n  移行スク\n  リプト\n  18"
        );
        assert_eq!(wrap("/a/long-path", 2, 6), "/a/long-path");
    }

    #[test]
    fn a_command_after_a_colon_is_alone_on_its_line() {
        let apart = |text| wrap_commands_apart(text, 2, 30, &[]);
        assert_eq!(
            apart("hint: sign in: codex-manager profile login work; nothing was changed"),
            "hint: sign in:\ncodex-manager profile login work\n  nothing was changed"
        );
        assert_eq!(
            apart("use it with: CODEX_HOME='/a b' codex"),
            "use it with:\n    CODEX_HOME='/a b' codex"
        );
        assert_eq!(apart("run codex-manager list"), "run codex-manager list");
        assert_eq!(
            apart("error: codex login failed"),
            "error: codex login failed"
        );
        assert_eq!(
            apart("no live figures: codex app-server ended without an answer"),
            "no live figures: codex\n  app-server ended without an\n  answer"
        );
        assert_eq!(
            apart("stop it: codex app-server daemon stop"),
            "stop it:\ncodex app-server daemon stop"
        );
        assert_eq!(
            apart("\x1b[1mhint:\x1b[0m codex-manager list"),
            "\x1b[1mhint:\x1b[0m\n    codex-manager list"
        );
    }

    #[test]
    fn a_command_is_indented_as_far_as_it_fits() {
        assert_eq!(
            complete_command("codex login", 8, 20, &[]),
            "        codex login"
        );
        assert_eq!(
            complete_command("codex login", 8, 18, &[]),
            "    codex login"
        );
        assert_eq!(complete_command("codex login", 8, 11, &[]), "codex login");
        assert_eq!(complete_command("codex login", 8, 5, &[]), "codex login");
    }

    #[test]
    fn a_command_gets_the_options_of_the_homes_that_it_lacks() {
        let options = ["--manager-home '/a b'".into(), "--codex-home /c".into()];
        let apart = |text| wrap_commands_apart(text, 2, 80, &options);
        assert_eq!(
            apart("undo with: codex-manager restore 1; or not"),
            "undo with:\n    codex-manager --codex-home /c --manager-home '/a b' restore 1\n  or not"
        );
        assert_eq!(
            apart("switch it: codex-manager --codex-home /d use work"),
            "switch it:\n    codex-manager --manager-home '/a b' --codex-home /d use work"
        );
        assert_eq!(
            apart("sign in: codex login"),
            "sign in:\n    CODEX_HOME=/c codex login"
        );
        assert_eq!(
            apart("run on the other machine a: codex-manager list"),
            "run on the other machine a:\n    codex-manager list"
        );
    }

    #[test]
    fn a_command_of_sync_gets_the_configuration_that_it_lacks() {
        let options = ["-c /x.toml".into(), "--codex-home /c".into()];
        let complete = |command| complete_command(command, 0, 80, &options);
        assert_eq!(
            complete("codex-manager sync run"),
            "codex-manager --codex-home /c sync run -c /x.toml"
        );
        assert_eq!(
            complete("codex-manager sync -c /y.toml run"),
            "codex-manager --codex-home /c sync -c /y.toml run"
        );
        assert_eq!(
            complete("codex-manager list"),
            "codex-manager --codex-home /c list"
        );
    }

    #[test]
    fn a_setting_stays_with_its_value() {
        assert_eq!(
            wrap("write key = \"v\" there", 0, 12),
            "write\nkey = \"v\"\nthere"
        );
    }

    #[test]
    fn a_number_stays_with_its_unit() {
        assert_eq!(
            wrap("resets in 2 d 14 h (12 MB), 4 windows", 2, 12),
            "resets in\n  2 d 14 h\n  (12 MB), 4\n  windows"
        );
    }

    #[test]
    fn a_word_longer_than_the_line_overflows_alone() {
        let path = "/a/path/that/is/longer";
        assert_eq!(
            wrap(&format!("not found: {path} here"), 2, 16),
            format!("not found:\n  {path}\n  here")
        );
    }

    #[test]
    fn blanks_at_the_beginning_and_inside_stay_and_colours_take_no_room() {
        assert_eq!(wrap("  a b  c", 4, 5), "  a b\n    c");
        assert_eq!(wrap("   → one two", 5, 10), "   → one\n     two");
        assert_eq!(wrap("  one two", 4, 80), "  one two");
        assert_eq!(wrap("\x1b[1mone\x1b[0m two", 2, 7), "\x1b[1mone\x1b[0m two");
        assert_eq!(wrap("one\ntwo three", 1, 5), "one\ntwo\n three");
    }
}
