//! The parts that tests, benches and fuzz targets use beside the program. They are no interface: they change with the
//! program, in any version.

pub mod accounts {
    pub use crate::accounts::{login_selection, profile};
}

pub mod archive {
    pub use crate::archive::{
        ArchiveError, capture, entry, entry_name, footer, format, manifest, metadata, names, pack,
        path_note, reader, reuse, scope, sidecar, sink, verify,
    };
}

pub mod codex {
    pub use crate::codex::{
        app_server, auth, daemon, home, identity, process, program, rollout, status_text, window,
    };
}

pub mod history {
    pub use crate::history::rebuild;
}

pub mod inventory {
    pub use crate::inventory::{cooldown, store};
}

pub mod io {
    pub use crate::io::{
        Progress, child, clock, document, environment, events, hash, lock, processes, progress,
    };
}

pub mod logging {
    pub use crate::logging::{
        LogArchiving, LogContext, LogFormat, LogHandle, LogLocation, LogName, LogSettings,
        Severity, gather_events, start,
    };
}

pub mod quota {
    pub use crate::quota::{account, window};
}

pub mod restore {
    pub use crate::restore::{RestoreError, apply, plan, request};
}

pub mod schedule {
    pub use crate::schedule::{
        JobContext, JobDefinition, JobKind, JobOptions, Scheduler, Trigger, apply, find,
        plan_install, render, search_path, systemd,
    };
}

pub mod shutdown {
    pub use crate::shutdown::{
        ConfirmationRequest, PromptChannel, Prompter, RefusalReason, ShutdownError,
        ShutdownRequest, ShutdownSettings, ShutdownTargets, shut_down,
    };
}

pub mod sync {
    pub use crate::sync::{apply, config, plan, remote, state};
}
