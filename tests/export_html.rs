//! The HTML of an export, in a real browser.

use crate::support::browser::{Browser, ShownPage};
use crate::support::conversations::{Conversation, assistant, tool_output, user, write};
use crate::support::env::TestEnv;
use serde_json::{Value, json};

/// A picture with one dot.
const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn image(url: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:09Z", "type": "response_item", "payload":
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "<image name=[Image #1]>"},
            {"type": "input_image", "image_url": url},
            {"type": "input_text", "text": "</image>"},
            {"type": "input_text", "text": "What is this?"}]}})
}

fn call(text: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:02.000Z", "type": "response_item", "payload":
        {"type": "function_call", "name": "exec_command", "call_id": "call_1",
         "arguments": json!({"cmd": text}).to_string()}})
}

/// Texts that load something from `address`, or run a script, if they become markup.
fn hostile(address: &str) -> Vec<String> {
    let url = format!("http://{address}/x");
    vec![
        format!("<img src={url}>"),
        format!("![picture]({url}.png)"),
        format!("<script src={url}></script><script>location='{url}'</script>"),
        format!("</script></style></pre></code></details></div></main><img src='{url}'>"),
        format!("<style>@import url({url}); body{{background:url({url})}}</style>"),
        format!(
            "<link rel=stylesheet href={url}><iframe src={url}></iframe><object data={url}></object>"
        ),
        format!("<svg onload=\"fetch('{url}')\"><image href={url} /></svg>"),
        format!("<img src=x onerror=\"fetch('{url}')\">"),
        format!("<meta http-equiv=refresh content=\"0;url={url}\"><base href={url}>"),
        format!("<video src={url} autoplay></video><audio src={url}></audio><embed src={url}>"),
        format!(
            "[click](javascript:fetch('{url}')) [data](data:text/html,<script>fetch('{url}')</script>)"
        ),
        format!("```html\n</code></pre><img src={url}>\n```"),
        format!("```\"><img src={url}>\nx\n```"),
        format!("| <img src={url}> |\n| --- |\n| <img src={url}> |"),
        format!("<!-- <img src={url}> --><![CDATA[<img src={url}>]]><?x <img src={url}>?>"),
        format!("\u{1b}]8;;{url}\u{7}\u{0}<img src={url}>\u{202e}"),
    ]
}

fn export(env: &TestEnv, browser: &Browser, args: &[&str]) -> ShownPage {
    let out = env.path(&format!("page{}.html", args.len()));
    let path = out.to_str().expect("text");
    let all = [
        &[
            "export",
            "01a1",
            "--format",
            "html",
            "--reasoning",
            "--out",
            path,
        ],
        args,
    ]
    .concat();
    let _ = env.run(all).code(0);
    browser.open(&out)
}

#[test]
fn a_page_of_hostile_texts_loads_and_runs_nothing() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let env = TestEnv::new();
    // Control: the browser loads what a page requests.
    let control = env.write(
        "control.html",
        format!("<img src=http://{}/x>", browser.address()),
    );
    assert!(
        browser.open(&control).connections > 0,
        "the control page loaded no image"
    );
    let texts = hostile(&browser.address());
    let mut conversation = Conversation::new(1, 60, &texts[0], "Done.");
    conversation.title = format!("</title>{}", texts[3]);
    conversation.cwd = format!("/home/alice/{}", texts[0]);
    for text in &texts {
        conversation
            .lines
            .extend([user(text), assistant(text), call(text), tool_output(text)]);
        conversation.lines.push(
            json!({"timestamp": "2026-11-20T06:00:05.000Z", "type": "compacted", "payload":
                {"message": text, "replacement_history": []}}),
        );
        for url in [
            format!("http://{}/x.png?{text}", browser.address()),
            format!("data:image/svg+xml;base64,{text}"),
        ] {
            conversation
                .lines
                .extend([image(&url), user("What is this?")]);
        }
    }
    write(&env, &conversation);
    let page = export(&env, &browser, &[]);
    assert_eq!(page.connections, 0, "{:?}", page.console);
    assert_eq!(page.console, [""; 0]);
    for element in [
        "<script", "<img", "<iframe", "<svg", "<object", "<embed", "<video",
    ] {
        assert!(
            !page.elements.contains(element),
            "{element}: {}",
            page.elements
        );
    }
    assert_eq!(page.elements.matches("<style").count(), 1);
    assert_eq!(page.elements.matches("<footer").count(), 1);
}

#[test]
fn a_page_shows_turns_folded_tools_code_and_images() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let env = TestEnv::new();
    let mut conversation =
        Conversation::new(1, 60, "Fix it", "See:\n```rust\nlet x = 1; // one\n```");
    conversation.lines.extend([
        call("ls"),
        tool_output("a.rs"),
        image(PNG),
        user("What is this?"),
        assistant("A dot."),
    ]);
    write(&env, &conversation);
    let page = export(&env, &browser, &[]);
    assert_eq!(page.console, [""; 0]);
    assert_eq!(page.connections, 0);
    for (part, count) in [
        ("<h2 id=\"turn-", 2),
        ("<details class=\"tool\">", 1),
        ("<span class=\"keyword\">let</span>", 1),
        ("<span class=\"comment\">// one</span>", 1),
        ("<img alt=\"image\" src=\"data:image/png;base64,", 1),
        ("What is this?", 1),
        ("[Image #1]", 0),
    ] {
        assert_eq!(
            page.elements.matches(part).count(),
            count,
            "{part}: {}",
            page.elements
        );
    }
    let without = export(&env, &browser, &["--no-images"]);
    assert!(!without.elements.contains("<img"), "{}", without.elements);
    assert!(
        without.elements.contains("image: png"),
        "{}",
        without.elements
    );
}
