//! The generated types of the trimmed Hubble API (`proto/`). Named only here, in the rest of
//! `source`, and in `demo`.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

/// `flow.proto`.
pub mod flow {
    tonic::include_proto!("flow");
}

/// `observer.proto`.
pub mod observer {
    tonic::include_proto!("observer");
}

/// `relay.proto`.
pub mod relay {
    tonic::include_proto!("relay");
}

/// `health.proto`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
