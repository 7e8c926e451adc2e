//! The `farrier` command. What it does is in the library and in `cli`.

#![deny(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    keep_freed_memory();
    cli::main()
}

/// Has the allocator keep what is freed for what is allocated next.
///
/// Blocks come and go by the thousand, and a page that went back to the system costs a fault when
/// it returns: half the time of a check. glibc gives back less after it has seen a large block
/// freed (it then takes large blocks for ordinary); other allocators are not impressed.
fn keep_freed_memory() {
    const LARGE: usize = 31 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}
