//! Partials: mergeable summaries of a set of rows. Each depends on the set alone: order, batches and merging leave no trace, and
//! equal sets encode to equal bytes. Only of a digest, what was cut on the way shows; see [`ValueDigest`].

use super::digest::ValueDigest;
use super::layout::{PartialKind, PartialSpec};
use super::sketch::DistinctSketch;
use crate::decimal::Decimal;
use crate::error::{Error, Result};
use crate::exact::{DecayedSum, DecimalSquares, DecimalSum, FloatSquares, FloatSum, IntSquares};
use crate::record::{put_varint, put_wide_varint, take_varint, take_wide_varint, unzigzag, zigzag};
use crate::time::Micros;
use crate::value::Value;

/// The state of one [`PartialSpec`] over some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partial {
    Count(u64),
    /// Never overflows: 2^64 values of 64 bits.
    SumInt(i128),
    SumFloat(FloatSum),
    SquaresInt(IntSquares),
    SquaresFloat(FloatSquares),
    SumDecimal(DecimalSum),
    SquaresDecimal(DecimalSquares),
    /// The least or greatest value; null when there was none.
    Extreme(Value),
    Distinct(DistinctSketch),
    Decayed(DecayedSum),
    Digest(ValueDigest),
}

impl Partial {
    /// The partial of no rows.
    pub fn empty(spec: &PartialSpec) -> Partial {
        match spec.kind {
            PartialKind::Count => Partial::Count(0),
            PartialKind::SumInt => Partial::SumInt(0),
            PartialKind::SumFloat => Partial::SumFloat(FloatSum::default()),
            PartialKind::SquaresInt => Partial::SquaresInt(IntSquares::default()),
            PartialKind::SquaresFloat => Partial::SquaresFloat(FloatSquares::default()),
            PartialKind::SumDecimal => Partial::SumDecimal(DecimalSum::default()),
            PartialKind::SquaresDecimal => Partial::SquaresDecimal(DecimalSquares::default()),
            PartialKind::Min | PartialKind::Max => Partial::Extreme(Value::Null),
            PartialKind::DistinctSketch => Partial::Distinct(DistinctSketch::default()),
            PartialKind::DecayedSum { .. } => Partial::Decayed(DecayedSum::default()),
            PartialKind::DigestInt => Partial::Digest(ValueDigest::new(false)),
            PartialKind::DigestFloat => Partial::Digest(ValueDigest::new(true)),
        }
    }

    /// Adds one row that fulfils the predicate. `time` is the row's, `value` is the row's value in `spec.column`; nulls are skipped, except that a
    /// Count without column counts the row whatever `value` is.
    #[inline]
    pub fn add(&mut self, spec: &PartialSpec, time: Micros, value: &Value) {
        match (self, value) {
            (Partial::Count(count), _) => *count += u64::from(spec.column.is_none() || !value.is_null()),
            (_, Value::Null) => {}
            (Partial::SumFloat(sum), Value::Float(number)) => sum.add(*number),
            (Partial::SumInt(sum), Value::Int(number)) => *sum += i128::from(*number),
            (Partial::SquaresFloat(sum), Value::Float(number)) => sum.add(*number),
            (Partial::SquaresInt(sum), Value::Int(number)) => sum.add(*number),
            (Partial::SumDecimal(sum), Value::Decimal(number)) => sum.add(*number),
            (Partial::SquaresDecimal(sum), Value::Decimal(number)) => sum.add(*number),
            (Partial::Extreme(extreme), _) => take_extreme(spec.kind, extreme, value),
            (Partial::Distinct(sketch), _) => sketch.add(value),
            (Partial::Digest(digest), _) => digest.add(value),
            (Partial::Decayed(sum), _) => add_fading(spec.kind, sum, time, value),
            // The planner gives each partial a column of its own type.
            (_, _) => debug_assert!(false, "a {} in a {:?} partial", value.type_name(), spec.kind),
        }
    }

