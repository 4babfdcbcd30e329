use convextune_solve::faer::Mat;
use convextune_solve::gated::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&args[1]).unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(1)
        .map(|l| l.split(',').map(|v| v.parse().unwrap()).collect())
        .collect();
    let n: usize = args[5].parse().unwrap();
    let d = rows[0].len() - 1;
    let n = n.min(rows.len());
    // every row in a seeded order
    let x = Mat::from_fn(n, d, |i, j| rows[(i * 7919) % rows.len()][j]);
    let y = Mat::from_fn(n, 1, |i, _| {
        if rows[(i * 7919) % rows.len()][d] > 0.5 {
            1.0
        } else {
            -1.0
        }
    });
    let p: usize = args[2].parse().unwrap();
    let mut rng = convextune_testkit::Rng::new(1);
    let g = Mat::from_fn(d, p, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), g.as_ref());
    let keep = patterns.distinct();
    let patterns = patterns.select(&keep);
    let problem = Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets: y,
        loss: Loss::Squared,
        penalty: Penalty::Neuron,
        activation: if args[4] == "relu" {
            Activation::Relu
        } else {
            Activation::Gated
        },
        lambda: args[3].parse().unwrap(),
        linear: None,
        intercept: false,
    };
    let t = std::time::Instant::now();
    let s = solve(
        &problem,
        &SolveOptions {
            tolerance: 1e-6,
            max_iterations: 60,
        },
        &[],
        &mut convextune_solve::Quiet,
    )
    .unwrap();
    let e = t.elapsed();
    let t = std::time::Instant::now();
    certify(&problem, &s.neurons, &s.intercept).unwrap();
    println!(
        "n {n} d {d} gates {} neurons {} in {e:?}, certificate {:?} {:?}",
        keep.len(),
        s.neurons.len(),
        t.elapsed(),
        s.certificate
    );
    for h in s.history {
        print!("{:.1e} ", h.relative_residual);
    }
    println!("{:?}", s.status);
}
