//! What the core asks of a host that writes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use farrier_core::copies::witness::{Telling, WitnessFault};
use farrier_core::dirty::Memory;
use farrier_core::drive::change::{Origin, Pressure, WriteHost};
use farrier_core::drive::{Host, read_stored, rewrite_piece, write_header};
use farrier_core::engine::{Block, BlockId, Cache, Want};
use farrier_core::error::Error;
use farrier_core::flush::{Bytes, Piece, Placed};
use farrier_core::units::WallTime;

use super::Writing;
use super::spread::spread;
use crate::control::now;
use crate::copies;

/// The part of the limit, one in so many, from which on what was changed is flushed.
const FLUSH_SHARE: u64 = 4;

impl Cache for Writing {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.store.peek(id)
    }
}

impl Host for Writing {
    fn fetch(&self, want: &Want) -> impl Future<Output = Result<Block, Error>> {
        self.store.fetch(want)
    }

    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        self.with_memory(|memory| look(Some(memory)))
    }

    fn miss_seed(&self) -> u64 {
        self.store.miss_seed()
    }
}

impl WriteHost for Writing {
    fn alter<R>(&self, alter: impl FnOnce(&mut Memory) -> R) -> R {
        let mut memory = self.memory.write().unwrap_or_else(|poisoned| {
            // somebody panicked in the midst of a change: what it left must not get to media
            let mut memory = PoisonError::into_inner(poisoned);
            memory.fail(Error::ReadOnly);
            memory
        });
        let result = alter(&mut memory);
        let is_dirty = memory.is_dirty();
        let active_bytes = memory.active_bytes();
        self.dirty_bytes.store(memory.dirty_bytes(), Ordering::Relaxed);
        self.active_bytes.store(active_bytes, Ordering::Relaxed);
        drop(memory);
        if is_dirty && !self.is_noted.swap(true, Ordering::Relaxed) {
            self.note_change();
        }
        if active_bytes > self.options.dirty_bytes_max / FLUSH_SHARE {
            self.ask_for_flush();
        }
        result
    }

    async fn admit(&self) -> Result<(), Error> {
        if self.dirty_bytes.load(Ordering::Relaxed) > self.options.dirty_bytes_max {
            self.wait_for_room();
        }
        Ok(())
    }

    async fn relieve(&self, pressure: Pressure) -> Result<(), Error> {
        let Pressure::Space(asked) = pressure;
        self.make_room(asked)
    }

    async fn fetch_stored(&self, want: &Want) -> Result<Vec<u8>, Error> {
        let (volume, devices) = (self.store.volume(), self.store.devices());
        Ok(read_stored(volume, devices, want).await?.block)
    }

    async fn write(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let (volume, devices) = (self.store.volume(), self.store.devices());
        let Some(live) = volume.copies() else {
            return self.queue.write(pieces);
        };
        let has_threads =
            |piece: &Piece| live.device(piece.copy).is_some_and(|on| devices.has_threads(on));
        let (sent, queued): (Vec<_>, Vec<_>) = pieces.into_iter().partition(has_threads);
        for Piece { copy, offset, bytes } in sent {
            // what is written to a lost copy goes nowhere
            if live.written() & 1 << copy != 0 {
                let (device, offset) = volume.on_copy(copy, offset, bytes.len())?;
                volume.absorb(device, devices.send(device, offset, bytes))?;
            }
        }
        self.queue.write(queued)
    }

    async fn rewrite(&self, piece: Piece) -> Result<(), Error> {
        rewrite_piece(self.store.volume(), self.store.devices(), &piece).await
    }

    async fn write_header(&self, copy: u8, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        let (volume, devices) = (self.store.volume(), self.store.devices());
        match volume.copies().map(|live| (live, live.device(copy))) {
            Some((live, Some(device))) if devices.has_threads(device) => {
                if live.written() & 1 << copy == 0 {
                    return Ok(());
                }
                volume.absorb(device, devices.send(device, offset, Bytes::Owned(bytes)))
            }
            _ => write_header(volume, devices, copy, offset, &bytes).await,
        }
    }

    async fn barrier(&self) -> Result<(), Error> {
        self.queue.settle()?;
        let (volume, devices) = (self.store.volume(), self.store.devices());
        // a device waits for itself: those that have threads do so all together
        let written = volume.written_devices();
        let under_way: Vec<_> =
            written.iter().map(|device| (*device, devices.begin_barrier(*device))).collect();
        let end = |(device, barrier)| volume.absorb(device, devices.end_barrier(barrier));
        // every one is waited for, whatever the first one says
        let ended: Vec<_> = under_way.into_iter().map(end).collect();
        ended.into_iter().collect()
    }

    fn origin(&self) -> Option<Origin> {
        copies::origin()
    }

    fn time(&self) -> Option<WallTime> {
        Some(now())
    }

    async fn tell_witness(&self, telling: &Telling) -> Result<(), WitnessFault> {
        let told = self.store.witness.tell(telling);
        self.note_witness(telling, &told);
        told
    }

    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        spread(items, self.options.threads, work)
    }

    fn keep(&self, placed: Vec<Placed>) {
        for Placed { want, block } in placed {
            self.store.keep(&want, block);
        }
    }
}
