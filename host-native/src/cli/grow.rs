//! `farrier grow`.

use clap::Args;
use farrier::control::Actions as _;
use farrier_core::drive::ready;
use farrier_core::error::Error;

use super::failure::{Failure, Outcome};
use super::target::Target;

/// Let a volume take in what its file or partition grew by.
///
/// The volume must not be mounted. Only a file system of one volume can grow. Of a volume of copies
/// each copy grows with its own device; what all of them have room for can be used.
#[derive(Debug, Args)]
pub(crate) struct Grow {
    #[command(flatten)]
    target: Target,
}

impl Grow {
    pub(crate) fn run(&self) -> Outcome {
        let name = self.target.name();
        if self.target.directory().is_some() {
            return Err(Failure::new(format!(
                "{name}: a mounted volume cannot grow; unmount it, run `farrier grow` with its \
                 device, and mount it again"
            )));
        }
        let volume = self.target.open()?;
        let copies: Vec<u8> = match volume.solo().volume().group() {
            None => vec![0],
            Some(group) => group.headers().iter().map(|one| one.copy).collect(),
        };
        for copy in copies {
            let name = match volume.solo().volume().copies() {
                None => name.clone(),
                Some(_) => format!("{name}: copy {copy}"),
            };
            let grown = ready(volume.solo().grow(copy)).map_err(|error| {
                Failure::new(match error {
                    Error::NotSupported if volume.solo().volume().copies().is_some() => format!(
                        "{name}: is not written to now, so it cannot grow; `farrier copies status` \
                         says why"
                    ),
                    Error::NotSupported => {
                        format!("{name}: only a file system of one whole volume can grow")
                    }
                    Error::InvalidArgument => {
                        format!(
                            "{name}: the device is smaller than the volume; give it back its size"
                        )
                    }
                    error => format!("{name}: {}", volume.explain(&error)),
                })
            })?;
            if grown.from == grown.to {
                println!("{name}: {} bytes, as large as its device already", grown.to);
            } else {
                println!(
                    "{name}: from {} to {} bytes, {} more to use",
                    grown.from, grown.to, grown.freed
                );
            }
        }
        Ok(())
    }
}
