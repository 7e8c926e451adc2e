//! The core against a model: random operations, flushes, remounts, all from seeds.
//!
//! `FARRIER_MODEL_SEED` is the first seed, `FARRIER_MODEL_RUNS` how many, `FARRIER_MODEL_OPS` how
//! many operations each; with one run, `FARRIER_MODEL_SHOW` prints them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use farrier_core::error::DeviceFault;
use farrier_core::fs::GetAttributes;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum};
use farrier_tests::against::{compare, compare_media};
use farrier_tests::model::Model;
use farrier_tests::ops::{Op, Random, Swarm, apply, colliding_names};
use farrier_tests::ram::RamDisk;
use farrier_tests::session::{nothing, run_or_panic, run_seed, run_seed_or_panic, text};
use farrier_tests::world::{WorldRan, run_world};
use farrier_tests::writing::{WritingHost, format_storage};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn random_operations_do_what_the_model_says() {
    let first = setting("FARRIER_MODEL_SEED", 1);
    let runs = setting("FARRIER_MODEL_RUNS", 40);
    let (mut operations, mut full, mut refused, mut compared) = (0, 0, 0, 0);
    for seed in first..first + runs {
        let count = 20 + Random::new(seed).below(280);
        let count = setting("FARRIER_MODEL_OPS", count);
        if std::env::var_os("FARRIER_MODEL_SHOW").is_some() {
            run_seed(seed, count, true).unwrap();
        }
        let ran = run_seed_or_panic(seed, count);
        operations += ran.operations;
        full += ran.full;
        refused += ran.refused;
        compared += ran.compared;
    }
    println!(
        "{runs} seeds: {operations} operations, {refused} refused, {full} without space, \
         {compared} comparisons"
    );
    assert!(refused * 2 < operations, "most operations do something");
}

#[test]
fn several_pfss_snapshots_and_scans_do_what_the_models_say() {
    let first = setting("FARRIER_MODEL_SEED", 1);
    let runs = setting("FARRIER_MODEL_RUNS", 40);
    let mut sum = WorldRan::default();
    for seed in first..first + runs {
        let count = 50 + Random::new(seed).below(300);
        let count = setting("FARRIER_MODEL_OPS", count);
        if std::env::var_os("FARRIER_MODEL_SHOW").is_some() {
            run_world(seed, count, true).unwrap();
        }
        sum.add(&run_or_panic(seed, count, |count| run_world(seed, count, false), "several"));
    }
    println!("{runs} seeds: {sum:?}");
    assert!(runs < 40 || sum.snapshots > 40 && sum.deleted > 20 && sum.scans > 20, "{sum:?}");
    assert!(sum.ran.refused * 2 < sum.ran.operations, "most operations do something");
}

#[test]
fn names_can_be_made_to_collide() {
    let names = colliding_names(300);
    let mut different = names.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), names.len());
}

/// A device that lets something happen before each access, while it is told to.
#[derive(Clone)]
struct Busy {
    disk: RamDisk,
    meanwhile: Rc<RefCell<Option<Meanwhile>>>,
}

type Meanwhile = Box<dyn FnMut()>;

impl Busy {
    fn happen(&self) {
        let meanwhile = self.meanwhile.borrow_mut().take();
        if let Some(mut meanwhile) = meanwhile {
            meanwhile();
            self.meanwhile.replace(Some(meanwhile));
        }
    }
}

impl Storage for Busy {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.disk.size(device)
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        true
    }

    async fn read(&self, device: DeviceIndex, at: u64, len: usize) -> Result<Vec<u8>, DeviceFault> {
        self.happen();
        self.disk.read(device, at, len).await
    }

    async fn write(&self, device: DeviceIndex, at: u64, bytes: &[u8]) -> Result<(), DeviceFault> {
        self.happen();
        self.disk.write(device, at, bytes).await
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        self.happen();
        self.disk.barrier(device).await
    }
}

/// Operations go on beside a flush: it leaves what was there when it began, and they are in the
/// next one.
fn beside_flushes(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let swarm = Swarm::new(&mut random);
    let disk = RamDisk::new(512 << 20);
    format_storage(&disk);
    let busy = Busy { disk: disk.clone(), meanwhile: Rc::default() };
    let cache = *random.pick(&[64 << 10, 16 << 20]);
    let host = Rc::new(WritingHost::open(busy.clone(), cache).map_err(|e| e.to_string())?);
    let pfs = host.open_pfs("DATA").map_err(|e| e.to_string())?;
    let root = host.run(&GetAttributes { pfs, inum: Inum::ROOT }).map_err(|e| e.to_string())?;
    let model = Rc::new(RefCell::new(Model::new(root)));
    let (beside, wrong) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
    let mut time = 1_700_000_000_000_000;
    let step = {
        let (host, model, beside) = (Rc::clone(&host), Rc::clone(&model), Rc::clone(&beside));
        let (wrong, mut random) = (Rc::clone(&wrong), Random::new(random.next()));
        Rc::new(RefCell::new(move || {
            let op = swarm.next(&mut random, &model.borrow());
            if matches!(op, Op::Flush { .. } | Op::Remount) {
                return;
            }
            time += 1000;
            beside.set(beside.get() + 1);
            if let Err(what) = apply(&host, pfs, &mut model.borrow_mut(), &op, time) {
                wrong.borrow_mut().get_or_insert(format!("{}: {what}", text(&op)));
            }
        }))
    };
    for round in 0..6 {
        (0..random.below(40)).for_each(|_| (step.borrow_mut())());
        let committed = model.borrow().settled();
        let (again, mut left) = (Rc::clone(&step), 30);
        busy.meanwhile.replace(Some(Box::new(move || {
            if left > 0 {
                left -= 1;
                (again.borrow_mut())();
            }
        })));
        let flushed = host.flush_always(true);
        busy.meanwhile.take();
        let failed = |what: String| format!("round {round}: {what}");
        if let Some(what) = wrong.borrow_mut().take() {
            return Err(failed(what));
        }
        flushed.map_err(|error| failed(error.to_string()))?;
        compare(&*host, pfs, &model.borrow(), true).map_err(|e| failed(format!("memory: {e}")))?;
        compare_media(&disk, "DATA", &committed, nothing)
            .map_err(|e| failed(format!("media: {e}")))?;
    }
    Ok(beside.get())
}

#[test]
fn operations_go_on_beside_a_flush() {
    let first = setting("FARRIER_BESIDE_SEED", 1);
    let runs = setting("FARRIER_BESIDE_RUNS", 40);
    let mut operations = 0;
    for seed in first..first + runs {
        operations += beside_flushes(seed).unwrap_or_else(|error| {
            panic!(
                "{error}\nFARRIER_BESIDE_SEED={seed} FARRIER_BESIDE_RUNS=1 \
                 cargo test -p farrier-tests --test model beside"
            )
        });
    }
    println!("{runs} seeds: {operations} operations before and beside flushes");
}
