//! `cooldown.json`: the last observation of each account. Small, because `recommend` reads it in every shell prompt.
//!
//! A missing or damaged document is rebuilt from the profiles and the inventory, else from the
//! archives. The Python codex-manager uses the same name for another format. That is read in place,
//! and the first write keeps it as `cooldown.json.python-backup`.

mod content;
mod disk;

pub use content::CooldownFile;
pub use disk::{FILE_NAME, LOCK_NAME, load, update};
