//! Networks that leave the program, and networks that come from elsewhere.

mod common;

use std::fs;

use common::tables::number;
use common::{Place, text};
use convextune_model::weights::read_safetensors_with_metadata;
use serde_json::Value;

/// Outputs of the exported tensors, computed by hand, are the model's scores.
#[test]
fn an_exported_network_computes_what_the_model_predicts() {
    let place = Place::tables();
    let fit = "nn fit plane.csv --target class --activation relu --gates 40 --lambda 0.01 -q";
    place.does(&format!(
        "{fit} --holdout none --bias free -o m.safetensors"
    ));
    let plain = place.told("nn export m.safetensors n.safetensors --json");
    let pruned = place.told("nn export m.safetensors pruned.safetensors --prune plane.csv --json");
    assert_eq!(pruned["pruned"]["units_before"], plain["units"]);
    assert!(number(&pruned, "units") <= number(&plain, "units"));
    let what = &pruned["pruned"];
    assert!(number(what, "output_difference") < 1e-9);
    assert!(number(what, "objective") <= number(what, "objective_before") * (1.0 + 1e-9));
    let told = place.told("nn predict m.safetensors plane.csv --json");
    let table = fs::read_to_string(place.path("plane.csv")).unwrap();
    for name in ["n.safetensors", "pruned.safetensors"] {
        let (t, _) = read_safetensors_with_metadata::<f64>(&place.path(name)).unwrap();
        let get = |name: &str| &t[name].data;
        let output = |features: &[f64]| {
            let encoded: Vec<f64> = (0..2)
                .map(|j| (features[j] - get("input_shift")[j]) / get("input_scale")[j])
                .collect();
            let unit = |k: usize| {
                let along = (0..2)
                    .map(|j| get("w1")[2 * k + j] * encoded[j])
                    .sum::<f64>();
                (along + get("b1")[k]).max(0.0) * get("w2")[k]
            };
            (0..get("b1").len()).map(unit).sum::<f64>() + get("b2")[0]
        };
        for (line, prediction) in table
            .lines()
            .skip(1)
            .zip(told["predictions"].as_array().unwrap())
        {
            let features: Vec<f64> = line
                .split(',')
                .take(2)
                .map(|x| x.parse().unwrap())
                .collect();
            let score = number(&prediction["scores"], "yes");
            assert!((output(&features) - score).abs() < 1e-9, "{name}: {line}");
        }
    }
    place.does("nn export m.safetensors n.onnx");
    let onnx = fs::read(place.path("n.onnx")).unwrap();
    assert!(text(&onnx).contains("convextune") && onnx.len() > 500);
}

#[test]
fn the_network_of_the_global_minimum_passes_the_check() {
    let place = Place::tables();
    let fit = "nn fit plane.csv --target class --activation relu --gates all --lambda 0.02 -q";
    place.does(&format!(
        "{fit} --holdout none --bias free --tolerance 1e-9 -o m.safetensors"
    ));
    place.does("nn export m.safetensors n.safetensors");
    let check = "nn check n.safetensors plane.csv --target class --lambda 0.02 --gates all";
    let told = place.told(&format!("{check} --json"));
    assert_eq!(told["optimal_for_own_program"], true);
    for program in ["own_program", "larger_program"] {
        assert!(number(&told[program], "excess").abs() < 1e-5, "{told}");
    }
    assert_eq!(told["larger_program"]["exhaustive"], true);
    let table = text(&place.does(check).stdout);
    assert!(
        table.contains("more patterns") && table.contains("all there are"),
        "{table}"
    );
    // With more decay than it was trained with it is not the best.
    let other = "nn check n.safetensors plane.csv --target class --lambda 0.2 --json";
    let told = place.told(other);
    assert!(number(&told["own_program"], "excess") > 0.01, "{told}");
    assert_eq!(
        (&told["stationary"], &told["larger_program"]),
        (&false.into(), &Value::Null)
    );
}
