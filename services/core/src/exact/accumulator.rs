//! A two's-complement fixed-point number wide enough for every sum of floats.
