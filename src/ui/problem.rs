//! Texts for problems of archives.

use codex_manager_core::archive::sidecar::SidecarProblem;
use codex_manager_core::inventory::records::{ArchiveProblem, ArchiveRecord};
use codex_manager_core::io::shell;

pub(crate) fn describe_problem(record: &ArchiveRecord) -> Option<String> {
    Some(match record.problem()? {
        ArchiveProblem::Sidecar(problem) => describe_sidecar(problem, Some(&record.path)),
        ArchiveProblem::NoArchive => "the archive is missing".into(),
        ArchiveProblem::Damaged(detail) => format!("damaged: {detail}"),
        ArchiveProblem::FoundDamaged => "damaged, as found by codex-manager verify".into(),
        ArchiveProblem::Unreadable(detail) => format!("cannot be read: {detail}"),
    })
}

/// Describes a problem of the sidecar of `archive`, a path or a name below `backups/`. `archive` is `None` if the
/// archive is damaged, because no sidecar is created for it.
pub(crate) fn describe_sidecar(problem: &SidecarProblem, archive: Option<&str>) -> String {
    let (text, advice) = match problem {
        SidecarProblem::Missing => ("no sidecar".to_owned(), "create it with"),
        SidecarProblem::Damaged(detail) => {
            let text = format!("the sidecar is damaged: {detail}");
            (text, "recreate it with")
        }
        SidecarProblem::Mismatch => (
            "the sidecar describes another archive".to_owned(),
            "move it away, then create it with",
        ),
        SidecarProblem::Newer(schema) => {
            return format!("the sidecar was written by a newer codex-manager (schema {schema})");
        }
        SidecarProblem::Unreadable(detail) => {
            return format!("the sidecar cannot be read: {detail}");
        }
    };
    match archive.map(shell::quote_if_needed) {
        Some(archive) => format!("{text}; {advice}: codex-manager verify --repair {archive}"),
        None => text,
    }
}
