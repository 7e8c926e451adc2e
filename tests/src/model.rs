//! A file system as plain maps: what the operations of the core mean, without media.
//!
//! One PFS of a volume that is open for writing. Every operation fails as the core's does and
//! changes nothing then, or changes what the core's changes. Inode numbers are the core's choice:
//! a creation is told the number. Copies are cheap: they share what neither changes.

use std::collections::BTreeMap;
use std::rc::Rc;

use farrier_core::error::Error;
use farrier_core::fs::{Allocation, Attributes, Clash, New, Victim};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

/// The grain in which contents are kept.
pub const PAGE: u64 = 4096;
/// Largest file.
const SIZE_MAX: u64 = i64::MAX as u64;

/// Contents of a file: what is in no page is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Length in bytes.
    pub size: u64,
    pages: BTreeMap<u64, Rc<Vec<u8>>>,
}

impl Contents {
    /// Bytes `offset .. offset + len`, zeros behind the end.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let end = offset + len as u64;
        for (number, page) in self.pages.range(offset / PAGE..=end / PAGE) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            if from < to {
                bytes[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&page[index(from - start)..index(to - start)]);
            }
        }
        bytes
    }

    /// First byte at or behind `offset` that may not be zero.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (number, _) = self.pages.range(offset / PAGE..).next()?;
        Some((number * PAGE).max(offset)).filter(|at| *at < self.size)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let start = at / PAGE * PAGE;
            let to = (start + PAGE).min(end);
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Rc::new(vec![0; 4096]));
            Rc::make_mut(page)[index(at - start)..index(to - start)]
                .copy_from_slice(&bytes[index(at - offset)..index(to - offset)]);
            at = to;
        }
        if !bytes.is_empty() {
            self.size = self.size.max(end);
        }
    }

    fn zero(&mut self, from: u64, to: u64) {
        let inside: Vec<u64> = self
            .pages
            .range(from / PAGE..)
            .map(|(n, _)| *n)
            .take_while(|n| n * PAGE < to)
            .collect();
        for number in inside {
            let start = number * PAGE;
            let (low, high) = (start.max(from), (start + PAGE).min(to));
            if high - low == PAGE {
                self.pages.remove(&number);
            } else if low < high
                && let Some(page) = self.pages.get_mut(&number)
            {
                Rc::make_mut(page)[index(low - start)..index(high - start)].fill(0);
            }
        }
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, u64::MAX);
        }
        self.size = size;
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("within memory")
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its attributes; the size is the one of the contents.
    pub attributes: Attributes,
    /// Contents of a file, target of a link.
    pub contents: Contents,
    /// Names of a directory.
    pub names: BTreeMap<Vec<u8>, u64>,
    /// Whether it is in use without a name.
    pub is_unlinked: bool,
}

impl Inode {
    /// What `stat` tells.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes { size: self.contents.size, ..self.attributes }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        self.attributes.kind
    }
}

/// Attributes to set; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the core's operation")]
pub struct Set {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<u64>,
    pub mtime: Option<u64>,
    pub ctime: Option<u64>,
    pub flags: Option<u32>,
    pub compression: Option<u8>,
    pub check: Option<u8>,
}

/// Arguments of a renaming.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the core's operation")]
pub struct Renaming {
    pub directory: u64,
    pub name: Vec<u8>,
    pub new_directory: u64,
    pub new_name: Vec<u8>,
    pub clash: Clash,
    pub keep: bool,
}

/// Arguments of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the core's operation")]
pub struct Creation {
    pub directory: u64,
    pub name: Vec<u8>,
    pub new: New,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Arguments of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the core's operation")]
pub struct Copying {
    pub source: u64,
    pub source_offset: u64,
    pub target: u64,
    pub target_offset: u64,
    pub len: u64,
}

/// Inodes by number, in pages that copies share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inodes {
    pages: BTreeMap<u64, Rc<BTreeMap<u64, Rc<Inode>>>>,
    count: usize,
}

impl Inodes {
    /// Numbers of a page.
    const SPAN: u64 = 64;

    fn iter(&self) -> impl Iterator<Item = (&u64, &Rc<Inode>)> {
        self.pages.values().flat_map(|page| page.iter())
    }

    fn get(&self, inum: u64) -> Option<&Inode> {
        Some(&**self.pages.get(&(inum / Self::SPAN))?.get(&inum)?)
    }

    fn get_mut(&mut self, inum: u64) -> Option<&mut Inode> {
        let page = self.pages.get_mut(&(inum / Self::SPAN))?;
        Some(Rc::make_mut(Rc::make_mut(page).get_mut(&inum)?))
    }

    /// Whether there was none of this number.
    fn insert(&mut self, inum: u64, inode: Inode) -> bool {
        let page = Rc::make_mut(self.pages.entry(inum / Self::SPAN).or_default());
        let is_new = page.insert(inum, Rc::new(inode)).is_none();
        self.count += usize::from(is_new);
        is_new
    }

