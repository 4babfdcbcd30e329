//! A cursor over the file's bytes; every read is checked against what is left.

use super::Halt;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Halt> {
        let end = self.at.checked_add(count).ok_or(Halt::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(Halt::Truncated)?;
        self.at = end;
        Ok(slice)
    }

    /// An unsigned little-endian number of `N <= 8` bytes.
    pub fn number<const N: usize>(&mut self) -> Result<u64, Halt> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A length of `N` bytes, then that many bytes.
    pub fn sized<const N: usize>(&mut self) -> Result<&'a [u8], Halt> {
        let length = usize::try_from(self.number::<N>()?).map_err(|_| Halt::Truncated)?;
        self.take(length)
    }

    /// As [`Self::sized`], for text.
    pub fn text<const N: usize>(&mut self) -> Result<&'a str, Halt> {
        let bytes = self.sized::<N>()?;
        std::str::from_utf8(bytes).map_err(|_| Halt::bad("a string is not valid UTF-8"))
    }

    /// Text up to the next newline, which is consumed.
    pub fn line(&mut self) -> Result<&'a str, Halt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(Halt::Truncated)?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| Halt::bad("a name is not valid UTF-8"))
    }
}
