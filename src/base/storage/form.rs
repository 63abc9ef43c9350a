//! The two forms of a rollout, plain and compressed, and the conversion between them.
//!
//! A conversion writes the new form beside the old one, compares the text of both, gives the new
//! file its name, and then removes the old one. A kill in between leaves both forms with the same
//! text. Codex and this program treat these as one conversation, and the next conversion removes
//! the file that is not in its target form.

use crate::codex::{Relation, WriterLock, ZST, rollout};
use crate::io::{
    FileId, IoContext, IoError, Progress, ReportingReader, TempFile, atomic, file_id, file_open,
    modes, owner, progress, tree,
};
use std::fs::{File, Metadata};
use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The compression level, which is the default of `zstd`.
const COMPRESSION_LEVEL: i32 = 3;

/// The base-2 logarithm of the window. Images repeat at each compaction of a conversation, megabytes
/// apart. Codex reads windows of up to 27 bits.
const WINDOW_LOG: u32 = 27;

/// The part of a file that one thread compresses at a time, in bytes. The default would be four
/// windows.
const JOB_BYTES: u32 = 16 << 20;

/// The size of the buffer between a plain rollout and its compression, in bytes.
const READ_BYTES: usize = 128 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The text itself, in `rollout-….jsonl`.
    Plain,
    /// Compressed with zstd, in `rollout-….jsonl.zst`.
    Compressed,
}

/// The reason why a rollout was not converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversionError {
    /// Codex, or another command, holds the lock of the conversation.
    #[error("Codex has this conversation open")]
    Busy,
    /// Another program wrote, moved or removed the rollout during the conversion.
    #[error("the conversation changed in the meantime")]
    Changed,
    /// Both forms exist, and the compressed file has text that the plain file lacks.
    #[error("the plain and the compressed file have different contents")]
    Diverged,
    #[error("compression does not make it smaller")]
    Incompressible,
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Io(#[from] IoError),
}

impl ConversionError {
    /// Returns true if the cause may be another conversion at the same time: the rollouts of a rewound conversation
    /// share a lock, and each new form takes space until its old form is removed.
    pub(crate) fn may_be_of_another_conversion(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Io(e) => e.source.kind() == ErrorKind::StorageFull,
            _ => false,
        }
    }
}

impl Form {
    /// Returns the path of a rollout in this form, if `path_in_other_form` is its path in the other form.
    pub(crate) fn path_from_other_form(self, path_in_other_form: &Path) -> PathBuf {
        match self {
            Self::Plain => path_in_other_form.with_extension(""),
            Self::Compressed => atomic::with_suffix(path_in_other_form, ZST),
        }
    }
}

/// Writes the rollout `source` in `target_form` to a temp file beside it, with the same modification time and
/// permissions. [`NewForm::replace_old_form`] publishes it. Takes the lock of the conversation `conversation_id` in
/// `home`. `workers` is the number of threads that compress. If `target_form` exists already with the same text, or is
/// the plain form with more text, only removes `source`, durably.
///
/// # Errors
/// The rollout has its old form or both forms.
pub(crate) fn write_new_form(
    home: &Path,
    conversation_id: &str,
    source: &Path,
    target_form: Form,
    workers: u32,
    progress: &dyn Progress,
) -> Result<NewForm, ConversionError> {
    // Codex takes the same lock before it opens a rollout to append.
    let lock = WriterLock::acquire_if_free(home, conversation_id)?.ok_or(ConversionError::Busy)?;

    let former_state = FileState::read(source)?.ok_or(ConversionError::Changed)?;
    let new_path = target_form.path_from_other_form(source);
    if new_path.symlink_metadata().is_ok()
        && let Some(size) = remove_superfluous_form(source, &new_path, &former_state, target_form)?
    {
        return Ok(NewForm {
            size,
            unverified: None,
        });
    }

    if target_form == Form::Plain && former_state.meta.len() == 0 {
        // The decoder would accept an empty file, although it has no frame.
        return Err(io::Error::new(ErrorKind::InvalidData, "the file is empty"))
            .at("expand", source)?;
    }

    let reader = open_old_form(source, target_form).at("open", source)?;
    let mut reader = ReportingReader { reader, progress };
    let mut temp = TempFile::create_beside(&new_path)?;
    let result = match target_form {
        Form::Compressed => compress(&mut reader, former_state.meta.len(), temp.file(), workers),
        Form::Plain => io::copy(&mut reader, temp.file()).map(drop),
    };
    result.map_err(|e| to_conversion_error(e, source, &former_state))?;

    let new_file = temp.file();
    let size = new_file.metadata().at("read", &new_path)?.len();
    if target_form == Form::Compressed && size >= former_state.meta.len() {
        return Err(ConversionError::Incompressible);
    }

    copy_attributes(&former_state.meta, new_file).at("set the attributes of", &new_path)?;
    owner::copy_access_or_warn(source, temp.path());
    Ok(NewForm {
        size,
        unverified: Some(UnverifiedForm {
            source: source.to_path_buf(),
            former_state,
            temp,
            new_path,
            _lock: lock,
        }),
    })
}

