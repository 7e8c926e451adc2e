//! A PFS behind the FUSE door of the kernel: mounting, serving and unmounting.
//!
//! | module | what it is for |
//! |---|---|
//! | [`options`] | `-o` as people write it |
//! | [`session`] | mount, serve until unmounted |
//! | [`unmount`] | what is mounted where, and unmounting it |
//! | `connection` | what is agreed with the kernel |
//! | `filesystem` | the kernel's requests |
//! | `serving` | what the answers to them have in common |
//! | `changes` | the requests that change something, as changes of the core |
//! | `known` | inodes that the kernel knows |
//! | `attributes` | attributes as the kernel wants them |
//! | `seeker` | looking for data that the kernel has not written yet |
//! | `snapshots` | `.snapshots` in the root |
//! | `streams` | who reads which file in order |
//! | `report` | read errors, each told once |

pub mod options;
pub mod session;
pub mod unmount;

mod attributes;
mod changes;
mod connection;
mod filesystem;
mod known;
mod report;
mod seeker;
mod serving;
mod snapshots;
mod streams;

pub use options::MountOptions;
pub use session::{MountError, Mounted};
