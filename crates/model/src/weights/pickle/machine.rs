//! The stack machine. Opcode names in the comments are those of CPython's `pickletools.py`.

use std::collections::HashMap;

use super::reader::Reader;
use super::{Global, Halt, Heap, Id, Loaded, Storage, Value};

/// Values, stack slots, marks and memo entries that a pickle may have at a time. Checkpoints of
/// large networks need some ten thousands; without a limit, a file of one-byte opcodes would take
/// many times its own size.
const LIMIT: usize = 4_000_000;
/// Tensors and storages, which are larger than other values, that a pickle may have.
const BUILT_LIMIT: usize = LIMIT / 16;
/// What one of them counts for, in copied references.
const BUILT_COST: usize = 32;
/// All opaque values share one place in the arena.
const OPAQUE: Id = 0;

/// Reads one pickle that starts at offset `at` of `bytes`.
///
/// # Errors
/// [`Halt`]: truncated, contradictory, not understood, or naming code.
pub(in super::super) fn load(bytes: &[u8], at: usize) -> Result<Loaded<'_>, Halt> {
    let mut machine = Machine {
        input: Reader::new(bytes, at),
        heap: Heap {
            values: vec![Value::Opaque],
        },
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        storages: Vec::new(),
        copies_left: bytes.len().saturating_sub(at).saturating_mul(4),
        built: 0,
    };
    while machine.step()? {}
    let root = machine.pop()?;
    let (end, Machine { heap, storages, .. }) = (machine.input.position(), machine);
    Ok(Loaded {
        heap,
        root,
        end,
        storages,
    })
}

pub(super) struct Machine<'a> {
    input: Reader<'a>,
    pub heap: Heap<'a>,
    stack: Vec<Id>,
    /// Stack heights at which MARK was met.
    marks: Vec<usize>,
    /// Keyed by the file's own numbers; a map, because those may be absurd.
    memo: HashMap<usize, Id>,
    pub storages: Vec<Storage<'a>>,
    /// References that calls may still copy; guards against quadratic growth.
    copies_left: usize,
    /// Tensors and storages made so far.
    built: usize,
}

