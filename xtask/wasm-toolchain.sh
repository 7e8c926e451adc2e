#!/usr/bin/env bash
# Gives this machine a Rust toolchain for wasm32-unknown-unknown and wasm32-wasip1.
#
#   wasm-toolchain.sh [--skip-rustup] [--force]
#
# 1. Asks rustup for the two targets: the plain way, where rustup may download.
# 2. Otherwise (or with --skip-rustup) takes Debian's rustc, LLVM, lld, library source and
#    wasi-libc by 'apt-get download', unpacks them into one private folder, builds the standard
#    library for both targets once, lays it down as an ordinary sysroot, and links the folder as
#    the rustup toolchain 'farrier-wasm'. Nothing is installed; installed toolchains stay as they are.
#
# Afterwards:  cargo +farrier-wasm build --target wasm32-unknown-unknown   (no nightly flags)
#
# May be run again at any time: a finished folder is only checked. --force builds it anew.
# To be rid of it: rustup toolchain uninstall farrier-wasm, and remove the folder.
# Messages go to stderr; stdout gets two lines:
#   WASM_TOOLCHAIN=...       the word after 'cargo +'
#   WASM_TOOLCHAIN_DIR=...   its sysroot
set -euo pipefail

NAME=farrier-wasm
ROOT=${XDG_CACHE_HOME:-$HOME/.cache}/farrier/wasm-toolchain
TC=$ROOT/toolchain
TARGETS=(wasm32-unknown-unknown wasm32-wasip1)
FORCE=0 TRY_RUSTUP=1
while [ $# -gt 0 ]; do
  case $1 in
    --skip-rustup) TRY_RUSTUP=0 ;;
    --force) FORCE=1 ;;
    -h|--help) sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "unknown option: $1" >&2; exit 2 ;;
  esac
  shift
done
# What the caller has set for its own builds must not reach the builds below.
unset RUSTC RUSTDOC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO_ENCODED_RUSTFLAGS \
  CARGO_BUILD_TARGET CARGO_TARGET_DIR LD_LIBRARY_PATH CARGO

say() { printf 'wasm-toolchain: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
answer() { printf 'WASM_TOOLCHAIN=%s\nWASM_TOOLCHAIN_DIR=%s\n' "$1" "$2"; exit 0; }
has() { command -v "$1" >/dev/null; }

have_targets() { # $1: sysroot
  local t
  for t in "${TARGETS[@]}"; do
    compgen -G "$1/lib/rustlib/$t/lib/libstd-*.rlib" >/dev/null || return 1
  done
}
linked() { ! has rustup || [ "$(rustc "+$NAME" --print sysroot 2>/dev/null)" = "$TC" ]; }
link() {
  linked && return
  rustup toolchain link "$NAME" "$TC" >&2
  linked || die "rustup lists $NAME, but 'cargo +$NAME' does not reach $TC"
}
# The compiler that the workspace asks for; an older one in Debian, or left from before, is none.
OLDEST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml" | head -1)
new_enough() { # $1: a version
  [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$OLDEST" "$1" | sort -V | head -1)" = "$OLDEST" ]
}
finished() {
  [ -f "$TC/.complete" ] && have_targets "$TC" &&
    new_enough "$("$TC/bin/rustc" --version 2>/dev/null | awk '{print $2}')"
}

# --- 1. rustup ------------------------------------------------------------------------------
if [ "$TRY_RUSTUP" = 1 ] && has rustup; then
  active=$(rustup show active-toolchain 2>/dev/null | awk '{print $1; exit}') || active=
  if [ -n "$active" ]; then
    sysroot=$(rustc "+$active" --print sysroot)
    have_targets "$sysroot" && answer "$active" "$sysroot"
    # A folder made earlier says that rustup could not: do not ask it at every run.
    if ! finished; then
      say "asking rustup for ${TARGETS[*]}"
      timeout 300 rustup target add --toolchain "$active" "${TARGETS[@]}" >/dev/null 2>&1 &&
        have_targets "$sysroot" && answer "$active" "$sysroot"
      say "rustup cannot add them here; taking Debian's packages"
    fi
  fi
fi

# --- 2. Debian: the finished folder of an earlier run -----------------------------------------
mkdir -p "$ROOT"
exec 9>"$ROOT/.lock" # two set-ups at once would unpack into each other
flock 9
if [ "$FORCE" = 0 ] && finished; then link; answer "$NAME" "$TC"; fi

# --- which packages -----------------------------------------------------------------------------
for c in apt-get apt-cache dpkg-deb tar cc ar; do
  has "$c" || die "needs $c: run 'rustup target add ${TARGETS[*]}' where there is no Debian"
done
apt_opts=(-o APT::Sandbox::User=root -o Acquire::Retries=3 -qq)
candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" {print $2}'; }
offered() { candidate "$1" | sed 's/[-+~].*//'; }
# A package list that is old offers an old compiler.
new_enough "$(offered rustc-web)" || new_enough "$(offered rustc)" ||
  apt-get "${apt_opts[@]}" update >&2
# bookworm carries a current compiler as rustc-web (the browser's build needs it); plain 'rustc'
# is the release's own: older there, good enough on later releases.
if [ -n "$(candidate rustc-web)" ]; then P=rustc-web D=libstd-rust-web-dev S=rust-web-src
else P=rustc D=libstd-rust-dev S=rust-src; fi
new_enough "$(offered "$P")" ||
  die "Debian has $P $(offered "$P"), and Rust $OLDEST is needed: run 'rustup target add ${TARGETS[*]}'"
depends() { # the dependencies of package $1, one a line, first of alternatives
  apt-cache show --no-all-versions "$1" | sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' |
    tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g'
}
dep() { depends "$1" | grep -Em1 "$2" || die "Debian's package $1 has no dependency like $2"; }
STD=$(dep "$D" '^libstd-rust-')
LLVM=$(dep "$STD" '^libllvm[0-9]+')
LLD=lld-$(printf %s "$LLVM" | grep -oE '[0-9]+' | head -1)
PKGS=("$P" "$D" "$STD" "$S" "$LLVM" "$LLD" wasi-libc)
# Libraries that the compiler loads and this machine lacks come along into the same folder.
for p in $(for q in "$P" "$STD" "$LLVM" "$LLD"; do depends "$q"; done | sort -u |
    grep -E '^lib' | grep -vE '^(libc6|libc-dev|libstd-rust|libllvm)'); do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || PKGS+=("$p")
done

# --- unpack -----------------------------------------------------------------------------------
say "packages: ${PKGS[*]}"
WORK=$ROOT/work
rm -rf "$WORK" "$TC"
mkdir -p "$WORK/deb" "$WORK/x" "$TC/bin" "$TC/lib/rustlib"
download() { (cd "$WORK/deb" && apt-get "${apt_opts[@]}" download "${PKGS[@]}" >&2); }
if ! download; then apt-get "${apt_opts[@]}" update >&2; download; fi
for f in "$WORK"/deb/*.deb; do
  case ${f##*/} in
    "$S"_*) # only the library's source: the compiler's own is ten times larger
      dpkg-deb --fsys-tarfile "$f" | tar -x -C "$WORK/x" --wildcards './usr/src/rustc-*/library/*' ;;
    *) dpkg-deb -x "$f" "$WORK/x" ;;
  esac
