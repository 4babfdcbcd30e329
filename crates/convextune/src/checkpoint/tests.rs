//! What is saved comes back; what is damaged or foreign is refused.

use super::*;
use crate::finetune::{PreconditionerChoice, SolverChoice};

fn state() -> PcgState {
    PcgState {
        x: vec![0.1, -0.0, 1e-300],
        r: vec![1.0 / 3.0, 2.0, 3.0],
        p: vec![std::f64::consts::PI, 5.0, 6.0],
        rho: 0.7,
        residual_norm: 0.1 + 0.2,
        reference: 9.0,
        iteration: 17,
        energy: vec![0.5, 0.25],
        preconditioner_applications: 18,
        fresh_gradient: None,
        gradient_ratio: Some(1.7),
    }
}

fn prior() -> Prior {
    Prior {
        lambda: 0.3,
        scale: 1.0,
        source: LambdaSource::Given,
        unit: 2.0,
        backbone_unit: 0.5,
    }
}

fn plan() -> Plan {
    Plan {
        solver: SolverChoice::Pcg,
        precondition: PreconditionerChoice::Features,
        sketch_size: 512,
        expected_cost: 12.0,
    }
}

fn saved(dir: &Path) -> FileCheckpoints {
    let path = dir.join("model.checkpoint");
    let mut checkpoints = FileCheckpoints::new(path, "abc".into(), Duration::ZERO);
    checkpoints.save(&CheckpointView {
        prior: prior(),
        plan: plan(),
        state: &state(),
    });
    assert_eq!(checkpoints.failure(), None);
    checkpoints
}

#[test]
fn a_state_comes_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoints = saved(dir.path());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(checkpoints.found(), Found::Same);
    assert!(checkpoints.resume().unwrap());
    let loaded = checkpoints.load().unwrap();
    assert_eq!(
        (loaded.prior.lambda.to_bits(), loaded.plan, &loaded.state),
        (0.3f64.to_bits(), plan(), &state())
    );
    assert!(checkpoints.load().is_none(), "a checkpoint is taken once");
    checkpoints.remove();
    assert_eq!(checkpoints.found(), Found::Nothing);
    assert!(!checkpoints.resume().unwrap());
}

#[test]
fn damage_is_found_wherever_the_file_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoints = saved(dir.path());
    let whole = fs::read(&checkpoints.path).unwrap();
    for length in 0..whole.len() {
        fs::write(&checkpoints.path, &whole[..length]).unwrap();
        assert!(checkpoints.resume().is_err(), "cut at {length}");
    }
    let mut nan = whole.clone();
    let last = nan.len() - 8;
    nan[last..].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(&checkpoints.path, nan).unwrap();
    assert!(checkpoints.resume().is_err());
    assert_eq!(checkpoints.found(), Found::Other);
}

#[test]
fn another_fits_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoints = saved(dir.path());
    checkpoints.fingerprint = "other".into();
    assert_eq!(checkpoints.found(), Found::Other);
    let message = checkpoints.resume().unwrap_err().to_string();
    assert!(
        message.contains("another fit") && message.contains("model.checkpoint"),
        "{message}"
    );
}

#[test]
fn a_full_disk_is_remembered_not_fatal() {
    let path = PathBuf::from("/nowhere/at/all/model.checkpoint");
    let mut checkpoints = FileCheckpoints::new(path, "abc".into(), Duration::ZERO);
    checkpoints.save(&CheckpointView {
        prior: prior(),
        plan: plan(),
        state: &state(),
    });
    assert!(checkpoints.failure().is_some());
}
