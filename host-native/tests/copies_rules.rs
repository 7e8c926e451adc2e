//! The rules of a group on real mounts: a witness, and what becomes of a volume without a copy that
//! holds everything.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::copies::{Copies, end, serve, status, wait_for_resync};
use common::volume::{Volume, noise, shell};
use common::{can_mount, fresh, run, wait_for};
use farrier_core::copies::CopyState;

/// Two copies, of which the second lies on a device that can be pulled.
struct Pulled {
    copies: Copies,
    outer: Volume,
    below: Option<common::volume::Service>,
    link: PathBuf,
}

impl Pulled {
    fn new(name: &str) -> Self {
        let outer = Volume::new("outer", "600M");
        let below = outer.mount();
        let mut copies = Copies::new(name, 1);
        fs::remove_file(&copies.images[0]).unwrap();
        File::create(below.path.join("image")).unwrap();
        let link = copies.folder.join("pulled");
        std::os::unix::fs::symlink(below.path.join("image"), &link).unwrap();
        copies.images.push(link.clone());
        copies.format();
        Self { copies, outer, below: Some(below), link }
    }

    fn pull(&mut self) {
        if let Some(below) = &mut self.below {
            below.signal_kill();
        }
    }

    fn plug_in(&mut self) {
        drop(self.below.take());
        let below = self.outer.mount();
        let _ = fs::remove_file(&self.link);
        std::os::unix::fs::symlink(below.path.join("image"), &self.link).unwrap();
        self.below = Some(below);
    }
}

fn policy(arguments: &[&str], targets: &[&Path]) -> (String, i32) {
    let mut all = vec!["copies".as_ref(), "policy".as_ref()];
    all.extend(arguments.iter().map(std::ffi::OsStr::new));
    all.extend(targets.iter().map(|target| target.as_os_str()));
    let (text, error, code) = run(&all);
    (text + &error, code)
}

#[test]
fn with_a_witness_one_of_two_copies_goes_on_and_the_other_is_refused() {
    if !can_mount() {
        return;
    }
    let mut pulled = Pulled::new("witness");
    let [a, b] = [pulled.copies.images[0].clone(), pulled.copies.images[1].clone()];
    let third = fresh("third");
    let witness = third.join("group.witness");
    let named = witness.to_str().unwrap();
    let mount = pulled.copies.mount(&[]);
    let on_itself = mount.path.join("w");
    let (text, code) = policy(&["--witness", on_itself.to_str().unwrap()], &[&mount.path]);
    assert!(code == 1 && text.contains("is on the volume itself"), "{text}");
    let (text, code) = policy(&["--witness", named], &[&mount.path]);
    assert!(code == 0 && text.contains(&format!("the witness {named} is told")), "{text}");
    let (text, code) = status(&[&mount.path]);
    assert!(
        code == 0 && text.contains(&format!("witness {named}: knows the current epoch")),
        "{text}"
    );
    shell(&mount.path, "echo both >file; sync");

    // one copy dies while mounted
    pulled.pull();
    shell(&mount.path, "echo one >more; sync");
    wait_for("the copy is left behind", || mount.said().contains("left behind"));
    assert_eq!(status(&[&mount.path]).1, 2, "{}", status(&[&mount.path]).0);
    end(mount);
    pulled.plug_in();

    // the machine starts with the survivor only
    let mount = serve(std::slice::from_ref(&a), &[]);
    shell(&mount.path, "cat file more; echo alone >alone");
    end(mount);
    // and with the other one only
    let mount = serve(std::slice::from_ref(&b), &[]);
    let said = mount.said();
    assert!(said.contains("FC-D05: read-only: the witness saw epoch"), "{said}");
    assert!(fs::write(mount.path.join("no"), "").is_err());
    let (text, code) = status(&[&mount.path]);
    assert!(code == 6 && text.contains("FC-D05"), "{text}");
    end(mount);
    // when it cannot be asked, the one that is proven to be newest still needs nobody
    let moved = third.join("moved");
    fs::rename(&witness, &moved).unwrap();
    let (text, code) = status(&[&b]);
    assert!(code == 6 && text.contains("FC-D03") && text.contains("No such file"), "{text}");
    let mount = serve(&[b.clone(), a.clone()], &[]);
    let said = mount.said();
    wait_for_resync(&mount);
    assert!(end(mount).contains("no copy can be left behind until it is told"), "{said}");
    // where the witness is now
    let mount = pulled.copies.mount(&["--witness", moved.to_str().unwrap()]);
    let (text, _) = status(&[&mount.path]);
    assert!(text.contains(&format!("{}: knows the current epoch", moved.display())), "{text}");
    end(mount);
    // a copy dies while the machine is off: either goes on, and then the other one may not
    let mount = serve(std::slice::from_ref(&b), &[]);
    shell(&mount.path, "cat file more alone; echo b >b");
    end(mount);
    let mount = serve(std::slice::from_ref(&a), &[]);
    assert!(mount.said().contains("FC-D05"), "{}", mount.said());
    end(mount);
    let mount = pulled.copies.mount(&[]);
    wait_for_resync(&mount);
    shell(&mount.path, "cat b");

    // nobody is left behind whom it would not hear of
    fs::remove_file(&moved).unwrap();
    let (text, error, code) =
        run(&["copies".as_ref(), "detach".as_ref(), mount.path.as_os_str(), "1".as_ref()]);
    assert!(code == 1 && error.contains("the witness, which has to know"), "{text}{error}");
    pulled.pull();
    let file = File::create(mount.path.join("lost")).unwrap();
    assert!(file.sync_all().is_err());
    drop(file);
    let (text, code) = status(&[&mount.path]);
    assert!(code == 4 && text.contains("the witness, which has to know"), "{text}");
    mount.kill();
    pulled.plug_in();

    // without it, as before
    let mount = pulled.copies.mount(&[]);
    let (text, code) = policy(&["--witness", "none"], &[&mount.path]);
    assert!(code == 0 && !text.contains("witness"), "{text}");
    shell(&mount.path, "cat b; test ! -e lost");
    end(mount);
    let (text, code) = status(&[&a]);
    assert!(code == 6 && text.contains("FC-D03"), "{text}");
    fs::remove_dir_all(&third).unwrap();
}

