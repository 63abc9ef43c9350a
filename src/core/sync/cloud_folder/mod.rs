//! A folder that another program replicates, such as a cloud client, with its hazards: partial files, placeholders,
//! copies of conflicts, old versions that come back, and versions that have not arrived.
//!
//! - [`cloud_names`]: the names that clients give to copies, placeholders and their own files;
//! - [`listed_versions`]: the manifests of the other machines;
//! - [`delivery`]: whether a remote file has arrived completely;
//! - [`undelivered`]: the listed versions that have not arrived.

pub(crate) mod cloud_names;
pub(crate) mod delivery;
pub(crate) mod folder_reader;
pub mod listed_versions;
pub(crate) mod undelivered;
