//! The scan: which files both sides have. No file is opened unless its size and time may hide a change.
//!
//! [`scan_sides`](sides::scan_sides) checks that the cloud folder may be used, and lists both sides.
//! [`group_files`](groups::group_files) puts all files of one key into a
//! [`FileGroup`](crate::sync::file_group::FileGroup): a conversation has one key in all its forms (`.jsonl`,
//! `.jsonl.zst`, archived), other files have their path. A group behind a link that is not followed is blocked.
//! `stat_cache` then finds changed remote files whose size and time did not change.

pub(super) mod groups;
pub(super) mod sides;
pub(super) mod stat_cache;
