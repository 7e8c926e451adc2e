//! `farrier-bindgen IN.wasm OUT-DIR`: what the `wasm-bindgen` command does with `--target web`,
//! through its library, because the command brings an HTTP client and a web driver along.
//!
//! Called by `cargo xtask web`.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: farrier-bindgen IN.wasm OUT-DIR");
        return ExitCode::from(2);
    };
    let made = Bindgen::new().input_path(input).web(true).and_then(|bindgen| {
        bindgen
            // The library's default leaves `init()` without the module's address.
            .omit_default_module_path(false)
            .typescript(true)
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate(output)
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farrier-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
