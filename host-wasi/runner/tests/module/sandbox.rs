//! The walls: what the module can reach, and what happens at its limits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farrier_tests::images::{scratch, shipped};
use farrier_wasi_runner::{Access, Failure, Limits, Preopen, Runner};

use crate::harness::{Image, module_bytes, runner, text};

/// A module whose `_start` runs `body`, a function's code without its end.
fn module(body: &[u8], imports: &[u8]) -> Vec<u8> {
    let section = |id: u8, body: &[u8]| {
        let len = u8::try_from(body.len()).expect("small enough for one byte of LEB128");
        [&[id, len], body].concat()
    };
    let index = u8::from(!imports.is_empty());
    let export = [&[1, 6][..], b"_start", &[0, index]].concat();
    let code_len = u8::try_from(body.len() + 2).expect("a short function");
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        if imports.is_empty() { vec![] } else { section(2, imports) },
        section(3, &[1, 0]),
        section(7, &export),
        section(10, &[&[1, code_len, 0], body, &[0x0b]].concat()),
    ]
    .concat()
}

/// `loop br 0 end`
const FOR_EVER: &[u8] = &[0x03, 0x40, 0x0c, 0x00, 0x0b];

fn read(host: &Path, guest: &str) -> Preopen {
    Preopen { host: host.to_owned(), guest: guest.to_owned(), access: Access::Read }
}

/// A directory that holds an image `disk.img`.
fn folder_with_image(name: &str) -> PathBuf {
    let folder = scratch("wasi-sandbox").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let image = shipped("d-base1").swap_remove(0);
    fs::hard_link(&image, folder.join("disk.img")).unwrap();
    folder
}

#[test]
fn the_module_imports_wasi_preview_1_and_nothing_else() {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, module_bytes()).unwrap();
    let names: Vec<_> = module
        .imports()
        .map(|import| {
            assert_eq!(import.module(), "wasi_snapshot_preview1", "{}", import.name());
            import.name().to_owned()
        })
        .collect();
    println!("{} imports: {}", names.len(), names.join(" "));
    for refused in ["sock_", "path_unlink", "path_rename", "path_remove", "poll_"] {
        assert!(!names.iter().any(|name| name.starts_with(refused)), "{names:?}");
    }
}

#[test]
fn a_module_that_asks_for_more_is_refused_before_it_runs() {
    let import = [&[1, 3][..], b"env", &[6], b"socket", &[0, 0]].concat();
    let refused = Runner::new(&module(&[], &import)).unwrap_err();
    let expected = "the module imports `socket` from `env`; only WASI preview 1 is given";
    assert_eq!(refused.to_string(), expected);
    let refused = Runner::new(b"no module").unwrap_err();
    assert!(matches!(refused, Failure::NotAModule(_)), "{refused}");
}

