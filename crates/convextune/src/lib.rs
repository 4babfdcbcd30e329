//! Train networks by convex optimisation: every model is the proven minimum of its training
//! problem.
//!
//! Linear quadratic fine-tuning (Achille et al., CVPR 2021) of a pre-trained network f on N
//! samples with C classes:
//!
//! ```text
//! min over u, b   1/2 sum_i || alpha y_i - f0(x_i) - J(x_i) u - b ||^2 + (Lambda/2) ||u||^2
//! ```
//!
//! | symbol | meaning |
//! |---|---|
//! | `w0` | pre-trained weights with the head W0 |
//! | `u`  | their change, the unknown |
//! | `J(x)` | df(x; w)/dw at w0, `C x D` |
//! | `b` | free bias, eliminated exactly |
//! | `alpha` | scale of the targets, 15 |
//! | `Lambda` | total weight decay, N times the per-sample one |
//!
//! [`linearize`] makes J an operator, [`finetune`] fits, and [`model_file`] writes and reads what was
//! fitted.

mod allocation;
pub mod checkpoint;
pub mod constrain;
pub mod convexnet;
pub mod error;
pub mod finetune;
pub mod influence;
pub mod job;
pub mod kept_kernel;
pub mod linearize;
pub mod model_file;
pub mod page;
pub mod progress;
pub mod report;
pub mod report_page;
mod rng;
pub mod samples;
pub mod spectrum;
pub mod tune;
pub mod update;

pub use allocation::keep_freed_memory;
pub use error::Error;
