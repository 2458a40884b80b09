//! Arguments become an exit code. A worker is told apart before anything else is set up.

fn main() -> std::process::ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == ceso::script::ARGUMENT) {
        ceso::script::main();
    }
    ceso::cli::main()
}
