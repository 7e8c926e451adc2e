//! Renaming, in all the forms of POSIX and Linux (media format 6.6).

use alloc::vec::Vec;

use super::change::{
    alive, check_name, drop_name, existing, living_directory, put_name, touch, writable,
};
use super::names::{self, Entry, Probe, named};
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{Edit, Plan};
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::media::inode::ObjectKind;
use crate::units::{Inum, WallTime};

/// Directories that a path is followed up through, to see that none is moved into itself.
const DEPTH_MAX: usize = 1 << 16;

/// What to do about a name that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clash {
    /// It is replaced, as POSIX says.
    Replace,
    /// The renaming fails.
    Refuse,
    /// Both names change places; the other one has to be there.
    Exchange,
}

/// Gives an inode another name, perhaps in another directory.
#[derive(Clone, Debug)]
pub struct Rename {
    /// The tree.
    pub pfs: Pfs,
    /// Directory of the old name.
    pub directory: Inum,
    /// The old name.
    pub name: Vec<u8>,
    /// Directory of the new name.
    pub new_directory: Inum,
    /// The new name.
    pub new_name: Vec<u8>,
    /// What to do if there is one.
    pub clash: Clash,
    /// Whether what is replaced may be in use without a name: see
    /// [`Unlink::keep`](super::Unlink::keep).
    pub keep: bool,
    /// Now.
    pub now: WallTime,
}

/// Both ends of a renaming.
struct Ends {
    source: Node,
    entry: Entry,
    moved: Node,
    target: Node,
}

impl Change for Rename {
    /// The inode that lost a name by being replaced.
    type Output = Option<Inum>;

    fn gather(&self, view: &mut View<'_>) -> Result<(Option<Inum>, Plan), Stop> {
        writable(view, &self.pfs)?;
        let source = Node::find_directory(view, &self.pfs, self.directory)?;
        let entry = existing(view, &self.pfs, &source, &self.name)?;
        // within one directory, what is known of it need not be found out again
        let target = match self.new_directory == self.directory {
            true => alive(source.clone())?,
            false => living_directory(view, &self.pfs, self.new_directory)?,
        };
        let moved = named(view, &self.pfs, &entry)?;
        let ends = Ends { source, entry, moved, target };
        if matches!(&self.new_name[..], b"." | b"..") {
            return Err(Error::InvalidArgument.into());
        }
        check_name(&self.new_name)?;
        self.check_loop(view, &ends.moved, self.new_directory)?;
        match names::probe(view, &self.pfs, &ends.target, &self.new_name)? {
            Probe::Found(there) => self.onto(view, &ends, &there),
            _ if self.clash == Clash::Exchange => Err(Error::NoEntry.into()),
            Probe::Free(key) => Ok((None, self.move_to(&ends, key))),
            Probe::Full => Err(Error::NoSpace.into()),
        }
    }
}

impl Rename {
    fn onto(
        &self,
        view: &mut View<'_>,
        ends: &Ends,
        there: &Entry,
    ) -> Result<(Option<Inum>, Plan), Stop> {
        match self.clash {
            Clash::Refuse => return Err(Error::Exists.into()),
            Clash::Exchange => return Ok((None, self.exchange(view, ends, there)?)),
            Clash::Replace => {}
        }
        // Two names of one inode: POSIX has nothing happen.
        if there.target == ends.moved.inum() {
            return Ok((None, Plan::new(self.pfs.id())));
        }
        let replaced = named(view, &self.pfs, there)?;
        match (ends.moved.kind(), replaced.kind()) {
            (ObjectKind::Directory, ObjectKind::Directory) => {
                names::check_empty(view, &self.pfs, &replaced)?;
            }
            (ObjectKind::Directory, _) => return Err(Error::NotDirectory.into()),
            (_, ObjectKind::Directory) => return Err(Error::IsDirectory.into()),
            _ => {}
        }
        let mut plan = self.move_to(ends, there.key);
        drop_name(&mut plan, &replaced, self.now, self.keep);
        Ok((Some(replaced.inum()), plan))
    }

    /// The plan that takes the old name away and makes the new one under `key`.
    fn move_to(&self, ends: &Ends, key: u64) -> Plan {
        let mut plan = Plan::new(self.pfs.id());
        self.touch_both(&mut plan, ends);
        self.reparent(&mut plan, &ends.moved, ends.target.inum());
        let directory = ends.source.inum();
        plan.edits.push(Edit::Name { directory, key: ends.entry.key, name: None });
        let (inum, kind) = (ends.moved.inum(), ends.moved.kind());
        plan.edits.push(put_name(ends.target.inum(), key, &self.new_name, inum, kind));
        plan
    }

    fn exchange(&self, view: &mut View<'_>, ends: &Ends, there: &Entry) -> Result<Plan, Stop> {
        let mut plan = Plan::new(self.pfs.id());
        let other = named(view, &self.pfs, there)?;
        if other.inum() == ends.moved.inum() {
            return Ok(plan);
        }
        self.check_loop(view, &other, self.directory)?;
        self.touch_both(&mut plan, ends);
        self.reparent(&mut plan, &ends.moved, ends.target.inum());
        self.reparent(&mut plan, &other, ends.source.inum());
        let here =
            put_name(ends.source.inum(), ends.entry.key, &self.name, other.inum(), other.kind());
        let (inum, kind) = (ends.moved.inum(), ends.moved.kind());
        plan.edits.push(here);
        plan.edits.push(put_name(ends.target.inum(), there.key, &self.new_name, inum, kind));
        Ok(plan)
    }

    fn touch_both(&self, plan: &mut Plan, ends: &Ends) {
        touch(plan, &ends.source, self.now);
        if ends.target.inum() != ends.source.inum() {
            touch(plan, &ends.target, self.now);
        }
    }

    fn reparent(&self, plan: &mut Plan, node: &Node, parent: Inum) {
        let mut inode = node.raw();
        inode.iparent.set(parent.0);
        inode.ctime.set(self.now.0);
        plan.set_inode(inode, node.standing());
    }

    /// A directory must not come to lie within itself.
    fn check_loop(&self, view: &mut View<'_>, moved: &Node, into: Inum) -> Result<(), Stop> {
        if moved.kind() != ObjectKind::Directory || self.directory == self.new_directory {
            return Ok(());
        }
        let mut at = into;
        for _ in 0..DEPTH_MAX {
            if at == moved.inum() {
                return Err(Error::InvalidArgument.into());
            }
            if at == Inum::ROOT {
                return Ok(());
            }
            at = Node::find_directory(view, &self.pfs, at)?.inode().parent();
        }
        Err(Error::TooManyLinks.into())
    }
}
