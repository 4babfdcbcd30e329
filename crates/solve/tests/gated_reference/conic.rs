//! Gated programs in the conic form of Clarabel, an interior-point method that shares nothing with ours:
//!
//! ```text
//!     min over v    1/2 v' diag(p) v + q' v    with    F v + f  in a product of cones.
//! ```
//!
//! `v` holds the blocks of weights, the intercept, the outputs `Z` with the equations that define them, and
//! what follows from the loss and the penalty:
//!
//! | | more unknowns | conditions | cost |
//! |---|---|---|---|
//! | squared | | | `1/(2n) \|\|Z\|\|^2 - <Y, Z>/n` |
//! | squared hinge | `e` | `e >= 1 - y z`, `e >= 0` | `1/(2n) \|\|e\|\|^2` |
//! | cross entropy, `C > 1` | `t`, `w` | `w_c >= exp(z_c - t)`, `sum_c w_c <= 1` | `1/n sum (t - z_y)` |
//! | cross entropy, `C = 1` | `t`, `w` | the same with the two scores `0` and `-y z` | `1/n sum t` |
//! | neuron-wise, feature-wise | `r` a group | `\|\|group\|\| <= r` | `lambda sum r` |
//! | l1 | `a` a weight | `-a <= u <= a` | `lambda sum a` |
//! | `1/2 \|\|U\|\|^2` | | | `lambda/2 \|\|U\|\|^2` |
//! | nuclear, `2 x 2` | `r` a block | (1) | `lambda sum r` |
//!
//! The nuclear norm of a general block takes a semidefinite cone, for which the crate needs a BLAS. A block
//! `[[a, b], [c, d]]` has the singular values `|p| + |m|` and `||p| - |m||` with `p = (a + d, c - b) / 2`
//! and `m = (a - d, b + c) / 2`, hence
//!
//! ```text
//!     ||U||_* = 2 max(|p|, |m|) <= r    <=>    ||(a + d, c - b)|| <= r ,  ||(a - d, b + c)|| <= r     (1)
//! ```

use clarabel::algebra::CscMatrix;
use clarabel::solver::{
    DefaultSettings, DefaultSolver, IPSolver, SolverStatus, SupportedConeT,
    SupportedConeT::{ExponentialConeT, NonnegativeConeT, SecondOrderConeT, ZeroConeT},
};
use convextune_solve::gated::{Loss, Neuron, Penalty, Problem};

/// Neurons shorter than this, relative to the sum of all lengths, are interior points' rests of zeros.
const NEGLIGIBLE: f64 = 1e-7;

/// A solved problem.
pub struct Reference {
    pub objective: f64,
    pub neurons: Vec<Neuron>,
    pub intercept: Vec<f64>,
}

/// The minimum of `problem`.
pub fn reference(problem: &Problem) -> Reference {
    let mut program = Program::default();
    let blocks = blocks(problem, &mut program);
    let intercept: Vec<usize> = if problem.intercept {
        (0..problem.outputs()).map(|_| program.free()).collect()
    } else {
        Vec::new()
    };
    let z = outputs(problem, &blocks, &intercept, &mut program);
    loss(problem, &z, &mut program);
    penalty(problem, &blocks, &mut program);
    cones(problem, &blocks, &mut program);
    let (objective, v) = program.solve();
    let columns = blocks.iter().flat_map(|block| {
        let neuron = |(output, column): (usize, &Vec<usize>)| Neuron {
            gate: block.gate,
            output,
            sign: block.sign,
            weights: column.iter().map(|j| v[*j]).collect(),
        };
        block.columns.iter().enumerate().map(neuron)
    });
    let n = problem.matrix.samples() as f64;
    let constant = match problem.loss {
        Loss::Squared => problem.targets.squared_norm_l2() / (2.0 * n),
        _ => 0.0,
    };
    Reference {
        objective: objective + constant,
        neurons: without_negligible(columns.collect()),
        intercept: intercept.iter().map(|b| v[*b]).collect(),
    }
}

fn without_negligible(mut neurons: Vec<Neuron>) -> Vec<Neuron> {
    let length = |n: &Neuron| n.weights.iter().map(|u| u * u).sum::<f64>().sqrt();
    let total: f64 = neurons.iter().map(length).sum();
    neurons.retain(|n| length(n) > NEGLIGIBLE * total);
    neurons
}

/// `sum of coefficients times unknowns + constant`.
struct Affine(Vec<(usize, f64)>, f64);

/// A conic program under construction.
#[derive(Default)]
struct Program {
    p: Vec<f64>,
    q: Vec<f64>,
    rows: Vec<Affine>,
    cones: Vec<SupportedConeT<f64>>,
}

impl Program {
    /// A new unknown with the cost `1/2 p v^2 + q v`.
    fn unknown(&mut self, p: f64, q: f64) -> usize {
        self.p.push(p);
        self.q.push(q);
        self.p.len() - 1
    }

