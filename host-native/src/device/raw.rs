//! One open file or block device, and calls that return when it has answered.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;

use farrier_core::error::FaultCause;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FsWord};
use rustix::io::{Errno, ReadWriteFlags};

use super::lane::Calls;

/// An open file or block device.
#[derive(Debug)]
pub(super) struct Raw {
    file: File,
    size: u64,
    /// All of it is in memory: there is no device to wait for.
    is_in_memory: bool,
    /// Asked not to wait, the system does not.
    is_prompt: bool,
}

/// A file system that is memory and nothing else, by the number that Linux gives it.
const TMPFS: FsWord = 0x0102_1994;

impl Raw {
    pub(super) fn new(file: File, size: u64) -> Self {
        // a block device lies on the file system of its name only
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let is_in_memory =
            is_file && rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type == TMPFS);
        let mut byte = [0];
        // where nobody promised that, such as on a mount of FUSE, it says so
        let is_prompt =
            matches!(read_promptly(&file, 0, &mut byte), Ok(_) | Err(Errno::AGAIN | Errno::INTR));
        Self { file, size, is_in_memory, is_prompt }
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Whether there is no device to wait for.
    pub(super) const fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }

    /// Whether the system keeps a promise not to wait for it.
    pub(super) const fn is_prompt(&self) -> bool {
        self.is_prompt
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Copies take turns in being read: what lies behind a block that was read from this one is often
    /// read from another one. The system guesses the opposite, so it is told; what is needed it hears
    /// from [`will_need`](Calls::will_need).
    pub(super) fn expect_jumps(&self) {
        // only advice
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Random);
    }

    /// What the system has in memory of it is let go. After a write that failed, that may be something
    /// that never came to the medium.
    pub(super) fn forget(&self) {
        // only advice, and what is in use by others stays
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// Fills `bytes` with what the system has in memory, if it has all of it: that takes no time.
    pub(super) fn read_cached(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.is_prompt && read_promptly(&self.file, offset, bytes) == Ok(bytes.len())
    }
}

/// Reads what is in memory.
fn read_promptly(file: &File, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT)
}

impl Calls for Raw {
    fn read(&self, offset: u64, len: usize, mut bytes: Vec<u8>) -> Result<Vec<u8>, FaultCause> {
        bytes.reserve_exact(len);
        // Not zeroed first: pread fills the spare capacity.
        while bytes.len() < len {
            let at = offset.checked_add(bytes.len() as u64).ok_or(FaultCause::OutOfRange)?;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(FaultCause::OutOfRange),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(cause(error)),
            }
        }
        // an allocator may give more than was asked for, and pread fills that too
        bytes.truncate(len);
        Ok(bytes)
    }

    fn will_need(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            // only advice
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::WillNeed);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FaultCause> {
        // behind its end a file would grow
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(FaultCause::OutOfRange);
        }
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            match rustix::io::pwrite(&self.file, rest, at) {
                // no device has a reason for that, and it must not hold us for ever
                Ok(0) => return Err(FaultCause::Medium(0)),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(cause(error)),
            }
        }
        Ok(())
    }

    fn barrier(&self) -> Result<(), FaultCause> {
        // Of a file, its size too as far as reading needs it; of a block device, its cache.
        loop {
            match rustix::fs::fdatasync(&self.file) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(cause(error)),
            }
        }
    }
}

pub(super) fn cause(error: Errno) -> FaultCause {
    match error {
        Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => FaultCause::Gone,
        Errno::ACCESS | Errno::PERM => FaultCause::Denied,
        Errno::ROFS => FaultCause::ReadOnly,
        Errno::NOSPC | Errno::DQUOT => FaultCause::NoSpace,
        other => FaultCause::Medium(other.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_lies_in_memory_is_known_and_read_at_once() {
        for folder in [Path::new("/dev/shm"), &std::env::temp_dir()] {
            let path = folder.join(format!("farrier-raw-{}", std::process::id()));
            let Ok(()) = std::fs::write(&path, [7; 1000]) else { continue };
            let raw = Raw::new(File::open(&path).unwrap(), 1000);
            std::fs::remove_file(&path).unwrap();
            let system = rustix::fs::statfs(folder).unwrap().f_type;
            assert_eq!(raw.is_in_memory(), system == TMPFS, "{}", folder.display());
            let mut bytes = [0; 1000];
            let is_read = raw.read_cached(0, &mut bytes);
            assert_eq!(is_read, bytes == [7; 1000]);
            assert!(raw.is_prompt() || !is_read);
            // it may be read, and is never too much
            assert!(!raw.read_cached(1, &mut bytes));
        }
    }
}
