//! Networks, weights and images: from untrusted bytes to a checked graph and its derivatives.
//!
//! A network is a [`graph::Graph`] of [`ops`] on NHWC [`tensor`]s. This crate knows no solver.

pub mod backbones;
pub mod graph;
pub mod images;
pub mod kernels;
pub mod ops;
pub mod tensor;
pub mod weights;
