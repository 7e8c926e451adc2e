//! `farrier df`.

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::fuse::unmount::is_directory;
use farrier::image::{Image, Options};
use farrier::source::Source;

use super::failure::{Failure, Outcome};
use std::ffi::OsString;
use std::path::Path;

/// Tell how much space a volume has.
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Directories of mounted volumes, image files or block devices.
    #[arg(required = true, value_name = "DIR-or-DEVICE")]
    targets: Vec<OsString>,

    /// Write one JSON document for each.
    #[arg(long)]
    json: bool,
}

impl Df {
    pub(crate) fn run(&self) -> Outcome {
        if !self.json {
            println!("{:>16} {:>16} {:>16} {:>4} TARGET", "SIZE", "USED", "FREE", "USE%");
        }
        for target in &self.targets {
            let (size, free) = space(target)?;
            let used = size.saturating_sub(free);
            let name = Path::new(target).display();
            if self.json {
                println!(
                    "{}",
                    serde_json::json!({
                        "target": name.to_string(),
                        "size_bytes": size,
                        "used_bytes": used,
                        "free_bytes": free,
                    })
                );
            } else {
                let percent = used.saturating_mul(100).checked_div(size).unwrap_or(0);
                println!("{size:>16} {used:>16} {free:>16} {percent:>3}% {name}");
            }
        }
        Ok(())
    }
}

fn space(target: &OsString) -> Result<(u64, u64), Failure> {
    let path = Path::new(target);
    if is_directory(path) {
        return match ask(path, &Request::Space).map_err(Failure::new)? {
            Reply::Space { size_bytes, free_bytes } => Ok((size_bytes, free_bytes)),
            Reply::Failed { text } => Err(Failure::new(format!("{}: {text}", path.display()))),
            _ => Err(Failure::new(format!("{}: an answer to another question", path.display()))),
        };
    }
    let source = Source::parse(std::slice::from_ref(target)).map_err(Failure::new)?;
    let space = Image::open(&source.devices, &Options::default())?.volume().space();
    Ok((space.size_bytes, space.free_bytes))
}
