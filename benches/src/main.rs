//! The standard workload and the measures of `make bench`: one JSON line per measure on stdout, what goes on on stderr. Every
//! run first checks 1,000 answers against a brute force, and ends with 1 if one differs.

mod allocations;
mod cpu;
mod definitions;
mod engine;
mod failure;
mod oracle;
mod report;
mod server;
mod settings;
mod sizes;
mod workload;

use failure::Outcome;
use settings::Settings;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thyme-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    // The roles of child processes.
    match arguments {
        [role, task] if role == "engine-child" => return engine::run_child(task),
        [role, flags] if role == "server-child" => return server::run_child(flags),
        _ => {}
    }
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{}", settings::USAGE);
        return Ok(());
    }
    let settings = Settings::parse(arguments)?;
    engine::measure(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        server::measure(&settings).await?;
        server::measure_growth(&settings).await
    })
}