    /// Adds the rows of `other`, a partial of the same spec over different rows.
    pub fn merge(&mut self, spec: &PartialSpec, other: &Partial) {
        match (self, other) {
            (Partial::Count(count), Partial::Count(more)) => *count += more,
            (Partial::SumInt(sum), Partial::SumInt(more)) => *sum += more,
            (Partial::SumFloat(sum), Partial::SumFloat(more)) => sum.merge(more),
            (Partial::SquaresInt(sum), Partial::SquaresInt(more)) => sum.merge(more),
            (Partial::SquaresFloat(sum), Partial::SquaresFloat(more)) => sum.merge(more),
            (Partial::SumDecimal(sum), Partial::SumDecimal(more)) => sum.merge(more),
            (Partial::SquaresDecimal(sum), Partial::SquaresDecimal(more)) => sum.merge(more),
            (Partial::Extreme(extreme), Partial::Extreme(more)) => take_extreme(spec.kind, extreme, more),
            (Partial::Distinct(sketch), Partial::Distinct(more)) => sketch.merge(more),
            (Partial::Digest(digest), Partial::Digest(more)) => digest.merge(more),
            (Partial::Decayed(sum), Partial::Decayed(more)) => sum.merge(more),
            (_, _) => debug_assert!(false, "partials of different kinds"),
        }
    }

    /// Whether [`Partial::subtract`] works for this spec, over rows of a stretch of time of this length.
    pub fn invertible(spec: &PartialSpec, stretch: u64) -> bool {
        match spec.kind {
            PartialKind::Count | PartialKind::SumInt | PartialKind::SumFloat => true,
            PartialKind::SquaresInt | PartialKind::SquaresFloat => true,
            PartialKind::SumDecimal | PartialKind::SquaresDecimal => true,
            PartialKind::Min | PartialKind::Max | PartialKind::DistinctSketch => false,
            PartialKind::DecayedSum { half_life } => DecayedSum::tells(half_life, stretch),
            PartialKind::DigestInt | PartialKind::DigestFloat => false,
        }
    }

    /// Whether it was too much to be kept: the rows are to be read one by one.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Partial::Decayed(sum) if sum.is_too_wide())
    }

    /// Brings a digest down to a bounded size; others have one.
    pub fn cut(&mut self) {
        if let Partial::Digest(digest) = self {
            digest.cut();
        }
    }

    /// Takes the rows of `other` out again; they must have been added. Exact: leaves the partial of the remaining rows. Only
    /// for [`Partial::invertible`] specs.
    pub fn subtract(&mut self, spec: &PartialSpec, other: &Partial) {
        match (self, other) {
            (Partial::Count(count), Partial::Count(less)) => *count -= less,
            (Partial::SumInt(sum), Partial::SumInt(less)) => *sum -= less,
            (Partial::SumFloat(sum), Partial::SumFloat(less)) => sum.subtract(less),
            (Partial::SquaresInt(sum), Partial::SquaresInt(less)) => sum.subtract(less),
            (Partial::SquaresFloat(sum), Partial::SquaresFloat(less)) => sum.subtract(less),
            (Partial::SumDecimal(sum), Partial::SumDecimal(less)) => sum.subtract(less),
            (Partial::SquaresDecimal(sum), Partial::SquaresDecimal(less)) => sum.subtract(less),
            (Partial::Decayed(sum), Partial::Decayed(less)) => sum.subtract(less),
            (_, _) => debug_assert!(false, "{:?} does not subtract", spec.kind),
        }
    }

    /// Becomes what `until` has more than `before`, which is part of it. Only for [`Partial::invertible`] specs.
    #[inline]
    pub fn set_difference(&mut self, spec: &PartialSpec, until: &Partial, before: &Partial) {
        match (&mut *self, until, before) {
            (Partial::Count(found), Partial::Count(until), Partial::Count(before)) => *found = until - before,
            (Partial::SumInt(found), Partial::SumInt(until), Partial::SumInt(before)) => *found = until - before,
            (Partial::SumFloat(found), Partial::SumFloat(until), Partial::SumFloat(before)) => {
                found.set_difference(until, before);
            }
            (Partial::SquaresFloat(found), Partial::SquaresFloat(until), Partial::SquaresFloat(before)) => {
                found.set_difference(until, before);
            }
            _ => {
                self.clone_from(until);
                self.subtract(spec, before);
            }
        }
    }

    /// Appends the canonical bytes: equal partials, equal bytes. Self-delimiting.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Partial::Count(count) => put_varint(out, *count),
            Partial::SumInt(sum) => put_wide_varint(out, ((sum << 1) ^ (sum >> 127)) as u128),
            Partial::SumFloat(sum) => sum.encode(out),
            Partial::SquaresInt(sum) => sum.encode(out),
            Partial::SquaresFloat(sum) => sum.encode(out),
            Partial::SumDecimal(sum) => sum.encode(out),
            Partial::SquaresDecimal(sum) => sum.encode(out),
            Partial::Extreme(value) => encode_extreme(value, out),
            Partial::Distinct(sketch) => sketch.encode(out),
            Partial::Decayed(sum) => sum.encode(out),
            Partial::Digest(digest) => digest.encode(out),
        }
    }

    /// Reads what [`Partial::encode`] wrote for a partial of this spec, and moves `bytes` behind it.
    pub fn decode(spec: &PartialSpec, bytes: &mut &[u8]) -> Result<Partial> {
        Ok(match spec.kind {
            PartialKind::Count => Partial::Count(take_varint(bytes)?),
            PartialKind::SumInt => {
                let folded = take_wide_varint(bytes)?;
                Partial::SumInt((folded >> 1) as i128 ^ -((folded & 1) as i128))
            }
            PartialKind::SumFloat => Partial::SumFloat(FloatSum::decode(bytes)?),
            PartialKind::SquaresInt => Partial::SquaresInt(IntSquares::decode(bytes)?),
            PartialKind::SquaresFloat => Partial::SquaresFloat(FloatSquares::decode(bytes)?),
            PartialKind::SumDecimal => Partial::SumDecimal(DecimalSum::decode(bytes)?),
            PartialKind::SquaresDecimal => Partial::SquaresDecimal(DecimalSquares::decode(bytes)?),
            PartialKind::Min | PartialKind::Max => Partial::Extreme(decode_extreme(bytes)?),
            PartialKind::DistinctSketch => Partial::Distinct(DistinctSketch::decode(bytes)?),
            PartialKind::DecayedSum { .. } => Partial::Decayed(DecayedSum::decode(bytes)?),
            PartialKind::DigestInt => Partial::Digest(ValueDigest::decode(false, bytes)?),
            PartialKind::DigestFloat => Partial::Digest(ValueDigest::decode(true, bytes)?),
        })
    }
}

