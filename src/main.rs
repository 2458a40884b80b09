//! Arguments become an exit code.

fn main() -> std::process::ExitCode {
    ceso::cli::main()
}
