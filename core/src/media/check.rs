//! Check codes, and the only way from bytes to *believed* bytes (media format 2).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

pub use crate::error::{CheckCode, CheckMismatch};

/// HAMMER2's seed of XXH64.
const XXHASH64_SEED: u64 = 0x4d61_7474_446c_6c6e;

/// How a block is checked (high nibble of a blockref's `methods`, media format 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum CheckMethod {
    /// No check code; metadata made under it is checked all the same.
    None,
    /// No check code, for metadata either.
    Disabled,
    /// CRC-32C, the CRC of iSCSI.
    Iscsi32,
    /// XXH64 with HAMMER2's seed: the default.
    Xxhash64,
    /// SHA-256 folded to 192 bits.
    Sha192,
    /// CRC-32C beside the hints of a freemap block.
    Freemap,
}

impl CheckMethod {
    /// The method with media code `code` (0 to 5).
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Disabled,
            2 => Self::Iscsi32,
            3 => Self::Xxhash64,
            4 => Self::Sha192,
            5 => Self::Freemap,
            _ => return None,
        })
    }

    /// The name that the tools of HAMMER2 use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Disabled => "disabled",
            Self::Iscsi32 => "iscsi32",
            Self::Xxhash64 => "xxhash64",
            Self::Sha192 => "sha192",
            Self::Freemap => "freemap",
        }
    }

    /// Its media code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Disabled => 1,
            Self::Iscsi32 => 2,
            Self::Xxhash64 => 3,
            Self::Sha192 => 4,
            Self::Freemap => 5,
        }
    }

    /// The code that a blockref's check field stores for this method.
    #[must_use]
    pub fn stored(self, field: &[u8; 64]) -> CheckCode {
        let [a, b, c, d, e, f, g, h, ..] = *field;
        match self {
            Self::None | Self::Disabled => CheckCode::Unchecked,
            Self::Iscsi32 | Self::Freemap => CheckCode::Crc32c(u32::from_le_bytes([a, b, c, d])),
            Self::Xxhash64 => CheckCode::Xxhash64(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            Self::Sha192 => {
                let mut code = [0; 24];
                code.copy_from_slice(&field[..24]);
                CheckCode::Sha192(code)
            }
        }
    }
}

/// Bytes that their check code vouches for, or that carry none by the owner's wish.
///
/// Only [`Checks::verify`] makes one from foreign bytes, so whatever takes a `Verified` need not
/// ask where it came from. Bytes that this program makes are its own to vouch for
/// ([`Verified::ours`]).
pub struct Verified {
    bytes: Vec<u8>,
    rows: Rows,
}

/// What is known of a block as a table of blockrefs: 0 nothing yet, `u32::MAX` that it has to be
/// searched entry by entry, and otherwise one more than its entries, which fill the front of it in
/// ascending order.
#[derive(Default)]
struct Rows(AtomicU32);

impl Verified {
    /// Bytes that this program made: there is nobody whose word would have to be checked.
    #[must_use]
    pub const fn ours(bytes: Vec<u8>) -> Self {
        Self { bytes, rows: Rows(AtomicU32::new(0)) }
    }

    /// The bytes, to be changed: whoever changes them answers for them.
    #[must_use]
    pub fn ours_mut(&mut self) -> &mut Vec<u8> {
        self.rows = Rows::default();
        &mut self.bytes
    }

    /// What `examine` says of the whole block as a table: how many entries fill the front of it in
    /// ascending order, with nothing behind them; `None` if it is no such table. It is asked once,
    /// since the bytes do not change.
    pub fn rows(&self, examine: impl FnOnce(&[u8]) -> Option<usize>) -> Option<usize> {
        const UNKNOWN: u32 = 0;
        const NONE: u32 = u32::MAX;
        // Relaxed: every thread that asks comes to the same answer.
        match self.rows.0.load(Ordering::Relaxed) {
            UNKNOWN => {
                let rows = examine(&self.bytes);
                let kept = rows.and_then(|rows| u32::try_from(rows + 1).ok());
                self.rows.0.store(kept.unwrap_or(NONE), Ordering::Relaxed);
                rows
            }
            NONE => None,
            kept => Some(kept as usize - 1),
        }
    }

