//! Texts for problems of archives.

use codex_manager_core::archive::sidecar::SidecarProblem;
use codex_manager_core::inventory::records::{ArchiveProblem, ArchiveRecord};
use codex_manager_core::io::shell;

pub(crate) fn describe_problem(record: &ArchiveRecord) -> Option<String> {
    Some(match record.problem()? {
        ArchiveProblem::Sidecar(problem) => describe_sidecar(problem, &record.path),
        ArchiveProblem::NoArchive => "the archive is missing".into(),
        ArchiveProblem::Damaged(detail) => format!("damaged: {detail}"),
        ArchiveProblem::FoundDamaged => "damaged, as found by codex-manager verify".into(),
        ArchiveProblem::Unreadable(detail) => format!("cannot be read: {detail}"),
    })
}

/// Describes a problem of the sidecar of `archive`, a path or a name below `backups/`.
pub(crate) fn describe_sidecar(problem: &SidecarProblem, archive: &str) -> String {
    let repair = format!(
        "codex-manager verify --repair {}",
        shell::quote_if_needed(archive)
    );
    match problem {
        SidecarProblem::Missing => format!("no sidecar; create it with: {repair}"),
        SidecarProblem::Damaged(detail) => {
            format!("the sidecar is damaged: {detail}; recreate it with: {repair}")
        }
        SidecarProblem::Mismatch => format!(
            "the sidecar describes another archive; move it away, then create it with: {repair}"
        ),
        SidecarProblem::Newer(schema) => {
            format!("the sidecar was written by a newer codex-manager (schema {schema})")
        }
        SidecarProblem::Unreadable(detail) => format!("the sidecar cannot be read: {detail}"),
    }
}
