//! What the outside benches are made of: volumes and trees, systems that serve them, readers and
//! writers with a clock, and the table. The programs are those of `src/bin`; the inside
//! bench (`benches/`) needs none of this.
//!
//! Nothing here knows how the core works: every figure is that of a program at a mount point, or
//! of a whole process.

pub mod ceiling;
pub mod failure;
pub mod mounts;
pub mod place;
pub mod readers;
pub mod run;
pub mod systems;
pub mod table;
pub mod trees;
pub mod volumes;
pub mod writers;
