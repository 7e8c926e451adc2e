//! A writable volume in memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::Contents;
use super::budget::{Budget, Cost};
use super::layer::{DirtyBlock, DirtyInode, Head, Layer};
use super::plan::Plan;
use crate::error::Error;
use crate::media::blockref::Blockref;
use crate::units::Inum;

/// Identity of a PFS while the volume is open: the key of its root in the super-root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeId(pub u64);

/// An inode without a name that is in use: no table on media refers to it.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// Its 1024 bytes, with the table of its blocks as of the last commit.
    pub image: Contents,
}

/// One PFS of a writable volume.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Blockref,
    next_inum: Inum,
    active: Layer,
    frozen: Option<Arc<Layer>>,
    orphans: BTreeMap<u64, Orphan>,
}

impl Tree {
    /// A tree that nothing was changed in since the commit that left `root`.
    #[must_use]
    pub fn new(root: Blockref, next_inum: Inum) -> Self {
        Self { root, next_inum, active: Layer::default(), frozen: None, orphans: BTreeMap::new() }
    }

    /// Its root as of the last commit.
    #[must_use]
    pub const fn root(&self) -> &Blockref {
        &self.root
    }

    /// The inode number to hand out next.
    #[must_use]
    pub const fn next_inum(&self) -> Inum {
        self.next_inum
    }

    /// What became of `inum`, newest first.
    pub fn layers(&self, inum: Inum) -> impl Iterator<Item = &DirtyInode> {
        [Some(&self.active), self.frozen.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(move |layer| layer.get(inum))
    }

    /// What `inum` is, if it changed.
    #[must_use]
    pub fn head(&self, inum: Inum) -> Option<&Head> {
        self.layers(inum).next().map(|inode| &inode.head)
    }

    /// Whether the media, or an orphan, may know something of `inum` that counts.
    #[must_use]
    pub fn has_base(&self, inum: Inum) -> bool {
        self.layers(inum).all(|inode| !inode.is_new)
    }

    /// What became of file block `index` of `inum`: `None` where the media has the word.
    #[must_use]
    pub fn block(&self, inum: Inum, index: u64) -> Option<DirtyBlock> {
        let mut layers = self.layers(inum).peekable();
        layers.peek()?;
        for inode in layers {
            if let Some(block) = inode.blocks.get(&index) {
                return Some(block.clone());
            }
            if inode.is_new || inode.cut.is_some_and(|cut| cut <= index) {
                return Some(DirtyBlock::Hole);
            }
        }
        None
    }

    /// The contents of the active layer's block, if it has them: a patch goes into them in place.
    #[must_use]
    pub fn is_block_active(&self, inum: Inum, index: u64) -> bool {
        self.active
            .get(inum)
            .is_some_and(|inode| matches!(inode.blocks.get(&index), Some(DirtyBlock::Bytes(_))))
    }

    /// The orphan `inum`, as of the last commit.
    #[must_use]
    pub fn orphan(&self, inum: Inum) -> Option<&Orphan> {
        self.orphans.get(&inum.0)
    }

    /// Every orphan.
    pub fn orphans(&self) -> impl Iterator<Item = (Inum, &Orphan)> {
        self.orphans.iter().map(|(inum, orphan)| (Inum(*inum), orphan))
    }

    /// Inodes that have no name any more and are still there: in layers and as orphans.
    #[must_use]
    pub fn frozen(&self) -> Option<&Arc<Layer>> {
        self.frozen.as_ref()
    }

    /// The layer that operations add to.
    #[must_use]
    pub const fn active(&self) -> &Layer {
        &self.active
    }
}

/// What a writable volume is in memory: trees, their changes, and the space that is left for them.
#[derive(Clone, Debug)]
pub struct Memory {
    super_root: Blockref,
    trees: BTreeMap<TreeId, Tree>,
    budget: Budget,
    /// For what the next commit writes beside the layers.
    reserved: Cost,
    commits: u64,
    failed: Option<Error>,
}

impl Memory {
    /// Nothing changed yet.
    #[must_use]
    pub const fn new(super_root: Blockref, budget: Budget) -> Self {
        let trees = BTreeMap::new();
        let reserved = Cost { large: 0, small: 0 };
        Self { super_root, trees, budget, reserved, commits: 0, failed: None }
    }

    /// The super-root as of the last commit.
    #[must_use]
    pub const fn super_root(&self) -> &Blockref {
        &self.super_root
    }

    /// The tree `id`, if it is open for writing.
    #[must_use]
    pub fn tree(&self, id: TreeId) -> Option<&Tree> {
        self.trees.get(&id)
    }

    /// All trees that are open for writing.
    pub fn trees(&self) -> impl Iterator<Item = (TreeId, &Tree)> {
        self.trees.iter().map(|(id, tree)| (*id, tree))
    }

    /// Opens a tree for writing; one that is open stays as it is.
    pub fn open(&mut self, id: TreeId, tree: Tree) {
        self.trees.entry(id).or_insert(tree);
    }

