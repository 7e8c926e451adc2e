//! Tells the harness where scratch files go: Cargo names that folder to tests only, not to the
//! library that they share.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo sets it"));
    // OUT_DIR is <target>/<profile>/build/<package>/out
    let target = out.ancestors().nth(4).expect("Cargo's layout");
    println!("cargo::rustc-env=FARRIER_SCRATCH={}", target.join("farrier-scratch").display());
}
