//! The posterior of a fitted model against true fits without some of its samples.