    fn free(&mut self) -> usize {
        self.unknown(0.0, 0.0)
    }

    fn require(&mut self, rows: Vec<Affine>, cone: SupportedConeT<f64>) {
        self.rows.extend(rows);
        self.cones.push(cone);
    }

    /// `rows >= 0`.
    fn require_nonnegative(&mut self, rows: Vec<Affine>) {
        let count = rows.len();
        self.require(rows, NonnegativeConeT(count));
    }

    /// `||rows|| <= r`.
    fn require_norm(&mut self, r: usize, rows: Vec<Affine>) {
        let cone = SecondOrderConeT(rows.len() + 1);
        let bound = Affine(vec![(r, 1.0)], 0.0);
        self.require(std::iter::once(bound).chain(rows).collect(), cone);
    }

    /// The minimum and a minimiser. Clarabel's form is `A v + s = b`, `s` in the cones.
    fn solve(&self) -> (f64, Vec<f64>) {
        let (m, k) = (self.rows.len(), self.p.len());
        let (mut row, mut column, mut value) = (Vec::new(), Vec::new(), Vec::new());
        for (i, Affine(terms, _)) in self.rows.iter().enumerate() {
            for (j, coefficient) in terms {
                row.push(i);
                column.push(*j);
                value.push(-coefficient);
            }
        }
        let a = CscMatrix::new_from_triplets(m, k, row, column, value);
        let diagonal: Vec<usize> = (0..k).collect();
        let p = CscMatrix::new_from_triplets(k, k, diagonal.clone(), diagonal, self.p.clone());
        let b: Vec<f64> = self
            .rows
            .iter()
            .map(|Affine(_, constant)| *constant)
            .collect();
        let settings = DefaultSettings {
            verbose: false,
            tol_gap_abs: 1e-11,
            tol_gap_rel: 1e-11,
            tol_feas: 1e-11,
            ..DefaultSettings::default()
        };
        let mut solver = DefaultSolver::new(&p, &self.q, &a, &b, &self.cones, settings).unwrap();
        solver.solve();
        // "Almost" and "insufficient progress": short of 1e-11. What was reached is certified by the caller.
        let ended = matches!(
            solver.solution.status,
            SolverStatus::Solved | SolverStatus::AlmostSolved | SolverStatus::InsufficientProgress
        );
        assert!(ended, "{:?}", solver.solution.status);
        (solver.solution.obj_val, solver.solution.x.clone())
    }
}

/// `U_i`, `V_i` or `W_i`: the unknowns of its columns.
struct Block {
    gate: usize,
    sign: f64,
    columns: Vec<Vec<usize>>,
}

fn blocks(problem: &Problem, program: &mut Program) -> Vec<Block> {
    let p = match problem.penalty {
        Penalty::SquaredL2 => problem.lambda,
        _ => 0.0,
    };
    let mut blocks = Vec::new();
    for gate in 0..problem.matrix.gates() {
        let signs: &[f64] = if problem.has_cone(gate) {
            &[1.0, -1.0]
        } else {
            &[1.0]
        };
        for sign in signs {
            let mut column = || -> Vec<usize> {
                let features = 0..problem.matrix.features();
                features.map(|_| program.unknown(p, 0.0)).collect()
            };
            blocks.push(Block {
                gate,
                sign: *sign,
                columns: (0..problem.outputs()).map(|_| column()).collect(),
            });
        }
    }
    blocks
}

/// `x_s' u`, times `factor`.
fn score(problem: &Problem, s: usize, u: &[usize], factor: f64) -> Vec<(usize, f64)> {
    let x = problem.matrix.x();
    let term = |(j, u): (usize, &usize)| (*u, factor * x[(s, j)]);
    u.iter().enumerate().map(term).collect()
}

/// The unknowns of `Z`, by sample, and their equations.
fn outputs(
    problem: &Problem,
    blocks: &[Block],
    intercept: &[usize],
    program: &mut Program,
) -> Vec<Vec<usize>> {
    let patterns = problem.matrix.patterns();
    let mut z = Vec::new();
    for s in 0..problem.matrix.samples() {
        let row: Vec<usize> = (0..problem.outputs()).map(|_| program.free()).collect();
        for (c, z) in row.iter().enumerate() {
            let mut terms = vec![(*z, -1.0)];
            terms.extend(intercept.get(c).map(|b| (*b, 1.0)));
            for block in blocks.iter().filter(|block| patterns.get(block.gate, s)) {
                terms.extend(score(problem, s, &block.columns[c], block.sign));
            }
            program.require(vec![Affine(terms, 0.0)], ZeroConeT(1));
        }
        z.push(row);
    }
    z
}

