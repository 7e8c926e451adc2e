//! Doing what was asked, on any volume that can be written.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use farrier_core::drive::bulkfree::Freed;
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::drive::solo::Solo;
use farrier_core::error::Error;
use farrier_core::fs::pfs::PfsList;
use farrier_core::fs::{Attributes, LastLink, ListPfs, Pfs, Resolve, SetAttributes};
use farrier_core::media::check::Checks;
use farrier_core::units::{DeviceIndex, Uuid, WallTime};
use farrier_core::volume::{OpenOptions, Space};

use super::{Reply, Request};
use crate::copies::{self, Changed, Event, MemberChange, ScrubWish, Status};
use crate::device::{Devices, explain as explain_fault};
use crate::image::choose;
use crate::tree::Tree;

/// A volume that is open for writing, as far as requests need it.
pub trait Actions {
    /// The PFS that requests are about.
    fn pfs(&self) -> Pfs;

    /// Its label.
    fn label(&self) -> Vec<u8>;

    /// Commits what was changed.
    ///
    /// # Errors
    /// The volume failed.
    fn sync(&self) -> Result<(), Error>;

    /// Size and free space.
    fn space(&self) -> Space;

    /// Commits a change of the PFSs.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn change_pfs(&self, change: &PfsChange) -> Result<(), Error>;

    /// Frees what nothing refers to.
    ///
    /// # Errors
    /// What could not be read, or the volume failed.
    fn bulkfree(&self) -> Result<Freed, Error>;

    /// How the copies are; `None` on a volume without.
    fn copies(&self) -> Option<Status> {
        None
    }

    /// Goes on with bringing copies up to date where that could not go on.
    ///
    /// # Errors
    /// The volume has no copies, or is not open for writing.
    fn resync(&self) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Changes the members of the group of copies, or its rules.
    ///
    /// # Errors
    /// A sentence: why not, and what to do.
    fn change_members(&self, _change: &MemberChange) -> Result<Changed, String> {
        Err(copies::no_copies())
    }

    /// Does what is wished about reading everything from every copy.
    ///
    /// # Errors
    /// A sentence: why that makes no sense now.
    fn scrub(&self, _wish: ScrubWish, _rate: Option<u64>) -> Result<(), String> {
        Err(copies::no_copies())
    }

    /// What happened to copies behind the event with that number; `None` where nobody keeps that.
    fn events_after(&self, _seq: u64) -> Option<Vec<Event>> {
        None
    }

    /// What a path leads to.
    ///
    /// # Errors
    /// It leads nowhere, or it cannot be told.
    fn resolve(&self, path: &[u8]) -> Result<Attributes, Error>;

    /// Changes attributes.
    ///
    /// # Errors
    /// Why they cannot be changed.
    fn set_attributes(&self, change: &SetAttributes) -> Result<(), Error>;

    /// `error` with the path of the device that it is about.
    fn explain(&self, error: &Error) -> String;
}

/// Does what is asked.
pub fn perform(volume: &impl Actions, request: &Request) -> Reply {
    let done = |result: Result<(), Error>| result.map(|()| Reply::Done);
    let told = |text: String| Reply::Failed { text };
    let outcome = match request {
        Request::CopiesChange { change } => {
            let changed = volume.change_members(change);
            return changed.map_or_else(told, |changed| Reply::Changed { changed });
        }
        Request::CopiesScrub { wish, rate } => {
            return volume.scrub(*wish, *rate).map_or_else(told, |()| Reply::Done);
        }
        Request::CopiesEvents { after } => volume
            .events_after(*after)
            .map(|events| Reply::Events { events })
            .ok_or(Error::NotSupported),
        Request::Sync => done(volume.sync()),
        Request::Space => {
            let Space { size_bytes, free_bytes } = volume.space();
            Ok(Reply::Space { size_bytes, free_bytes })
        }
        Request::Snapshot { label } => birth().and_then(|birth| {
            let (of, label) = (volume.pfs().id(), label.clone());
            done(volume.change_pfs(&PfsChange::Snapshot { of, label, birth }))
        }),
        Request::CreatePfs { label } => birth().and_then(|birth| {
            let label = label.clone();
            done(volume.change_pfs(&PfsChange::Create { label, birth }))
        }),
        Request::DeletePfs { label } => {
            done(volume.change_pfs(&PfsChange::Delete { label: label.clone() }))
        }
        Request::RenamePfs { label, new_label } => {
            let (label, new_label) = (label.clone(), new_label.clone());
            done(volume.change_pfs(&PfsChange::Rename { label, new_label }))
        }
        Request::Bulkfree => volume.bulkfree().map(|freed| {
            let Freed { bytes, corrupt_bytes, blocks } = freed;
            Reply::Freed { bytes, corrupt_bytes, blocks }
        }),
        Request::CopiesStatus => volume
            .copies()
            .map(|status| Reply::Copies { status: Box::new(status) })
            .ok_or(Error::NotSupported),
        Request::CopiesResync => done(volume.resync()),
        Request::Set { path, compression, check } => done(set(volume, path, *compression, *check)),
    };
    outcome.unwrap_or_else(|error| Reply::Failed { text: explain(volume, request, &error) })
}

