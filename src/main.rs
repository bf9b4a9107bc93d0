//! The `fcam` program; see `fcam help`.

fn main() -> std::process::ExitCode {
    fcam::cli::main()
}
