//! CPU seconds of a process with all its threads, user and system, from `/proc`.

use crate::failure::Outcome;

/// Linux counts in hundredths of a second (`USER_HZ`), whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// Of this process, or another by its id.
pub fn seconds(process: Option<u32>) -> Outcome<f64> {
    let path = process.map_or_else(|| "/proc/self/stat".to_string(), |id| format!("/proc/{id}/stat"));
    let text = std::fs::read_to_string(&path)?;
    // The name stands in brackets and may hold anything; the fields after it are numbers, the first of them is field 3.
    let (_, rest) = text.rsplit_once(')').ok_or_else(|| format!("{path} does not parse"))?;
    let field = |number: usize| -> Outcome<f64> {
        let text = rest.split_whitespace().nth(number - 3).ok_or_else(|| format!("{path} has no field {number}"))?;
        Ok(text.parse()?)
    };
    Ok((field(14)? + field(15)?) / TICKS_PER_SECOND)
}
