//! Exact sums: of i64 in i128, of f64 in a sparse fixed-point accumulator, of squares in twice the range; rounded once at read.
