//! Writes one file of an image to standard output: `read-file IMAGE PATH`.

use std::error::Error;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use farrier::image::{Image, Options};
use farrier::tree::LastLink;
use farrier_core::fs::{Extent, ReadAhead};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(image), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: read-file IMAGE PATH".into());
    };
    let image = Image::open(&[image.into()], &Options::default())?;
    // No label: DATA, or the only PFS that a person made.
    let tree = image.tree(None)?;
    let file = tree.resolve(path.as_bytes(), LastLink::Follow)?;
    let mut output = std::io::stdout().lock();
    let mut ahead = ReadAhead::default();
    let mut offset = 0;
    while offset < file.size {
        for extent in tree.read(file.inum, offset, 1 << 20, &mut ahead)? {
            offset += extent.len() as u64;
            match extent {
                Extent::Zeros(len) => output.write_all(&vec![0; len])?,
                Extent::Bytes(block, range) => output.write_all(&block[range])?,
            }
        }
    }
    Ok(())
}
