//! The `farrier` command. What it does is in the library and in `cli`.

#![deny(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