/// Opens a rollout that is not in `target_form` yet, to read its text.
fn open_old_form(source: &Path, target_form: Form) -> io::Result<Box<dyn Read + Send>> {
    match target_form {
        Form::Compressed => {
            let file = file_open::open(source)?;
            Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
        }
        Form::Plain => rollout::open_plain(source),
    }
}

/// The new form of a rollout.
pub(crate) struct NewForm {
    /// Its size in bytes.
    size: u64,
    /// `None` if the new form existed before, so that only the old form was removed.
    unverified: Option<UnverifiedForm>,
}

/// A new form that was not compared with the old one.
struct UnverifiedForm {
    source: PathBuf,
    former_state: FileState,
    temp: TempFile,
    new_path: PathBuf,
    // The last field, because fields are dropped in order: an unpublished file is removed before the lock is released.
    _lock: WriterLock,
}

impl NewForm {
    /// Compares both forms, publishes the new one and removes the old one. Returns the size of the new file. Durable
    /// on return.
    ///
    /// # Errors
    /// After an error, the rollout has its old form or both forms. If only the last fsync fails, it has its new form,
    /// and the removal of the old one is not durable.
    pub(crate) fn replace_old_form(self) -> Result<u64, ConversionError> {
        let Some(form) = self.unverified else {
            return Ok(self.size);
        };

        // The new form has to survive a power failure before the old one is removed.
        form.temp.sync()?;

        // Reads the new file back, to compare the bytes that the disk stored.
        let relation = rollout::compare(&form.source, form.temp.path());
        if relation.at("compare", &form.source)? != Relation::Equal {
            return Err(ConversionError::Changed);
        }

        let is_published = form.temp.publish(&form.new_path)?.is_ok();
        if !is_published {
            return Err(ConversionError::Changed);
        }

        if let Err(e) = remove_old_form(&form.source, &form.former_state) {
            // Codex may have moved or deleted the conversation, or written to it.
            tree::remove(&form.new_path)?;
            return Err(e);
        }

        atomic::sync_folder(atomic::parent_of(&form.source))?;
        Ok(self.size)
    }
}

/// Removes the superfluous file of a rollout that exists in both forms. Returns the size of `target` if that file
/// stays, and `None` if `source` stays and has to be converted. Fails if the compressed file has text that the plain
/// file lacks, because Codex reads the plain file.
fn remove_superfluous_form(
    source: &Path,
    target: &Path,
    former_state: &FileState,
    target_form: Form,
) -> Result<Option<u64>, ConversionError> {
    let target_size = target.metadata().at("read", target)?.len();
    let relation = rollout::compare(source, target).at("compare", source)?;
    match (relation, target_form) {
        // Codex reads the plain file, and appends to it.
        (Relation::Equal, _) | (Relation::SecondExtends, Form::Plain) => {
            remove_old_form(source, former_state)?;
            atomic::sync_folder(atomic::parent_of(source))?;
            Ok(Some(target_size))
        }
        (Relation::FirstExtends, Form::Compressed) => {
            tree::remove(target)?;
            Ok(None)
        }
        _ => Err(ConversionError::Diverged),
    }
}

