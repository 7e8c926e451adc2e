//! `farrier repair`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use farrier::image::{Image, Options};
use farrier::in_use::user_of;
use farrier::repair::{Examined, apply, examine};
use farrier_core::repair::{Action, Beyond, Orphans, Repair, RepairOptions};
use farrier_core::scan::{Finding, Summary};
use farrier_core::units::Inum;
use serde::Serialize;

use super::check::{Paths, text_of};
use super::failure::{Failure, Outcome};
use super::names::{JsonName, escaped};
use super::progress;

/// Rounds that `--apply` makes at most: what one repair uncovers is for the next.
const ROUNDS_MAX: usize = 16;

/// Put right what `farrier check` grades repairable.
///
/// Without --apply nothing is written: it tells what it would do, name by name, what it may do only
/// if allowed to, and what cannot be repaired. Contents that are damaged stay damaged: no repair
/// makes them look whole. The file system must not be mounted, and nothing is written if it cannot
/// be told which space is in use.
///
/// Exit code: 0 nothing to do; 1 there is something to repair, or with --apply it was repaired; 4
/// something cannot be repaired, or was left; 8 the repair could not run; 16 wrong arguments.
#[derive(Debug, Args)]
pub(crate) struct RepairCommand {
    /// Image files or block devices: the volumes of one file system.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,

    /// Do it, and check again.
    #[arg(long)]
    apply: bool,

    /// What becomes of inodes without a name.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OrphanArgument::Attach)]
    orphans: OrphanArgument,

    /// Remove names of inodes that do not exist.
    #[arg(long)]
    drop_dangling: bool,

    /// Look at structure only, and leave out the contents of files.
    #[arg(long)]
    no_data: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrphanArgument {
    /// Give them a name in lost+found.
    Attach,
    /// Delete them; directories only if they are empty. Takes files along that were unlinked while
    /// open.
    Delete,
    /// Leave them.
    Leave,
}

/// A line of the report.
#[derive(Serialize)]
struct Item {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pfs: Option<JsonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inum: Option<Inum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<JsonName>,
    text: String,
    /// How consent is given, or why it cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    #[serde(skip)]
    place: String,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    is_applied: bool,
    result: &'static str,
    exit_code: u8,
    /// Why nothing may be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<String>,
    repairs: Vec<Item>,
    failed: Vec<Item>,
    withheld: Vec<Item>,
    beyond: Vec<Item>,
    before: Summary,
    after: Summary,
}

impl RepairCommand {
    pub(crate) fn run(&self) -> Outcome {
        let report = self.repair().map_err(|failure| failure.with_code(8))?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            self.write_end(&mut out, &report)?;
        }
        out.flush()?;
        match report.exit_code {
            0 => Ok(()),
            code => Err(Failure::told().with_code(code)),
        }
    }

    fn repair(&self) -> Result<Report, Failure> {
        let mut image = self.open()?;
        if self.apply && image.volume().copies().is_some() {
            return Err(Failure::new(format!(
                "{}: is a volume of copies, and repairs of those are not made. `farrier check` says \
                 which copy is wrong: `farrier copies scrub` writes bad blocks anew from another \
                 copy, and `farrier copies replace` makes a copy anew whose freemap is wrong. What \
                 is wrong on every copy is repaired after `farrier copies strip`",
                image.path().display()
            )));
        }
        let mut examined = self.examine(&image);
        let before = examined.summary;
        let (mut repairs, mut failed) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS_MAX {
            let planned = planned(&image, &examined);
            if !self.json {
                tell("repair", &planned)?;
            }
            let is_last = planned.is_empty() || !self.apply || examined.plan.doubt().is_some();
            if is_last {
                repairs.extend(planned);
                break;
            }
            let outcome = apply(&image, &examined.plan).map_err(|error| {
                let (path, at) = (image.path().display(), image.blocks().explain(&error));
                Failure::new(format!("{path}: {at}; what was not committed yet is as it was"))
            })?;
            for (index, item) in planned.into_iter().enumerate() {
                match outcome.failed.iter().find(|(at, _)| *at == index) {
                    None => repairs.push(item),
                    Some((_, error)) if round + 1 == ROUNDS_MAX || outcome.done == 0 => {
                        failed.push(Item { advice: Some(error.to_string()), ..item });
                    }
                    // the next round tries again
                    Some(_) => {}
                }
            }
            drop(image);
            image = self.open()?;
            examined = self.examine(&image);
            if outcome.done == 0 {
                break;
            }
        }
        Ok(self.report(&image, &examined, before, repairs, failed))
    }

    /// What is used by others is not looked at: it changes meanwhile.
    fn open(&self) -> Result<Arc<Image>, Failure> {
        for path in &self.devices {
            if let Some(user) = user_of(path) {
                return Err(Failure::new(format!("{}: {user}", path.display())));
            }
        }
        if self.apply {
            return Ok(Image::open_alone(&self.devices)?);
        }
        let options = Options { allow_truncated: true, ..Options::default() };
        let image = Image::open(&self.devices, &options)?;
        image.blocks().devices().lock_shared().map_err(|path| {
            let path = path.display();
            Failure::new(format!(
                "{path}: in use by another program that has it open or mounted; end that first"
            ))
        })?;
        Ok(image)
    }

    fn examine(&self, image: &Image) -> Examined {
        let bar = progress::bytes_bar();
        let orphans = match self.orphans {
            OrphanArgument::Attach => Orphans::Attach,
            OrphanArgument::Delete => Orphans::Delete,
            OrphanArgument::Leave => Orphans::Leave,
        };
        let options = RepairOptions { orphans, drop_dangling: self.drop_dangling };
        let examined = examine(image, !self.no_data, options, |progress| {
            bar.set_length(progress.bytes_expected);
            bar.set_position(progress.bytes);
        });
        bar.finish_and_clear();
        examined
    }

