//! `-o` as people write it.

use std::path::PathBuf;
use std::time::Duration;

use farrier_core::copies::lineage;

use super::attributes::Owner;
use crate::image::Options;
use crate::writing::{DIRTY_BYTES_MIN, WriteOptions};

/// How to mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// Everybody may use the mount, not just who mounted it.
    pub allow_other: bool,
    /// The kernel checks modes and owners.
    pub default_permissions: bool,
    pub(crate) owner: Owner,
    /// About how much memory blocks may take.
    pub cache_bytes: usize,
    /// Threads that answer the kernel.
    pub threads: usize,
    /// What lists of mounts call the source; the devices' paths if `None`.
    pub fsname: Option<String>,
    /// What lists of mounts call the type, behind `fuse.`.
    pub subtype: String,
    /// Accept a device that is shorter than its volume.
    pub allow_truncated: bool,
    /// Use this header copy instead of the newest one.
    pub header_slot: Option<u8>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Snapshots can be changed as well.
    pub writes_snapshots: bool,
    /// Show the snapshots of the volume in a directory of the root, read-only.
    pub snapshots: bool,
    /// What the operator says about copies.
    pub copies: lineage::Options,
    /// Whether copies that are not named are looked for.
    pub searches: bool,
    /// How long a device may keep others waiting that the volume can do without; `None` for as long
    /// as it takes.
    pub stall_timeout: Option<Duration>,
    /// Where the witness of the copies is, if not where it was last.
    pub witness: Option<PathBuf>,
    /// How to write.
    pub writing: WriteOptions,
    /// Flags of the mount itself.
    pub flags: Flags,
}

/// Flags of the mount itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Flags {
    /// Device nodes work.
    pub dev: bool,
    /// Set-id bits work.
    pub suid: bool,
    /// Programs cannot be started.
    pub noexec: bool,
    /// Accepted for the sake of fstab; access times never change here.
    pub noatime: bool,
}

/// Most threads that answer the kernel.
const THREADS_MAX: usize = 64;
/// Longest time between commits: what was changed since is lost with the power.
const COMMIT_SECONDS_MAX: u64 = 3600;
/// Longest time that a device may keep others waiting, if it is limited at all.
const STALL_SECONDS_MAX: u64 = 3600;
/// Fewest threads by default: some wait for a commit, and others shall not wait for them.
const THREADS_MIN: usize = 4;
/// Smallest cache that makes sense: a few blocks for each shard.
const CACHE_MIN: usize = 8 << 20;

impl MountOptions {
    /// The defaults: those of root let everybody in, with the kernel checking permissions.
    #[must_use]
    pub fn new(is_root: bool) -> Self {
        let threads = std::thread::available_parallelism()
            .map_or(THREADS_MIN, |n| n.get().clamp(THREADS_MIN, 8));
        Self {
            allow_other: is_root,
            default_permissions: true,
            owner: Owner::default(),
            cache_bytes: Options::CACHE_BYTES,
            threads,
            fsname: None,
            subtype: "farrier".to_owned(),
            allow_truncated: false,
            header_slot: None,
            read_only: false,
            writes_snapshots: false,
            snapshots: false,
            copies: lineage::Options::default(),
            searches: true,
            stall_timeout: Some(Options::STALL_TIMEOUT),
            witness: None,
            writing: WriteOptions::default(),
            flags: Flags::default(),
        }
    }

    /// Whether copies that are not named are to be looked for: not where somebody said which ones
    /// count.
    #[must_use]
    pub const fn searches_copies(&self) -> bool {
        let lineage::Options { accept_missing, master, only_copy, .. } = self.copies;
        self.searches && !accept_missing && master.is_none() && only_copy.is_none()
    }

    /// Whether the rule of a group may choose an older state: not where somebody said what counts.
    #[must_use]
    pub const fn goes_by_rule(&self) -> bool {
        let lineage::Options { accept_missing, master, only_copy, read_only, .. } = self.copies;
        let is_plain = !accept_missing && !read_only && master.is_none() && only_copy.is_none();
        is_plain && !self.read_only && self.header_slot.is_none()
    }

