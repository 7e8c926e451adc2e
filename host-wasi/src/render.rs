//! Reports as text for people. Pure functions of a report.

use std::io::{self, Write};

use farrier_core::media::inode::ObjectKind;
use farrier_wasi::name::Name;
use farrier_wasi::report::{Attributes, Entry, FileSystem, Pfs};

/// `2024-02-29 12:00:00`, UTC. The calendar has no end here: the media's times reach far.
pub(crate) fn time(microseconds: i64) -> String {
    let seconds = microseconds.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Years are counted from March here, so that the leap day is the last of its year; 400 of them
/// have 146,097 days, and a month begins after (153 * month + 2) / 5 days of its year.
fn date(days: i64) -> (i64, i64, i64) {
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    const CYCLE: i64 = 146_097;
    let day = days + EPOCH;
    let (cycle, day) = (day.div_euclid(CYCLE), day.rem_euclid(CYCLE));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

/// `drwxr-xr-x`.
pub(crate) fn mode(kind: ObjectKind, mode: u32) -> String {
    let kind = match kind {
        ObjectKind::Directory => 'd',
        ObjectKind::Regular => '-',
        ObjectKind::Fifo => 'p',
        ObjectKind::CharDevice => 'c',
        ObjectKind::BlockDevice => 'b',
        ObjectKind::Symlink => 'l',
        ObjectKind::Socket => 's',
        ObjectKind::Whiteout => 'w',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

/// One line of `ls -l`; `name` is what to call it there.
pub(crate) fn long(out: &mut dyn Write, entry: &Entry, name: &Name) -> io::Result<()> {
    match &entry.attributes {
        Some(attributes) => {
            let Attributes { nlinks, uid, gid, mtime_us, .. } = *attributes;
            let mode = mode(entry.kind, attributes.mode);
            let size = size_or_device(entry.kind, attributes);
            let time = time(mtime_us);
            write!(out, "{mode} {nlinks:>3} {uid:>5} {gid:>5} {size:>10} {time} {name}")?;
        }
        None => write!(out, "{:?<10} {:>47} {name}", '?', "cannot be read")?,
    }
    match &entry.target {
        Some(target) => writeln!(out, " -> {target}"),
        None => writeln!(out),
    }
}

fn size_or_device(kind: ObjectKind, attributes: &Attributes) -> String {
    match kind {
        ObjectKind::CharDevice | ObjectKind::BlockDevice => {
            format!("{}, {}", attributes.device.0, attributes.device.1)
        }
        _ => attributes.size.to_string(),
    }
}

/// The answer of `stat`.
pub(crate) fn stat(out: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let Entry { path, inum, .. } = entry;
    match &entry.target {
        Some(target) => writeln!(out, "{path} -> {target}")?,
        None => writeln!(out, "{path}")?,
    }
    writeln!(out, "  inode     {inum}, {}", entry.kind.name())?;
    let Some(attributes) = &entry.attributes else {
        return writeln!(out, "  cannot be read");
    };
    let Attributes { nlinks, uid, gid, allocated_bytes, flags, .. } = attributes;
    let mode_text = mode(entry.kind, attributes.mode);
    let size = size_or_device(entry.kind, attributes);
    writeln!(out, "  mode      {mode_text} ({:04o}), flags {flags:#x}", attributes.mode)?;
    writeln!(out, "  owner     {uid}, group {gid}, {nlinks} names")?;
    writeln!(out, "  size      {size}, {allocated_bytes} bytes allocated")?;
    writeln!(out, "  modified  {}", time(attributes.mtime_us))?;
    writeln!(out, "  changed   {}", time(attributes.ctime_us))?;
    writeln!(out, "  created   {}", time(attributes.btime_us))
}

/// The answer of `info`.
pub(crate) fn file_system(out: &mut dyn Write, about: &FileSystem) -> io::Result<()> {
    writeln!(out, "file system {}", about.id)?;
    writeln!(out, "  version     {}", about.version)?;
    writeln!(out, "  size        {} bytes", about.size)?;
    writeln!(
        out,
        "  free        {} of {} bytes, as its writers count",
        about.allocator_free, about.allocator_size
    )?;
    writeln!(out, "  transaction {}, freemap {}", about.mirror_tid, about.freemap_tid)?;
    for volume in &about.volumes {
        let file = Name::from(volume.file.as_bytes());
        writeln!(
            out,
            "volume {}: {file}, {} bytes from {:#x}",
            volume.id, volume.size, volume.start
        )?;
    }
    for header in &about.headers {
        let file = Name::from(header.file.as_bytes());
        write!(out, "header {} of {file}: ", header.slot)?;
        match (&header.mirror_tid, &header.fault) {
            (Some(tid), _) => write!(out, "transaction {tid}")?,
            (None, Some(fault)) => write!(out, "{fault}")?,
            (None, None) => write!(out, "unknown")?,
        }
        writeln!(out, "{}", if header.is_chosen { ", in use" } else { "" })?;
    }
    Ok(())
}

/// One line of `pfs`.
pub(crate) fn pfs(out: &mut dyn Write, pfs: &Pfs) -> io::Result<()> {
    let Pfs { label, kind, inode_count, data_bytes, .. } = pfs;
    let snapshot = if pfs.is_snapshot { ", snapshot" } else { "" };
    let created = time(pfs.created_us);
    writeln!(
        out,
        "{label}  {kind}{snapshot}  {inode_count} inodes, {data_bytes} bytes  made {created}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_210_096, "2024-02-29 12:34:56"),
            (4_102_444_799, "2099-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-2_208_988_800, "1900-01-01 00:00:00"),
        ] {
            assert_eq!(time(seconds * 1_000_000), expected);
        }
        // whatever the media says
        time(i64::MAX);
        time(i64::MIN);
    }

    #[test]
    fn modes() {
        assert_eq!(mode(ObjectKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(ObjectKind::Regular, 0o6751), "-rwsr-s--x");
        assert_eq!(mode(ObjectKind::Symlink, 0o7000), "l--S--S--T");
    }
}