impl<'a> Machine<'a> {
    /// Executes one opcode; false on STOP.
    fn step(&mut self) -> Result<bool, Halt> {
        let opcode = self.input.number::<1>()? as u8;
        match opcode {
            b'.' => return Ok(false),          // STOP
            0x80 => drop(self.input.take(1)?), // PROTO
            0x95 => drop(self.input.take(8)?), // FRAME: only a hint for buffering
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | b'G' | 0x8a | 0x8b => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e | 0x96 => self.text(opcode)?,
            b'(' | b'0' | b'1' | b'2' | b'q' | b'r' | b'h' | b'j' | 0x94 => self.memory(opcode)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => {
                self.container(opcode)?;
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.insert(opcode)?,
            b'c' | 0x93 | b'i' | b'R' | 0x81 | 0x92 | b'b' | b'Q' | 0x82..=0x84 => {
                self.call(opcode)?;
            }
            _ => {
                let at = self.input.position() - 1;
                let reason = format!("byte {at} is the unknown pickle opcode {opcode:#04x}");
                return Err(Halt::Unsupported(reason));
            }
        }
        let held = [
            self.heap.values.len(),
            self.stack.len(),
            self.marks.len(),
            self.memo.len(),
        ];
        if held.iter().any(|&count| count > LIMIT) {
            return Err(Halt::Unsupported(format!(
                "the pickle holds more than {LIMIT} values"
            )));
        }
        Ok(true)
    }

    fn number(&mut self, opcode: u8) -> Result<(), Halt> {
        let value = match opcode {
            b'K' => Value::Int(self.input.number::<1>()?.cast_signed()), // BININT1
            b'M' => Value::Int(self.input.number::<2>()?.cast_signed()), // BININT2
            b'J' => long(self.input.take(4)?),                           // BININT
            b'G' => {
                self.input.take(8)?; // BINFLOAT
                Value::Opaque
            }
            0x8a => long(self.input.sized::<1>()?), // LONG1
            0x8b => long(self.input.sized::<4>()?), // LONG4
            0x88 => Value::Int(1),                  // NEWTRUE
            0x89 => Value::Int(0),                  // NEWFALSE
            _ => Value::Opaque,                     // NONE
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<(), Halt> {
        let bytes = match opcode {
            b'X' => {
                return self
                    .input
                    .text::<4>()
                    .map(|text| self.push(Value::Str(text)));
            } // BINUNICODE
            0x8c => {
                return self
                    .input
                    .text::<1>()
                    .map(|text| self.push(Value::Str(text)));
            } // SHORT_*
            0x8d => {
                return self
                    .input
                    .text::<8>()
                    .map(|text| self.push(Value::Str(text)));
            } // *8
            b'U' | b'C' => self.input.sized::<1>()?, // SHORT_BINSTRING, SHORT_BINBYTES
            b'T' | b'B' => self.input.sized::<4>()?, // BINSTRING, BINBYTES
            _ => self.input.sized::<8>()?,           // BINBYTES8, BYTEARRAY8
        };
        // Python 2 wrote its names as byte strings.
        let name = std::str::from_utf8(bytes)
            .ok()
            .filter(|_| matches!(opcode, b'U' | b'T'));
        self.push(name.map_or(Value::Opaque, Value::Str));
        Ok(())
    }

    fn memory(&mut self, opcode: u8) -> Result<(), Halt> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => drop(self.pop()?),                 // POP
            b'1' => drop(self.pop_to_mark()?),         // POP_MARK
            b'2' => self.stack.push(self.top()?),      // DUP
            b'q' => self.memorize::<1>()?,             // BINPUT
            b'r' => self.memorize::<4>()?,             // LONG_BINPUT
            b'h' => self.recall::<1>()?,               // BINGET
            b'j' => self.recall::<4>()?,               // LONG_BINGET
            _ => drop(self.memo.insert(self.memo.len(), self.top()?)), // MEMOIZE
        }
        Ok(())
    }

    fn container(&mut self, opcode: u8) -> Result<(), Halt> {
        let value = match opcode {
            b')' => Value::Tuple(Vec::new()),          // EMPTY_TUPLE
            b't' => Value::Tuple(self.pop_to_mark()?), // TUPLE
            0x85..=0x87 => Value::Tuple(self.pop_many(usize::from(opcode - 0x84))?), // TUPLE1..3
            b']' => Value::List(Vec::new()),           // EMPTY_LIST
            b'l' => Value::List(self.pop_to_mark()?),  // LIST
            b'}' => Value::Dict(Vec::new()),           // EMPTY_DICT
            b'd' => Value::Dict(pairs(&self.pop_to_mark()?)?), // DICT
            0x91 => {
                self.pop_to_mark()?; // FROZENSET
                Value::Opaque
            }
            _ => Value::Opaque, // EMPTY_SET
        };
        self.push(value);
        Ok(())
    }

    fn insert(&mut self, opcode: u8) -> Result<(), Halt> {
        let items = match opcode {
            b'a' => self.pop_many(1)?, // APPEND
            b's' => self.pop_many(2)?, // SETITEM
            _ => self.pop_to_mark()?,  // APPENDS, SETITEMS, ADDITEMS
        };
        let target = self.top()?;
        match (opcode, self.heap.values.get_mut(target)) {
            (_, Some(Value::Opaque)) => {}
            (b'a' | b'e', Some(Value::List(list))) => list.extend(items),
            (b's' | b'u', Some(Value::Dict(dict))) => dict.extend(pairs(&items)?),
            _ => {
                return Err(Halt::bad(
                    "items are put into something that is no list or dict",
                ));
            }
        }
        Ok(())
    }

    fn call(&mut self, opcode: u8) -> Result<(), Halt> {
        match opcode {
            b'c' | b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?); // GLOBAL, INST
                let global = global(module, name)?;
                if opcode == b'i' {
                    let arguments = self.pop_to_mark()?;
                    let made = self.made(global, &arguments)?;
                    self.push(made);
                } else {
                    self.push(Value::Global(global));
                }
            }
            0x93 => {
                let name = self.pop()?; // STACK_GLOBAL
                let module = self.pop()?;
                let (Some(module), Some(name)) = (self.heap.text(module), self.heap.text(name))
                else {
                    return Err(Halt::bad(
                        "a global is named by something that is no string",
                    ));
                };
                let global = global(module, name)?;
                self.push(Value::Global(global));
            }
            b'b' => {
                self.pop()?; // BUILD sets attributes, which tensors do not need
                self.top()?;
            }
            b'Q' => self.persistent_id()?, // BINPERSID
            0x82..=0x84 => {
                return Err(Halt::Forbidden("a copyreg extension code".to_owned())); // EXT1..4
            }
            _ => {
                if opcode == 0x92 {
                    self.pop()?; // NEWOBJ_EX: keyword arguments
                }
                let (arguments, function) = (self.pop()?, self.pop()?); // REDUCE, NEWOBJ
                let Value::Global(function) = *self.heap.get(function) else {
                    return Err(Halt::bad("a call on something that is no function"));
                };
                let arguments = self.heap.sequence(arguments).unwrap_or_default().to_vec();
                self.spend(arguments.len())?;
                let made = self.made(function, &arguments)?;
                self.push(made);
            }
        }
        Ok(())
    }

    /// Accounts for a tensor or storage with `numbers` of sizes and strides.
    pub fn count_built(&mut self, numbers: usize) -> Result<(), Halt> {
        self.built += 1;
        if self.built > BUILT_LIMIT {
            let reason = format!("the pickle builds more than {BUILT_LIMIT} tensors and storages");
            return Err(Halt::Unsupported(reason));
        }
        self.spend(BUILT_COST.saturating_add(numbers))
    }

    pub fn spend(&mut self, copies: usize) -> Result<(), Halt> {
        let left = self.copies_left.checked_sub(copies);
        self.copies_left =
            left.ok_or_else(|| Halt::bad("its calls copy more than the file can hold"))?;
        Ok(())
    }

    pub fn push(&mut self, value: Value<'a>) {
        if matches!(value, Value::Opaque) {
            return self.stack.push(OPAQUE);
        }
        self.stack.push(self.heap.values.len());
        self.heap.values.push(value);
    }

    fn top(&self) -> Result<Id, Halt> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self
            .stack
            .last()
            .copied()
            .filter(|_| self.stack.len() > floor);
        top.ok_or_else(|| Halt::bad("an opcode finds the stack empty"))
    }

    pub fn pop(&mut self) -> Result<Id, Halt> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Halt> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|&start| start >= floor);
        let start = start.ok_or_else(|| Halt::bad("an opcode finds the stack empty"))?;
        Ok(self.stack.drain(start..).collect())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Halt> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| Halt::bad("an opcode finds no mark"))?;
        Ok(self.stack.drain(mark..).collect())
    }

    fn memorize<const N: usize>(&mut self) -> Result<(), Halt> {
        let slot = self.input.number::<N>()? as usize;
        self.memo.insert(slot, self.top()?);
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Result<(), Halt> {
        let slot = self.input.number::<N>()? as usize;
        let id = self.memo.get(&slot).copied();
        self.stack
            .push(id.ok_or_else(|| Halt::bad("a memo entry is read before it is written"))?);
        Ok(())
    }
}

fn global(module: &str, name: &str) -> Result<Global, Halt> {
    Global::lookup(module, name).ok_or_else(|| Halt::Forbidden(format!("{module}.{name}")))
}

/// Two's complement, little-endian.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let fill: i64 = if negative { -1 } else { 0 };
    Value::Int(
        bytes
            .iter()
            .rev()
            .fold(fill, |value, &byte| value << 8 | i64::from(byte)),
    )
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Halt> {
    let (chunks, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Halt::bad("a dict has a key without a value"));
    }
    Ok(chunks.iter().map(|&[key, value]| (key, value)).collect())
}
