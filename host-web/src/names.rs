//! Names are bytes on the media and strings in JavaScript.
//!
//! Bytes that are no UTF-8 become one lone surrogate each, U+DC80 to U+DCFF (Python's
//! "surrogateescape"): every name has exactly one string, and it leads back to the same bytes.
//! `page/names.js` has the other half.

use js_sys::JsString;
use wasm_bindgen::{JsCast, JsValue};

/// The string for the bytes of a name.
pub(crate) fn to_js(bytes: &[u8]) -> JsValue {
    match str::from_utf8(bytes) {
        Ok(text) => JsValue::from_str(text),
        Err(_) => JsString::from_char_code(&to_units(bytes)).into(),
    }
}

/// The bytes of the name that a string stands for. Surrogates that stand for nothing become
/// U+FFFD, as everywhere on the web.
pub(crate) fn from_js(text: &JsString) -> Vec<u8> {
    if text.is_valid_utf16() {
        let text: &JsValue = text.unchecked_ref();
        return text.as_string().unwrap_or_default().into_bytes();
    }
    from_units(text.iter())
}

fn to_units(bytes: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        units.extend(chunk.valid().encode_utf16());
        units.extend(chunk.invalid().iter().map(|byte| ESCAPE + u16::from(*byte)));
    }
    units
}

fn from_units(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoded = [0; 4];
    for unit in char::decode_utf16(units) {
        let lone = match unit {
            Ok(character) => {
                bytes.extend_from_slice(character.encode_utf8(&mut encoded).as_bytes());
                continue;
            }
            Err(error) => error.unpaired_surrogate(),
        };
        match u8::try_from(lone.wrapping_sub(ESCAPE)) {
            Ok(byte) if byte >= 0x80 => bytes.push(byte),
            _ => bytes.extend_from_slice("\u{fffd}".as_bytes()),
        }
    }
    bytes
}

/// First of the surrogates that stand for the bytes 0x80 to 0xff, less 0x80.
const ESCAPE: u16 = 0xdc00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        let names: [&[u8]; 6] = [
            b"plain",
            "\u{fc}ber \u{1f40e}".as_bytes(),
            b"\xff\xfe",
            b"cut \xf0\x9f\x90",
            // what a surrogate would be in UTF-8: no UTF-8
            b"\xed\xb2\x80",
            b"a\xc3\x28b",
        ];
        for name in names {
            assert_eq!(from_units(to_units(name)), name, "{name:x?}");
        }
    }

    #[test]
    fn a_byte_that_is_no_utf8_is_one_low_surrogate() {
        assert_eq!(to_units(b"a\x80\xff"), [0x61, 0xdc80, 0xdcff]);
    }

    #[test]
    fn surrogates_that_stand_for_nothing_are_replaced() {
        assert_eq!(from_units([0xd800]), "\u{fffd}".as_bytes());
        assert_eq!(from_units([0xdc41]), "\u{fffd}".as_bytes());
    }
}
