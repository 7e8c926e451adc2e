//! Lists every PFS of an image, snapshots included, and everything in it: `list-tree IMAGE...`.

use std::error::Error;
use std::path::PathBuf;

use farrier::image::{Image, Options};
use farrier::tree::Tree;
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

fn main() -> Result<(), Box<dyn Error>> {
    let devices: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    // Several devices are the volumes of one file system, in any order.
    let image = Image::open(&devices, &Options::default())?;
    for info in image.list_pfs()?.entries {
        let snapshot = if info.is_snapshot { " (snapshot)" } else { "" };
        println!("{}{snapshot}", info.label.escape_ascii());
        let tree = image.tree(Some(&info.label))?;
        list(&tree, Inum::ROOT, 1)?;
    }
    Ok(())
}

fn list(tree: &Tree, directory: Inum, depth: usize) -> Result<(), Box<dyn Error>> {
    let listing = tree.list(directory, true)?;
    for entry in &listing.entries {
        let size = entry.attributes.map_or(0, |found| found.map_or(0, |a| a.size));
        println!("{:indent$}{} {size}", "", entry.name.escape_ascii(), indent = depth * 2);
        // A damaged image may hold a directory within itself: no path is that deep.
        if entry.kind == ObjectKind::Directory && depth < 500 {
            list(tree, entry.inum, depth + 1)?;
        }
    }
    // A directory that cannot be read whole must not look as if it were.
    match listing.broken.first() {
        Some(error) => Err((*error).into()),
        None => Ok(()),
    }
}
