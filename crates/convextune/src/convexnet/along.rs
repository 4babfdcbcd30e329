//! One program for one `lambda` after the other: through its kernel where it has a closed form, so that no weights are
//! formed, and otherwise from the solution before.

use convextune_solve::faer::Mat;
use convextune_solve::gated::{self, GatedRidge, Neuron, Patterns, Solution};

use super::fit::{Data, Program};
use super::table::{Table, Target};
use super::{GateChoice, NetModel, targets};
use crate::error::Error;
use crate::progress::Reporter;

/// A program on its way.
pub(super) struct Along<'a> {
    program: &'a mut Program,
    warm: Vec<Neuron>,
    closed: Option<Closed>,
    /// Rows on which errors are measured, and their labels; none for the training rows.
    tried: Option<(Mat<f64>, Target)>,
}

/// A closed form.
struct Closed {
    ridge: GatedRidge,
    /// Kernel between the tried rows and the training rows; none where these are the same.
    cross: Option<Mat<f64>>,
}

/// What is known of the minimum at one `lambda`.
pub(super) struct Place {
    pub(super) objective: f64,
    pub(super) relative_duality_gap: f64,
    /// Live neurons.
    pub(super) neurons: usize,
    /// How wrong the network is on the tried rows.
    pub(super) error: f64,
}

impl<'a> Along<'a> {
    /// On its way, errors being measured on these rows of a table, or on the training rows.
    pub(super) fn new(
        program: &'a mut Program,
        tried: Option<(&Table, &[usize])>,
    ) -> Result<Self, Error> {
        let encoder = &program.encoder;
        let tried = tried.map(|(table, rows)| -> Result<_, Error> {
            Ok((encoder.features(table, rows)?, encoder.labels(table, rows)?))
        });
        let tried = tried.transpose()?;
        // Adaptive gates change on the way, and with them the kernel.
        let ridge = match program.options.gates {
            GateChoice::Adaptive => None,
            _ => GatedRidge::new(&program.problem)?,
        };
        let closed = ridge.map(|ridge| Closed {
            ridge,
            cross: tried.as_ref().map(|(x, _)| cross_kernel(program, x)),
        });
        Ok(Self {
            program,
            warm: Vec::new(),
            closed,
            tried,
        })
    }

    /// Whether it goes through a kernel.
    pub(super) fn has_kernel(&self) -> bool {
        self.closed.is_some()
    }

    /// The minimum at `lambda`; without a kernel to a relative gap of `tolerance`.
    pub(super) fn at(
        &mut self,
        lambda: f64,
        tolerance: f64,
        reporter: &dyn Reporter,
    ) -> Result<Place, Error> {
        let Some(Closed { ridge, cross }) = &mut self.closed else {
            let solution = self.solution(lambda, tolerance, reporter)?;
            return Ok(self.place(&solution));
        };
        let point = ridge.point(lambda)?;
        let outputs = match cross {
            Some(cross) => {
                let z = &*cross * &point.a;
                Mat::from_fn(z.nrows(), z.ncols(), |s, c| z[(s, c)] + point.intercept[c])
            }
            None => point.outputs,
        };
        // The squared norm leaves no weights at zero behind a gate that is on for a sample.
        let patterns = self.program.problem.matrix.patterns();
        let on = (0..patterns.len()).filter(|gate| patterns.count(*gate) > 0);
        let gap = (point.objective - point.dual_value).max(0.0);
        Ok(Place {
            objective: point.objective,
            relative_duality_gap: gap / point.objective.max(f64::MIN_POSITIVE),
            neurons: on.count() * point.intercept.len(),
            error: targets::error(outputs.as_ref(), self.labels()),
        })
    }

    /// The same with weights, and a certificate recomputed from them. Lets go of the kernel, of which the solver forms
    /// its own.
    pub(super) fn solution(
        &mut self,
        lambda: f64,
        tolerance: f64,
        reporter: &dyn Reporter,
    ) -> Result<Solution, Error> {
        let kernel = self.closed.take().is_some();
        let solution = self
            .program
            .solve(lambda, tolerance, &self.warm, reporter)?;
        if !kernel {
            self.warm.clone_from(&solution.neurons);
        }
        Ok(solution)
    }

    /// What is known of a solution.
    pub(super) fn place(&self, solution: &Solution) -> Place {
        let x = match &self.tried {
            Some((x, _)) => x.as_ref(),
            None => self.program.problem.matrix.x(),
        };
        let outputs = self.program.network(solution).predict(x);
        Place {
            objective: solution.certificate.objective,
            relative_duality_gap: solution.certificate.relative_duality_gap,
            neurons: solution.neurons.len(),
            error: targets::error(outputs.as_ref(), self.labels()),
        }
    }

    /// The model of the latest solution.
    pub(super) fn model(
        &self,
        data: &Data<'_>,
        latest: Solution,
        seconds: f64,
    ) -> Result<NetModel, Error> {
        self.program.model(data, latest, seconds)
    }

    fn labels(&self) -> &Target {
        match &self.tried {
            Some((_, labels)) => labels,
            None => &self.program.labels,
        }
    }
}

/// The kernel between new rows `x` and the training rows.
fn cross_kernel(program: &Program, x: &Mat<f64>) -> Mat<f64> {
    let found = Patterns::of(x.as_ref(), program.vectors.as_ref());
    let mut on = Patterns::new(x.nrows());
    for gate in 0..found.len() {
        let linear = program.problem.linear == Some(gate);
        on.push((0..x.nrows()).map(|s| linear || found.get(gate, s)));
    }
    gated::cross_kernel(&program.problem, x.as_ref(), &on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convexnet::{Bias, NetOptions};
    use crate::progress::Silent;
    use convextune_solve::gated::Penalty;
    use std::fmt::Write as _;

    /// 40 rows, a number, a category and three classes.
    fn table() -> (tempfile::TempDir, Table) {
        let mut text = String::from("a,b,class\n");
        for i in 0..40_u32 {
            let a = f64::from(i).sin();
            let (b, class) = ((i % 2), (i * i / 7) % 3);
            writeln!(text, "{a},b{b},c{class}").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        std::fs::write(&file, text).unwrap();
        let table = Table::read(&file).unwrap();
        (folder, table)
    }

    #[test]
    fn a_place_in_closed_form_is_that_of_the_solution() {
        let (_folder, table) = table();
        let data = Data {
            table: &table,
            train: (0..30).collect(),
            test: (30..40).collect(),
            target: "class".into(),
        };
        for linear in [false, true] {
            let options = NetOptions {
                penalty: Penalty::SquaredL2,
                bias: Bias::Free,
                gates: GateChoice::Sampled(70),
                linear,
                ..NetOptions::default()
            };
            for tried in [None, Some((&table, &data.test[..]))] {
                let mut program = Program::new(&data, &options, None).unwrap();
                let mut along = Along::new(&mut program, tried).unwrap();
                assert!(along.closed.is_some());
                let place = along.at(1e-3, 1e-6, &Silent).unwrap();
                let solution = along.solution(1e-3, 1e-6, &Silent).unwrap();
                let same = along.place(&solution);
                assert!((place.objective / same.objective - 1.0).abs() < 1e-9);
                assert!(place.relative_duality_gap < 1e-9);
                assert_eq!((place.neurons, place.error), (same.neurons, same.error));
            }
        }
    }
}