fn set(
    volume: &impl Actions,
    path: &[u8],
    compression_request: Option<u8>,
    check_request: Option<u8>,
) -> Result<(), Error> {
    let found = volume.resolve(path)?;
    let mut change = SetAttributes::new(volume.pfs(), found.inum, now());
    change.compression_request = compression_request;
    change.check_request = check_request;
    volume.set_attributes(&change)?;
    volume.sync()
}

/// What a person is told about a request that failed.
fn explain(volume: &impl Actions, request: &Request, error: &Error) -> String {
    let named = |label: &[u8]| label.escape_ascii().to_string();
    match (request, error) {
        (
            Request::Snapshot { label }
            | Request::CreatePfs { label }
            | Request::RenamePfs { new_label: label, .. },
            Error::Exists,
        ) => format!("a PFS labelled {} exists already; choose another name", named(label)),
        (_, Error::NameTooLong) => "a label has 255 bytes at most; choose a shorter one".to_owned(),
        (
            Request::Snapshot { .. } | Request::CreatePfs { .. } | Request::RenamePfs { .. },
            Error::InvalidArgument,
        ) => "a label is not empty and has no `/` and no NUL in it; choose another one".to_owned(),
        (Request::DeletePfs { label } | Request::RenamePfs { label, .. }, Error::NoPfs) => {
            format!("no PFS labelled {}; `farrier pfs` lists those there are", named(label))
        }
        (Request::DeletePfs { label } | Request::RenamePfs { label, .. }, Error::Busy) => {
            format!("the PFS {} is mounted; unmount it first", named(label))
        }
        (Request::Set { path, .. }, error) => {
            format!("{}: {}", named(path), volume.explain(error))
        }
        (Request::CopiesStatus | Request::CopiesResync, Error::NotSupported) => copies::no_copies(),
        (Request::CopiesEvents { .. }, Error::NotSupported) => {
            "keeps no events: it is no volume of copies, or is mounted read-only".to_owned()
        }
        (Request::CopiesResync, Error::ReadOnly) => {
            "is mounted read-only; a copy is only brought up to date by a mount that writes"
                .to_owned()
        }
        (Request::Bulkfree, Error::Damaged(damage)) => format!(
            "nothing was freed, for not everything can be read: {damage}; `farrier check` tells \
             what else is damaged"
        ),
        (_, error) => volume.explain(error),
    }
}

/// Now, as the media counts time.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn birth() -> Result<Birth, Error> {
    let [cluster_id, pfs_id] = [random_uuid(), random_uuid()];
    match (cluster_id, pfs_id) {
        (Ok(cluster_id), Ok(pfs_id)) => Ok(Birth { cluster_id, pfs_id, now: now() }),
        _ => Err(Error::NotSupported),
    }
}

/// A random UUID (version 4), in media order.
fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    // the first three groups are little-endian on media
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Uuid(bytes))
}

impl Actions for Tree {
    fn pfs(&self) -> Pfs {
        Self::pfs(self)
    }

    fn label(&self) -> Vec<u8> {
        Self::label(self).to_vec()
    }

    fn sync(&self) -> Result<(), Error> {
        self.image().blocks().sync()
    }

