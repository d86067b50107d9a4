//! A broker that asks who comes and what they may do. Rights are granted and taken over Kafka's own protocol, as an administrator does.

use crate::Broker;
use std::io::{Error, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Whom it knows beside the administrator; the password of each is `hunter2`.
pub const USERS: [&str; 4] = ["ann", "bob", "cyd", "dan"];

/// How long the broker may take to act on a change.
const SETTLE: Duration = Duration::from_secs(30);

const SASL_HANDSHAKE: i16 = 17;
const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const SASL_AUTHENTICATE: i16 = 36;

/// Everything of a kind whose name begins so.
#[derive(Debug, Clone, Copy)]
pub enum On<'a> {
    Topics(&'a str),
    Groups(&'a str),
    TransactionalIds(&'a str),
}

/// By their numbers in the protocol.
#[derive(Debug, Clone, Copy)]
pub enum Right {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Describe = 8,
}

pub struct Guarded {
    pub broker: Broker,
}

impl Guarded {
    /// The administrator is `admin` with the password `root`.
    pub fn start() -> Result<Guarded> {
        let users: String = USERS.iter().map(|user| format!(" user_{user}=\"hunter2\"")).collect();
        let jaas = format!(
            "listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             username=\"admin\" password=\"root\" user_admin=\"root\"{users};"
        );
        // The internal listener stays plain; the guarded one has the port.
        let broker = Broker::start_with(&[
            "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            &jaas,
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:admin;User:ANONYMOUS",
        ])?;
        Ok(Guarded { broker })
    }

    /// In force when it returns.
    pub fn grant(&self, user: &str, on: On<'_>, rights: &[Right]) -> Result<()> {
        self.change(user, on, rights, CREATE_ACLS)
    }

    /// Gone when it returns.
    pub fn take(&self, user: &str, on: On<'_>, rights: &[Right]) -> Result<()> {
        self.change(user, on, rights, DELETE_ACLS)
    }

    fn change(&self, user: &str, on: On<'_>, rights: &[Right], call: i16) -> Result<()> {
        let mut admin = Admin::connect(&self.broker.address)?;
        for right in rights {
            let entry = entry(user, on, *right);
            let answer = admin.ask(call, 1, &[&1i32.to_be_bytes(), entry.as_slice()].concat())?;
            // How long the client should pause, how many results, and the error of the only one.
            refuse(answer.get(8..10))?;
            let until = Instant::now() + SETTLE;
            while admin.has(&entry)? != (call == CREATE_ACLS) {
                if Instant::now() > until {
                    return Err(Error::other(format!("{user} {on:?} {right:?}: the broker does not act on it")));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// An entry of the list, which is a filter that finds only itself as well.
fn entry(user: &str, on: On<'_>, right: Right) -> Vec<u8> {
    const PREFIXED: u8 = 4;
    const ALLOW: u8 = 3;
    let (kind, prefix) = match on {
        On::Topics(prefix) => (2, prefix),
        On::Groups(prefix) => (3, prefix),
        On::TransactionalIds(prefix) => (5, prefix),
    };
    let mut bytes = vec![kind];
    put(prefix, &mut bytes);
    bytes.push(PREFIXED);
    put(&format!("User:{user}"), &mut bytes);
    put("*", &mut bytes);
    bytes.extend([right as u8, ALLOW]);
    bytes
}

fn put(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn refuse(error: Option<&[u8]>) -> Result<()> {
    match error {
        Some([0, 0]) => Ok(()),
        other => Err(Error::other(format!("the broker refuses the administrator: {other:?}"))),
    }
}

/// A connection as the administrator.
struct Admin {
    stream: TcpStream,
    asked: i32,
}

impl Admin {
    fn connect(address: &str) -> Result<Admin> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SETTLE))?;
        let mut admin = Admin { stream, asked: 0 };
        let mut mechanism = Vec::new();
        put("PLAIN", &mut mechanism);
        let answer = admin.ask(SASL_HANDSHAKE, 1, &mechanism)?;
        refuse(answer.get(..2))?;
        let login = b"\0admin\0root";
        let answer = admin.ask(SASL_AUTHENTICATE, 0, &[&(login.len() as i32).to_be_bytes(), &login[..]].concat())?;
        refuse(answer.get(..2))?;
        Ok(admin)
    }

    /// Whether the broker goes by the entry.
    fn has(&mut self, entry: &[u8]) -> Result<bool> {
        let answer = self.ask(DESCRIBE_ACLS, 1, entry)?;
        refuse(answer.get(4..6))?;
        // No message, and then how many there are.
        Ok(answer.get(8..12).is_some_and(|count| count != [0; 4]))
    }

    /// The body of the answer to a request of the protocol.
    fn ask(&mut self, call: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
        self.asked += 1;
        let mut request = Vec::new();
        request.extend(call.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend(self.asked.to_be_bytes());
        put("admin", &mut request);
        request.extend(body);
        self.stream.write_all(&(request.len() as u32).to_be_bytes())?;
        self.stream.write_all(&request)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        // The number of the request comes back first.
        Ok(answer.split_off(4.min(answer.len())))
    }
}
