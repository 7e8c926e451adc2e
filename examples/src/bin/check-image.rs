//! Checks an image and tells the findings by grade: `check-image IMAGE...`.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use farrier::check::{Listener, check};
use farrier::image::{Image, Options};
use farrier_core::scan::{Check, Finding, Grade, Progress};

/// Prints what is found. Nothing can go wrong with that that a check should end for.
struct Printer;

impl Listener for Printer {
    type Failure = Infallible;

    fn found(&mut self, _: &Check, finding: &Finding) -> Result<(), Infallible> {
        println!("{}: {} [{}]", finding.grade().name(), finding, finding.kind.code());
        Ok(())
    }

    fn went_on(&mut self, _: Progress) {}
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let devices: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let image = Image::open(&devices, &Options::default())?;
    let Ok(summary) = check(&image, true, None, &mut Printer);
    println!("{} blocks, {} inodes, {} names", summary.blocks, summary.inodes, summary.names);
    Ok(match summary.worst() {
        Some(Grade::Fatal) => ExitCode::from(4),
        Some(Grade::Repairable) => ExitCode::from(1),
        Some(Grade::Information) | None => ExitCode::SUCCESS,
    })
}
