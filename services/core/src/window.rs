//! Windows: `[T - w, T]`, both ends included, exact to the microsecond.

use crate::error::{Error, Result};
use crate::time::Micros;
use serde::{Deserialize, Serialize};
use std::fmt;

const UNITS: [(char, i64); 5] =
    [('s', 1_000_000), ('m', 60_000_000), ('h', 3_600_000_000), ('d', 86_400_000_000), ('w', 604_800_000_000)];

/// The length of a window; `Forever` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    Length(Micros),
    Forever,
}

impl Window {
    /// The first instant inside the window that ends at `at` (inclusive).
    pub fn start(self, at: Micros) -> Micros {
        match self {
            Window::Length(length) => at.saturating_sub(length),
            Window::Forever => Micros::MIN,
        }
    }

    /// One or more `<integer><unit>` with units `s m h d w`, or `forever`.
    pub fn parse(text: &str) -> Result<Window> {
        if text == "forever" {
            return Ok(Window::Forever);
        }
        parse_duration(text).map(Window::Length)
    }
}

/// A length of time such as `90s`, `1d12h` or `2w`, in microseconds, greater than zero.
pub fn parse_duration(text: &str) -> Result<Micros> {
    let wrong = || {
        Error::invalid(format!("not a window: '{text}'"))
            .hint("write one or more <integer><unit> with units s m h d w, such as 90s, 1d12h or 2w, or forever")
    };
    let mut total: i64 = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = UNITS.iter().find(|(name, _)| *name == letter).ok_or_else(wrong)?.1;
        let count: i64 = digits.parse().map_err(|_| wrong())?;
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        digits.clear();
    }
    if !digits.is_empty() || total == 0 {
        return Err(wrong());
    }
    Ok(total)
}

/// Prints a length the way [`parse_duration`] reads it, largest unit first; a rest below a second is `…us`.
pub fn format_duration(micros: Micros) -> String {
    let mut rest = micros;
    let mut out = String::new();
    for (name, unit) in UNITS.iter().rev().skip(1) {
        if rest / unit > 0 {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if rest > 0 || out.is_empty() {
        out.push_str(&format!("{rest}us"));
    }
    out
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Length(length) => f.write_str(&format_duration(*length)),
            Window::Forever => f.write_str("forever"),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Window::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_syntax_and_nothing_else() {
        assert_eq!(Window::parse("90s").unwrap(), Window::Length(90_000_000));
        assert_eq!(Window::parse("1d12h").unwrap(), Window::Length(129_600_000_000));
        assert_eq!(Window::parse("2w").unwrap(), Window::Length(1_209_600_000_000));
        assert_eq!(Window::parse("forever").unwrap(), Window::Forever);
        for text in ["1month", "1ms", "7", "-1d", "0s", "", "h", "1.5h", "1 d", "99999999999999w"] {
            let error = Window::parse(text).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["90s", "36h", "1d12h", "2w", "1h"] {
            let length = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(length)).unwrap(), length);
        }
    }
}
