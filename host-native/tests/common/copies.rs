//! Volumes of copies in image files, and what is asked of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::volume::{Service, unmounted};
use super::{farrier, fresh, run, wait_for};

/// A volume of copies in image files of a folder of its own.
pub(crate) struct Copies {
    pub(crate) folder: PathBuf,
    pub(crate) images: Vec<PathBuf>,
}

impl Copies {
    pub(crate) fn new(name: &str, count: usize) -> Self {
        let folder = fresh(name);
        let images = (0..count).map(|slot| folder.join(format!("{slot}.img"))).collect();
        let copies = Self { folder, images };
        copies.format();
        copies
    }

    pub(crate) fn format(&self) {
        let mut arguments = vec!["format".to_owned(), "--size".to_owned(), "256M".to_owned()];
        for image in &self.images {
            arguments.extend(["--copy".to_owned(), image.display().to_string()]);
        }
        let (_, error, code) = run(&arguments);
        assert_eq!((code, error.as_str()), (0, ""));
    }

    pub(crate) fn mount(&self, options: &[&str]) -> Service {
        serve(&self.images, options)
    }

    /// Writes to the copy in `slot` alone, though the others may have gone on.
    pub(crate) fn go_on_alone(&self, slot: usize, name: &str) {
        let mount = serve(&self.images[slot..=slot], &["-o", "accept_missing"]);
        fs::write(mount.path.join(name), name).unwrap();
        end(mount);
    }

    /// The tree in the copy of `image` by itself, read-only.
    pub(crate) fn look_at(&self, image: &Path, look: impl FnOnce(&Path)) {
        let mount = serve(&[image.to_owned()], &["-r"]);
        look(&mount.path);
        mount.unmount();
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn serve(images: &[PathBuf], options: &[&str]) -> Service {
    let (last, others) = images.split_last().unwrap();
    let others = others.iter().map(|image| image.to_str().unwrap());
    // who names one means that one
    let only = (images.len() == 1).then_some("--only");
    let options: Vec<_> = options.iter().copied().chain(only).chain(others).collect();
    let mount = Service::start(last, &options);
    // who looks at once may come before the door that questions come through
    wait_for("the mount answers", || status(&[&mount.path]).1 != 1);
    mount
}

/// Unmounts, and gives what the process said.
pub(crate) fn end(mount: Service) -> String {
    let (error, code) = unmounted(&mount.path);
    assert_eq!((code, error.as_str()), (0, ""), "{}", mount.said());
    mount.said()
}

pub(crate) fn status<P: AsRef<Path>>(targets: &[P]) -> (String, i32) {
    let mut arguments = vec!["copies".as_ref(), "status".as_ref()];
    arguments.extend(targets.iter().map(|target| target.as_ref().as_os_str()));
    let (text, error, code) = run(&arguments);
    (text + &error, code)
}

/// Waits until nothing is behind.
pub(crate) fn wait_for_resync(mount: &Service) {
    let mut command = farrier();
    let output = command.args(["copies", "resync", "--wait"]).arg(&mount.path).output().unwrap();
    assert!(output.status.success(), "{output:?}: {}", mount.said());
}
