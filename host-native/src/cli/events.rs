//! `farrier events`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use farrier::control::{AskError, Reply, Request, ask};
use farrier::copies::Event;
use farrier::fuse::unmount::is_directory;
use farrier_core::text;
use farrier_core::units::WallTime;

use super::failure::{Failure, Outcome};

/// How often a mount is asked whether there is more.
const PAUSE: Duration = Duration::from_secs(1);

/// Tell what happened to the copies of a mounted volume, an event a line.
///
/// A mount keeps its last 256 events, numbered from 1. Mounts in the background write what matters to
/// the system's log, too.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Directory of a mounted volume of copies.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Go on with what happens from now on, until it is unmounted.
    #[arg(short, long)]
    follow: bool,

    /// Write one JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(crate) fn run(&self) -> Outcome {
        let name = self.directory.display();
        if !is_directory(&self.directory) {
            return Err(Failure::new(format!(
                "{name}: is no directory of a mount; only a mounted volume has events"
            )));
        }
        let mut after = 0;
        let mut is_first = true;
        loop {
            let events = match ask(&self.directory, &Request::CopiesEvents { after }) {
                Ok(Reply::Events { events }) => events,
                Ok(Reply::Failed { text }) => return Err(Failure::new(format!("{name}: {text}"))),
                Ok(_) => {
                    return Err(Failure::new(format!("{name}: an answer to another question")));
                }
                // it was unmounted: nothing will happen any more
                Err(AskError::NotServed(_) | AskError::Broken(..)) if !is_first => return Ok(()),
                Err(error) => return Err(Failure::new(error)),
            };
            self.write(&events)?;
            after = events.last().map_or(after, |event| event.seq);
            if !self.follow {
                return Ok(());
            }
            is_first = false;
            std::thread::sleep(PAUSE);
        }
    }

    fn write(&self, events: &[Event]) -> Outcome {
        let mut out = io::stdout().lock();
        for event in events {
            if self.json {
                serde_json::to_writer(&mut out, event)?;
                writeln!(out)?;
                continue;
            }
            let Event { seq, time_us, kind, text, .. } = event;
            let time = text::time(WallTime(*time_us));
            writeln!(out, "{seq:>4}  {time}  {:<15}  {text}", kind.name())?;
        }
        out.flush()?;
        Ok(())
    }
}
