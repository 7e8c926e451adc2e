//! One volume as a whole: from headers to something that operations can work on. Floor 6.
//!
//! Opening is split in two, so that no I/O is needed here: [`header_reads`] says which bytes to
//! fetch, [`Volume::assemble`] judges what came back. Making a new file system is split alike:
//! [`format`] says what to write, and [`drive::format`](crate::drive::format) does it.
//!
//! A *file system* may consist of several *volumes*, one per device; they share one logical
//! address space (media format 1.5). The tree hangs in the header of volume 0.

mod assemble;
mod choice;
mod format;
mod group;
mod headers;
mod live;
mod places;

pub use assemble::{HeaderSlot, OpenOptions, Piece, Space, Volume};
pub use format::{
    Area, FormatNote, FormatOptions, FormatRefusal, FormatStep, Formatted, FormattedVolume, format,
};
pub use group::{Copies, CopyHeader, explain_copies};
pub use headers::{
    GotHeader, HeaderRead, RootRead, header_reads, header_reads_of, newest_header, root_reads,
};
pub use live::{CopyEvent, Counts, LiveCopies};
