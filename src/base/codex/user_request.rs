//! The user's request in a text that Codex records as a message of the user.
//!
//! VS Code and Desktop put context before the request, such as the open files, and a heading between both. Codex itself
//! inserts whole texts in the user's name. All of these texts are English, whatever the language of the user. Titles and
//! first messages come from [`find_request`] alone.

/// The headings between the context and the request. Codex 0.171 cuts at the first one for its own titles.
const HEADINGS: [&str; 3] = [
    // VS Code and Desktop, from before 0.32 to 0.146.
    CODEX_HEADING,
    // Desktop, 2026.
    "## My request for ChatGPT:",
    // Desktop since August 2026.
    "## My request:",
];

const CODEX_HEADING: &str = "## My request for Codex:";

/// The first words of contexts. A context without a heading after it has no request.
const CONTEXTS: [&str; 10] = [
    // VS Code, from before 0.32 to 0.146.
    "# Context from my IDE setup:",
    // VS Code and Desktop, 0.81 to 0.146.
    "# Files mentioned by the user:",
    // Desktop, 2026.
    "# Files pasted by the user:",
    "# In app browser:",
    "<in-app-browser-context",
    "# Browser comments:",
    "# Diff comments:",
    "# Selected text:",
    "# Review findings:",
    "# Response annotations:",
];

/// The first words of texts that Codex inserts: at the start of a conversation, for a goal, for a command or a review of
/// the user, and as a message of a subagent.
const INSERTED: [&str; 18] = [
    // 0.20 to 0.171.
    "<environment_context>",
    // 0.20 to 0.80.
    "<user_instructions>",
    // 0.42 to 0.171.
    "<permissions instructions>",
    "<skills_instructions>",
    "# AGENTS.md instructions",
    "<INSTRUCTIONS>",
    "<user_shell_command>",
    "<user_action>",
    "<turn_aborted>",
    // 0.128 to 0.171.
    "<codex_internal_context",
    "<subagent_notification>",
    "Side conversation boundary.",
    "<app-context>",
    "<collaboration_mode>",
    "<personality_spec>",
    "<plugins_instructions>",
    "<recommended_plugins>",
    "<skill>",
];

/// The first words of the prompts by which VS Code asks for a title (0.69 to 0.146). Each is a conversation of its own.
pub(crate) const TITLE_PROMPTS: [&str; 2] = [
    "Generate a concise UI title",
    "You are a helpful assistant. You will be presented with a user prompt",
];

/// Returns the request of the user in a message, trimmed. Empty if the message has none: only context of a client, or a
/// text that Codex inserted.
pub(crate) fn find_request(message: &str) -> &str {
    let message = message.trim();
    if is_inserted(message) {
        ""
    } else if let Some(request) = find_after_heading(message) {
        request
    } else if starts_with_any(message, &CONTEXTS) {
        ""
    } else {
        message
    }
}

/// Returns the first line of the request that is not blank, trimmed; `None` if the message has no request.
pub(crate) fn find_title(message: &str) -> Option<String> {
    let mut lines = find_request(message).lines().map(str::trim);
    // A client may record images in the text.
    let line = lines.find(|line| !line.is_empty() && !is_image_mark(line))?;
    Some(line.to_owned())
}

/// Returns true for a text that begins with context of a client, with a heading, or as a text that Codex inserted. The
/// user gave no such name to a conversation: an older rebuild derived it.
pub(crate) fn is_context(text: &str) -> bool {
    let text = text.trim_start();
    is_inserted(text) || starts_with_any(text, &CONTEXTS) || starts_with_any(text, &HEADINGS)
}

/// Returns true for a text that Codex inserts in the user's name.
fn is_inserted(text: &str) -> bool {
    starts_with_any(text.trim_start(), &INSERTED)
}

