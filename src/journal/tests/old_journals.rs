//! Recovers journals of older versions.

use super::*;

/// Journals of version 0.1 before `home`, `since` and `leave_at`, with the device number, and with
/// one side of an exchange set aside between three renames.
#[test]
fn journals_of_older_versions_are_read() {
    use std::os::unix::fs::MetadataExt;
    // The step of `auth`: the names of the aside, what is there, at the live path, and staged.
    let kills: [(&str, &str, [&str; 3]); 6] = [
        ("committing", "", ["-", "new", "old"]),
        ("committing", "new/auth.aside", ["old", "new", "-"]),
        ("committing", "aside/0.moved", ["old", "new", "-"]),
        ("committing", "aside/0.linked", ["old", "new", "-"]),
        ("committing", "aside/0.moved", ["old", "-", "new"]),
        ("undoing", "aside/0.moved", ["new", "-", "old"]),
    ];
    for (state, aside, places) in kills {
        let fixture = Fixture::new();
        let (mut transaction, steps) = fixture.begin();
        let id = |path: &Path| {
            let meta = path.symlink_metadata().ok();
            meta.map(|m| serde_json::json!({"dev": m.dev() + 1, "ino": m.ino()}))
        };
        let json = steps.iter().map(|step| {
            serde_json::json!({
                "live": step.live,
                "staged": step.staged,
                "live_id": id(&step.live),
                "staged_id": id(&step.staged),
                "late": "within",
            })
        });
        let journal = serde_json::json!({
            "schema": 1,
            "state": state,
            "steps": json.collect::<Vec<_>>(),
            "folders": [fixture.staging()],
        });
        // Another step is done, so that a recovery goes on.
        let swapped = fixture.path("swapped");
        fs::rename(&steps[1].live, &swapped).unwrap();
        fs::rename(&steps[1].staged, &steps[1].live).unwrap();
        fs::rename(&swapped, &steps[1].staged).unwrap();
        let aside = fixture
            .staging()
            .join(if aside.is_empty() { "none" } else { aside });
        fs::create_dir_all(aside.parent().unwrap()).unwrap();
        let kept = ["old", "new"].map(|name| (name, fixture.path(name)));
        fs::rename(&steps[0].live, &kept[0].1).unwrap();
        fs::rename(&steps[0].staged, &kept[1].1).unwrap();
        for (content, path) in places
            .iter()
            .zip([&aside, &steps[0].live, &steps[0].staged])
        {
            if let Some((_, from)) = kept.iter().find(|(name, _)| name == content) {
                fs::rename(from, path).unwrap();
            }
        }
        let text = serde_json::to_string_pretty(&journal).unwrap();
        fs::write(fixture.staging().join(JOURNAL), text).unwrap();
        transaction.ended = true;
        drop(transaction);
        let expected = if state == "undoing" { OLD } else { NEW };
        let recovery = fixture.recover();
        let is_recovered = matches!(recovery, Recovery::Finished(_) | Recovery::Undone(_));
        assert!(is_recovered, "{recovery:?}");
        assert_eq!(
            fixture.live_state(),
            expected,
            "{state} {aside:?} {places:?}"
        );
        assert!(!fixture.staging().exists());
    }
}
