//! A web server for one folder, on this machine only: enough to open the page in a browser.
//!
//! It answers GET and HEAD for files below its folder and knows nothing else.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::failure::{During, Failure, Outcome};

/// A server that answers until the process ends.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    /// Serves `folder` at `port` of the loopback interface (0: any free one), in the background.
    pub(crate) fn start(folder: &Path, port: u16) -> Outcome<Self> {
        // Requests are compared with this: links in it must be resolved once, as theirs will be.
        let root = fs::canonicalize(folder).during(|| format!("serve {}", folder.display()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            Failure::new(match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!(
                        "port {port} is in use: end what uses it, or choose another with `--port`"
                    )
                }
                _ => format!("cannot listen on port {port}: {error}"),
            })
        })?;
        let address = listener.local_addr().during(|| "learn the server's address".to_owned())?;
        thread::spawn(move || accept(&listener, &Arc::from(root)));
        Ok(Self { address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Asks itself for `path`; returns the answer's head and body.
    pub(crate) fn fetch(&self, path: &str) -> Outcome<(String, Vec<u8>)> {
        let fetched = self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = fetched.during(|| format!("fetch {path} from {}", self.url()))?;
        let end = answer
            .windows(HEAD_END.len())
            .position(|window| window == HEAD_END)
            .ok_or_else(|| Failure::new(format!("{}: an answer without a head", self.url())))?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Ok((head, answer[end + HEAD_END.len()..].to_vec()))
    }

    fn exchange(&self, request: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn accept(listener: &TcpListener, root: &Arc<Path>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        // One more than a browser and its workers open is somebody else: drop it.
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (root, open) = (Arc::clone(root), Arc::clone(&open));
        thread::spawn(move || {
            // A browser that goes away in the middle is no event here.
            let _ = answer(&stream, &root);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn answer(mut stream: &TcpStream, root: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read_head(stream)?;
    match Request::parse(&request).and_then(|request| Ok((open(root, request.path)?, request))) {
        Ok((found, request)) => {
            write_head(stream, "200 OK", found.content_type, found.len)?;
            if !request.head_only {
                io::copy(&mut BufReader::new(found.file).take(found.len), &mut stream)?;
            }
        }
        Err(refusal) => {
            let text = format!("{refusal}\n");
            write_head(
                stream,
                &refusal.to_string(),
                "text/plain; charset=utf-8",
                text.len() as u64,
            )?;
            stream.write_all(text.as_bytes())?;
        }
    }
    stream.flush()
}

/// Everything up to the empty line. What comes after it (bodies) is not for us.
fn read_head(stream: &TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut bytes = BufReader::new(stream).bytes();
    while !head.ends_with(HEAD_END) {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(bytes.next().ok_or(io::ErrorKind::UnexpectedEof)??);
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn write_head(mut stream: &TcpStream, status: &str, kind: &str, len: u64) -> io::Result<()> {
    // Nothing is kept by the browser: after a new build a reload must show it.
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
}

#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    head_only: bool,
    path: &'a str,
}

impl<'a> Request<'a> {
    fn parse(head: &'a str) -> Result<Self, Refusal> {
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (words.next(), words.next());
        let head_only = match method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(Refusal::Method),
        };
        let target = target.filter(|target| target.starts_with('/')).ok_or(Refusal::Request)?;
        let path = target.split(['?', '#']).next().unwrap_or_default();
        Ok(Self { head_only, path })
    }
}

struct Found {
    file: File,
    len: u64,
    content_type: &'static str,
}

/// The file that the path of a request means; nothing outside `root` is ever meant.
fn open(root: &Path, path: &str) -> Result<Found, Refusal> {
    let mut file = root.join(relative(path)?);
    if file.is_dir() {
        file.push("index.html");
    }
    // Also a link inside the folder must not lead out of it.
    let file = fs::canonicalize(file).map_err(|_| Refusal::NotFound)?;
    if !file.starts_with(root) || !file.is_file() {
        return Err(Refusal::NotFound);
    }
    let content_type = content_type(&file);
    let file = File::open(file).map_err(|_| Refusal::NotFound)?;
    let len = file.metadata().map_err(|_| Refusal::NotFound)?.len();
    Ok(Found { file, len, content_type })
}

/// The percent-decoded path without its leading slash. Names only: no `..`, no absolute parts.
fn relative(path: &str) -> Result<PathBuf, Refusal> {
    let decoded = percent_decoded(path).ok_or(Refusal::Request)?;
    let mut relative = PathBuf::new();
    for name in decoded.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." || name.contains('\0') {
            return Err(Refusal::NotFound);
        }
        relative.push(name);
    }
    Ok(relative)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// Browsers refuse modules and wasm that come under another name than these.
fn content_type(file: &Path) -> &'static str {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// An answer that is not the file.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Request,
    NotFound,
    Method,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
        })
    }
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const HEAD_BYTES_MAX: usize = 16 * 1024;
const CONNECTIONS_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// A served folder that goes away with the test; beside it lies a file that must not be served.
    struct Site {
        outer: PathBuf,
        server: Server,
    }

    impl Site {
        fn new(name: &str) -> Self {
            let outer = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            let inner = outer.join("site");
            fs::create_dir_all(inner.join("a b")).unwrap();
            fs::write(outer.join("secret.txt"), "secret").unwrap();
            fs::write(inner.join("index.html"), "<p>page").unwrap();
            fs::write(inner.join("m.wasm"), "\0asm").unwrap();
            fs::write(inner.join("a b/index.html"), "inner").unwrap();
            std::os::unix::fs::symlink("../secret.txt", inner.join("link.txt")).unwrap();
            let server = Server::start(&inner, 0).unwrap();
            Self { outer, server }
        }

        fn get(&self, path: &str) -> (String, String) {
            let (head, body) = self.server.fetch(path).unwrap();
            (head, String::from_utf8(body).unwrap())
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.outer);
        }
    }

    #[test]
    fn files_are_served_with_their_types() {
        let site = Site::new("types");
        let (head, body) = site.get("/");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Content-Type: text/html; charset=utf-8\r\n"), "{head}");
        assert!(head.contains("Content-Length: 7\r\n"), "{head}");
        assert_eq!(body, "<p>page");
        assert!(site.get("/m.wasm?v=1").0.contains("Content-Type: application/wasm\r\n"));
        assert_eq!(site.get("/a%20b/").1, "inner");
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let site = Site::new("outside");
        for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/a%20b/../../secret.txt", "/link.txt"]
        {
            let (head, body) = site.get(path);
            assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
            assert_eq!(body, "404 Not Found\n");
        }
        let absolute = format!("/{}", site.outer.join("secret.txt").display());
        assert!(site.get(&absolute).0.starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        let site = Site::new("refused");
        let status = |request: &str| {
            let answer = String::from_utf8(site.server.exchange(request).unwrap()).unwrap();
            answer.lines().next().unwrap().to_owned()
        };
        assert_eq!(status("POST / HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(status("GET http://else/ HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        assert_eq!(status("GET /%zz HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        assert_eq!(status("GET /none HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    }

    #[test]
    fn head_is_answered_without_a_body() {
        let site = Site::new("head");
        let answer = site.server.exchange("HEAD / HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(HEAD_END));
    }

    #[test]
    fn only_this_machine_is_listened_to_and_a_taken_port_is_named() {
        let site = Site::new("port");
        assert!(site.server.address.ip().is_loopback());
        let port = site.server.address.port();
        let taken = Server::start(&site.outer, port).unwrap_err().to_string();
        assert!(taken.contains(&port.to_string()) && taken.contains("--port"), "{taken}");
    }
}
