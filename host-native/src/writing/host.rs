//! What the core asks of a host that writes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use farrier_core::dirty::Memory;
use farrier_core::drive::change::{Origin, Pressure, WriteHost};
use farrier_core::drive::{Host, read_stored, ready, rewrite_piece, write_header};
use farrier_core::engine::{Block, BlockId, Cache, Want};
use farrier_core::error::Error;
use farrier_core::flush::{Piece, Placed};
use farrier_core::storage::Storage;

use super::Writing;
use super::spread::spread;
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
        self.queue.write(pieces)
    }

    async fn rewrite(&self, piece: Piece) -> Result<(), Error> {
        rewrite_piece(self.store.volume(), self.store.devices(), &piece).await
    }

    async fn write_header(&self, copy: u8, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        let (volume, devices) = (self.store.volume(), self.store.devices());
        write_header(volume, devices, copy, offset, &bytes).await
    }

    async fn barrier(&self) -> Result<(), Error> {
        self.queue.settle()?;
        let volume = self.store.volume();
        let barrier = |device| volume.absorb(device, ready(self.store.devices().barrier(device)));
        match &volume.written_devices()[..] {
            [device] => barrier(*device),
            // a device waits for itself: let them all do so together
            devices => std::thread::scope(|scope| {
                let waiting: Vec<_> =
                    devices.iter().map(|device| scope.spawn(|| barrier(*device))).collect();
                let join = |one: std::thread::ScopedJoinHandle<'_, Result<(), Error>>| {
                    one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                // every one is waited for, whatever the first one says
                let done: Vec<_> = waiting.into_iter().map(join).collect();
                done.into_iter().collect()
            }),
        }
    }

    fn origin(&self) -> Option<Origin> {
        copies::origin()
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
