//! Encryption of an export, by `age`: to a passphrase or to recipients' keys. Streams both ways.

use super::TransferError;
use crate::io::file_open;
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, IoError};
use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::iter;
use std::path::Path;

/// How much work a guess of a passphrase is: 128 MiB and about half a second.
const WORK_FACTOR: u8 = 17;

/// The most work that a file may ask of us; `age` itself writes files of this one.
const MAX_WORK_FACTOR: u8 = 18;

/// How every file of `age` begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// How the head of such a file ends. Whatever has none within this many bytes is no such file.
const HEAD_END: &[u8] = b"\n--- ";
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The longest file with a passphrase or a key.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// A passphrase. Neither printed nor kept longer than needed.
pub struct Passphrase(SecretString);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Passphrase {
    /// The text without the end of its line.
    ///
    /// # Errors
    /// It is empty, or no text.
    pub fn of(bytes: &SecretBytes) -> Result<Self, TransferError> {
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| TransferError::BadKey("the passphrase is no text".into()))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(TransferError::BadKey("the passphrase is empty".into()));
        }
        Ok(Self(SecretString::from(line.to_owned())))
    }

    /// The first line of a file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Self, TransferError> {
        Self::of(&read_key_file(path)?)
    }
}

fn read_key_file(path: &Path) -> Result<SecretBytes, IoError> {
    let mut bytes = Vec::new();
    file_open::open_given(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes))
        .at("read", path)?;
    Ok(SecretBytes::new(bytes))
}

/// For whom an export is.
#[derive(Debug)]
pub enum Encryption {
    /// Anybody who has the file.
    Plain,
    /// Whoever knows the passphrase.
    Passphrase(Passphrase),
    /// Whoever has the key of one of these.
    Recipients(Vec<RecipientKey>),
}

impl Encryption {
    /// The name used in output; `None` where it is not encrypted.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Passphrase(_) => Some("passphrase"),
            Self::Recipients(_) => Some("recipient"),
        }
    }
}

/// The public key of a recipient.
#[derive(Debug)]
pub struct RecipientKey(x25519::Recipient);

impl RecipientKey {
    /// Reads an `age1…` key.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, TransferError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|reason| TransferError::BadKey(format!("not a key of age ({reason}): {text}")))
    }
}

/// A writer that encrypts, or does not.
pub enum SealedWriter<W: Write> {
    /// It does not.
    Plain(W),
    /// It does.
    Age(StreamWriter<W>),
}

impl<W: Write> std::fmt::Debug for SealedWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

impl<W: Write> SealedWriter<W> {
    /// Begins an export.
    ///
    /// # Errors
    /// The writer refuses.
    pub fn new(output: W, encryption: Encryption) -> io::Result<Self> {
        let encryptor = match encryption {
            Encryption::Plain => return Ok(Self::Plain(output)),
            Encryption::Passphrase(Passphrase(text)) => {
                let mut recipient = scrypt::Recipient::new(text);
                recipient.set_work_factor(WORK_FACTOR);
                Encryptor::with_recipients(iter::once(&recipient as &dyn Recipient))
            }
            Encryption::Recipients(keys) => {
                Encryptor::with_recipients(keys.iter().map(|key| &key.0 as &dyn Recipient))
            }
        };
        let encryptor = encryptor.map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self::Age(encryptor.wrap_output(output)?))
    }

    /// Ends it. Without this it cannot be read.
    ///
    /// # Errors
    /// The writer refuses.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// What opens an export.
pub enum DecryptionKey {
    /// A passphrase.
    Passphrase(Passphrase),
    /// The keys of a file that `age-keygen` writes.
    Identities(Vec<Box<dyn Identity>>),
}

impl std::fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl DecryptionKey {
    /// The keys in a file.
    ///
    /// # Errors
    /// It cannot be read, or holds none.
    pub fn read_identities(path: &Path) -> Result<Self, TransferError> {
        let bad = || TransferError::BadKey(format!("no key of age in it: {}", path.display()));
        let bytes = read_key_file(path)?;
        let keys = age::IdentityFile::from_buffer(bytes.expose()).map_err(|_| bad())?;
        let keys = keys.into_identities().map_err(|_| bad())?;
        if keys.is_empty() {
            return Err(bad());
        }
        Ok(Self::Identities(keys))
    }
}

