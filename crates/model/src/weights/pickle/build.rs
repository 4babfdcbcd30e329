//! What calls and persistent ids stand for: containers, storages and tensors, as plain values.

use super::machine::Machine;
use super::{Global, Halt, Id, Rebuild, Storage, Tensor, Value};

impl<'a> Machine<'a> {
    /// What a call on a known name stands for.
    pub fn made(&mut self, function: Global, arguments: &[Id]) -> Result<Value<'a>, Halt> {
        match function {
            Global::Inert => Ok(Value::Opaque),
            Global::OrderedDict => self.ordered_dict(arguments),
            Global::Size => {
                let sizes = arguments
                    .first()
                    .and_then(|&sizes| self.heap.sequence(sizes));
                let sizes = sizes.unwrap_or_default().to_vec();
                self.spend(sizes.len())?;
                Ok(Value::Tuple(sizes))
            }
            Global::Rebuild(Rebuild::Parameter) => {
                match arguments.first().map(|&t| self.heap.get(t)) {
                    Some(Value::Tensor(tensor)) => {
                        let tensor = tensor.clone();
                        self.count_built(2 * tensor.shape.len())?;
                        Ok(Value::Tensor(tensor))
                    }
                    _ => Err(Halt::bad(
                        "a parameter is rebuilt from something that is no tensor",
                    )),
                }
            }
            Global::Rebuild(rebuild) => {
                let tensor = self.tensor(rebuild, arguments);
                let tensor =
                    tensor.ok_or_else(|| Halt::bad("a tensor is rebuilt from wrong arguments"))?;
                self.count_built(2 * tensor.shape.len())?;
                Ok(Value::Tensor(Box::new(tensor)))
            }
            Global::Storage(_) | Global::Dtype(_) => Err(Halt::Unsupported(
                "a storage is built by a call instead of a reference".to_owned(),
            )),
        }
    }

    /// `OrderedDict()` or, from Python 2, `OrderedDict([[key, value], ...])`.
    fn ordered_dict(&mut self, arguments: &[Id]) -> Result<Value<'a>, Halt> {
        let Some(&items) = arguments.first() else {
            return Ok(Value::Dict(Vec::new()));
        };
        let bad = || Halt::bad("an OrderedDict is built from something that is no list of pairs");
        self.spend(self.heap.sequence(items).map_or(0, <[Id]>::len))?;
        let pair = |&item: &Id| match self.heap.sequence(item) {
            Some(&[key, value]) => Ok((key, value)),
            _ => Err(bad()),
        };
        let items = self.heap.sequence(items).ok_or_else(bad)?;
        let dict = items.iter().map(pair).collect::<Result<_, _>>()?;
        Ok(Value::Dict(dict))
    }

    fn tensor(&self, rebuild: Rebuild, arguments: &[Id]) -> Option<Tensor<'a>> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return None;
        };
        let Value::Storage(storage) = self.heap.get(storage) else {
            return None;
        };
        let dtype = match (rebuild, arguments.get(6).map(|&dtype| self.heap.get(dtype))) {
            (Rebuild::TensorV3, Some(Value::Global(Global::Dtype(dtype)))) => *dtype,
            (Rebuild::TensorV3, _) => return None,
            _ => storage.dtype?,
        };
        Some(Tensor {
            storage: Storage::clone(storage),
            dtype,
            offset: self.heap.count(offset)?,
            shape: self.heap.counts(shape)?,
            strides: self.heap.counts(strides)?,
        })
    }

    /// `('storage', class, key, location, numel)` and, in legacy files, a view or None.
    pub fn persistent_id(&mut self) -> Result<(), Halt> {
        let id = self.pop()?;
        let storage = self.storage(id);
        let storage =
            storage.ok_or_else(|| Halt::bad("a persistent id does not name a storage"))?;
        self.count_built(0)?;
        self.storages.push(storage.clone());
        self.push(Value::Storage(Box::new(storage)));
        Ok(())
    }

    fn storage(&self, id: Id) -> Option<Storage<'a>> {
        let fields = self.heap.sequence(id)?;
        let &[kind, class, key, _location, numel, ..] = fields else {
            return None;
        };
        if self.heap.text(kind)? != "storage" {
            return None;
        }
        let &Value::Global(Global::Storage(dtype)) = self.heap.get(class) else {
            return None;
        };
        let view = match fields.get(5).map(|&view| self.heap.get(view)) {
            None | Some(Value::Opaque) => None,
            Some(Value::Tuple(view)) => {
                let &[_key, offset, length] = view.as_slice() else {
                    return None;
                };
                Some((self.heap.count(offset)?, self.heap.count(length)?))
            }
            Some(_) => return None,
        };
        Some(Storage {
            key: self.heap.text(key)?,
            dtype,
            numel: self.heap.count(numel)?,
            view,
        })
    }
}