#[test]
fn an_older_state_is_gone_on_from_by_rule_where_little_is_lost() {
    if !can_mount() {
        return;
    }
    let copies = Copies::new("by-rule", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    let mount = copies.mount(&[]);
    fs::write(mount.path.join("old"), "old").unwrap();
    let (text, code) = policy(&["--promote", "auto:3600"], &[&mount.path]);
    assert!(code == 0 && text.contains("if no more than 3600 s are lost"), "{text}");
    end(mount);
    let mount = serve(std::slice::from_ref(a), &["--accept-missing"]);
    fs::write(mount.path.join("new"), noise(120 << 20, 5)).unwrap();
    end(mount);
    // a copy that was cut off does not know what it lacks
    let mount = serve(std::slice::from_ref(b), &[]);
    assert!(mount.said().contains("FC-D03: read-only"), "{}", mount.said());
    end(mount);
    // killed while it is filled in, and the other one dies
    let mut mount = copies.mount(&[]);
    wait_for("it is being filled in", || {
        farrier::copies::record_at(b)
            .is_some_and(|record| record.slots[1].state == CopyState::Resync)
    });
    mount.signal_kill();
    mount.kill();
    let before = farrier::copies::record_at(b).unwrap();
    assert_eq!(before.slots[1].state, CopyState::Resync, "the kill came too late");
    let mount = serve(std::slice::from_ref(b), &[]);
    let said = mount.said();
    assert!(said.contains("was made the master by the rule of the group"), "{said}");
    shell(&mount.path, "test $(cat old) = old; test ! -e new; echo next >next");
    let (text, _) = status(&[&mount.path]);
    assert!(text.contains("by the rule of the group, and what others held"), "{text}");
    let (text, _, _) = run(&["events".as_ref(), "--json".as_ref(), mount.path.as_os_str()]);
    assert!(text.contains("\"type\":\"promoted\""), "{text}");
    end(mount);
    // the old master is met as what it is, and is not touched
    let mount = copies.mount(&[]);
    let said = mount.said();
    assert!(said.contains("0.img (copy 0): has a history of its own"), "{said}");
    shell(&mount.path, "cat next");
    end(mount);
    let mount = copies.mount(&["-o", "only_copy=0"]);
    shell(&mount.path, "test -e new; test ! -e next");
    end(mount);
}
