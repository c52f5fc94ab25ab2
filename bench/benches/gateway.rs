//! `cargo bench -p cdr-bench --bench gateway`: the gateway beside door and pipe. See the library.

fn main() -> std::process::ExitCode {
    cdr_bench::main()
}