    fn space(&self) -> Space {
        self.image().blocks().space()
    }

    fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        self.image().blocks().change_pfs(change)
    }

    fn bulkfree(&self) -> Result<Freed, Error> {
        self.image().blocks().bulkfree()
    }

    fn copies(&self) -> Option<Status> {
        self.image().blocks().copies_status()
    }

    fn resync(&self) -> Result<(), Error> {
        self.image().blocks().catch_up_again()
    }

    fn change_members(&self, change: &MemberChange) -> Result<Changed, String> {
        self.image().blocks().change_members(change)
    }

    fn scrub(&self, wish: ScrubWish, rate: Option<u64>) -> Result<(), String> {
        self.image().blocks().scrub(wish, rate)
    }

    fn events_after(&self, seq: u64) -> Option<Vec<Event>> {
        self.image().blocks().events_after(seq)
    }

    fn resolve(&self, path: &[u8]) -> Result<Attributes, Error> {
        Self::resolve(self, path, LastLink::Follow)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<(), Error> {
        self.change(change).map(|_| ())
    }

    fn explain(&self, error: &Error) -> String {
        self.image().blocks().explain(error)
    }
}

/// A volume that is not mounted, opened for one request.
#[derive(Debug)]
pub struct Offline {
    solo: Solo<Devices>,
    pfs: Pfs,
    label: Vec<u8>,
}

impl Offline {
    /// Opens the PFS `label` of `devices` for writing; without a label, the one that goes without
    /// saying.
    ///
    /// # Errors
    /// A sentence: what, where, and what to do.
    pub fn open(devices: &[PathBuf], label: Option<&[u8]>) -> Result<Self, String> {
        let path = devices.first().cloned().unwrap_or_default();
        let path = path.display();
        let opened = Devices::open_writable(devices).map_err(|fault| fault.to_string())?;
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let options = OpenOptions { checks, ..OpenOptions::default() };
        let named = |index: DeviceIndex| devices.get(usize::from(index.0)).map(PathBuf::as_path);
        let told = |error: Error| format!("{path}: {}", explain_fault(&error, named));
        copies::may_write(&opened, &options)?;
        let solo = ready(Solo::open_for_writing(opened, options, CACHE_BYTES)).map_err(told)?;
        if let Some(origin) = copies::origin() {
            solo.set_origin(origin);
        }
        let super_root = solo.volume().super_root();
        let list: PfsList = ready(solo.run(&ListPfs { super_root })).map_err(told)?;
        let Some(info) = choose(&list.entries, label) else {
            return Err(format!("{path}: no such PFS; `farrier pfs {path}` lists those there are"));
        };
        let label = info.label.clone();
        let pfs = ready(solo.open_tree(&label)).map_err(told)?;
        Ok(Self { solo, pfs, label })
    }

    /// The volume.
    #[must_use]
    pub const fn solo(&self) -> &Solo<Devices> {
        &self.solo
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        // what failed was told by the request
        let _ = ready(self.solo.close());
    }
}

/// Memory for blocks while one request is done.
const CACHE_BYTES: usize = 64 << 20;

impl Actions for Offline {
    fn pfs(&self) -> Pfs {
        self.pfs
    }

    fn label(&self) -> Vec<u8> {
        self.label.clone()
    }

    fn sync(&self) -> Result<(), Error> {
        ready(self.solo.flush(false)).map(|_| ())
    }

    fn space(&self) -> Space {
        self.solo.volume().space()
    }

    fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        ready(self.solo.change_pfs(change))
    }

    fn bulkfree(&self) -> Result<Freed, Error> {
        let scan = ready(self.solo.begin_bulkfree())?;
        ready(self.solo.finish_bulkfree(scan))
    }

    fn resolve(&self, path: &[u8]) -> Result<Attributes, Error> {
        let resolve = Resolve { pfs: self.pfs, path: path.to_vec(), last_link: LastLink::Follow };
        Ok(ready(self.solo.run(&resolve))?.attributes)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<(), Error> {
        ready(self.solo.change(change)).map(|_| ())
    }

    fn explain(&self, error: &Error) -> String {
        self.solo.storage().explain(error)
    }
}