fn add_fading(kind: PartialKind, sum: &mut DecayedSum, time: Micros, value: &Value) {
    let PartialKind::DecayedSum { half_life } = kind else { return };
    match value {
        Value::Int(number) => sum.add(half_life, time, *number as f64),
        Value::Float(number) => sum.add(half_life, time, *number),
        Value::Decimal(number) => sum.add(half_life, time, number.to_f64()),
        _ => debug_assert!(false, "a {} fades", value.type_name()),
    }
}

#[inline]
fn take_extreme(kind: PartialKind, extreme: &mut Value, value: &Value) {
    let better = match kind {
        _ if value.is_null() => false,
        _ if extreme.is_null() => true,
        PartialKind::Min => value < extreme,
        _ => value > extreme,
    };
    if better {
        *extreme = value.clone();
    }
}

const EXTREME_NONE: u8 = 0;
const EXTREME_INT: u8 = 1;
const EXTREME_FLOAT: u8 = 2;
const EXTREME_TIME: u8 = 3;
const EXTREME_STR: u8 = 4;
const EXTREME_DECIMAL: u8 = 5;

fn encode_extreme(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(number) => {
            out.push(EXTREME_INT);
            put_varint(out, zigzag(*number));
        }
        Value::Float(number) => {
            out.push(EXTREME_FLOAT);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Time(micros) => {
            out.push(EXTREME_TIME);
            put_varint(out, zigzag(*micros));
        }
        Value::Str(text) => {
            out.push(EXTREME_STR);
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Decimal(number) => {
            out.push(EXTREME_DECIMAL);
            number.encode(out);
        }
        Value::Null => out.push(EXTREME_NONE),
        other => {
            debug_assert!(false, "a {} is not ordered by Min and Max", other.type_name());
            out.push(EXTREME_NONE);
        }
    }
}

fn decode_extreme(bytes: &mut &[u8]) -> Result<Value> {
    let (tag, rest) = bytes.split_first().ok_or_else(broken)?;
    *bytes = rest;
    Ok(match *tag {
        EXTREME_NONE => Value::Null,
        EXTREME_INT => Value::Int(unzigzag(take_varint(bytes)?)),
        EXTREME_FLOAT => {
            let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(broken)?;
            *bytes = rest;
            Value::Float(f64::from_le_bytes(*head))
        }
        EXTREME_TIME => Value::Time(unzigzag(take_varint(bytes)?)),
        EXTREME_DECIMAL => Value::Decimal(Decimal::decode(bytes)?),
        EXTREME_STR => {
            let length = usize::try_from(take_varint(bytes)?).map_err(|_| broken())?;
            let (head, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
            *bytes = rest;
            Value::str(std::str::from_utf8(head).map_err(|_| broken())?)
        }
        _ => return Err(broken()),
    })
}

fn broken() -> Error {
    Error::data_loss("a stored partial does not decode")
}
