//! Tests of whole files: valid, damaged, hostile and real ones.

mod fixtures;
mod hostile;
mod hostile_pickles;
mod mutations;
mod real;
mod valid;
mod writing;
