//! Snapshots: made and deleted.

use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::error::Error;
use farrier_core::units::{Uuid, WallTime};

use super::{Life, START, Stop, Tree, settled};

impl Life {
    /// A snapshot is made, or one that nobody uses is deleted.
    pub(super) fn change_pfs(&mut self) -> Result<(), Stop> {
        let labels: Vec<Vec<u8>> = self.trees.keys().cloned().collect();
        let label = self.random.pick(&labels).clone();
        self.time += 1;
        let time = START + self.time * 1000;
        self.commit(false)?;
        let is_open = self.trees[&label].pfs.is_some();
        let is_ours = matches!(&label[..], b"DATA" | b"LOCAL");
        let (change, after) = if !is_ours && !is_open && self.random.once_in(2) {
            let mut after = settled(&self.trees);
            after.remove(&label);
            (PfsChange::Delete { label }, after)
        } else {
            let pfs = self.open_tree(&label)?;
            let mut id = [0x11; 16];
            id[..8].copy_from_slice(&time.to_le_bytes());
            let mut other = id;
            other[15] = 0x22;
            let birth = Birth { cluster_id: Uuid(id), pfs_id: Uuid(other), now: WallTime(time) };
            let name = format!("snap{}", self.time).into_bytes();
            let mut after = settled(&self.trees);
            after.insert(name.clone(), self.trees[&label].model.snapshot(time));
            self.ran.snapshots += 1;
            (PfsChange::Snapshot { of: pfs.id(), label: name, birth }, after)
        };
        self.maybe.push(after.clone());
        match self.host().change_pfs(&change) {
            Ok(()) => {
                for (label, model) in &after {
                    let tree = || Tree { pfs: None, model: model.clone() };
                    self.trees.entry(label.clone()).or_insert_with(tree);
                }
                self.trees.retain(|label, _| after.contains_key(label));
                self.acknowledged(after, self.in_sync());
                Ok(())
            }
            Err(Error::NoSpace) => {
                self.maybe.pop();
                self.is_overtaken = true;
                Ok(())
            }
            Err(error) => Err(self.told(error)),
        }
    }
}