/// Removes `source`, unless it changed since `former_state`.
///
/// # Errors
/// `source` changed, or cannot be removed.
fn remove_old_form(source: &Path, former_state: &FileState) -> Result<(), ConversionError> {
    match FileState::read(source)? {
        Some(current) if current.is_unchanged_since(former_state) => {}
        _ => return Err(ConversionError::Changed),
    }
    Ok(tree::remove(source)?)
}

/// The identity and metadata of a rollout at one time.
struct FileState {
    id: FileId,
    meta: Metadata,
}

impl FileState {
    /// Returns the state of a regular file; `None` if there is none.
    fn read(path: &Path) -> Result<Option<Self>, IoError> {
        let regular_file = file_id::stat(path)?.filter(|(_, meta)| meta.is_file());
        Ok(regular_file.map(|(id, meta)| Self { id, meta }))
    }

    fn is_unchanged_since(&self, former: &Self) -> bool {
        self.id.is_same(former.id)
            && self.meta.len() == former.meta.len()
            && self.meta.modified().ok() == former.meta.modified().ok()
    }
}

/// Returns the error of reading `source`, which may have changed during the read.
fn to_conversion_error(error: io::Error, source: &Path, former: &FileState) -> ConversionError {
    if progress::is_interrupted() {
        return ConversionError::Interrupted;
    }
    match FileState::read(source) {
        Ok(Some(current)) if current.is_unchanged_since(former) => ConversionError::Io(IoError {
            action: "convert",
            path: source.to_path_buf(),
            source: error,
        }),
        _ => ConversionError::Changed,
    }
}

/// Compresses the `text_size` bytes of `reader` into `output`.
fn compress(
    reader: &mut dyn Read,
    text_size: u64,
    output: &mut dyn Write,
    workers: u32,
) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(output, COMPRESSION_LEVEL)?;
    // If the rollout grows during the compression, zstd fails instead of writing a wrong size into the header.
    encoder.set_pledged_src_size(Some(text_size))?;
    encoder.include_contentsize(true)?;
    // `zstd -t` and the decoder of Codex check it.
    encoder.include_checksum(true)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW_LOG)?;

    if workers > 1 {
        encoder.multithread(workers)?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(JOB_BYTES))?;
    }

    io::copy(reader, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// The sizes of a text in both forms, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FormSizes {
    pub(super) plain: u64,
    pub(super) compressed: u64,
}

/// Converts at most the first `max_bytes` of the text of a rollout, without writing. Returns the sizes of that text.
pub(super) fn measure_sample(source: &Path, target: Form, max_bytes: u64) -> io::Result<FormSizes> {
    let mut file = file_open::open(source)?;
    match target {
        Form::Compressed => {
            let mut compressed_text = Vec::new();
            let plain = file.metadata()?.len().min(max_bytes);
            compress(&mut file.take(plain), plain, &mut compressed_text, 1)?;
            let compressed = compressed_text.len() as u64;
            Ok(FormSizes { plain, compressed })
        }
        Form::Plain => {
            let mut text = rollout::decompress(&mut file)?.take(max_bytes);
            let plain = io::copy(&mut text, &mut io::sink())?;

            // Releases the file. Its position is the end of the compressed bytes that were read.
            drop(text);
            let compressed = file.stream_position()?;
            Ok(FormSizes { plain, compressed })
        }
    }
}

fn copy_attributes(from: &Metadata, to: &File) -> io::Result<()> {
    modes::ignore_refusal(to.set_permissions(from.permissions()))?;
    to.set_modified(from.modified()?)
}
