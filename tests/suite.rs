//! All integration tests in one binary, which links faster than many: one module per command, promise
//! or fault.

#![cfg(unix)]
#![allow(
    clippy::items_after_statements,
    reason = "a test defines its helpers where it uses them"
)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests prepare their folders directly"
)]
#![allow(dead_code, reason = "shared helpers are not all used on every system")]

mod architecture;
mod backup_status;
mod busy_home;
mod changing_homes;
mod child;
mod cli_reference;
mod config;
mod cooldown;
mod copied_homes;
mod current;
mod daemon;
mod demo;
mod doctor;
mod empty_machine;
mod every_command;
mod export_prompts;
mod faults;
mod few_threads;
mod find;
mod folders;
mod forged_index;
mod full_disk;
mod fuzz_inputs;
mod history_check;
mod history_faults;
mod history_real;
mod history_rebuild;
mod hostile;
mod hostile_exports;
mod interrupted;
mod json_output;
mod kept_by_restore;
mod keyring;
mod killed;
mod launch;
mod launch_faults;
mod launch_kills;
mod launch_real;
mod launch_together;
mod leftovers;
mod linked_homes;
mod logging;
mod long_paths;
mod memory;
mod mock_backend;
mod names;
mod normalize;
mod odd_homes;
mod older_exports;
mod owners;
mod pasted_status;
mod path_conflicts;
mod picker;
mod pictures;
mod pipes;
mod probe;
mod process;
mod profile;
mod profile_login;
mod program;
mod promises;
mod prose;
mod prune;
mod python_import;
mod python_manager;
mod readme;
mod recommend;
mod remedies;
mod restore;
mod restore_login;
mod restore_preview;
mod restore_recovery;
mod restore_rollouts;
mod reuse;
mod round_trip;
mod schedule;
mod sequences;
mod sessions;
mod shells;
mod show;
mod shutdown;
mod spend_caps;
mod status;
mod status_accounts;
mod status_history;
mod status_screens;
mod storage;
mod storage_sequences;
mod storage_shrink;
mod storage_shrink_real;
mod storage_trash;
mod storage_vacuum;
mod support;
mod sync;
mod sync_attestation;
mod sync_clients;
mod sync_codex;
mod sync_codex_index;
mod sync_conflicts;
mod sync_deletions;
mod sync_faults;
mod sync_folders;
mod sync_identity;
mod sync_manifests;
mod sync_old_versions;
mod sync_races;
mod sync_resolve;
mod sync_restore;
mod sync_safeguards;
mod sync_settings;
mod sync_shutdown;
mod sync_simulation;
mod sync_syncthing;
mod sync_torn_files;
mod sync_undelivered;
mod tables;
mod together;
mod transfer;
mod trees;
mod usage;
mod use_account;
mod use_while_codex_runs;
mod vault;
mod vault_drill;
mod vault_faults;
mod vault_hostile;
mod vault_kills;
mod vault_restore;
mod vault_s3;
mod verify;
mod width;