    fn remove(&mut self, inum: u64) {
        if let Some(page) = self.pages.get_mut(&(inum / Self::SPAN)) {
            let page = Rc::make_mut(page);
            self.count -= usize::from(page.remove(&inum).is_some());
            if page.is_empty() {
                self.pages.remove(&(inum / Self::SPAN));
            }
        }
    }
}

/// The file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    inodes: Inodes,
}

impl Model {
    /// A file system that holds nothing but this root.
    #[must_use]
    pub fn new(root: Attributes) -> Self {
        let inode = Inode {
            attributes: root,
            contents: Contents::default(),
            names: BTreeMap::new(),
            is_unlinked: false,
        };
        let mut inodes = Inodes::default();
        inodes.insert(1, inode);
        Self { inodes }
    }

    /// Every inode.
    pub fn inodes(&self) -> impl Iterator<Item = (u64, &Inode)> {
        self.inodes.iter().map(|(inum, inode)| (*inum, &**inode))
    }

    /// Number of inodes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.inodes.count
    }

    /// Never: there is a root.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.inodes.count == 0
    }

    /// Inode `inum`.
    ///
    /// # Errors
    /// It does not exist.
    pub fn get(&self, inum: u64) -> Result<&Inode, Error> {
        self.inodes.get(inum).ok_or(Error::NoInode(Inum(inum)))
    }

    /// What a crash or an unmount leaves of it: nothing without a name.
    #[must_use]
    pub fn settled(&self) -> Self {
        let mut settled = self.clone();
        let gone = self.inodes().filter(|(_, inode)| inode.is_unlinked);
        gone.for_each(|(inum, _)| settled.inodes.remove(inum));
        settled
    }

    /// A snapshot that is taken at `now`.
    #[must_use]
    pub fn snapshot(&self, now: u64) -> Self {
        let mut snapshot = self.settled();
        let root = &mut snapshot.change(1).attributes;
        (root.ctime.0, root.btime.0) = (now, now);
        root.parent = Inum::ROOT;
        snapshot
    }

    /// Makes an inode; `number` is called for its number once nothing can fail any more.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn create(&mut self, what: &Creation, inum: u64, now: u64) -> Result<Attributes, Error> {
        let directory = self.living_directory(what.directory)?;
        Self::check_new(directory, &what.name)?;
        let mut contents = Contents::default();
        let mut device = (0, 0);
        match &what.new {
            New::Symlink(target) if target.is_empty() => return Err(Error::NoEntry),
            New::Symlink(target) if target.len() > 4095 => return Err(Error::NameTooLong),
            New::Symlink(target) => contents.write(0, target),
            New::CharDevice(major, minor) | New::BlockDevice(major, minor) => {
                device = (*major, *minor);
            }
            _ => {}
        }
        let above = directory.attributes;
        let inherits = above.mode & 0o2000 != 0;
        let kind = what.new.kind();
        let sets = inherits && kind == ObjectKind::Directory;
        let time = farrier_core::units::WallTime(now);
        let attributes = Attributes {
            inum: Inum(inum),
            kind,
            mode: what.mode & 0o7777 | if sets { 0o2000 } else { 0 },
            nlinks: 1,
            uid: what.uid,
            gid: if inherits { above.gid } else { what.gid },
            size: contents.size,
            allocated_bytes: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            device,
            flags: 0,
            parent: Inum(what.directory),
            compression_request: above.compression_request,
            check_request: above.check_request,
        };
        let inode = Inode { attributes, contents, names: BTreeMap::new(), is_unlinked: false };
        assert!(self.inodes.insert(inum, inode), "number {inum} is in use");
        self.touch(what.directory, now).names.insert(what.name.clone(), inum);
        Ok(attributes)
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn link(&mut self, inum: u64, directory: u64, name: &[u8], now: u64) -> Result<(), Error> {
        let inode = self.get(inum)?;
        if inode.kind() == ObjectKind::Directory {
            return Err(Error::IsDirectory);
        }
        if inode.is_unlinked {
            return Err(Error::NoEntry);
        }
        Self::check_new(self.living_directory(directory)?, name)?;
        let attributes = &mut self.change(inum).attributes;
        attributes.nlinks += 1;
        attributes.ctime.0 = now;
        self.touch(directory, now).names.insert(name.to_vec(), inum);
        Ok(())
    }

    /// Takes a name away; returns what it named.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn unlink(
        &mut self,
        directory: u64,
        name: &[u8],
        victim: Victim,
        keep: bool,
        now: u64,
    ) -> Result<u64, Error> {
        let inum = Self::existing(self.directory(directory)?, name)?;
        let inode = self.get(inum)?;
        match (victim, inode.kind()) {
            (Victim::File, ObjectKind::Directory) => return Err(Error::IsDirectory),
            (Victim::Directory, ObjectKind::Directory) if !inode.names.is_empty() => {
                return Err(Error::NotEmpty);
            }
            (Victim::File, _) | (Victim::Directory, ObjectKind::Directory) => {}
            (Victim::Directory, _) => return Err(Error::NotDirectory),
        }
        self.touch(directory, now).names.remove(name);
        self.drop_name(inum, keep, now);
        Ok(inum)
    }

    /// Lets go of an inode.
    pub fn release(&mut self, inum: u64) {
        if self.inodes.get(inum).is_some_and(|inode| inode.is_unlinked) {
            self.inodes.remove(inum);
        }
    }

    /// Renames; returns what was replaced.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn rename(&mut self, what: &Renaming, now: u64) -> Result<Option<u64>, Error> {
        let moved = Self::existing(self.directory(what.directory)?, &what.name)?;
        let target = self.living_directory(what.new_directory)?;
        if matches!(&what.new_name[..], b"." | b"..") {
            return Err(Error::InvalidArgument);
        }
        Self::check_name(&what.new_name)?;
        let there = target.names.get(&what.new_name).copied();
        self.check_loop(what, moved, what.new_directory)?;
        let Some(there) = there else {
            if what.clash == Clash::Exchange {
                return Err(Error::NoEntry);
            }
            self.move_to(what, moved, now);
            return Ok(None);
        };
        match what.clash {
            Clash::Refuse => return Err(Error::Exists),
            _ if there == moved => return Ok(None),
            Clash::Exchange => {
                self.check_loop(what, there, what.directory)?;
                self.move_to(what, moved, now);
                self.touch(what.directory, now).names.insert(what.name.clone(), there);
                self.reparent(there, what.directory, now);
                return Ok(None);
            }
            Clash::Replace => {}
        }
        let replaced = self.get(there)?;
        match (self.get(moved)?.kind(), replaced.kind()) {
            (ObjectKind::Directory, ObjectKind::Directory) if !replaced.names.is_empty() => {
                return Err(Error::NotEmpty);
            }
            (ObjectKind::Directory, ObjectKind::Directory) => {}
            (ObjectKind::Directory, _) => return Err(Error::NotDirectory),
            (_, ObjectKind::Directory) => return Err(Error::IsDirectory),
            _ => {}
        }
        self.move_to(what, moved, now);
        self.drop_name(there, what.keep, now);
        Ok(Some(there))
    }

    /// Puts `bytes` into a file, at its end without `offset`.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn write(
        &mut self,
        inum: u64,
        offset: Option<u64>,
        bytes: &[u8],
        now: u64,
    ) -> Result<(), Error> {
        let size = self.regular(inum)?.contents.size;
        let offset = offset.unwrap_or(size);
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= SIZE_MAX);
        end.ok_or(Error::FileTooLarge)?;
        self.touch(inum, now).contents.write(offset, bytes);
        Ok(())
    }

    /// Sets attributes.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn set(&mut self, inum: u64, set: Set, now: u64) -> Result<Attributes, Error> {
        if let Some(size) = set.size {
            self.regular(inum)?;
            if size > SIZE_MAX {
                return Err(Error::FileTooLarge);
            }
            self.touch(inum, now).contents.resize(size);
        }
        self.get(inum)?;
        let inode = self.change(inum);
        let to = &mut inode.attributes;
        to.mode = set.mode.map_or(to.mode, |mode| mode & 0o7777);
        to.uid = set.uid.unwrap_or(to.uid);
        to.gid = set.gid.unwrap_or(to.gid);
        to.atime.0 = set.atime.unwrap_or(to.atime.0);
        to.mtime.0 = set.mtime.unwrap_or(to.mtime.0);
        to.ctime.0 = set.ctime.unwrap_or(now);
        to.flags = set.flags.unwrap_or(to.flags);
        to.compression_request = set.compression.unwrap_or(to.compression_request);
        to.check_request = set.check.unwrap_or(to.check_request);
        Ok(inode.attributes())
    }

    /// Makes a range of a file into something.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn allocate(
        &mut self,
        inum: u64,
        offset: u64,
        len: u64,
        allocation: Allocation,
        now: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Err(Error::InvalidArgument);
        }
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX);
        let end = end.ok_or(Error::FileTooLarge)?;
        self.regular(inum)?;
        let contents = &mut self.touch(inum, now).contents;
        if allocation != Allocation::Extend {
            contents.zero(offset, end);
        }
        if matches!(allocation, Allocation::Extend | Allocation::Zero { keep_size: false }) {
            contents.size = contents.size.max(end);
        }
        Ok(())
    }

    /// How many bytes a copy may copy.
    ///
    /// # Errors
    /// As the core's operation.
    pub fn copy_len(&self, what: &Copying) -> Result<u64, Error> {
        let source = self.regular(what.source)?;
        self.regular(what.target)?;
        let len = what.len.min(source.contents.size.saturating_sub(what.source_offset));
        if len == 0 {
            return Ok(0);
        }
        let (from, to) = (what.source_offset, what.target_offset);
        if to.checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::FileTooLarge);
        }
        if what.source == what.target && from < to + len && to < from + len {
            return Err(Error::InvalidArgument);
        }
        Ok(len)
    }

    /// Copies `copied` bytes, as [`Model::copy_len`] allowed.
    pub fn copy(&mut self, what: &Copying, copied: u64, now: u64) {
        if copied == 0 {
            return;
        }
        let Some(source) = self.inodes.get(what.source) else { return };
        let source = source.contents.clone();
        let target = &mut self.touch(what.target, now).contents;
        let (from, end) = (what.source_offset, what.source_offset + copied);
        target.zero(what.target_offset, what.target_offset + copied);
        let mut at = from;
        while let Some(data) = source.next_data(at).filter(|data| *data < end) {
            let len = (PAGE - data % PAGE).min(end - data);
            target.write(what.target_offset + (data - from), &source.read(data, index(len)));
            at = data + len;
        }
        target.size = target.size.max(what.target_offset + copied);
    }

    fn regular(&self, inum: u64) -> Result<&Inode, Error> {
        let inode = self.get(inum)?;
        match inode.kind() {
            ObjectKind::Regular => Ok(inode),
            ObjectKind::Directory => Err(Error::IsDirectory),
            _ => Err(Error::NotRegular),
        }
    }

    fn directory(&self, inum: u64) -> Result<&Inode, Error> {
        let inode = self.get(inum)?;
        if inode.kind() == ObjectKind::Directory { Ok(inode) } else { Err(Error::NotDirectory) }
    }

    fn living_directory(&self, inum: u64) -> Result<&Inode, Error> {
        let inode = self.directory(inum)?;
        if inode.is_unlinked { Err(Error::NoEntry) } else { Ok(inode) }
    }

    fn check_name(name: &[u8]) -> Result<(), Error> {
        match name {
            b"." | b".." => Err(Error::Exists),
            name if name.len() > 255 => Err(Error::NameTooLong),
            name if name.is_empty() || name.contains(&b'/') || name.contains(&0) => {
                Err(Error::InvalidArgument)
            }
            _ => Ok(()),
        }
    }

    fn check_new(directory: &Inode, name: &[u8]) -> Result<(), Error> {
        Self::check_name(name)?;
        if directory.names.contains_key(name) { Err(Error::Exists) } else { Ok(()) }
    }

    fn existing(directory: &Inode, name: &[u8]) -> Result<u64, Error> {
        match name {
            b"." | b".." => Err(Error::InvalidArgument),
            name if name.len() > 255 => Err(Error::NameTooLong),
            name => directory.names.get(name).copied().ok_or(Error::NoEntry),
        }
    }

    fn check_loop(&self, what: &Renaming, moved: u64, into: u64) -> Result<(), Error> {
        let is_directory = self.get(moved)?.kind() == ObjectKind::Directory;
        if !is_directory || what.directory == what.new_directory {
            return Ok(());
        }
        let mut at = into;
        while at != 1 {
            if at == moved {
                return Err(Error::InvalidArgument);
            }
            at = self.get(at)?.attributes.parent.0;
        }
        Ok(())
    }

    fn change(&mut self, inum: u64) -> &mut Inode {
        self.inodes.get_mut(inum).expect("it was looked up")
    }

    fn touch(&mut self, inum: u64, now: u64) -> &mut Inode {
        let inode = self.change(inum);
        inode.attributes.mtime.0 = now;
        inode.attributes.ctime.0 = now;
        inode
    }

    fn reparent(&mut self, inum: u64, parent: u64, now: u64) {
        let attributes = &mut self.change(inum).attributes;
        attributes.parent = Inum(parent);
        attributes.ctime.0 = now;
    }

    fn move_to(&mut self, what: &Renaming, moved: u64, now: u64) {
        self.touch(what.directory, now).names.remove(&what.name);
        self.touch(what.new_directory, now).names.insert(what.new_name.clone(), moved);
        self.reparent(moved, what.new_directory, now);
    }

    fn drop_name(&mut self, inum: u64, keep: bool, now: u64) {
        let inode = self.change(inum);
        let is_directory = inode.kind() == ObjectKind::Directory;
        let left = if is_directory { 0 } else { inode.attributes.nlinks - 1 };
        if left > 0 || keep {
            inode.attributes.nlinks = if is_directory { 1 } else { left };
            inode.attributes.ctime.0 = now;
            inode.is_unlinked = left == 0;
        } else {
            self.inodes.remove(inum);
        }
    }
}