    /// Takes in a list of options, separated by commas.
    ///
    /// # Errors
    /// The first option that makes no sense, and what would.
    pub fn parse(&mut self, list: &str) -> Result<(), String> {
        list.split(',').filter(|option| !option.is_empty()).try_for_each(|option| self.set(option))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match (name, value) {
            ("defaults" | "nodev" | "nosuid" | "exec" | "atime", None) => self.back(name),
            ("ro", None) => self.read_only = true,
            ("rw", None) => (self.read_only, self.writes_snapshots) = (false, true),
            ("nosearch", None) => self.searches = false,
            ("snapshots", None) => self.snapshots = true,
            ("nosnapshots", None) => self.snapshots = false,
            ("allow_other", None) => self.allow_other = true,
            ("noallow_other", None) => self.allow_other = false,
            ("default_permissions", None) => self.default_permissions = true,
            ("nodefault_permissions", None) => self.default_permissions = false,
            ("allow_truncated", None) => self.allow_truncated = true,
            ("accept_missing", None) => self.copies.accept_missing = true,
            ("master", Some(value)) => self.copies.master = Some(slot(name, value)?),
            ("only_copy", Some(value)) => self.copies.only_copy = Some(slot(name, value)?),
            ("witness", Some(value)) => self.witness = Some(absolute(name, value)?),
            ("stall_timeout", Some(value)) => {
                let seconds = number::<u64>(name, value)?.min(STALL_SECONDS_MAX);
                self.stall_timeout = (seconds > 0).then_some(Duration::from_secs(seconds));
            }
            ("dev", None) => self.flags.dev = true,
            ("suid", None) => self.flags.suid = true,
            ("noexec", None) => self.flags.noexec = true,
            ("noatime", None) => self.flags.noatime = true,
            ("uid", Some(value)) => self.owner.uid = Some(number(name, value)?),
            ("gid", Some(value)) => self.owner.gid = Some(number(name, value)?),
            ("threads", Some(value)) => {
                self.threads = number::<usize>(name, value)?.clamp(1, THREADS_MAX);
            }
            ("cache", Some(value)) => self.cache_bytes = size(name, value)?.max(CACHE_MIN),
            ("dirty", Some(value)) => {
                let bytes = u64::try_from(size(name, value)?).unwrap_or(u64::MAX);
                self.writing.dirty_bytes_max = bytes.max(DIRTY_BYTES_MIN);
            }
            ("commit", Some(value)) => {
                let seconds = number::<u64>(name, value)?.clamp(1, COMMIT_SECONDS_MAX);
                self.writing.commit_interval = Duration::from_secs(seconds);
            }
            ("header", Some(value)) => self.header_slot = Some(number(name, value)?),
            ("fsname", Some(value)) => self.fsname = Some(value.to_owned()),
            ("subtype", Some(value)) => value.clone_into(&mut self.subtype),
            (known, Some(_)) if SWITCHES.contains(&known) => {
                return Err(format!("option {known}: takes no value; write just {known}"));
            }
            (known, None) if VALUED.contains(&known) => {
                return Err(format!("option {known}: needs a value; write {known}=VALUE"));
            }
            _ => {
                return Err(format!(
                    "option {name}: unknown; `farrier mount --help` lists those there are"
                ));
            }
        }
        Ok(())
    }

    /// Options that only say what is the default.
    fn back(&mut self, name: &str) {
        match name {
            "nodev" => self.flags.dev = false,
            "nosuid" => self.flags.suid = false,
            "exec" => self.flags.noexec = false,
            "atime" => self.flags.noatime = false,
            _ => {}
        }
    }

    /// Why a mount with these options cannot be written, whatever else they say.
    #[must_use]
    pub fn reason_to_read_only(&self) -> Option<String> {
        if let Some(slot) = self.copies.only_copy {
            return Some(format!(
                "option only_copy: what copy {slot} holds by itself is only looked at"
            ));
        }
        match self.header_slot {
            Some(slot) => Some(format!(
                "option header: header copy {slot} may be older than the newest one, and writing \
                 to it would lose what came after it"
            )),
            None if self.allow_truncated => Some(
                "option allow_truncated: a part of the volume may be missing, which nothing can be \
                 written to"
                    .to_owned(),
            ),
            None => None,
        }
    }