done

# --- lay out as a sysroot -----------------------------------------------------------------------
MULTIARCH=$(dpkg-architecture -qDEB_HOST_GNU_TYPE 2>/dev/null || echo "$(uname -m)-linux-gnu")
HOSTLIB=$(find "$WORK/x/usr/lib/rustlib" -maxdepth 2 -path '*-linux-gnu/lib' | head -1)
TRIPLE=$(basename "$(dirname "$HOSTLIB")")
mv "$WORK/x/usr/bin/rustc" "$TC/bin/rustc"
[ -e "$WORK/x/usr/bin/rustdoc" ] && mv "$WORK/x/usr/bin/rustdoc" "$TC/bin/rustdoc"
find "$WORK/x/usr/lib/$MULTIARCH" -maxdepth 1 -name 'lib*.so*' -exec mv -t "$TC/lib" {} +
mv "$WORK/x/usr/lib/rustlib/$TRIPLE" "$TC/lib/rustlib/$TRIPLE"
mkdir -p "$TC/lib/rustlib/$TRIPLE/bin" "$TC/lib/rustlib/src/rust"
mv "$WORK"/x/usr/src/rustc-*/library "$TC/lib/rustlib/src/rust/library"
mv "$WORK"/x/usr/lib/llvm-*/bin/lld "$TC/lib/rustlib/$TRIPLE/bin/rust-lld"
# libLLVM of some releases lies under llvm-NN/lib, with only a link beside the others.
find "$TC/lib" -maxdepth 1 -xtype l -delete
find "$WORK/x/usr/lib" -path '*/llvm-*/lib/libLLVM*.so*' -type f -exec mv -n -t "$TC/lib" {} +

# rustup's proxies set the library path; a direct call gets it from these small starters.
for b in "$TC/bin/rustc" "$TC/bin/rustdoc" "$TC/lib/rustlib/$TRIPLE/bin/rust-lld"; do
  [ -f "$b" ] || continue
  d=$(dirname "$b")
  mkdir -p "$d/.real"
  mv "$b" "$d/.real/"
  cat > "$b" <<STARTER
#!/bin/sh
LD_LIBRARY_PATH="$TC/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "$d/.real/$(basename "$b")" "\$@"
STARTER
  chmod +x "$b"
done
"$TC/bin/rustc" -vV >/dev/null || { ldd "$TC/bin/.real/rustc" >&2; die 'the unpacked compiler does not start'; }
[ "$("$TC/bin/rustc" --print sysroot)" = "$TC" ] || die "the compiler looks for its libraries in $("$TC/bin/rustc" --print sysroot)"

# cargo: the machine's own does.
if has rustup; then ln -sf "$(rustup which cargo)" "$TC/bin/cargo"
elif has cargo; then ln -sf "$(command -v cargo)" "$TC/bin/cargo"
else die 'needs a cargo'; fi