    /// What `expand` makes of believed bytes is believed as well: decompression adds nothing from
    /// outside.
    pub(super) fn expand<E>(
        self,
        expand: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        expand(&self.bytes).map(Self::ours)
    }
}

impl Deref for Verified {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Clone for Verified {
    fn clone(&self) -> Self {
        Self::ours(self.bytes.clone())
    }
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Verified {}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes)", self.bytes.len())
    }
}

/// The check codes' arithmetic. A host with a faster CRC-32C than the portable tables brings it.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    crc32c: fn(&[u8]) -> u32,
}

impl Default for Checks {
    fn default() -> Self {
        Self::PORTABLE
    }
}

impl Checks {
    /// Table-driven CRC-32C, right on every machine.
    pub const PORTABLE: Self = Self { crc32c };

    /// With the host's CRC-32C (initial value and final xor all ones, reflected).
    #[must_use]
    pub const fn with_crc32c(crc32c: fn(&[u8]) -> u32) -> Self {
        Self { crc32c }
    }

    /// CRC-32C of `bytes`.
    #[must_use]
    pub fn crc32c(&self, bytes: &[u8]) -> u32 {
        (self.crc32c)(bytes)
    }

    /// The code that `bytes` have by `method`.
    #[must_use]
    pub fn compute(&self, bytes: &[u8], method: CheckMethod) -> CheckCode {
        match method {
            CheckMethod::None | CheckMethod::Disabled => CheckCode::Unchecked,
            CheckMethod::Iscsi32 | CheckMethod::Freemap => CheckCode::Crc32c(self.crc32c(bytes)),
            CheckMethod::Xxhash64 => {
                CheckCode::Xxhash64(xxhash_rust::xxh64::xxh64(bytes, XXHASH64_SEED))
            }
            CheckMethod::Sha192 => CheckCode::Sha192(sha192(bytes)),
        }
    }

    /// Believes `bytes` if they have the code `stored`.
    ///
    /// # Errors
    /// Both codes, where they differ.
    pub fn verify(&self, bytes: Vec<u8>, stored: CheckCode) -> Result<Verified, CheckMismatch> {
        let method = match stored {
            CheckCode::Unchecked => CheckMethod::None,
            CheckCode::Crc32c(_) => CheckMethod::Iscsi32,
            CheckCode::Xxhash64(_) => CheckMethod::Xxhash64,
            CheckCode::Sha192(_) => CheckMethod::Sha192,
        };
        let computed = self.compute(&bytes, method);
        if stored == computed {
            Ok(Verified::ours(bytes))
        } else {
            Err(CheckMismatch { stored, computed })
        }
    }
}

/// Writes a code into a blockref's check field; the bytes behind it stay (media format 13.33).
pub fn store(code: CheckCode, field: &mut [u8; 64]) {
    let mut put = |bytes: &[u8]| field[..bytes.len()].copy_from_slice(bytes);
    match code {
        CheckCode::Unchecked => {}
        CheckCode::Crc32c(code) => put(&code.to_le_bytes()),
        CheckCode::Xxhash64(code) => put(&code.to_le_bytes()),
        CheckCode::Sha192(code) => put(&code),
    }
}

/// SHA-256 with its last two quarters folded together.
fn sha192(bytes: &[u8]) -> [u8; 24] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut code = [0; 24];
    code.copy_from_slice(&digest[..24]);
    for (byte, folded) in code[16..].iter_mut().zip(&digest[24..]) {
        *byte ^= folded;
    }
    code
}

