//! One folder has several spellings: those of Windows, of WSL and of a home that was synced to another system.

use crate::support::conversations::{Conversation, id, state, user, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::mcp_client::McpClient;
use crate::support::shapes::windows_spellings;
use crate::support::usage_lines::{at, context, count, text_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// Returns the ids in a list of conversations, sorted.
fn ids(json: &Value) -> Vec<String> {
    let rows = json["sessions"].as_array().unwrap().iter();
    let mut ids: Vec<_> = rows
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Writes 40 conversations, each in a random spelling of its folder. Returns their ids by the position of the folder.
fn write_in_random_spellings(
    env: &TestEnv,
    folders: &[Vec<String>],
    mut pick: impl FnMut(&[String]) -> String,
) -> BTreeMap<usize, Vec<String>> {
    let mut ids_by_folder: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for number in 1..=40 {
        let folder = number as usize % folders.len();
        let mut made = Conversation::new(number, i64::from(number), "The needle", "Done.");
        made.lines.clear();
        made.cwd = pick(&folders[folder]);
        let path = write(env, &made);
        // The rollout has its own spelling, and some conversations have no row.
        made.cwd = pick(&folders[folder]);
        let tokens = [100, 0, 0, 0];
        let lines = [
            context(at(0), "gpt-5").replace("/home/alice/proj", "/w"),
            user("The needle").to_string(),
            count(at(i64::from(number)), tokens, tokens, None),
        ];
        fs::write(path, text_of(&made, &lines)).unwrap();
        if number % 3 == 0 {
            state(env)
                .execute("DELETE FROM threads WHERE id=?1", [id(number)])
                .unwrap();
        }
        ids_by_folder.entry(folder).or_default().push(id(number));
    }
    ids_by_folder
}

#[test]
fn random_spellings_of_a_folder_are_one_project_in_every_command() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let folders = [
        windows_spellings('c', &["Users", "u", "shop"]),
        windows_spellings('c', &["Users", "u", "shop2"]),
        windows_spellings('d', &["Users", "u", "shop"]),
        vec![
            "/srv/mill".into(),
            "/srv/mill/".into(),
            "/srv//mill".into(),
            "/srv/./mill".into(),
        ],
    ];
    let mut pick = |spellings: &[String]| {
        let index = usize::try_from(dice.below(spellings.len() as u64)).unwrap();
        spellings[index].clone()
    };
    let expected = write_in_random_spellings(&env, &folders, &mut pick);
    let _ = env.run(["find", "needle"]).code(0);
    for (folder, ids_in_folder) in &expected {
        for spelling in &folders[*folder] {
            let listed = env
                .run(["sessions", "--project", spelling, "--json"])
                .code(0)
                .json();
            assert_eq!(ids(&listed), *ids_in_folder, "{spelling}");
        }
        let spelling = pick(&folders[*folder]);
        let used = env
            .run(["usage", "--project", &spelling, "--json"])
            .code(0)
            .json();
        assert_eq!(used["totals"]["total_tokens"], 1000, "{spelling}");
        let found = env
            .run([
                "find",
                "needle",
                "--project",
                &spelling,
                "--limit",
                "50",
                "--json",
            ])
            .code(0)
            .json();
        assert_eq!(found["hits"].as_array().unwrap().len(), 10, "{spelling}");
        let mut client = McpClient::start(&env);
        let search = json!({"query": "needle", "project": spelling});
        assert_eq!(
            client.call("search_conversations", search).ids().len(),
            10,
            "{spelling}"
        );
    }
    let by_name = env
        .run(["sessions", "--project", "shop", "--json"])
        .code(0)
        .json();
    assert_eq!(ids(&by_name).len(), 20);
    let usage = env.run(["usage", "projects", "--json"]).code(0).json();
    let rows = usage["rows"].as_array().unwrap();
    assert_eq!(rows.len(), folders.len(), "{usage}");
    assert!(
        rows.iter().all(|row| row["total_tokens"] == 1000),
        "{usage}"
    );
    let storage = env.run(["storage", "--json"]).code(0).json();
    assert_eq!(
        storage["projects"].as_array().unwrap().len(),
        folders.len(),
        "{storage}"
    );
    let sorted = env
        .run(["sessions", "--sort", "project", "--json"])
        .code(0)
        .json();
    // Conversations without a row follow the list.
    let rows = sorted["sessions"].as_array().unwrap().iter();
    let mut projects: Vec<_> = rows
        .filter(|row| !row["created_at"].is_null())
        .map(|row| {
            let mut of_folder = folders.iter();
            of_folder
                .position(|spellings| spellings.iter().any(|spelling| row["cwd"] == **spelling))
        })
        .collect();
    projects.dedup();
    assert_eq!(projects.len(), folders.len(), "{sorted}");
}

#[test]
fn here_and_resume_last_find_a_folder_in_another_spelling() {
    let env = TestEnv::new();
    let here = env
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    for (number, cwd) in [(1, format!("{here}/")), (2, format!("{here}/./below"))] {
        write(
            &env,
            &Conversation {
                cwd,
                ..Conversation::new(number, 1, "Near", "Done.")
            },
        );
    }
    let listed = env.run(["sessions", "--here", "--json"]).code(0).json();
    assert_eq!(ids(&listed), [id(1), id(2)]);
    // Found, but its account has no profile.
    let resumed = env.run(["resume", "--last"]).code(5);
    assert!(resumed.stderr.contains("acct-alice"), "{resumed}");
    let mut client = McpClient::start(&env);
    assert_eq!(
        client
            .call("list_conversations", json!({"scope": "here"}))
            .ids()
            .len(),
        2
    );
}

#[test]
fn a_conversation_of_codex_before_0_32_has_the_folder_of_its_first_context() {
    let env = TestEnv::new();
    let folder = env.codex_home().join("sessions/2025/07/10");
    fs::create_dir_all(&folder).unwrap();
    let message = |text: &str| {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}).to_string()
    };
    let context = |cwd: &str| {
        format!(
            "<environment_context>\n  <cwd>{cwd}</cwd>\n  <shell>bash</shell>\n</environment_context>"
        )
    };
    for (number, cwd) in [(1, r"c:\Users\u\shop"), (2, "/srv/orchard \"x\"")] {
        let name = format!("6f9f9a2e-1b3c-4c7a-9b0a-00000000000{number}");
        let lines = [
            json!({"id": name, "timestamp": "2025-07-10T12:00:00.000Z", "instructions": null})
                .to_string(),
            json!({"record_type": "state"}).to_string(),
            message("<user_instructions>\nBe brief.\n</user_instructions>"),
            message(&context(cwd)),
            message("count the apples"),
            // The folder of a later context does not replace that of the first.
            message(&context("/elsewhere")),
        ];
        let path = folder.join(format!("rollout-2025-07-10T12-00-00-{name}.jsonl"));
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    let listed = env.run(["sessions", "--json"]).code(0).json();
    let rows = listed["sessions"].as_array().unwrap().iter();
    let mut cwds: Vec<_> = rows.map(|row| row["cwd"].as_str().unwrap()).collect();
    cwds.sort_unstable();
    assert_eq!(cwds, ["/srv/orchard \"x\"", r"c:\Users\u\shop"]);
    for project in ["shop", r"C:\Users\u\shop"] {
        let listed = env
            .run(["sessions", "--project", project, "--json"])
            .code(0)
            .json();
        assert_eq!(ids(&listed).len(), 1, "{project}");
    }
    let shown = env
        .run(["show", "6f9f9a2e-1b3c-4c7a-9b0a-000000000001"])
        .code(0)
        .stdout;
    assert!(shown.contains(r"in `c:\Users\u\shop`"), "{shown}");
}