    fn report(
        &self,
        image: &Arc<Image>,
        examined: &Examined,
        before: Summary,
        repairs: Vec<Item>,
        failed: Vec<Item>,
    ) -> Report {
        let mut telling = Telling::new(image, examined);
        let withheld: Vec<_> =
            examined.plan.withheld().iter().map(|one| telling.withheld(one)).collect();
        let beyond: Vec<_> =
            examined.beyond.iter().map(|(finding, why)| telling.beyond(finding, *why)).collect();
        let after = examined.summary;
        let doubt = examined.plan.doubt().map(|doubt| doubt.to_string());
        let is_left = doubt.is_some()
            || !beyond.is_empty()
            || self.apply && (!failed.is_empty() || after.repairable > 0);
        let (result, exit_code) = match (is_left, repairs.is_empty() && withheld.is_empty()) {
            (true, _) => ("left", 4),
            (false, true) => ("clean", 0),
            (false, false) if self.apply => ("repaired", 1),
            (false, false) => ("repairable", 1),
        };
        Report {
            format: "farrier-repair-1",
            is_applied: self.apply && doubt.is_none(),
            result,
            exit_code,
            doubt,
            repairs,
            failed,
            withheld,
            beyond,
            before,
            after,
        }
    }

    fn write_end(&self, out: &mut impl Write, report: &Report) -> io::Result<()> {
        write_all(out, "not done", &report.failed)?;
        write_all(out, "with consent", &report.withheld)?;
        write_all(out, "beyond repair", &report.beyond)?;
        let name = self.devices.first().map(|path| path.display().to_string()).unwrap_or_default();
        let count = report.repairs.len();
        if let Some(doubt) = &report.doubt {
            return writeln!(out, "{name}: nothing is written: {doubt}");
        }
        if self.apply {
            writeln!(out, "{name}: repairs done: {count}")?;
        } else if count > 0 {
            writeln!(
                out,
                "{name}: repairs to do: {count}; nothing was written, --apply does them"
            )?;
        }
        let Summary { fatal, repairable, .. } = report.after;
        let now = if self.apply { "now" } else { "as it is" };
        match (fatal, repairable) {
            (0, 0) => writeln!(out, "{name}: {now}: clean"),
            _ => writeln!(out, "{name}: {now}: {fatal} fatal, {repairable} repairable"),
        }
    }
}

/// The repairs of a plan as lines. Nothing of the image is held on to.
fn planned(image: &Arc<Image>, examined: &Examined) -> Vec<Item> {
    let mut telling = Telling::new(image, examined);
    examined.plan.repairs().iter().map(|repair| telling.repair(repair)).collect()
}

fn tell(what: &str, items: &[Item]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write_all(&mut out, what, items)?;
    // told before it is done
    out.flush()
}

fn write_all(out: &mut impl Write, what: &str, items: &[Item]) -> io::Result<()> {
    for Item { place, text, advice, .. } in items {
        match advice {
            Some(advice) => writeln!(out, "{what}: {place}{text}; {advice}")?,
            None => writeln!(out, "{what}: {place}{text}")?,
        }
    }
    Ok(())
}

/// Turns repairs and findings into lines.
struct Telling<'a> {
    image: &'a Arc<Image>,
    labels: &'a [Vec<u8>],
    paths: Paths,
}

impl<'a> Telling<'a> {
    fn new(image: &'a Arc<Image>, examined: &'a Examined) -> Self {
        Self { image, labels: &examined.labels, paths: Paths::default() }
    }

    fn item(
        &mut self,
        code: &'static str,
        pfs: Option<u32>,
        inum: Option<Inum>,
        text: String,
    ) -> Item {
        let label = pfs.and_then(|pfs| self.labels.get(usize::try_from(pfs).ok()?));
        let label = label.map(Vec::as_slice);
        let path = self.paths.of(self.image, label, inum);
        let mut place = String::new();
        if let Some(label) = label {
            place = format!("{}: ", escaped(label));
        }
        match (&path, inum.filter(|_| label.is_some())) {
            (Some(path), _) => place.push_str(&format!("{}: ", escaped(path))),
            (None, Some(inum)) => place.push_str(&format!("{inum}: ")),
            (None, None) => {}
        }
        let (pfs, path) = (label.map(JsonName::new), path.as_deref().map(JsonName::new));
        Item { code, pfs, inum, path, text, advice: None, place }
    }

    fn repair(&mut self, repair: &Repair) -> Item {
        let Repair { pfs, action } = repair;
        let text = match action {
            Action::RewriteHeader { device, .. } => {
                let path = self.image.blocks().devices().path(*device);
                let path = path.map(|path| path.display().to_string()).unwrap_or_default();
                // the name in place of the number
                action.to_string().replacen(&device.to_string(), &path, 1)
            }
            _ => action.to_string(),
        };
        self.item(action.code(), *pfs, action.inum(), text)
    }

    fn withheld(&mut self, repair: &Repair) -> Item {
        let advice = match repair.action {
            Action::RemoveName(_) => "--drop-dangling allows it",
            _ => "--orphans attach or delete allows it",
        };
        Item { advice: Some(advice.to_owned()), ..self.repair(repair) }
    }

    fn beyond(&mut self, finding: &Finding, why: Beyond) -> Item {
        let text = text_of(self.image, finding);
        let item = self.item(finding.kind.code(), finding.pfs, finding.inum, text);
        Item { advice: Some(why.to_string()), ..item }
    }
}
