//! Pickles that try to run code, to exhaust memory or the stack, or that make no sense.

use std::time::{Duration, Instant};

use super::fixtures::*;
use crate::weights::WeightsError;

#[test]
fn a_pickle_that_would_run_code_is_refused_by_name() {
    let reduce = Pickle::default()
        .global("os", "system")
        .raw(b"(")
        .text("rm -rf /")
        .raw(b"tR");
    let stack = Pickle::default()
        .text("builtins")
        .text("eval")
        .raw(b"\x93)R");
    let inst = Pickle::default()
        .raw(b"(")
        .text("x")
        .raw(b"iposix\nsystem\n");
    let unused = Pickle::default()
        .global("subprocess", "Popen")
        .raw(b"0")
        .raw(b"}");
    let extension = Pickle::default().raw(&[0x82, 1]);
    // torch.load would follow this one into a second, nested pickle.
    let nested = Pickle::default()
        .global("torch.storage", "_load_from_bytes")
        .raw(b"(C\x01xtR");
    let cases = [
        (reduce, "os.system"),
        (stack, "builtins.eval"),
        (inst, "posix.system"),
        (unused, "subprocess.Popen"),
        (extension, "a copyreg extension code"),
        (nested, "torch.storage._load_from_bytes"),
    ];
    for (attack, name) in cases {
        for bytes in [torch_zip(&attack, &[]), torch_legacy(&attack, &[])] {
            let text = refusal(&bytes);
            assert!(
                text.contains(&format!("contains a call to `{name}`")),
                "{text}"
            );
            assert!(text.contains("nothing was run"), "{text}");
        }
    }
    let bytes = torch_legacy(&Pickle::default().raw(b"cos\nsystem\n"), &[]);
    assert!(matches!(
        read(&bytes),
        Err(WeightsError::ForbiddenGlobal { .. })
    ));
}

#[test]
fn an_inert_class_never_becomes_a_tensor() {
    let fake = Pickle::default().global("argparse", "Namespace").raw(b")R");
    let text = refusal(&torch_zip(&ordered_dict(&[("a", fake)]), &[]));
    assert!(text.contains("holds no dictionary of tensors"), "{text}");
    assert!(text.contains("found: `a`"), "{text}");
}

#[test]
fn names_from_the_file_are_shown_escaped_and_cut() {
    let attack = Pickle::default().global("\x1b[2J", &"x".repeat(5000));
    let text = refusal(&torch_zip(&attack, &[]));
    assert!(
        text.contains("\\u{1b}[2J.xxx") && text.contains("..."),
        "{text}"
    );
    assert!(!text.contains('\x1b') && text.len() < 600, "{text}");
}

#[test]
fn deep_nesting_and_cycles_do_not_overflow_the_stack() {
    let deep = Pickle::default().raw(b")").raw(&vec![0x85; 1_000_000]);
    assert!(refusal(&torch_zip(&deep, &[])).contains("found: `no dictionary`"));
    let marks = Pickle::default().raw(&vec![b'('; 1_000_000]);
    assert!(refusal(&torch_zip(&marks, &[])).contains("finds the stack empty"));
    // d = {}; d['state_dict'] = d
    let cycle = Pickle::default()
        .raw(b"}q\x01")
        .text("state_dict")
        .raw(b"h\x01s");
    assert!(refusal(&torch_zip(&cycle, &[])).contains("found: `state_dict`"));
}

#[test]
fn absurd_memo_numbers_cost_nothing() {
    let put = Pickle::default().raw(b"}r\xff\xff\xff\xff");
    assert!(refusal(&torch_zip(&put, &[])).contains("holds no dictionary of tensors"));
    let get = Pickle::default().raw(b"j\xff\xff\xff\xff");
    assert!(refusal(&torch_zip(&get, &[])).contains("read before it is written"));
}

#[test]
fn absurd_lengths_inside_pickles_end_the_pickle() {
    for opcode in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8b\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let text = refusal(&torch_zip(&Pickle::default().raw(opcode), &[]));
        assert!(text.contains("the file ends inside the pickle"), "{text}");
    }
}

#[test]
fn quadratic_copies_are_stopped() {
    let start = Instant::now();
    // One long list, and many OrderedDicts copied from it by short opcodes.
    let pair = Pickle::default().raw(b"]q\x02(NNe0](").0;
    let list = Pickle(pair)
        .raw(&b"h\x02".repeat(100_000))
        .raw(b"eq\x010(h\x01tq\x030");
    let list = list.global("collections", "OrderedDict").raw(b"q\x040");
    let bomb = list.raw(&b"h\x04h\x03R".repeat(100_000));
    let text = refusal(&torch_zip(&bomb, &[]));
    assert!(text.contains("copy more than the file can hold"), "{text}");
    let opcodes = Pickle::default().raw(&vec![b')'; 4_100_000]);
    let text = refusal(&torch_zip(&opcodes, &[]));
    assert!(text.contains("holds more than 4000000 values"), "{text}");
    let references = Pickle::default()
        .raw(b"(")
        .text("storage")
        .global("torch", "FloatStorage");
    let references = references.text("s").text("cpu").int(1).raw(b"tq\x010");
    let short = references.clone().raw(&b"h\x01Q0".repeat(200_000));
    let text = refusal(&torch_zip(&short, &[]));
    assert!(text.contains("copy more than the file can hold"), "{text}");
    let long = references.raw(&b"h\x01QN0N0N0N0N0N0N0N0N00".repeat(260_000));
    let text = refusal(&torch_zip(&long, &[]));
    assert!(
        text.contains("more than 250000 tensors and storages"),
        "{text}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn unknown_opcodes_and_empty_stacks_are_refused() {
    assert!(refusal(&torch_zip(&Pickle::default().raw(b"S'x'\n"), &[])).contains("opcode 0x53"));
    for broken in [
        &b"0"[..],
        b"t",
        b"\x87",
        b"a",
        b"u",
        b"R",
        b"b",
        b"Q",
        b"\x93",
        b"q\x01",
        b"2",
        b"(1t",
    ] {
        let text = refusal(&torch_zip(&Pickle::default().raw(broken), &[]));
        assert!(
            text.contains("finds the stack empty") || text.contains("finds no mark"),
            "{text}"
        );
    }
    assert!(
        refusal(&torch_zip(&Pickle::default().raw(b"}(Nu"), &[])).contains("a key without a value")
    );
    assert!(refusal(&torch_zip(&Pickle::default().raw(b"NNs"), &[])).contains("stack empty"));
    assert!(refusal(&torch_zip(&Pickle::default().raw(b"N)R"), &[])).contains("no function"));
    assert!(refusal(&torch_zip(&Pickle::default().raw(b")Na"), &[])).contains("no list or dict"));
    assert!(
        refusal(&torch_zip(&Pickle::default().raw(b"NQ"), &[])).contains("does not name a storage")
    );
}
