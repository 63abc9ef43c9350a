//! A folder that another program replicates, such as a cloud client, with its hazards: partial files, placeholders,
//! copies of conflicts, old versions that come back, and versions that have not arrived.
//!
//! - [`delivery`] checks that a remote file has arrived completely;
//! - [`undelivered`] finds the listed versions that have not arrived.

pub(crate) mod delivery;
pub(crate) mod folder_reader;
pub(crate) mod undelivered;