/// The bytes of an export, and what is needed to read them.
type ExportSource = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// An export whose beginning was looked at.
pub enum ExportInput {
    /// It is not encrypted.
    Plain(ExportSource),
    /// It is.
    Age(Box<Decryptor<ExportSource>>),
}

impl std::fmt::Debug for ExportInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").finish_non_exhaustive()
    }
}

impl ExportInput {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// It cannot be read, or is encrypted in a way that is not known.
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        let mut file = BufReader::with_capacity(
            MAX_HEAD_BYTES,
            file_open::open_given(path).at("open", path)?,
        );
        let mut head = Vec::new();
        Read::by_ref(&mut file)
            .take(MAX_HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .at("read", path)?;
        let foreign = |reason: &str| TransferError::Foreign {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };
        let is_age = head.starts_with(MAGIC);
        let has_end = head.windows(HEAD_END.len()).any(|part| part == HEAD_END);
        if head.starts_with(b"-----BEGIN AGE") {
            return Err(foreign("it is armored: give it to age -d first"));
        }
        let source = Cursor::new(head).chain(file);
        if !is_age {
            return Ok(Self::Plain(source));
        }
        if !has_end {
            return Err(foreign("its encryption has no head"));
        }
        Decryptor::new_buffered(source)
            .map(|decryptor| Self::Age(Box::new(decryptor)))
            .map_err(|_| foreign("the head of its encryption is not understood"))
    }

    /// What opens it: `None` nothing, `Some(true)` a passphrase, `Some(false)` a key.
    pub fn needs(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            Self::Age(decryptor) => Some(decryptor.is_scrypt()),
        }
    }

    /// Its content. `path` is for errors.
    ///
    /// # Errors
    /// There is no key where one is needed, or it is the wrong one.
    pub fn unlock(
        self,
        path: &Path,
        opener: Option<&DecryptionKey>,
    ) -> Result<DecryptedExport, TransferError> {
        let decryptor = match self {
            Self::Plain(source) => return Ok(DecryptedExport::Plain(source)),
            Self::Age(decryptor) => decryptor,
        };
        let wants_passphrase = decryptor.is_scrypt();
        let stream = match opener {
            Some(DecryptionKey::Passphrase(Passphrase(text))) if wants_passphrase => {
                let mut identity = scrypt::Identity::new(text.clone());
                identity.set_max_work_factor(MAX_WORK_FACTOR);
                decryptor.decrypt(iter::once(&identity as &dyn Identity))
            }
            Some(DecryptionKey::Identities(keys)) if !wants_passphrase => {
                decryptor.decrypt(keys.iter().map(|key| &**key))
            }
            _ => {
                return Err(TransferError::NeedsKey(
                    path.to_path_buf(),
                    wants_passphrase,
                ));
            }
        };
        stream
            .map(|stream| DecryptedExport::Age(Box::new(stream)))
            .map_err(|e| {
                use age::DecryptError;
                let reason = match e {
                    DecryptError::ExcessiveWork { .. } => "its passphrase asks for too much work",
                    DecryptError::InvalidMac | DecryptError::InvalidHeader => {
                        "the head of its encryption is damaged"
                    }
                    _ if wants_passphrase => "the passphrase does not open the export",
                    _ => "none of the keys opens the export",
                };
                TransferError::WrongKey {
                    path: path.to_path_buf(),
                    reason,
                }
            })
    }
}

/// The content of an export.
pub enum DecryptedExport {
    /// As it lies.
    Plain(ExportSource),
    /// Decrypted; what was changed is an error.
    Age(Box<StreamReader<ExportSource>>),
}

impl std::fmt::Debug for DecryptedExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

impl Read for DecryptedExport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Age(stream) => stream.read(buffer),
        }
    }
}
