//! The module in its sandbox, within limits.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use farrier_wasi::arguments::{self, Asked};
use wasmtime::{
    Config, Engine, Error, InstancePre, Linker, Module, ResourceLimiter, Store, Trap,
    UpdateDeadline,
};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::failure::Failure;
use crate::grant::{self, Access, Preopen};

/// The one source of imports that a module may name.
const WASI: &str = "wasi_snapshot_preview1";
/// How often a run with a deadline looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory in bytes.
    pub memory_bytes: usize,
    /// Fuel of wasmtime: about one unit for each instruction. Costs speed.
    pub fuel: Option<u64>,
    /// Time. It ends a module that computes, not a read of the machine that hangs.
    pub deadline: Option<Duration>,
    /// Output that [`Runner::run`] keeps, for each of the two in bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, fuel: None, deadline: None, output_bytes: 256 << 20 }
    }
}

/// What a run left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// A compiled module, to be run any number of times. Each run has a memory of its own.
pub struct Runner {
    engine: Engine,
    module: InstancePre<State>,
    limits: Limits,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runner({:?})", self.limits)
    }
}

impl Runner {
    /// Compiles `module`; it runs within the default limits.
    ///
    /// # Errors
    /// It is no module, or asks for more than WASI preview 1.
    pub fn new(module: &[u8]) -> Result<Self, Failure> {
        Self::with_limits(module, Limits::default())
    }

    /// Compiles `module`; it runs within `limits`.
    ///
    /// # Errors
    /// As [`Runner::new`].
    pub fn with_limits(module: &[u8], limits: Limits) -> Result<Self, Failure> {
        let not_a_module = |error: Error| Failure::NotAModule(one_line(&error));
        let mut config = Config::new();
        // both cost speed in every loop, so only who asks for them pays
        config.consume_fuel(limits.fuel.is_some());
        config.epoch_interruption(limits.deadline.is_some());
        let engine = Engine::new(&config).map_err(not_a_module)?;
        let module = Module::new(&engine, module).map_err(not_a_module)?;
        if let Some(import) = module.imports().find(|import| import.module() != WASI) {
            return Err(Failure::Import {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            });
        }
        let mut linker = Linker::new(&engine);
        p1::add_to_linker_sync(&mut linker, |state: &mut State| &mut state.wasi)
            .map_err(not_a_module)?;
        let module = linker.instantiate_pre(&module).map_err(not_a_module)?;
        Ok(Self { engine, module, limits })
    }

    /// Runs the module with `arguments` (those behind the program's name) and keeps what it
    /// writes. Volumes that the command line writes to are locked meanwhile.
    ///
    /// # Errors
    /// It did not come to an end of its own. That it failed by its own account is no error here:
    /// see [`Output::code`].
    pub fn run(&self, arguments: &[&str], preopens: &[Preopen]) -> Result<Output, Failure> {
        let bytes_max = self.limits.output_bytes;
        let (stdout, stderr) = (MemoryOutputPipe::new(bytes_max), MemoryOutputPipe::new(bytes_max));
        let mut builder = WasiCtxBuilder::new();
        builder.stdout(stdout.clone()).stderr(stderr.clone());
        let ended = self.start(builder, arguments, preopens);
        let is_full = |pipe: &MemoryOutputPipe| pipe.contents().len() >= bytes_max;
        if is_full(&stdout) || is_full(&stderr) {
            return Err(Failure::Output { bytes_max });
        }
        Ok(Output {
            code: ended?,
            stdout: stdout.contents().to_vec(),
            stderr: stderr.contents().to_vec(),
        })
    }

