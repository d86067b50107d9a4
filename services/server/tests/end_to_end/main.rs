//! A whole server per test, asked over its real ports.

#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod http;
#[cfg(test)]
mod process;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod support;
