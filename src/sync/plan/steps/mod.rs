//! The steps that carry out decisions: one file for each kind of file.
//!
//! `plain`, `lines` and `conversation` return a [`FilePlan`](file_plan::FilePlan): a
//! [`SyncStep`](super::sync_step::SyncStep), a conflict, or a notice that says why the file is left alone. `conflict_copies`
//! plans the conflict copies after all conversations.

pub(super) mod conflict_copies;
pub(super) mod conversation;
mod conversation_draft;
mod conversation_step;
pub(super) mod file_plan;
pub(super) mod lines;
mod merging;
pub(super) mod plain;