    /// How to open the image for this mount.
    #[must_use]
    pub fn image_options(&self) -> Options {
        Options {
            allow_truncated: self.allow_truncated,
            header_slot: self.header_slot,
            cache_bytes: self.cache_bytes,
            writes_snapshots: self.writes_snapshots,
            copies: self.copies,
            stall_timeout: self.stall_timeout,
            witness: self.witness.clone(),
            ..Options::default()
        }
    }
}

const SWITCHES: [&str; 13] = [
    "accept_missing",
    "ro",
    "rw",
    "snapshots",
    "allow_other",
    "default_permissions",
    "allow_truncated",
    "dev",
    "suid",
    "noexec",
    "noatime",
    "nodev",
    "nosuid",
];
const VALUED: [&str; 13] = [
    "uid",
    "gid",
    "threads",
    "cache",
    "dirty",
    "commit",
    "header",
    "fsname",
    "subtype",
    "master",
    "only_copy",
    "stall_timeout",
    "witness",
];

/// A path that means the same in every working directory.
fn absolute(name: &str, value: &str) -> Result<PathBuf, String> {
    std::path::absolute(value).map_err(|_| format!("option {name}: write {name}=FILE"))
}

/// The slot of a copy.
fn slot(name: &str, value: &str) -> Result<u8, String> {
    match number(name, value)? {
        slot @ 0..=3 => Ok(slot),
        slot => Err(format!("option {name}: there is no copy {slot}; write {name}=0 to {name}=3")),
    }
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("option {name}: `{value}` is no number; write {name}=NUMBER"))
}

/// A number of bytes, with K, M or G behind it for the binary multiples.
fn size(name: &str, value: &str) -> Result<usize, String> {
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 10),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 20),
        Some(b'g' | b'G') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("option {name}: `{value}` is no size; write e.g. {name}=256M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<MountOptions, String> {
        let mut options = MountOptions::new(false);
        options.parse(list).map(|()| options)
    }

    #[test]
    fn sizes_and_numbers() {
        let options = parsed("ro,cache=64M,threads=3,uid=7,fsname=x=y").unwrap();
        assert_eq!((options.cache_bytes, options.threads), (64 << 20, 3));
        assert_eq!(options.owner.uid, Some(7));
        assert_eq!(options.fsname.as_deref(), Some("x=y"));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_remedy() {
        for (list, told) in [
            ("ro,blink", "option blink: unknown"),
            ("commit=soon", "`soon` is no number"),
            ("uid=root", "`root` is no number"),
            ("cache=1T", "`1T` is no size"),
            ("cache", "needs a value"),
            ("ro=1", "takes no value"),
            ("snapshots=all", "takes no value"),
        ] {
            let text = parsed(list).unwrap_err();
            assert!(text.contains(told), "{list}: {text}");
        }
    }

    #[test]
    fn a_mount_can_be_written_unless_told_otherwise() {
        assert!(!parsed("").unwrap().read_only);
        assert!(parsed("ro").unwrap().read_only);
        assert!(!parsed("ro,rw").unwrap().read_only);
        let options = parsed("dirty=64M,commit=30").unwrap().writing;
        assert_eq!(options.dirty_bytes_max, 64 << 20);
        assert_eq!(options.commit_interval, Duration::from_secs(30));
    }

    #[test]
    fn a_device_may_keep_others_waiting_for_a_while() {
        let limit = |list| parsed(list).unwrap().image_options().stall_timeout;
        assert_eq!(limit(""), Some(Options::STALL_TIMEOUT));
        assert_eq!(limit("stall_timeout=3"), Some(Duration::from_secs(3)));
        assert_eq!(limit("stall_timeout=0"), None);
        assert_eq!(limit("stall_timeout=99999"), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn snapshots_are_shown_to_who_asks() {
        assert!(!parsed("").unwrap().snapshots);
        assert!(parsed("snapshots").unwrap().snapshots);
        assert!(!parsed("snapshots,nosnapshots").unwrap().snapshots);
    }

    #[test]
    fn root_lets_everybody_in() {
        assert!(MountOptions::new(true).allow_other);
        assert!(!MountOptions::new(false).allow_other);
    }
}
