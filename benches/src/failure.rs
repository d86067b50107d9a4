//! One error type for a tool that ends at the first error.

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
