//! For tests and benches: a real Kafka broker of one's own, started by `tools/kafka.sh`. It ends with the process that started it,
//! however that ends.

use std::io::{BufRead as _, BufReader, Error, Result, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub struct Broker {
    /// `127.0.0.1:PORT`.
    pub address: String,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    _script: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Broker {
    /// A broker on a free port.
    pub fn start() -> Result<Broker> {
        Broker::start_with(&[])
    }

    /// A broker on a free port with further properties, each `name=value`. What failed is on standard error.
    pub fn start_with(properties: &[&str]) -> Result<Broker> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka.sh");
        let mut script = Command::new(script)
            .args(["serve", "0"])
            .args(properties)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(commands), Some(answers)) = (script.stdin.take(), script.stdout.take()) else {
            return Err(Error::other("tools/kafka.sh has no pipes"));
        };
        let mut pipes = Pipes { _script: script, commands, answers: BufReader::new(answers) };
        let ready = pipes.answer()?;
        let Some(address) = ready.strip_prefix("ready ") else {
            return Err(Error::other(
                "no Kafka broker: see above for the reason; `make test KAFKA=off` leaves these tests out",
            ));
        };
        Ok(Broker { address: address.to_string(), pipes: Mutex::new(pipes) })
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.command("kill")
    }

    /// After a kill: the same port, the same data.
    pub fn restart(&self) -> Result<()> {
        self.command("start")
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.command("pause")
    }

    pub fn resume(&self) -> Result<()> {
        self.command("resume")
    }

    fn command(&self, command: &str) -> Result<()> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.commands, "{command}")?;
        let answer = pipes.answer()?;
        if answer == format!("done {command}") { Ok(()) } else { Err(Error::other(format!("{command}: '{answer}'"))) }
    }
}

impl Pipes {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    }
}
