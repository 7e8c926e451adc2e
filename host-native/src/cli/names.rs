//! Names are bytes; how they are shown.

use std::io::IsTerminal;

use serde::Serialize;

/// A name in a report: text where it is text, and its exact bytes where it is not.
#[derive(Debug, Serialize)]
pub(crate) struct JsonName {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
}

impl JsonName {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match std::str::from_utf8(bytes) {
            Ok(name) => Self { name: name.to_owned(), name_hex: None },
            Err(_) => {
                Self { name: String::from_utf8_lossy(bytes).into_owned(), name_hex: Some(hex()) }
            }
        }
    }
}

/// How names go to standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameStyle {
    is_escaped: bool,
}

impl NameStyle {
    /// A terminal would obey the control characters in a name, so there they are escaped; a
    /// program gets every byte as it is.
    pub(crate) fn for_stdout() -> Self {
        Self { is_escaped: std::io::stdout().is_terminal() }
    }

    pub(crate) fn bytes(self, name: &[u8]) -> Vec<u8> {
        if self.is_escaped { escaped(name).into_bytes() } else { name.to_vec() }
    }
}

/// `name` as text that does nothing to a terminal.
pub(crate) fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_obeyed_to() {
        assert_eq!(escaped(b"a\x1b[2Jb\xff\xc3\xa4"), "a\\u{1b}[2Jb\\xff\u{e4}");
    }
}