#[test]
fn nothing_outside_the_granted_directories_can_be_read() {
    let folder = folder_with_image("inside");
    symlink("/", folder.join("up")).unwrap();
    symlink("../escape.img", folder.join("escape.img")).unwrap();
    fs::copy(folder.join("disk.img"), folder.join("../escape.img")).unwrap();
    let grants = [read(&folder, ".")];
    let whole = text(&fs::canonicalize(folder.join("disk.img")).unwrap());
    let run = |device: &str| runner().run(&["ls", device], &grants).unwrap();
    assert_eq!(run("disk.img").code, 0);
    for device in [
        "../escape.img",
        "escape.img",
        &whole,
        &format!("up{whole}"),
        "/etc/passwd",
        "up/etc/passwd",
        "x/../../escape.img",
    ] {
        let output = run(device);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.code, output.stdout.len()), (1, 0), "{device}: {said}");
        assert!(said.starts_with(&format!("{device}: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // The runner says it before there is a sandbox.
    let escape = text(&folder.join("escape.img"));
    let refused = runner().ask(&["ls", &escape]).unwrap_err().to_string();
    assert!(refused.contains("a link that leads out of its directory; name "), "{refused}");
}

#[test]
fn a_directory_that_is_granted_to_read_cannot_be_written() {
    let folder = folder_with_image("read-only");
    let copy = ["copy-out", "disk.img", "/dir", "copy"];
    let output = runner().run(&copy, &[read(&folder, ".")]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.code, 1);
    assert!(said.starts_with("copy: "), "{said}");
    assert!(!folder.join("copy").exists());
}

#[test]
fn only_the_destination_of_a_copy_is_granted_to_write() {
    let folder = folder_with_image("grants");
    let (image, out) = (text(&folder.join("disk.img")), text(&folder.join("out")));
    let access = |arguments: &[&str]| {
        let preopens = runner().preopens(arguments).unwrap();
        let mut access: Vec<_> = preopens.into_iter().map(|p| (p.guest, p.access)).collect();
        access.sort();
        access
    };
    let here = text(&folder);
    assert_eq!(access(&["check", &image]), [(here.clone(), Access::Read)]);
    fs::create_dir(&out).unwrap();
    let copy = access(&["copy-out", &image, "/", &out]);
    assert_eq!(copy, [(here, Access::Read), (out, Access::Write)]);
    assert_eq!(access(&["frobnicate", &image]), []);
}

#[test]
fn limits_end_a_run_with_a_sentence() {
    let image = shipped("d-base1").swap_remove(0);
    let image_text = text(&image);
    let limited = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let runner = Runner::with_limits(&module_bytes(), limits).unwrap();
        let arguments = ["cat", &image_text, "/text-300k"];
        let preopens = runner.preopens(&arguments).unwrap();
        runner.run(&arguments, &preopens)
    };
    let memory = limited(|limits| limits.memory_bytes = 1 << 20).unwrap_err();
    assert!(matches!(memory, Failure::Memory { bytes_max: 0x10_0000 }), "{memory}");
    let fuel = limited(|limits| limits.fuel = Some(10_000)).unwrap_err();
    assert!(matches!(fuel, Failure::Fuel), "{fuel}");
    let output = limited(|limits| limits.output_bytes = 100_000).unwrap_err();
    assert!(matches!(output, Failure::Output { bytes_max: 100_000 }), "{output}");
    let enough = limited(|limits| {
        limits.memory_bytes = 16 << 20;
        limits.fuel = Some(1 << 30);
        limits.deadline = Some(Duration::from_secs(600));
    });
    assert_eq!(enough.unwrap().stdout.len(), 300_003);
}

#[test]
fn a_module_that_never_ends_is_ended() {
    let limits = Limits { deadline: Some(Duration::from_millis(50)), ..Limits::default() };
    let endless = module(FOR_EVER, &[]);
    let late = Runner::with_limits(&endless, limits).unwrap().run(&[], &[]).unwrap_err();
    let expected = "the module was not done after 0.05 s; give it longer with --timeout";
    assert_eq!(late.to_string(), expected);
}

#[test]
fn a_module_that_breaks_is_called_broken() {
    let unreachable = module(&[0x00], &[]);
    let broken = Runner::new(&unreachable).unwrap().run(&[], &[]).unwrap_err();
    assert!(matches!(&broken, Failure::Trapped(text) if text.contains("unreachable")), "{broken}");
}

#[test]
fn command_lines_that_cannot_be_meant() {
    let image = Image::new(&shipped("d-base1"));
    for (words, code, expected) in [
        (&["frobnicate", "@"][..], 1, "unknown command frobnicate; see --help\n"),
        (&["cat", "@"], 1, "cat needs a path\n"),
        (&["check", "@", "x"], 8, "check takes fewer arguments; see --help\n"),
    ] {
        let output = image.run(None, words).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.code, &*said), (code, expected));
    }
    let help = runner().run(&["--help"], &[]).unwrap();
    assert!(help.stdout.starts_with(b"farrier-wasi: "));
}
