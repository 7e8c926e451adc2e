//! Where reports go: the standard output, in one of three forms; faults to the standard error too.

use std::io::{self, BufWriter, Stdout, Write};

use farrier_wasi::arguments::Format;
use farrier_wasi::report::{self, Fault, Report, VERSION};

use crate::failure::Failure;

/// Bytes that are gathered before the sandbox is asked to write: each call costs.
const BUFFER_LEN: usize = 64 << 10;

/// The two standard outputs of a run.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    stdout: BufWriter<Stdout>,
    has_begun: bool,
    fault_count: u64,
    /// The first failure to write; what comes behind it is not tried.
    broken: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            stdout: BufWriter::with_capacity(BUFFER_LEN, io::stdout()),
            has_begun: false,
            fault_count: 0,
            broken: None,
        }
    }

    /// Whether people read along.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// Whether nobody takes what is written any more.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Gives a report to a program; `text` is what people get instead.
    ///
    /// # Errors
    /// Nobody takes it any more.
    pub(crate) fn report(
        &mut self,
        report: &Report,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let written = match self.format {
            Format::Text => text(&mut self.stdout),
            Format::Json => serde_json::to_writer(&mut self.stdout, report)
                .map_err(io::Error::from)
                .and_then(|()| self.stdout.write_all(b"\n")),
            Format::Postcard => {
                self.begin().and_then(|()| report::write_frame(&mut self.stdout, report))
            }
        };
        written.map_err(|error| self.break_off(error))
    }

    /// Writes contents as they are.
    ///
    /// # Errors
    /// Nobody takes them any more.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|error| self.break_off(error))
    }

    /// Notes something that could not be told, and tells that.
    pub(crate) fn fault(&mut self, failure: &Failure) {
        self.fault_count += 1;
        // what people see on one screen shall stand in its order
        let _ = self.stdout.flush();
        crate::complain(&failure.to_string());
        if !self.is_text() && self.broken.is_none() {
            let fault = Report::Fault(Fault {
                path: failure.path().cloned(),
                text: failure.text().to_owned(),
            });
            // remembered by break_off() and told by finish()
            let _ = self.report(&fault, |_| Ok(()));
        }
    }

    pub(crate) const fn fault_count(&self) -> u64 {
        self.fault_count
    }

    /// Ends the run.
    ///
    /// # Errors
    /// Something was not written.
    pub(crate) fn finish(&mut self, code: u8) -> io::Result<()> {
        if self.format == Format::Postcard && self.broken.is_none() {
            self.begin()?;
            report::write_frame(&mut self.stdout, &Report::End { code })?;
        }
        match self.broken.take() {
            Some(_) => Ok(()),
            None => self.stdout.flush(),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.has_begun {
            return Ok(());
        }
        self.has_begun = true;
        report::write_frame(&mut self.stdout, &Report::Head { version: VERSION })
    }

    fn break_off(&mut self, error: io::Error) -> Failure {
        let failure = Failure::output(&error);
        self.broken.get_or_insert(error);
        failure
    }
}
