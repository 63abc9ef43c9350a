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
mod every_command;
mod export_prompts;
mod far_paths;
mod faults;
mod few_threads;
mod folders;
mod full_disk;
mod fuzz_inputs;
mod history_check;
mod history_faults;
mod history_real;
mod history_rebuild;
mod hostile;
mod hostile_exports;
mod in_the_way;
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
mod linked_homes;
mod logging;
mod lying_index;
mod memory;
mod mock_backend;
mod normalize;
mod odd_homes;
mod older_exports;
mod owners;
mod pasted_status;
mod pictures;
mod pipes;
mod probe;
mod process;
mod profile;
mod profile_login;
mod program;
mod promises;
mod prune;
mod python_import;
mod python_manager;
mod readme;
mod recommend;
mod recovering;
mod remains;
mod remedies;
mod restore_login;
mod restore_rollouts;
mod restoring;
mod reusing;
mod round_trip;
mod schedule;
mod sequences;
mod shells;
mod shutdown;
mod spend_caps;
mod status;
mod status_history;
mod status_screens;
mod storage;
mod support;
mod survey;
mod sync;
mod sync_arrival;
mod sync_clients;
mod sync_closing;
mod sync_codex;
mod sync_conflicts;
mod sync_deciding;
mod sync_deleting;
mod sync_faults;
mod sync_guard;
mod sync_identity;
mod sync_not_arrived;
mod sync_peers;
mod sync_places;
mod sync_races;
mod sync_registering;
mod sync_restoring;
mod sync_returns;
mod sync_settings;
mod sync_simulation;
mod sync_syncthing;
mod sync_torn;
mod together;
mod transfer;
mod trees;
mod use_account;
mod use_while_codex_runs;
mod verify;
mod width;
