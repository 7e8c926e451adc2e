//! `farrier bulkfree`.

use clap::Args;
use farrier::control::{Reply, Request};

use super::failure::{Outcome, tell};
use super::target::Target;

/// Free what nothing refers to any more.
///
/// A mounted volume does this by itself when space runs low; it stays in use meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Bulkfree {
    #[command(flatten)]
    target: Target,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

impl Bulkfree {
    pub(crate) fn run(&self) -> Outcome {
        let reply = self.target.ask(&Request::Bulkfree)?;
        if let Reply::Freed { bytes, corrupt_bytes, blocks } = reply {
            if self.json {
                println!("{}", serde_json::to_string_pretty(&reply)?);
                return Ok(());
            }
            println!("{bytes} bytes freed; {blocks} blocks are in use");
            if corrupt_bytes > 0 {
                tell(&format!(
                    "{}: {corrupt_bytes} bytes were in use and free by the allocator's books; that \
                     is mended, and `farrier check` tells whether something was overwritten",
                    self.target.name()
                ));
            }
        }
        Ok(())
    }
}
