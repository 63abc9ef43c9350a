//! A folder that another program replicates, such as a cloud client, with its hazards: partial files, placeholders,
//! copies of conflicts, old versions that come back, and versions that have not arrived.
//!
//! - Which names clients give to copies, placeholders and their own files → [`cloud_names`];
//! - what the other machines list in their manifests → [`listed_versions`];
//! - when a remote file counts as delivered → [`delivery`]; which listed versions are missing → [`undelivered`].

pub(crate) mod cloud_names;
pub(crate) mod delivery;
pub(crate) mod folder_reader;
pub(crate) mod listed_versions;
pub(crate) mod undelivered;
