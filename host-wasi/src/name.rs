//! Names and paths: any bytes, and how they are shown.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name, a path, a label or the target of a link: HAMMER2 keeps bytes, not text.
///
/// In JSON it is a string where it is UTF-8 and `{"hex": "…"}` where it is not, so that no two
/// names look alike. In postcard it is its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Name(pub Vec<u8>);

impl Name {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// For people: what is no UTF-8 or would move the cursor is written as `\xNN`.
///
/// A name comes from media that anybody may have made; it must not talk to the terminal.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '\\' {
                    f.write_str("\\\\")?;
                } else if character.is_control() {
                    let mut bytes = [0; 4];
                    let bytes = character.encode_utf8(&mut bytes).bytes();
                    bytes.into_iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            let invalid = chunk.invalid().iter();
            invalid.into_iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                use std::fmt::Write as _;
                let mut hex = String::with_capacity(self.0.len() * 2);
                for byte in &self.0 {
                    write!(hex, "{byte:02x}").map_err(serde::ser::Error::custom)?;
                }
                serializer.collect_map([("hex", hex)])
            }
        }
    }
}

/// From postcard only: nobody here reads the JSON that we write.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a name")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name::from(bytes))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_talk_to_the_terminal() {
        let name = Name(b"a\x1b[2J\\\xff\xc3\xa9\x7f\xc2\x9b".to_vec());
        assert_eq!(name.to_string(), "a\\x1b[2J\\\\\\xffé\\x7f\\xc2\\x9b");
    }

    #[test]
    fn json_keeps_every_byte() {
        let json = |bytes: &[u8]| serde_json::to_string(&Name::from(bytes)).unwrap();
        assert_eq!(json("é\n".as_bytes()), r#""é\n""#);
        assert_eq!(json(b"a\xff"), r#"{"hex":"61ff"}"#);
    }
}
