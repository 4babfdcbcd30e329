//! Networks, weights and images: from untrusted bytes to a checked graph. Knows no solver.

pub mod weights;
