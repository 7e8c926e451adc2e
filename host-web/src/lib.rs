//! HAMMER2 in a browser tab: the core's operations as promises, over files that somebody chose.
//!
//! [`Volume`] and [`Pfs`] are what JavaScript sees; their types are in the `.d.ts` that the build
//! writes. The page keeps them in a dedicated worker (`page/worker.js`), but nothing here needs
//! one. Nothing is copied whole: a block is read when an operation needs it, by slicing its file.
//!
//! * `files` - the chosen files as devices
//! * `local` - a device that JavaScript brings, and is written too
//! * `engine` - a volume, its cache, and the driver's way to both
//! * `names` - bytes of names as JavaScript strings and back
//! * `writing` - what changes a volume: formatting, files, snapshots
//! * `checking` - the checker, telling how it goes
//! * `path` - from a path to an inode, symbolic links included
//! * `value`, `failure` - results and errors as JavaScript has them

mod checking;
mod engine;
mod failure;
mod files;
mod local;
mod names;
mod pfs;
mod value;
mod volume;
mod writing;

pub use local::BlockDevice;
pub use pfs::Pfs;
pub use volume::{JsOpenOptions, Volume};
pub use writing::{JsAttributes, JsFormatOptions};

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(message: &str);
}

/// Makes a bug tell where it was: without this a panic is a bare "unreachable".
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A 64-bit quantity: a number where that is exact, else a bigint. */
export type Int = number | bigint;

/** What goes wrong: `code` as in Node, `reason` and the rest to say more. */
export interface FarrierError extends Error {
    code: string;
    syscall?: string;
    path?: string;
    /** Why a volume cannot be opened ("not-hammer2", "truncated", ...), "damaged", "file-changed" or "device-full". */
    reason?: string;
    /** Index of the file that it is about. */
    device?: number;
    /** Where the media is damaged. */
    place?: { kind: string; offset: Int | null; key: bigint };
}

export interface OpenOptions {
    /** Open a volume whose file is shorter than it; what lies behind the end is reported as damage. */
    allowTruncated?: boolean;
}

/**
 * A device that a volume can be written to. Bytes that were never written are zero. A write may be
 * kept back until the next barrier; a read that begins after it sees it all the same.
 *
 * A failure is an exception whose `name` says what it is: `QuotaExceededError`, `InvalidStateError`
 * (the device is gone), anything else.
 */
export interface BlockDevice {
    /** In bytes; it never changes. */
    readonly size: number;
    read(offset: number, length: number): Promise<Uint8Array>;
    /** `bytes` are the device's to keep. */
    write(offset: number, bytes: Uint8Array): Promise<void> | void;
    /** What was written before lasts, and reaches the medium before anything that is written later. */
    barrier(): Promise<void>;
}

export interface FormatOptions {
    /** Label of the file system to make beside LOCAL; DATA if nobody says. */
    label?: string;
    compression?: "none" | "autozero" | "lz4" | "zlib";
}

export interface NewAttributes {
    mode?: number;
    uid?: number;
    gid?: number;
    size?: number;
    mtimeMs?: number;
    atimeMs?: number;
}

export interface Facts {
    /** Bytes of the whole file system. */
    size: Int;
    /** Bytes that the volume header says are free. */
    free: Int;
    version: number;
    fsid: string;
    mirrorTid: Int;
    freemapTid: Int;
    volumes: { device: number; volume: number; start: Int; size: Int; deviceSize: Int; header: number }[];
    headers: { device: number; slot: number; chosen: boolean; mirrorTid: Int | null; fault: string | null }[];
}

export interface PfsInfo {
    label: string;
    type: string;
    snapshot: boolean;
    clusterId: string;
    pfsId: string;
    /** When it was made. */
    createdMs: number;
    /** Bytes allocated to it; what it shares is counted in full. */
    bytes: Int;
    inodes: Int;
}

export type EntryType = "file" | "dir" | "symlink" | "fifo" | "cdev" | "bdev" | "socket" | "whiteout";

export interface Stats {
    type: EntryType;
    ino: Int;
    mode: number;
    nlink: number;
    uid: number;
    gid: number;
    size: Int;
    allocated: Int;
    /** Major and minor number of a device. */
    rdev: [number, number] | null;
    /** BSD's file flags. */
    flags: number;
    atimeMs: number;
    mtimeMs: number;
    ctimeMs: number;
    birthtimeMs: number;
    /** As the media has it: microseconds. */
    mtimeUs: Int;
    ctimeUs: Int;
    /** What new blocks of it are to be stored with. */
    compression: string;
    check: string;
}

/** A name with its attributes, or with the reason why they cannot be read. */
export type Entry =
    | ({ name: string; error?: undefined } & Stats)
    | { name: string; type: EntryType; ino: Int; error: { message: string; code: string; reason?: string } };

export interface DirectoryPage {
    entries: Entry[];
    /** Names in the range of this page that cannot be read. */
    broken: { message: string; code: string; reason?: string }[];
    /** What to continue with; null at the end. */
    cursor: bigint | null;
}

export interface Finding {
    /** Damage, a fault that can be repaired, or something worth knowing. */
    grade: "fatal" | "repairable" | "information";
    /** A word for programs: "check-data", "nlinks", ... */
    code: string;
    message: string;
    /** The file that it is about, where that can be told. */
    pfs: string | null;
    ino: Int | null;
    path: string | null;
}

export interface CheckProgress {
    stage: "super-root" | "pfs" | "freemap" | "done";
    pfs: string | null;
    /** Bytes visited, and how many there are by the volume's own statistics. */
    done: Int;
    total: Int;
    /** Different blocks so far, and the bytes that they take. */
    blocks: Int;
    bytes: Int;
    inodes: Int;
    names: Int;
    /** Findings so far, by grade. */
    fatal: Int;
    repairable: Int;
    information: Int;
    /** What was found since the last call. */
    fresh: Finding[];
}

export interface CheckReport extends CheckProgress {
    /** Whether `shouldStop` ended it early. */
    stopped: boolean;
}
"#;
