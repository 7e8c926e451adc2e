//! What the outside bench is made of: volumes to read, systems that serve them, readers with a
//! clock, and the table. The program is `src/bin/outside.rs`; the inside bench (`benches/`) needs
//! none of this.
//!
//! Nothing here knows how the core works: every figure is that of a program at a mount point, or
//! of a whole process.

pub mod failure;
pub mod readers;
pub mod run;
pub mod systems;
pub mod table;
pub mod volumes;