/// CRC-32C by sixteen tables: no instruction set is assumed.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        let head = crc.to_le_bytes();
        crc = chunk.iter().enumerate().fold(0, |sum, (at, &byte)| {
            let byte = byte ^ head.get(at).copied().unwrap_or(0);
            sum ^ CRC_TABLES[15 - at][usize::from(byte)]
        });
    }
    for &byte in chunks.remainder() {
        crc = (crc >> 8) ^ CRC_TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    !crc
}

/// `CRC_TABLES[n][b]`: the CRC of byte `b` followed by `n` zero bytes.
static CRC_TABLES: [[u32; 256]; 16] = crc_tables();

#[expect(clippy::cast_possible_truncation, reason = "const: the loop ends at 256")]
#[expect(clippy::large_stack_arrays, reason = "const: there is no stack")]
const fn crc_tables() -> [[u32; 256]; 16] {
    let mut tables = [[0_u32; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 16 {
        byte = 0;
        while byte < 256 {
            let crc = tables[table - 1][byte];
            tables[table][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    fn check(bytes: &[u8], stored: CheckCode) -> Result<Verified, CheckMismatch> {
        Checks::PORTABLE.verify(bytes.to_vec(), stored)
    }

    #[test]
    fn vectors_of_the_specification() {
        let counting: Vec<u8> = (0..1024_u32).map(|n| n.to_le_bytes()[0]).collect();
        let vectors: [(&[u8], u32, u64, &str); 4] = [
            (b"", 0, 0x8456_6ac0_f5a0_cb84, "e3b0c44298fc1c149afbf4c8996fb924833bd8ff1cc92b19"),
            (
                b"123456789",
                0xe306_9283,
                0x3b4e_b9ba_9b94_7403,
                "15e2b0d3c33891ebb0f1ef609ec41942b0acd0328a1a747a",
            ),
            (
                &[0; 1024],
                0xeeae_de7c,
                0xa85f_7f89_31b8_cf1e,
                "5f70bf18a086007016e948b04aed3b82dde599ae08f49359",
            ),
            (
                &counting,
                0x2cdf_6e8f,
                0x28c8_2089_95b3_8bec,
                "785b0751fc2c53dc14a4ce3d800e69efc44ee002970bea3d",
            ),
        ];
        for (bytes, crc, xxh, sha) in vectors {
            assert!(check(bytes, CheckCode::Crc32c(crc)).is_ok());
            assert!(check(bytes, CheckCode::Xxhash64(xxh)).is_ok());
            let mismatch = check(bytes, CheckCode::Sha192([0; 24])).unwrap_err();
            assert_eq!(mismatch.computed.to_string(), sha);
        }
    }

    #[test]
    fn every_length_up_to_three_chunks_agrees_with_the_bitwise_crc() {
        let bytes: Vec<u8> = (0..48_u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
        for len in 0..=bytes.len() {
            let bitwise = !bytes[..len].iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
                })
            });
            assert_eq!(crc32c(&bytes[..len]), bitwise, "{len} bytes");
        }
    }

    #[test]
    fn a_code_that_is_stored_is_found_again_beside_what_stood_there() {
        for code in 0..=5 {
            let method = CheckMethod::from_code(code).unwrap();
            assert_eq!(method.code(), code);
            let computed = Checks::PORTABLE.compute(b"123456789", method);
            let mut field = [0xee; 64];
            store(computed, &mut field);
            assert_eq!(method.stored(&field), computed);
            assert!(check(b"123456789", computed).is_ok());
            assert!(field[24..].iter().all(|byte| *byte == 0xee));
        }
    }

    #[test]
    fn one_changed_bit_is_not_believed() {
        let mut bytes = vec![7_u8; 1024];
        let stored = CheckCode::Crc32c(crc32c(&bytes));
        bytes[1023] ^= 1;
        assert_eq!(check(&bytes, stored).unwrap_err().stored, stored);
    }

    #[test]
    fn unchecked_bytes_are_taken_as_they_are() {
        let verified = check(b"anything", CheckCode::Unchecked).unwrap();
        assert_eq!(format!("{verified:?}"), "Verified(8 bytes)");
    }
}
