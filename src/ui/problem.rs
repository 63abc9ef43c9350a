//! Texts for problems of archives.

use crate::archive::sidecar::SidecarProblem;
use crate::inventory::records::ArchiveProblem;

pub(crate) fn describe_problem(problem: &ArchiveProblem) -> String {
    match problem {
        ArchiveProblem::Sidecar(problem) => describe_sidecar(problem),
        ArchiveProblem::NoArchive => "the archive is missing".into(),
        ArchiveProblem::Damaged(detail) => format!("damaged: {detail}"),
        ArchiveProblem::FoundDamaged => "damaged, as found by codex-manager verify".into(),
        ArchiveProblem::Unreadable(detail) => format!("cannot be read: {detail}"),
    }
}

pub(crate) fn describe_sidecar(problem: &SidecarProblem) -> String {
    match problem {
        SidecarProblem::Missing => "no sidecar; create it with: codex-manager verify --repair".into(),
        SidecarProblem::Damaged(detail) => format!(
            "the sidecar is damaged: {detail}; recreate it with: codex-manager verify --repair"
        ),
        SidecarProblem::Mismatch => {
            "the sidecar describes another archive; move it away, then create it with: codex-manager \
             verify --repair"
                .into()
        }
        SidecarProblem::Newer(schema) => {
            format!("the sidecar was written by a newer codex-manager (schema {schema})")
        }
        SidecarProblem::Unreadable(detail) => format!("the sidecar cannot be read: {detail}"),
    }
}
