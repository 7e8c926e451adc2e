//! What a wasm module asks of its host: the import section, read by hand.
//!
//! A module that asks for more than expected has picked up a dependency that its hosts do not
//! provide; it would load on the machine that built it and nowhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::failure::{During, Failure, Outcome};

/// Where the functions of WASI preview 1 come from.
pub(crate) const WASI_MODULE: &str = "wasi_snapshot_preview1";

/// The glue that bindgen writes beside the page's module.
pub(crate) const GLUE_MODULE: &str = "./farrier_web_bg.js";

/// Prints how much the module in `file` imports from where; fails on a source outside `allowed`.
pub(crate) fn check(file: &Path, allowed: &[&str]) -> Outcome {
    let bytes = fs::read(file).during(|| format!("read {}", file.display()))?;
    let imports = read_imports(&bytes)
        .map_err(|fault| Failure::new(format!("{}: {fault}", file.display())))?;
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for import in &imports {
        sources.entry(&import.module).or_default().push(&import.name);
    }
    println!("{}: {} imports", file.display(), imports.len());
    for (module, names) in &sources {
        println!("  {module}: {}", names.join(" "));
    }
    match sources.iter().find(|(module, _)| !allowed.contains(module)) {
        None => Ok(()),
        Some((module, names)) => Err(Failure::new(format!(
            "{} imports `{}` from `{module}`, which its hosts do not provide (they provide: {})",
            file.display(),
            names.join("`, `"),
            allowed.join(", "),
        ))),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Import {
    module: String,
    name: String,
}

/// The imports of a core module, in its order.
fn read_imports(module: &[u8]) -> Result<Vec<Import>, Fault> {
    let mut input = Reader { rest: module };
    if input.take(MAGIC.len()) != Ok(MAGIC) {
        return Err(Fault::NotAModule);
    }
    while !input.rest.is_empty() {
        let id = input.byte()?;
        let len = input.size()?;
        let body = input.take(len)?;
        if id == IMPORT_SECTION {
            return read_section(body);
        }
    }
    Ok(Vec::new())
}

fn read_section(body: &[u8]) -> Result<Vec<Import>, Fault> {
    let mut input = Reader { rest: body };
    let count = input.number()?;
    // No reservation: `count` is whatever the file says.
    let mut imports = Vec::new();
    for _ in 0..count {
        imports.push(Import { module: input.name()?, name: input.name()? });
        input.skip_description()?;
    }
    if input.rest.is_empty() { Ok(imports) } else { Err(Fault::Leftover) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned LEB128 number of at most 64 bits.
    fn number(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Fault::BadNumber);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::BadNumber)
    }

    fn size(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.number()?).map_err(|_| Fault::CutOff)
    }

    fn name(&mut self) -> Result<String, Fault> {
        let len = self.size()?;
        let bytes = self.take(len)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Fault::BadName)
    }

    /// What is imported: a function, table, memory, global or tag.
    fn skip_description(&mut self) -> Result<(), Fault> {
        match self.byte()? {
            0 => self.number().map(drop),
            1 => self.skip_value_type().and_then(|()| self.skip_limits()),
            2 => self.skip_limits(),
            3 => self.skip_value_type().and_then(|()| self.byte().map(drop)),
            4 => self.byte().and_then(|_| self.number()).map(drop),
            kind => Err(Fault::UnknownKind(kind)),
        }
    }

    /// One byte, or for a typed reference a further (signed, but that does not matter here) number.
    fn skip_value_type(&mut self) -> Result<(), Fault> {
        match self.byte()? {
            0x63 | 0x64 => self.number().map(drop),
            _ => Ok(()),
        }
    }

    fn skip_limits(&mut self) -> Result<(), Fault> {
        let flags = self.byte()?;
        self.number()?;
        if flags & HAS_MAXIMUM != 0 {
            self.number()?;
        }
        if flags & HAS_PAGE_SIZE != 0 {
            self.number()?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    NotAModule,
    CutOff,
    Leftover,
    BadNumber,
    BadName,
    UnknownKind(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAModule => f.write_str("not a WebAssembly core module"),
            Self::CutOff => f.write_str("the module ends in the middle of something"),
            Self::Leftover => f.write_str("the import section is longer than its imports"),
            Self::BadNumber => f.write_str("a number has more than 64 bits"),
            Self::BadName => f.write_str("an import's name is not UTF-8"),
            Self::UnknownKind(kind) => write!(f, "an import is of the unknown kind {kind}"),
        }
    }
}