    /// Forgets a tree that is not on media any more.
    pub fn close(&mut self, id: TreeId) {
        self.trees.remove(&id);
    }

    /// Number of commits since the volume was opened.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.commits
    }

    /// Why nothing can be changed any more, if so.
    #[must_use]
    pub const fn failed(&self) -> Option<Error> {
        self.failed
    }

    /// From now on nothing can be changed: what is in memory stays readable.
    pub fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// What stopped the volume is over, and the media are as of the last commit: what was changed
    /// since then can be written, with this room.
    pub fn resume(&mut self, budget: Budget) {
        self.failed = None;
        self.budget = budget;
        self.reserved = Cost::default();
    }

    /// Free space that is not reserved, in bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let taken = self.cost().bytes() + self.budget.kept_bytes;
        self.budget.free_bytes().saturating_sub(taken)
    }

    /// Memory that changes take, in bytes.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.layers().map(Layer::memory_bytes).sum()
    }

    /// Memory that changes take which no flush has begun on, in bytes.
    #[must_use]
    pub fn active_bytes(&self) -> u64 {
        self.trees.values().map(|tree| tree.active.memory_bytes()).sum()
    }

    /// Whether a flush would find anything to do.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.layers().any(|layer| !layer.is_empty())
    }

    /// Applies `plan`, if there is room for it.
    ///
    /// # Errors
    /// The plan, untouched: there is no room on media for what it may need.
    pub fn apply(&mut self, plan: Plan) -> Result<(), Plan> {
        let mut cost = self.cost();
        cost += plan.cost();
        let kept = if plan.frees { 0 } else { self.budget.kept_bytes };
        if !self.budget.fits(cost, kept) {
            return Err(plan);
        }
        let Some(tree) = self.trees.get_mut(&plan.tree) else {
            debug_assert!(false, "a plan for a tree that is not open");
            return Ok(());
        };
        for edit in plan.edits {
            tree.active.apply(edit);
        }
        if let Some(next) = plan.next_inum {
            tree.next_inum = next;
        }
        Ok(())
    }

    /// Sets space aside for roots that the next commit writes beside those of the layers, if there
    /// is room; with `frees`, also where only operations that make room may.
    pub fn reserve_roots(&mut self, frees: bool) -> bool {
        let mut cost = self.cost();
        cost += ROOTS_COST;
        let fits = self.budget.fits(cost, if frees { 0 } else { self.budget.kept_bytes });
        if fits {
            self.reserved += ROOTS_COST;
        }
        fits
    }

    /// Sets space aside for what is written beside the layers until the next commit, and returns
    /// whether there is so much.
    pub fn reserve(&mut self, cost: Cost) -> bool {
        let mut all = self.cost();
        all += cost;
        let fits = self.budget.fits(all, self.budget.kept_bytes);
        if fits {
            self.reserved += cost;
        }
        fits
    }

    /// What [`reserve`](Self::reserve) set aside is not needed.
    pub fn release(&mut self, cost: Cost) {
        self.reserved = self.reserved - cost;
    }

    /// Freezes what was changed, for a flush. What is frozen already, because the flush before
    /// did not end, stays so.
    pub fn freeze(&mut self) {
        for tree in self.trees.values_mut() {
            if tree.frozen.is_none() && !tree.active.is_empty() {
                tree.frozen = Some(Arc::new(core::mem::take(&mut tree.active)));
            }
        }
    }

    /// The frozen layers are on media: `root` is the tree's root now.
    pub fn retire(&mut self, id: TreeId, root: Blockref, orphans: BTreeMap<u64, Orphan>) {
        if let Some(tree) = self.trees.get_mut(&id) {
            tree.root = root;
            tree.orphans = orphans;
            tree.frozen = None;
        }
    }

    /// `root` is the root of its tree now, with the same contents in other places.
    pub fn rebase(&mut self, root: Blockref) {
        if let Some(tree) = self.trees.get_mut(&TreeId(root.key())) {
            tree.root = root;
        }
    }

    /// The orphan `inum` has the same contents in other places, if there is still one.
    pub fn rebase_orphan(&mut self, id: TreeId, inum: Inum, orphan: Orphan) {
        let tree = self.trees.get_mut(&id);
        if let Some(kept) = tree.and_then(|tree| tree.orphans.get_mut(&inum.0)) {
            *kept = orphan;
        }
    }

    /// A commit is on media.
    pub fn committed(&mut self, super_root: Blockref, budget: Budget) {
        self.super_root = super_root;
        self.budget = budget;
        self.reserved = Cost::default();
        self.commits += 1;
    }

    /// More space was found.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.trees
            .values()
            .flat_map(|tree| [Some(&tree.active), tree.frozen.as_deref()].into_iter().flatten())
    }

    /// What all changes together may need, the roots' own tables included.
    fn cost(&self) -> Cost {
        let mut cost = self.reserved;
        for layer in self.layers() {
            cost += layer.cost();
            cost += ROOTS_COST;
        }
        cost
    }
}

/// Roots, the super-root and their tables.
const ROOTS_COST: Cost = Cost { large: 0, small: 128 << 10 };