/// Returns true for an item of role user that Codex inserted for the model, also in a form that is not in the table: all
/// of these are one element whose name has several words.
pub(crate) fn is_inserted_item(text: &str) -> bool {
    let text = text.trim();
    let name = text.strip_prefix('<').and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))?;
        Some(&rest[..end])
    });
    let is_element =
        |name: &str| name.contains(['_', '-']) && text.ends_with(&format!("</{name}>"));
    is_inserted(text) || name.is_some_and(is_element)
}

/// Returns the part of a message from which Codex 0.171 makes the texts of a row, trimmed.
pub(crate) fn find_request_as_codex(message: &str) -> &str {
    let request = message.split_once(CODEX_HEADING);
    request.map_or(message, |(_, request)| request).trim()
}

/// Returns true for the texts that Codex 0.169 writes before and after an image. The `event_msg` of the same message
/// lacks these texts.
pub(crate) fn is_image_mark(text: &str) -> bool {
    let is_named_image = || text.starts_with("<image name=") && text.ends_with('>');
    matches!(text, "<image>" | "</image>") || is_named_image()
}

/// Returns what follows the first line that begins with a heading, trimmed.
fn find_after_heading(message: &str) -> Option<&str> {
    let mut rest = message;
    loop {
        let line = rest.trim_start_matches([' ', '\t']);
        let mut requests = HEADINGS
            .iter()
            .filter_map(|heading| line.strip_prefix(heading));
        if let Some(request) = requests.next() {
            return Some(request.trim());
        }
        (_, rest) = rest.split_once('\n')?;
    }
}

fn starts_with_any(text: &str, beginnings: &[&str]) -> bool {
    beginnings
        .iter()
        .any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_the_user_wrote() {
        for (message, request) in [
            ("\n fix it \nsoon\n", "fix it \nsoon"),
            (
                "# Context from my IDE setup:\n\n## Active file: a.ts\n\n## My request for Codex:\nrename it\n",
                "rename it",
            ),
            (
                "\n# Files mentioned by the user:\n\n## a.md: /w/a.md\n\n## My request:\n总结\r\n",
                "总结",
            ),
            (
                "<in-app-browser-context source=\"ambient-ui-state\">\n# In app browser:\n</in-app-browser-context>\n\n\
                 ## My request for ChatGPT:\ndo it",
                "do it",
            ),
            (
                "## My request for Codex:\nwrite\n## My request:\nmore",
                "write\n## My request:\nmore",
            ),
            (
                "# Some new context:\n- a\n## My request for Codex: sort",
                "sort",
            ),
            (
                "# A heading of the user\ntext",
                "# A heading of the user\ntext",
            ),
            (
                "why does `## My request:` appear?",
                "why does `## My request:` appear?",
            ),
            // Without a heading there is no request.
            ("# Context from my IDE setup:\n\n## Open tabs:\n- a", ""),
            (
                "# Files mentioned by the user:\n\n## My request for Codex:\n",
                "",
            ),
            (
                "<environment_context>\n<cwd>/w</cwd>\n</environment_context>",
                "",
            ),
            (
                "# AGENTS.md instructions for /w\n\n## My request for Codex:\nx",
                "",
            ),
            ("  ", ""),
        ] {
            assert_eq!(find_request(message), request, "{message}");
        }
    }

    #[test]
    fn a_title_is_a_line_of_the_request() {
        let title = |message| find_title(message);
        let with_image = "# Files mentioned by the user:\n\n## My request:\n\n<image name=[Image #1] path=\"/a\">\n</image>\n look \nhere";
        assert_eq!(title(with_image).as_deref(), Some("look"));
        assert_eq!(title("# Context from my IDE setup:\n## Open tabs:"), None);
        assert_eq!(title("[Image]").as_deref(), Some("[Image]"));
    }

    #[test]
    fn a_name_that_a_rebuild_made_of_context_is_recognized() {
        for name in [
            "# Context from my IDE setup:",
            " ## My request for Codex:",
            "<user_instructions>",
        ] {
            assert!(is_context(name), "{name}");
        }
        assert!(!is_context("Context of the parser"));
    }
}
