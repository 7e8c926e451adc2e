//! Repair: the check with several threads, a plan of it, and the plan carried out.

use std::convert::Infallible;

use farrier_core::drive::ready;
use farrier_core::drive::repair::Repaired;
use farrier_core::drive::solo::Solo;
use farrier_core::error::Error;
use farrier_core::repair::{Beyond, Plan, Planner, RepairOptions, Verdict};
use farrier_core::scan::{Check, Finding, Progress, Step, Summary};
use farrier_core::volume::OpenOptions;

use crate::check::{Listener, examine as check_all};
use crate::control::now;
use crate::image::Image;

/// Memory for blocks while repairs are made.
const CACHE_BYTES: usize = 64 << 20;
/// Findings that nothing can be done about that are kept to be told one by one.
const BEYOND_MAX: usize = 100_000;

/// What a check found, and what is to be done about it.
#[derive(Debug)]
pub struct Examined {
    /// What the check came to.
    pub summary: Summary,
    /// What is to be done.
    pub plan: Plan,
    /// What nothing can be done about, and why; the first ones, if there are very many.
    pub beyond: Vec<(Finding, Beyond)>,
    /// Labels of the PFSs, in the order that findings and repairs name them by.
    pub labels: Vec<Vec<u8>>,
}

struct Considering<F> {
    planner: Planner,
    beyond: Vec<(Finding, Beyond)>,
    went_on: F,
}

impl<F: FnMut(Progress)> Listener for Considering<F> {
    type Failure = Infallible;

    fn found(&mut self, _: &Check, finding: &Finding) -> Result<(), Infallible> {
        if let Verdict::Beyond(why) = self.planner.consider(finding)
            && self.beyond.len() < BEYOND_MAX
        {
            self.beyond.push((*finding, why));
        }
        Ok(())
    }

    fn went_on(&mut self, progress: Progress) {
        (self.went_on)(progress);
    }
}

/// Checks `image`, with its file contents if `with_data`, and plans its repairs. Writes nothing.
#[must_use]
pub fn examine(
    image: &Image,
    with_data: bool,
    options: RepairOptions,
    went_on: impl FnMut(Progress),
) -> Examined {
    let planner = Planner::new(image.volume(), options);
    let mut listener = Considering { planner, beyond: Vec::new(), went_on };
    let check = match check_all(image, with_data, &mut listener) {
        Ok(check) => check,
        Err(never) => match never {},
    };
    let Considering { planner, beyond, .. } = listener;
    let mut search = planner.search(&check);
    while let Step::Read(wants) = search.step() {
        search.resume(wants.iter().map(|want| image.blocks().read(want)).collect());
    }
    let (summary, labels) = (check.summary(), check.labels().map(<[u8]>::to_vec).collect());
    Examined { summary, plan: planner.finish(&check, search), beyond, labels }
}

/// Carries out a plan for `image`, which was opened [alone](Image::open_alone) and has to be opened
/// anew then: what is in its memory is of before.
///
/// # Errors
/// [`Error::ReadOnly`] if the plan is in doubt; [`Error::NotSupported`] on a volume of copies; or a
/// device failed, and what was not committed before is as it was.
pub fn apply(image: &Image, plan: &Plan) -> Result<Repaired, Error> {
    if image.volume().copies().is_some() {
        return Err(Error::NotSupported);
    }
    let options = OpenOptions { checks: *image.volume().checks(), ..OpenOptions::default() };
    let devices = image.blocks().devices();
    let solo = ready(Solo::open_for_repair(devices, options, CACHE_BYTES, plan))?;
    ready(solo.repair(plan, now()))
}
