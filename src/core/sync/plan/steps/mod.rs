//! The steps that carry out decisions, from data alone. [`plan_file`](file::plan_file) returns a
//! [`FilePlan`](super::file_plan::FilePlan): a [`SyncStep`](super::sync_step::SyncStep), a conflict, or a notice that
//! says why the file is left alone. `conflict_copies` plans the conflict copies after all conversations.

pub(super) mod conflict_copies;
mod conversation;
pub(super) mod file;