    /// As [`Runner::run`], but the module writes to the outputs of this process. The result is its
    /// exit code.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_attached(&self, arguments: &[&str], preopens: &[Preopen]) -> Result<i32, Failure> {
        let mut builder = WasiCtxBuilder::new();
        builder.inherit_stdout().inherit_stderr();
        self.start(builder, arguments, preopens)
    }

    fn start(
        &self,
        mut builder: WasiCtxBuilder,
        arguments: &[&str],
        preopens: &[Preopen],
    ) -> Result<i32, Failure> {
        let _locks = locks(arguments, preopens)?;
        // Before the directories, which copy it: without, every read takes a trip to another
        // thread and back.
        builder.allow_blocking_current_thread(true);
        builder.arg("farrier-wasi").args(arguments);
        for preopen in preopens {
            let access = match preopen.access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            builder.preopened_dir(&preopen.host, &preopen.guest, access).map_err(|error| {
                Failure::Outside { path: preopen.host.clone(), text: one_line(&error) }
            })?;
        }
        let state = State {
            wasi: builder.build_p1(),
            memory_max: self.limits.memory_bytes,
            has_hit_memory_max: false,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| state);
        if let Some(fuel) = self.limits.fuel {
            store.set_fuel(fuel).map_err(|e| broken(&e))?;
        }
        let ended = match self.limits.deadline {
            None => self.call(&mut store),
            Some(deadline) => self.call_until(&mut store, deadline),
        };
        match ended {
            Ok(()) => Ok(0),
            Err(error) => self.exit_code(&error, store.data()),
        }
    }

    fn call(&self, store: &mut Store<State>) -> Result<(), Error> {
        let instance = self.module.instantiate(&mut *store)?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
        start.call(store, ())
    }

    /// Calls the module while another thread makes it look at the clock.
    ///
    /// Ticks belong to the engine, so runs side by side get each other's: more looks at the clock,
    /// and nothing else, because each run judges by its own.
    fn call_until(&self, store: &mut Store<State>, time: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        store.epoch_deadline_callback(move |_| {
            Ok(if begun.elapsed() < time {
                UpdateDeadline::Continue(1)
            } else {
                UpdateDeadline::Interrupt
            })
        });
        store.set_epoch_deadline(1);
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    self.engine.increment_epoch();
                }
            });
            let ended = self.call(store);
            drop(done);
            ended
        })
    }

    /// What the end of a run means that was not a return.
    fn exit_code(&self, error: &Error, state: &State) -> Result<i32, Failure> {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Ok(*code);
        }
        Err(match error.downcast_ref::<Trap>() {
            _ if state.has_hit_memory_max => {
                Failure::Memory { bytes_max: self.limits.memory_bytes }
            }
            Some(Trap::OutOfFuel) => Failure::Fuel,
            Some(Trap::Interrupt) => {
                Failure::Deadline(self.limits.deadline.unwrap_or(Duration::ZERO))
            }
            _ => broken(error),
        })
    }
}

/// Locks of the volumes that a command line writes to; one that cannot be understood writes
/// nothing.
fn locks(arguments: &[&str], preopens: &[Preopen]) -> Result<Vec<File>, Failure> {
    let is_file =
        |name: &str| grant::on_host(Path::new(name), preopens).is_some_and(|path| path.is_file());
    match arguments::parse(arguments.iter().map(OsString::from), is_file) {
        Ok(Asked::Run(request)) => grant::lock(&request, preopens),
        Ok(Asked::Help | Asked::Version) | Err(_) => Ok(Vec::new()),
    }
}

/// What belongs to one run.
struct State {
    wasi: WasiP1Ctx,
    memory_max: usize,
    has_hit_memory_max: bool,
}

/// wasmtime's ready-made limits do not tell whether they were met.
impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, Error> {
        let fits = desired <= self.memory_max;
        self.has_hit_memory_max |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, Error> {
        // tables of functions: the module's own never grow
        Ok(desired <= 1 << 20)
    }
}

fn broken(error: &Error) -> Failure {
    Failure::Trapped(one_line(error))
}

/// The innermost cause: the outer ones say that there was one, and a backtrace is no sentence.
fn one_line(error: &Error) -> String {
    let text = error.root_cause().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
