//! The wire: messages and gRPC services generated from `proto/thyme/v1`, their conversion to and from the domain
//! ([`convert`], [`columns`]), and the one place where an error kind becomes a gRPC status ([`status`]).

pub mod columns;
pub mod convert;
pub mod deadline;
pub mod status;
#[cfg(test)]
mod tests;

/// Generated from `proto/thyme/v1`.
pub mod v1 {
    #![expect(clippy::allow_attributes, reason = "generated code")]
    tonic::include_proto!("thyme.v1");
}

/// Generated from `proto/thyme/internal/v1`: what nodes ask each other.
pub mod internal {
    pub mod v1 {
        #![expect(clippy::allow_attributes, reason = "generated code")]
        tonic::include_proto!("thyme.internal.v1");
    }
}

/// The compiled descriptors of `proto/`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/thyme.v1.descriptors.bin"));