# wasi-libc goes where rustc looks for a target's own start files.
SELF=$TC/lib/rustlib/wasm32-wasip1/lib/self-contained
mkdir -p "$SELF"
cp "$WORK"/x/usr/lib/wasm32-wasi/*.{o,a} "$SELF/"

# --- the standard library, for both targets -----------------------------------------------------
LIB=$TC/lib/rustlib/src/rust/library
B=$WORK/std
mkdir -p "$B/src" "$B/.cargo"
echo '#![no_std]' > "$B/src/lib.rs"
cat > "$B/Cargo.toml" <<'TOML'
[package]
name = "seed"
version = "0.0.0"
edition = "2021"
[workspace]
[profile.release]
opt-level = 3
codegen-units = 1
debug = 0
TOML
if [ -d "$LIB/vendor" ]; then
  cat > "$B/.cargo/config.toml" <<TOML
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$LIB/vendor"
TOML
fi
export RUSTC=$TC/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=rust-lld CARGO_TARGET_WASM32_WASIP1_LINKER=rust-lld
# Bitcode stays in, for callers that set lto; source paths are cut to the usual ones.
export RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$TC/lib/rustlib/src/rust=/rustc/lib"
build_std() {
  (cd "$B" && "$TC/bin/cargo" build --release -q "$@" \
    -Zbuild-std=core,alloc,std,proc_macro,test,panic_abort,panic_unwind >&2)
}
say 'building the standard library (one to five minutes)'
args=()
for t in "${TARGETS[@]}"; do args+=(--target "$t"); done
if ! build_std --offline "${args[@]}"; then
  say "Debian's vendored crates do not suffice; fetching the library's dependencies"
  rm -f "$B/.cargo/config.toml"
  build_std "${args[@]}"
fi
for t in "${TARGETS[@]}"; do
  mkdir -p "$TC/lib/rustlib/$t/lib"
  find "$B/target/$t/release/deps" -name 'lib*.rlib' ! -name 'libseed*' \
    -exec cp -t "$TC/lib/rustlib/$t/lib" {} +
done
unset RUSTC RUSTFLAGS CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER CARGO_TARGET_WASM32_WASIP1_LINKER

# Debian's wasi-libc (2022) lacks nine functions that std refers to; a program meets some of them
# when it links std::thread, chmod or canonicalize. Weak refusals ("not supported", as newer
# wasi-libc without threads answers) complete it; a real definition anywhere wins. lld reads an
# archive without an index, so binutils' ar will do.
cat > "$B/refusals.rs" <<'RS'
#![no_std]
#![feature(linkage, thread_local)]
unsafe extern "C" { #[thread_local] static mut errno: i32; }
unsafe fn refuse() -> i32 { unsafe { errno = 52 }; -1 } // ENOSYS
macro_rules! weak { ($($n:ident($($a:ty),*) -> $r:ty = $v:expr;)*) => { $(
    #[unsafe(no_mangle)] #[linkage = "weak"]
    pub unsafe extern "C" fn $n($(_: $a),*) -> $r { #[allow(unused_unsafe)] unsafe { $v } }
)* } }
type P = *mut u8;
weak! {
    pthread_attr_init(P) -> i32 = 0;
    pthread_attr_setstacksize(P, usize) -> i32 = 0;
    pthread_attr_destroy(P) -> i32 = 0;
    pthread_create(P, P, P, P) -> i32 = 58; // ENOTSUP
    pthread_join(P, P) -> i32 = 58;
    pthread_detach(P) -> i32 = 58;
    chmod(P, i32) -> i32 = refuse();
    fchmod(i32, i32) -> i32 = refuse();
    realpath(P, P) -> P = { refuse(); core::ptr::null_mut() };
}
RS
"$TC/bin/rustc" --edition 2024 --target wasm32-wasip1 --crate-type lib --emit obj \
  -O -Cpanic=abort -Ccodegen-units=1 "$B/refusals.rs" -o "$B/refusals.o"
ar qS "$SELF/libc.a" "$B/refusals.o"
unset RUSTC_BOOTSTRAP

# --- prove it, link it ----------------------------------------------------------------------------
cat > "$B/proof.rs" <<'RS'
fn main() {
    let thread = std::thread::Builder::new().spawn(|| 1).is_ok();
    println!("{} {thread} {:?}", std::env::args().count(), std::fs::canonicalize("."));
}
RS
for t in "${TARGETS[@]}"; do
  "$TC/bin/rustc" --target "$t" -O "$B/proof.rs" -o "$B/proof.wasm"
  [ "$(head -c 4 "$B/proof.wasm" | od -An -tx1 | tr -d ' \n')" = 0061736d ] || die "$t: the linker made no wasm module"
  rm "$B/proof.wasm"
done
link
rm -rf "$WORK"
"$TC/bin/rustc" -V > "$TC/.complete"
say "ready: $(cat "$TC/.complete"), $(du -sh "$TC" | cut -f1)"
answer "$NAME" "$TC"
