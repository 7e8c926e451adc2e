//! `farrier show`: the tree of blocks, for the curious.

use std::io::{self, BufWriter, Write};

use clap::Args;
use farrier::image::Image;
use farrier_core::engine::{Block, Want};
use farrier_core::error::BlockKind;
use farrier_core::media::blockref::Blockref;
use farrier_core::media::dirent::DirentHeader;
use farrier_core::media::inode::{Inode, ObjectKind};
use farrier_core::tree::{Holder, Table};

use super::failure::Outcome;
use super::names::escaped;
use super::source::DeviceArguments;

/// Show the tree of blocks, one per line.
///
/// Each line: kind, key and key bits, offset and size, check method, transaction; behind it what
/// the block says.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    devices: DeviceArguments,

    /// Levels to go down at most.
    #[arg(short, long, value_name = "NUMBER")]
    depth: Option<usize>,
}

impl Show {
    pub(crate) fn run(&self) -> Outcome {
        let image = self.devices.open()?;
        let mut walk = Walk {
            image: &image,
            out: BufWriter::new(io::stdout().lock()),
            depth_max: self.depth.unwrap_or(usize::MAX),
        };
        let super_root = image.volume().super_root();
        walk.blockref(&super_root, 0, Holder::SuperRoot, None)?;
        Ok(walk.out.flush()?)
    }
}

struct Walk<'a> {
    image: &'a Image,
    out: BufWriter<io::StdoutLock<'static>>,
    depth_max: usize,
}

impl Walk<'_> {
    /// One blockref and what is below it. Recursion ends: a table covers less than the one it
    /// hangs in, and inodes hang in inodes twice at most.
    fn blockref(
        &mut self,
        blockref: &Blockref,
        depth: usize,
        holder: Holder,
        above: Option<&Table>,
    ) -> io::Result<()> {
        self.line(blockref, depth)?;
        let is_table = matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect);
        let want = Want::of(blockref).filter(|_| is_table || blockref.kind() == BlockKind::Dirent);
        let block = match want.map(|want| self.image.blocks().get(&want)) {
            None => None,
            Some(Ok(block)) => Some(block),
            Some(Err(error)) => {
                writeln!(self.out)?;
                return self.note(depth, &self.image.blocks().explain(&error));
            }
        };
        if blockref.kind() == BlockKind::Dirent {
            return self.dirent(blockref, block.as_ref());
        }
        let Some(block) = block else {
            return writeln!(self.out);
        };
        let below = if blockref.kind() == BlockKind::Inode {
            self.inode(blockref, &block, holder)?
        } else {
            writeln!(self.out)?;
            match above.map(|above| above.below(blockref, block)) {
                Some(Err(damage)) => return self.note(depth, &damage.kind.to_string()),
                Some(Ok(table)) => Some(table),
                None => None,
            }
        };
        match below {
            Some(table) if depth < self.depth_max => self.table(&table, depth + 1),
            _ => Ok(()),
        }
    }

    fn table(&mut self, table: &Table, depth: usize) -> io::Result<()> {
        let mut previous_last = None;
        for raw in table.slots().iter().filter(|raw| raw.kind != 0) {
            match table.entry(raw, previous_last) {
                Ok(Some(blockref)) => {
                    previous_last = Some(blockref.last_key());
                    // what hangs in the super-root is the root of a PFS, and so on down
                    self.blockref(&blockref, depth, table.holder(), Some(table))?;
                }
                Ok(None) => {}
                Err(damage) => self.note(depth, &damage.to_string())?,
            }
        }
        Ok(())
    }

    fn line(&mut self, blockref: &Blockref, depth: usize) -> io::Result<()> {
        write!(
            self.out,
            "{:width$}{} {:016x}/{:02}",
            "",
            blockref.kind().name(),
            blockref.key(),
            blockref.key_bits(),
            width = 2 * depth
        )?;
        if let Some(location) = blockref.location() {
            write!(
                self.out,
                " at {} size {} check {} {}",
                location.offset,
                location.len(),
                blockref.check_method().name(),
                blockref.check_code()
            )?;
        }
        write!(self.out, " tid {:x}", blockref.mirror_tid().0)
    }

    /// What an inode says; its table, if it has one.
    fn inode(
        &mut self,
        blockref: &Blockref,
        block: &Block,
        holder: Holder,
    ) -> io::Result<Option<Table>> {
        let inode = match Inode::parse(block) {
            Ok(inode) => inode,
            Err(fault) => {
                writeln!(self.out, " ! {fault}")?;
                return Ok(None);
            }
        };
        write!(
            self.out,
            " {} {} mode {:o} size {} links {}",
            inode.inum(),
            inode.kind().name(),
            inode.mode(),
            inode.size(),
            inode.nlinks()
        )?;
        if inode.is_pfs_root() {
            write!(self.out, " PFS {}", escaped(inode.label()))?;
        }
        writeln!(self.out)?;
        if inode.has_direct_data() {
            return Ok(None);
        }
        let is_super_root = blockref == &self.image.volume().super_root();
        let inner = match (holder, inode.kind()) {
            _ if is_super_root => Holder::SuperRoot,
            (Holder::SuperRoot, _) => Holder::PfsRoot,
            (_, ObjectKind::Directory) => Holder::Directory,
            _ => Holder::File,
        };
        Ok(Some(Table::of_inode(Block::clone(block), blockref.place(), inner)))
    }

    fn dirent(&mut self, blockref: &Blockref, block: Option<&Block>) -> io::Result<()> {
        let told = DirentHeader::parse(blockref).and_then(|header| {
            let name = header.name(blockref, block.map(|block| &**block))?;
            Ok(format!("{} {} {}", header.target, header.kind.name(), escaped(name)))
        });
        match told {
            Ok(text) => writeln!(self.out, " {text}"),
            Err(fault) => writeln!(self.out, " ! {fault}"),
        }
    }

    fn note(&mut self, depth: usize, text: &str) -> io::Result<()> {
        writeln!(self.out, "{:width$}! {text}", "", width = 2 * depth + 2)
    }
}
