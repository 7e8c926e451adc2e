//! Reports as text for people. Pure functions of a report.

use std::io::{self, Write};

use farrier_core::media::inode::ObjectKind;
use farrier_core::text;
use farrier_core::units::WallTime;
use farrier_wasi::name::Name;
use farrier_wasi::report::{Attributes, Entry, FileSystem, Pfs};

/// A time of a report, as text.
fn time(microseconds: i64) -> String {
    text::time(WallTime(microseconds.cast_unsigned()))
}

/// One line of `ls -l`; `name` is what to call it there.
pub(crate) fn long(out: &mut dyn Write, entry: &Entry, name: &Name) -> io::Result<()> {
    match &entry.attributes {
        Some(attributes) => {
            let Attributes { nlinks, uid, gid, mtime_us, .. } = *attributes;
            let mode = text::mode(entry.kind, attributes.mode);
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
    let mode_text = text::mode(entry.kind, attributes.mode);
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