fn loss(problem: &Problem, z: &[Vec<usize>], program: &mut Program) {
    let weight = 1.0 / z.len() as f64;
    for (s, z) in z.iter().enumerate() {
        let y: Vec<f64> = (0..z.len()).map(|c| problem.targets[(s, c)]).collect();
        match problem.loss {
            Loss::Squared => {
                for (z, y) in z.iter().zip(y) {
                    program.p[*z] += weight;
                    program.q[*z] -= weight * y;
                }
            }
            Loss::SquaredHinge => {
                for (z, y) in z.iter().zip(y) {
                    let e = program.unknown(weight, 0.0);
                    let short = Affine(vec![(e, 1.0), (*z, y)], -1.0);
                    program.require_nonnegative(vec![short, Affine(vec![(e, 1.0)], 0.0)]);
                }
            }
            Loss::CrossEntropy if z.len() == 1 => {
                let scores = [Vec::new(), vec![(z[0], -y[0])]];
                log_sum_exp(&scores, weight, program);
            }
            Loss::CrossEntropy => {
                let scores: Vec<_> = z.iter().map(|z| vec![(*z, 1.0)]).collect();
                log_sum_exp(&scores, weight, program);
                for (z, y) in z.iter().zip(y) {
                    program.q[*z] -= weight * y;
                }
            }
        }
    }
}

/// Adds `weight * log sum exp(scores)` to the cost. Clarabel's exponential cone is
/// `{ (a, b, c) : b exp(a / b) <= c }`.
fn log_sum_exp(scores: &[Vec<(usize, f64)>], weight: f64, program: &mut Program) {
    let t = program.unknown(0.0, weight);
    let mut sum = Affine(Vec::new(), 1.0);
    for score in scores {
        let w = program.free();
        sum.0.push((w, -1.0));
        let mut exponent = score.clone();
        exponent.push((t, -1.0));
        let rows = vec![
            Affine(exponent, 0.0),
            Affine(Vec::new(), 1.0),
            Affine(vec![(w, 1.0)], 0.0),
        ];
        program.require(rows, ExponentialConeT());
    }
    program.require_nonnegative(vec![sum]);
}

fn penalty(problem: &Problem, blocks: &[Block], program: &mut Program) {
    let lambda = problem.lambda;
    let plain = |u: &usize| Affine(vec![(*u, 1.0)], 0.0);
    let columns = || blocks.iter().flat_map(|block| &block.columns);
    match problem.penalty {
        Penalty::Neuron => {
            for column in columns() {
                let r = program.unknown(0.0, lambda);
                program.require_norm(r, column.iter().map(plain).collect());
            }
        }
        Penalty::Feature => {
            for c in 0..problem.outputs() {
                for j in 0..problem.matrix.features() {
                    let r = program.unknown(0.0, lambda);
                    let group = blocks.iter().map(|block| plain(&block.columns[c][j]));
                    program.require_norm(r, group.collect());
                }
            }
        }
        Penalty::L1 => {
            for u in columns().flatten() {
                let a = program.unknown(0.0, lambda);
                let side = |sign| Affine(vec![(a, 1.0), (*u, sign)], 0.0);
                program.require_nonnegative(vec![side(1.0), side(-1.0)]);
            }
        }
        Penalty::SquaredL2 => {}
        Penalty::Nuclear => {
            for block in blocks {
                let r = program.unknown(0.0, lambda);
                nuclear(&block.columns, r, program);
            }
        }
    }
}

/// `||block||_* <= r` for one column, or for two of length 2 by (1).
fn nuclear(columns: &[Vec<usize>], r: usize, program: &mut Program) {
    let sum = |u: usize, v: usize, sign: f64| Affine(vec![(u, 1.0), (v, sign)], 0.0);
    match columns {
        [column] => {
            let rows = column.iter().map(|u| Affine(vec![(*u, 1.0)], 0.0));
            program.require_norm(r, rows.collect());
        }
        [first, second] if first.len() == 2 => {
            let (a, c, b, d) = (first[0], first[1], second[0], second[1]);
            program.require_norm(r, vec![sum(a, d, 1.0), sum(c, b, -1.0)]);
            program.require_norm(r, vec![sum(a, d, -1.0), sum(b, c, 1.0)]);
        }
        _ => panic!("the nuclear norm of a general block takes a semidefinite cone"),
    }
}

fn cones(problem: &Problem, blocks: &[Block], program: &mut Program) {
    let patterns = problem.matrix.patterns();
    for block in blocks.iter().filter(|block| problem.has_cone(block.gate)) {
        for column in &block.columns {
            let side = |s: usize| {
                if patterns.get(block.gate, s) {
                    1.0
                } else {
                    -1.0
                }
            };
            let row = |s: usize| Affine(score(problem, s, column, side(s)), 0.0);
            program.require_nonnegative((0..problem.matrix.samples()).map(row).collect());
        }
    }
}
