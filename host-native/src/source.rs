//! `DEVICE@LABEL` as people write it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The devices of one file system, and which of its PFSs is meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The devices, in the order in which they were named.
    pub devices: Vec<PathBuf>,
    /// The label, if one was named.
    pub label: Option<Vec<u8>>,
}

/// Two devices were given with different labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TwoLabels;

impl std::fmt::Display for TwoLabels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("two different labels were given; write @LABEL behind one device only")
    }
}

impl std::error::Error for TwoLabels {}

impl Source {
    /// Understands `arguments`, each a `DEVICE` or a `DEVICE@LABEL`.
    ///
    /// A path that exists as it stands is a device, whatever its name; else the last `@` separates
    /// device and label.
    ///
    /// # Errors
    /// Two of them name different labels.
    pub fn parse<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Self, TwoLabels> {
        let mut source = Self::default();
        for argument in arguments {
            let (device, label) = split(argument.as_ref());
            source.devices.push(device);
            match (&source.label, label) {
                (Some(old), Some(new)) if *old != new => return Err(TwoLabels),
                (_, Some(new)) => source.label = Some(new),
                (_, None) => {}
            }
        }
        Ok(source)
    }
}

fn split(argument: &OsStr) -> (PathBuf, Option<Vec<u8>>) {
    let bytes = argument.as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'@');
    match at {
        Some(at) if at > 0 && std::fs::symlink_metadata(argument).is_err() => {
            let device = OsString::from(OsStr::from_bytes(&bytes[..at]));
            (device.into(), Some(bytes[at + 1..].to_vec()))
        }
        _ => (argument.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_at_sign_separates_the_label() {
        let source = Source::parse(&["/no/a@b@LABEL"]).unwrap();
        assert_eq!(source.devices, [PathBuf::from("/no/a@b")]);
        assert_eq!(source.label.as_deref(), Some(&b"LABEL"[..]));
        assert_eq!(Source::parse(&["@x"]).unwrap().label, None);
    }

    #[test]
    fn a_path_that_exists_is_a_device() {
        let path = std::env::temp_dir().join(format!("farrier@{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let source = Source::parse(&[&path]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.unwrap().devices, [path]);
    }

    #[test]
    fn any_of_the_devices_may_carry_the_label_but_only_one_label_counts() {
        let source = Source::parse(&["/no/a", "/no/b@X", "/no/c"]).unwrap();
        assert_eq!((source.devices.len(), source.label), (3, Some(b"X".into())));
        assert_eq!(Source::parse(&["/no/a@X", "/no/b@Y"]), Err(TwoLabels));
    }
}
