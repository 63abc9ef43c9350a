//! Who this machine is in the cloud folder, and that nobody else is.
//!
//! A machine that was put back from a backup of its disk, or made as a copy of another one, has a state
//! whose manifest has gone on without it. Were it written again, what it says would be lost, and two
//! machines would overwrite each other's word for ever. So a manifest that this state did not publish
//! is another machine's from then on, and this one takes a name that nobody has.

use super::config::SyncConfig;
use super::ledger::{Ledger, Noted};
use super::manifest::{self, Encoded, Written};
use super::peers::{LIMITS, Manifests};
use super::state::{Damage, Replica, State};
use crate::io::file_open;
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where this machine's manifest is.
pub fn manifest_of(config: &SyncConfig, state: &State) -> PathBuf {
    manifest::path_of(&config.cloud, &config.machine_id, &state.writer)
}

/// What the other machines say.
pub fn others(config: &SyncConfig, state: &State) -> Result<Manifests, IoError> {
    let own = manifest_of(config, state);
    Manifests::read(&config.cloud, &own, &state.former, &LIMITS)
}

/// Whether another machine has ever said anything, whole or not.
pub fn has_others(config: &SyncConfig, state: &State) -> bool {
    let own = manifest_of(config, state);
    let end = |path: &PathBuf| manifest::end_of(path).ok().flatten();
    let is_former = |path: &PathBuf| end(path).is_some_and(|end| state.former.contains(&end));
    manifest::all_paths(&config.cloud).any(|path| path != own && !is_former(&path))
}

/// Takes another name where somebody else has written our manifest. Returns that manifest, relative to
/// the cloud folder, and what is to be said of it.
///
/// One that is torn is ours where nothing that is left of it is news: a power cut or the client has torn
/// it, and the next word takes its place. Else the client is bringing what was not written here.
pub fn settle(
    state: &mut State,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<Option<(String, String)>, IoError> {
    if state.damage == Some(Damage::All) {
        // Its name is lost. What stands under it is nobody's whose word is to be waited for.
        let of_it = format!("{}-", config.machine_id);
        let is_of_it = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(&of_it);
            rest.is_some_and(|rest| !rest.contains('-'))
        };
        let paths = manifest::all_paths(&config.cloud).filter(is_of_it);
        let ends = paths.filter_map(|path| manifest::end_of(&path).ok().flatten());
        state.former.extend(ends);
    }
    let path = manifest_of(config, state);
    let end = match manifest::end_of(&path) {
        Ok(end) => end,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", &path),
    };
    if state.published.is_empty() || end.is_some_and(|end| state.published.contains(&end)) {
        return Ok(None);
    }
    if end.is_none() && is_own_torn(&path, state, config, replica)? {
        return Ok(None);
    }
    state.former.extend(end);
    state.rename();
    let relative = path.strip_prefix(&config.cloud).unwrap_or(&path);
    let why = "was written by a copy of this machine, or by this machine before it was put back from a \
               backup; it counts as another machine's, and this one goes on under a new name";
    Ok(Some((
        relative.to_string_lossy().replace('\\', "/"),
        why.to_owned(),
    )))
}

/// Whether this machine's manifest is there, torn: it is written again by the next run.
pub fn is_torn(state: &State, config: &SyncConfig, replica: &Replica) -> Result<bool, IoError> {
    let path = manifest_of(config, state);
    match manifest::end_of(&path) {
        Ok(None) => is_own_torn(&path, state, config, replica),
        _ => Ok(false),
    }
}

/// Whether what is left of a torn manifest is of one that this machine wrote, or was about to.
fn is_own_torn(
    path: &Path,
    state: &State,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<bool, IoError> {
    let mut torn = Vec::new();
    let file = file_open::open(path).at("open", path)?;
    file.take(LIMITS.bytes)
        .read_to_end(&mut torn)
        .at("read", path)?;
    let Noted {
        mut files, earlier, ..
    } = Ledger::read(&replica.folder)?;
    let encode = |files: &_| manifest::encode(&config.machine_id, files, state).at("encode", path);
    let latest = encode(&files)?;
    // What a run noted that was killed before it told anybody.
    files.extend(earlier);
    Ok(manifest::says_only(&torn, &[latest, encode(&files)?]))
}

/// What this machine says: to be written when the state, which learns of it, is durable.
pub fn word(
    files: &BTreeMap<String, Written>,
    state: &mut State,
    config: &SyncConfig,
) -> Result<Encoded, IoError> {
    let path = manifest_of(config, state);
    let encoded = manifest::encode(&config.machine_id, files, state).at("encode", path)?;
    state.note_published(encoded.end);
    Ok(encoded)
}

/// Tells the other machines, outside of a run. Where somebody else has written our manifest, the next
/// run does: it says so.
pub fn publish(
    files: &BTreeMap<String, Written>,
    state: &mut State,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), IoError> {
    if settle(state, config, replica)?.is_some() {
        return Ok(());
    }
    let word = word(files, state, config)?;
    replica.write(state)?;
    word.write(&config.cloud, &manifest_of(config, state))
}
