//! The system's log, for mounts that nobody watches: a datagram a line (RFC 3164, as syslog(3)
//! sends them). Where there is no log, nothing is written, and nobody is kept waiting.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the system takes them.
const LOG: &str = "/dev/log";
/// Facility 3, a daemon; severity 5, normal but worth a look.
const PRIORITY: u8 = 3 * 8 + 5;
/// Longer texts are cut: what takes them may have no room for more.
const TEXT_MAX: usize = 1800;

/// Writes `text` to the system's log, if there is one.
pub fn log(text: &str) {
    log_to(Path::new(LOG), text);
}

fn log_to(place: &Path, text: &str) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // a log that is full is none of a mount's business
    if socket.set_nonblocking(true).is_ok() {
        let _ = socket.send_to(line(text).as_bytes(), place);
    }
}

fn line(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default().replace(['\n', '\0'], " ");
    format!("<{PRIORITY}>farrier[{}]: {text}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram() {
        let place = std::env::temp_dir().join(format!("farrier-log-{}", std::process::id()));
        let _ = std::fs::remove_file(&place);
        let taker = UnixDatagram::bind(&place).unwrap();
        log_to(&place, "b.img (copy 1): failed\nand more");
        let mut bytes = [0; 200];
        let len = taker.recv(&mut bytes).unwrap();
        std::fs::remove_file(&place).unwrap();
        let own = std::process::id();
        let wanted = format!("<29>farrier[{own}]: b.img (copy 1): failed and more");
        assert_eq!(std::str::from_utf8(&bytes[..len]), Ok(wanted.as_str()));
        // nobody there
        log_to(&place, "lost");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let long = "\u{e4}".repeat(TEXT_MAX);
        assert!(line(&long).len() < TEXT_MAX + 40);
    }
}