/// `\0asm`, version 1 of the core format (components carry another version).
const MAGIC: &[u8] = b"\0asm\x01\0\0\0";
const IMPORT_SECTION: u8 = 2;
const HAS_MAXIMUM: u8 = 0x01;
const HAS_PAGE_SIZE: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        [&[id, u8::try_from(body.len()).unwrap()], body].concat()
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [MAGIC, &sections.concat()].concat()
    }

    fn import(module: &str, name: &str, description: &[u8]) -> Vec<u8> {
        let word = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [word(module), word(name), description.to_vec()].concat()
    }

    fn expected(module: &str, name: &str) -> Import {
        Import { module: module.into(), name: name.into() }
    }

    #[test]
    fn every_kind_of_import_is_read_past() {
        let body = [
            vec![7],
            import("a", "function", &[0, 0x85, 0x01]),
            import("b", "table", &[1, 0x70, 0x01, 1, 2]),
            import("c", "typed_table", &[1, 0x63, 0x05, 0x00, 1]),
            import("d", "memory", &[2, 0x03, 1, 0x80, 0x80, 0x04]),
            import("e", "paged", &[2, 0x08, 1, 0]),
            import("f", "global", &[3, 0x7f, 1]),
            import("g", "tag", &[4, 0, 2]),
        ]
        .concat();
        let found = read_imports(&module(&[section(1, &[0]), section(2, &body)])).unwrap();
        let expected = [
            expected("a", "function"),
            expected("b", "table"),
            expected("c", "typed_table"),
            expected("d", "memory"),
            expected("e", "paged"),
            expected("f", "global"),
            expected("g", "tag"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_module_without_imports_has_none() {
        assert_eq!(read_imports(&module(&[section(1, &[0]), section(3, &[0])])), Ok(vec![]));
        assert_eq!(read_imports(MAGIC), Ok(vec![]));
    }

    #[test]
    fn every_cut_through_a_module_is_a_fault_or_a_whole_prefix() {
        let body = [vec![1], import("env", "f", &[0, 1])].concat();
        let whole = module(&[section(2, &body)]);
        for len in 0..whole.len() {
            let found = read_imports(&whole[..len]);
            let fault = match len {
                0..8 => Err(Fault::NotAModule),
                8 => Ok(vec![]),
                _ => Err(Fault::CutOff),
            };
            assert_eq!(found, fault, "cut at {len}");
        }
    }

    #[test]
    fn damage_is_named() {
        let with = |body: &[u8]| read_imports(&module(&[section(2, body)]));
        assert_eq!(read_imports(b"\0asm\x0d\0\x01\0"), Err(Fault::NotAModule));
        assert_eq!(with(&[0, 0]), Err(Fault::Leftover));
        assert_eq!(with(&[&[1][..], &import("m", "n", &[9])].concat()), Err(Fault::UnknownKind(9)));
        assert_eq!(with(&[1, 1, 0xff, 0]), Err(Fault::BadName));
        // A count that no file could hold ends at the end of the file.
        assert_eq!(with(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Fault::CutOff));
        assert_eq!(with(&[0xff; 11]), Err(Fault::BadNumber));
    }

    #[test]
    fn numbers_use_all_64_bits_and_no_more() {
        let number = |bytes: &[u8]| Reader { rest: bytes }.number();
        assert_eq!(number(&[0xe5, 0x8e, 0x26]), Ok(624_485));
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(number(&largest), Ok(u64::MAX));
        let larger = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(number(&larger), Err(Fault::BadNumber));
    }

    #[test]
    fn an_unexpected_source_is_refused_by_name() {
        let body = [vec![1], import("env", "socket", &[0, 0])].concat();
        let file = std::env::temp_dir().join(format!("xtask-imports-{}.wasm", std::process::id()));
        fs::write(&file, module(&[section(2, &body)])).unwrap();
        let refused = check(&file, &[WASI_MODULE]).unwrap_err().to_string();
        let passed = check(&file, &["env"]);
        fs::remove_file(&file).unwrap();
        assert!(refused.contains("imports `socket` from `env`"), "{refused}");
        assert!(passed.is_ok());
    }
}
