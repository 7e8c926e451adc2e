//! The HAMMER2 volumes that are read, and what a check of them reads.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use farrier_core::error::DeviceFault;
use farrier_core::fs::{Lookup, OpenPfs, Read};
use farrier_core::scan::CheckOptions;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum};
use farrier_tests::checking;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images;

use crate::failure::{During, Outcome};
use crate::run::run;

const STEP: usize = 1 << 20;

/// Unpacks image `name` into `folder`; `None` if this machine does not have it.
///
/// # Errors
/// It cannot be copied.
pub fn unpack(name: &str, folder: &Path) -> Outcome<Option<PathBuf>> {
    let source = [Some(images::shipped_folder()), images::full_folder()]
        .into_iter()
        .flatten()
        .find(|folder| folder.join(format!("{name}.img.zst")).exists());
    let Some(source) = source else {
        return Ok(None);
    };
    let unpacked = images::unpack(&source, name);
    let path = folder.join(format!("{name}.hammer2"));
    run("cp", &["--sparse=always".as_ref(), unpacked[0].as_os_str(), path.as_os_str()])?;
    Ok(Some(path))
}

/// Gives real pages to the first `len` bytes of the file `name` in `image`, which has holes where
/// blocks are nothing but zeros: else reading them costs less than reading can.
///
/// # Errors
/// The image cannot be read.
pub fn fill(image: &Path, name: &str, len: u64) -> Outcome {
    let storage = Seen::new(image, true)?;
    let host = TestHost::over(storage, false, 32 << 20).during(image.display())?;
    let super_root = host.volume().super_root();
    let label = b"DATA".to_vec();
    let pfs = host.run(&OpenPfs { super_root, label }).during(image.display())?;
    let lookup = Lookup { pfs, directory: Inum::ROOT, name: name.into() };
    let inum = host.run(&lookup).during(name)?.inum;
    for offset in (0..len).step_by(STEP) {
        host.run(&Read { pfs, inum, offset, len: STEP, ahead: 0 }).during(name)?;
    }
    Ok(())
}

/// Writes the bytes that a check of `image` reads, each once, into `target`; how many they are.
/// Pages of zeros become holes if `is_sparse`: then `image` should have them too.
///
/// # Errors
/// The image cannot be read, or the file not written.
pub fn write_checked_bytes(image: &Path, target: &Path, is_sparse: bool) -> Outcome<u64> {
    let storage = Seen::new(image, false)?;
    let host = TestHost::over(storage, false, 32 << 20).during(image.display())?;
    checking::check(&host, CheckOptions::default());
    let ranges = host.storage().ranges.take();
    let source = File::open(image).during(image.display())?;
    let file = File::create(target).during(target.display())?;
    let mut at = 0;
    let mut seen_to = 0;
    for (offset, len) in ranges {
        let end = offset + len as u64;
        let start = offset.max(seen_to);
        if start >= end {
            continue;
        }
        seen_to = end;
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        source.read_exact_at(&mut bytes, start).during(image.display())?;
        for (number, page) in bytes.chunks(4096).enumerate() {
            if !is_sparse || page.iter().any(|byte| *byte != 0) {
                let place = at + number as u64 * 4096;
                file.write_all_at(page, place).during(target.display())?;
            }
        }
        at += bytes.len() as u64;
    }
    file.set_len(at).during(target.display())?;
    Ok(at)
}

/// An image that takes note of what is read, and may write it back over itself.
struct Seen {
    files: Files,
    rewrite: Option<File>,
    ranges: RefCell<BTreeSet<(u64, usize)>>,
}

impl Seen {
    fn new(image: &Path, rewrites: bool) -> Outcome<Self> {
        let rewrite = if rewrites {
            Some(OpenOptions::new().write(true).open(image).during(image.display())?)
        } else {
            None
        };
        Ok(Self { files: Files::open(&[image]), rewrite, ranges: RefCell::default() })
    }
}

impl Storage for Seen {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.files.size(device)
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let bytes = self.files.read(device, offset, len).await?;
        self.ranges.borrow_mut().insert((offset, len));
        if let Some(file) = &self.rewrite {
            file.write_all_at(&bytes, offset).expect("the bench's own copy can be written");
        }
        Ok(bytes)
    }
}
