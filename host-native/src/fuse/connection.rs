//! What is agreed with the kernel when the mount is made.

use std::time::Duration;

use fuser::{InitFlags, KernelConfig};

/// Largest request that the kernel shall make, where it can.
const REQUEST_MAX: u32 = 1 << 20;
/// Reads that the kernel may have under way beside the ones that somebody waits for.
const BACKGROUND_MAX: u16 = 64;
/// What the kernel is asked for, each only where it offers it.
const CAPABILITIES: [InitFlags; 8] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// What it is asked for on a volume that can be written, too.
const WRITE_CAPABILITIES: [InitFlags; 1] = [InitFlags::FUSE_WRITEBACK_CACHE];
/// The grain of times on media.
const TIME_GRAIN: Duration = Duration::from_micros(1);

/// Asks the kernel for what it offers of that which serves us.
pub(super) fn ask_for(config: &mut KernelConfig, is_writable: bool) {
    let to_write = WRITE_CAPABILITIES.iter().filter(|_| is_writable);
    for capability in CAPABILITIES.iter().chain(to_write) {
        // an older kernel does without
        let _ = config.add_capabilities(*capability);
    }
    let _ = config.set_time_granularity(TIME_GRAIN);
    // The kernel derives the largest read from the largest write.
    let _ = config.set_max_write(REQUEST_MAX);
    if let Err(most) = config.set_max_readahead(REQUEST_MAX) {
        let _ = config.set_max_readahead(most);
    }
    let _ = config.set_max_background(BACKGROUND_MAX);
}
