//! Figures and how they are printed: one JSON line per measure.

use serde_json::json;

/// One measure.
#[derive(Debug, Clone)]
pub struct Measure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What it is compared with, where it is.
    peer: Option<String>,
    /// The measure over the peer's.
    ratio: Option<f64>,
}

impl Measure {
    pub fn new(name: &'static str, value: f64, unit: &'static str) -> Measure {
        Measure { name, value, unit, peer: None, ratio: None }
    }

    /// Of a measure that is itself a ratio: to what.
    pub fn over(self, peer: &str) -> Measure {
        let ratio = Some(self.value);
        Measure { peer: Some(peer.to_string()), ratio, ..self }
    }

    /// Beside another figure, with the measure over that one.
    pub fn compared(self, peer: &str, ratio: f64) -> Measure {
        Measure { peer: Some(peer.to_string()), ratio: Some(ratio), ..self }
    }

    pub fn line(&self) -> String {
        let line = json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "ratio": self.ratio.map(rounded),
        });
        line.to_string()
    }
}

/// Four significant digits: more are noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let text = if digits > 0 { format!("{value:.*}", digits as usize) } else { format!("{value:.0}") };
    text.parse().unwrap_or(value)
}

/// The middle of the values; 0 if there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The value that this share of the values does not exceed; 0 if there are none.
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_five_fields() {
        let plain = Measure::new("engine.events_per_cpu_s", 251_234.6, "events/CPU-s").line();
        let parsed: serde_json::Value = serde_json::from_str(&plain).unwrap();
        let expected = json!({
            "name": "engine.events_per_cpu_s", "value": 251_235.0, "unit": "events/CPU-s", "peer": null, "ratio": null
        });
        assert_eq!(parsed, expected);
        let compared = Measure::new("a", 1.23456, "ratio").over("b").line();
        assert!(compared.contains(r#""peer":"b""#) && compared.contains(r#""ratio":1.235"#), "{compared}");
        let beside = Measure::new("a", 0.5, "ms").compared("b", 2.0).line();
        assert!(beside.contains(r#""value":0.5"#) && beside.contains(r#""ratio":2.0"#), "{beside}");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn one_in_a_hundred_exceeds_the_last_percentile() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(values.clone(), 0.99), 198.0);
        assert_eq!(percentile(values, 1.0), 200.0);
        assert_eq!((percentile(vec![7.0], 0.99), percentile(vec![], 0.99)), (7.0, 0.0));
    }
}
