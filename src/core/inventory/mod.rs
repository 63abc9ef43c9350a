//! The documents about accounts and archives that commands store in the manager home.
//!
//! I want to …
//!
//! - list archives, or record one → `catalog` (the folder), `store` (the index), `records` (its documents)
//! - change which archives `prune` keeps → `retention` (the rules), `candidate` (the facts they need)
//! - move archives to the trash or back → `trash`
//! - ask Codex for the quota of an account → `status` (one account), `probe_all` (several)
//! - change what is stored of an account → `cooldown`, `observations` (its history), `accounts` (its login)
//! - find the account or the archive that a text of the user denotes → `resolve`, `archive_names`
//! - remember what a check found or the user saw → `losses`, `notices`
//! - suggest a command in a finding → `remedies`, `codex_change`
//! - find what killed commands left → `cleanup`
//! - read files of older programs → `legacy` (old login files), `python` (`cooldown.json` of the Python tool)

pub mod accounts;
pub mod archive_names;
pub mod candidate;
pub mod catalog;
pub mod cleanup;
pub mod codex_change;
pub mod cooldown;
pub mod good_texts;
pub mod legacy;
pub mod losses;
pub mod notices;
pub mod observations;
pub mod probe_all;
pub(crate) mod python;
pub mod records;
pub mod remedies;
pub mod resolve;
pub mod retention;
pub mod status;
pub mod store;
pub mod trash;

pub use candidate::{ArchiveClass, RetentionCandidate, Soundness};
pub use cooldown::CooldownFile;
pub use losses::KnownLoss;
pub(crate) use observations::ObservationsFile;
pub use records::{ArchiveProblem, ArchiveRecord, InventoryFile, LegacyRecord};
