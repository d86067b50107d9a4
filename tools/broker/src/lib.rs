//! For tests and benches: a real Kafka broker or PostgreSQL server of one's own, started by `tools/kafka.sh` and
//! `tools/postgres.sh`. It ends with the process that started it, however that ends.

mod guarded;

pub use guarded::{Guarded, On, Right, USERS};

use std::io::{BufRead as _, BufReader, Error, Result, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub struct Broker {
    /// `127.0.0.1:PORT`.
    pub address: String,
    script: Script,
}

impl Broker {
    /// A broker on a free port.
    pub fn start() -> Result<Broker> {
        Broker::start_with(&[])
    }

    /// A broker on a free port with further properties, each `name=value`. What failed is on standard error.
    pub fn start_with(properties: &[&str]) -> Result<Broker> {
        let arguments: Vec<&str> = ["0"].iter().chain(properties).copied().collect();
        let missing = "no Kafka broker; `make test KAFKA=off` leaves these tests out";
        let (script, address) = Script::serve("kafka.sh", &arguments, missing)?;
        Ok(Broker { address, script })
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.script.command("kill")
    }

    /// After a kill: the same port, the same data.
    pub fn restart(&self) -> Result<()> {
        self.script.command("start")
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.script.command("pause")
    }

    pub fn resume(&self) -> Result<()> {
        self.script.command("resume")
    }
}

/// The superuser is `postgres` with the password `secret`.
pub struct Postgres {
    /// `127.0.0.1:PORT`.
    pub address: String,
    script: Script,
}

impl Postgres {
    /// A server on a free port. What failed is on standard error.
    pub fn start() -> Result<Postgres> {
        let (script, address) = Script::serve("postgres.sh", &[], "no PostgreSQL")?;
        Ok(Postgres { address, script })
    }

    /// The address of a database, which need not exist, as the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:secret@{}/{database}", self.address)
    }

    /// A statement on one line, as the superuser in the database `thyme`.
    pub fn sql(&self, statement: &str) -> Result<()> {
        self.script.tell(&format!("sql {statement}"), "sql")
    }

    /// SIGKILL to all its processes.
    pub fn kill(&self) -> Result<()> {
        self.script.command("kill")
    }

    /// After a kill: the same port, the same data.
    pub fn restart(&self) -> Result<()> {
        self.script.command("start")
    }

    /// SIGSTOP to all its processes.
    pub fn pause(&self) -> Result<()> {
        self.script.command("pause")
    }

    pub fn resume(&self) -> Result<()> {
        self.script.command("resume")
    }
}

/// A running script that is told what to do line by line, and ends with its standard input.
struct Script {
    pipes: Mutex<Pipes>,
}

struct Pipes {
    _script: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Script {
    /// The script once its server is there, and the address. `missing` is the error if there is none.
    fn serve(name: &str, arguments: &[&str], missing: &str) -> Result<(Script, String)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let mut script =
            Command::new(path).arg("serve").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(commands), Some(answers)) = (script.stdin.take(), script.stdout.take()) else {
            return Err(Error::other(format!("tools/{name} has no pipes")));
        };
        let mut pipes = Pipes { _script: script, commands, answers: BufReader::new(answers) };
        let ready = pipes.answer()?;
        let Some(address) = ready.strip_prefix("ready ") else {
            return Err(Error::other(format!("{missing} ({ready})")));
        };
        Ok((Script { pipes: Mutex::new(pipes) }, address.to_string()))
    }

    fn command(&self, command: &str) -> Result<()> {
        self.tell(command, command)
    }

    fn tell(&self, command: &str, done: &str) -> Result<()> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.commands, "{command}")?;
        let answer = pipes.answer()?;
        if answer == format!("done {done}") { Ok(()) } else { Err(Error::other(format!("{command}: '{answer}'"))) }
    }
}

impl Pipes {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    }
}
