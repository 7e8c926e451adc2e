//! `farrier copies promote`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use farrier::copies::{Loss, Promoting};
use farrier_core::text;
use farrier_core::units::WallTime;

use crate::cli::failure::{Failure, Outcome, tell};

/// Go on from what one copy holds by itself, and give up what is newer.
///
/// For when the copies that hold everything are lost. It shows what is lost, and does nothing without
/// --accept-loss. The volume must not be mounted. Copies that hold what is given up are left alone from
/// then on, until `farrier copies rejoin --discard-its-data`.
///
/// Exit code: 0 promoted, or shown with --dry-run; 6 the loss was not accepted; 1 it cannot be.
#[derive(Debug, Args)]
pub(super) struct PromoteCommand {
    /// Image file or block device with the copy to go on from.
    #[arg(value_name = "DEVICE")]
    device: PathBuf,

    /// Yes: what is newer than this copy is lost.
    #[arg(long)]
    accept_loss: bool,

    /// Only show what would be lost.
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

impl PromoteCommand {
    pub(super) fn run(&self) -> Outcome {
        let promoting = Promoting::plan(&self.device).map_err(Failure::new)?;
        let loss = promoting.loss();
        let is_done = self.accept_loss && !self.dry_run;
        if is_done {
            let untold = promoting.carry_out().map_err(Failure::new)?;
            if let Some(why) = untold {
                tell(&format!("{why}; it was not told, and the next mount needs --accept-missing"));
            }
        }
        let mut out = io::stdout().lock();
        if self.json {
            let mut document = serde_json::to_value(&loss)?;
            if let Some(fields) = document.as_object_mut() {
                fields.insert("promoted".to_owned(), is_done.into());
            }
            serde_json::to_writer_pretty(&mut out, &document)?;
            writeln!(out)?;
        } else {
            write_loss(&mut out, &loss, is_done)?;
        }
        out.flush()?;
        if is_done || self.dry_run {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{}: nothing was changed; say --accept-loss to go on from this copy",
            self.device.display()
        ))
        .with_code(6))
    }
}

fn write_loss(out: &mut impl Write, loss: &Loss, is_done: bool) -> io::Result<()> {
    let Loss { device, copy, state, group, root_transaction, known_transaction, .. } = loss;
    let is = if is_done { "is" } else { "would be" };
    writeln!(out, "copy:   {device} (copy {copy}, {state}) of group {group}")?;
    writeln!(out, "holds:  everything up to transaction {root_transaction:#x}")?;
    if known_transaction > root_transaction {
        writeln!(
            out,
            "loss:   transactions {:#x} to {known_transaction:#x}, which other copies hold, {is} lost, \
             and whatever they wrote after that",
            root_transaction + 1
        )?;
    } else {
        writeln!(
            out,
            "loss:   nothing that this copy knows of; what other copies wrote without it {is} lost"
        )?;
    }
    if loss.root_us != 0 && loss.known_us >= loss.root_us {
        let (root, known) = (WallTime(loss.root_us), WallTime(loss.known_us));
        writeln!(
            out,
            "times:  its state is of {}, the newest that it knows of is of {}",
            text::time(root),
            text::time(known)
        )?;
    }
    let since = text::time(WallTime(loss.known_epoch_us));
    writeln!(out, "epoch:  the newest that it knows of began {since}")?;
    for (slots, what) in [
        (&loss.diverged, "holds what is given up: left alone until it is given up there, too"),
        (&loss.out, "is taken for missing, and brought up to date when it is there"),
    ] {
        for slot in slots {
            writeln!(out, "copy {slot}: {what}")?;
        }
    }
    if is_done {
        writeln!(out, "done:   it is the one to go on from")?;
        writeln!(out, "next:   farrier mount {device} DIR; add copies with `farrier copies add`")?;
    }
    Ok(())
}
