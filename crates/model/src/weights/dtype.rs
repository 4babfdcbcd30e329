//! Element types of stored tensors and their conversion to what a tensor in memory holds, `f32` or
//! `f64`.
//!
//! All formats store numbers little-endian. What does not fit is rounded to the nearest value; integers
//! too (into `f32` exact up to 2^24, which is ample for the `num_batches_tracked` counters that are the
//! only integers in the networks we read); booleans become 0 and 1.

use std::fmt;

/// What the values of a tensor in memory are: `f32` or `f64`.
pub trait Element: Copy + fmt::Debug + PartialEq {
    /// The safetensors name of the type.
    const NAME: &'static str;
    /// Little-endian bytes of a value.
    type Bytes: AsRef<[u8]>;

    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The value as it is stored.
    fn le_bytes(self) -> Self::Bytes;

    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

impl Element for f32 {
    const NAME: &'static str = "F32";
    type Bytes = [u8; 4];

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn le_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Element for f64 {
    const NAME: &'static str = "F64";
    type Bytes = [u8; 8];

    fn from_f64(value: f64) -> Self {
        value
    }

    fn le_bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

/// The element types that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Decodes the element at the start of `bytes`; NaN when they are too few, which callers
    /// exclude by their size checks and which the check for finite weights would catch.
    pub fn decode(self, bytes: &[u8]) -> f64 {
        let value = match self {
            Self::F64 => bytes.first_chunk().map(|&b| f64::from_le_bytes(b)),
            Self::F32 => bytes.first_chunk().map(|&b| f32::from_le_bytes(b).into()),
            Self::F16 => bytes
                .first_chunk()
                .map(|&b| f16_to_f32(u16::from_le_bytes(b)).into()),
            Self::Bf16 => bytes
                .first_chunk()
                .map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16).into()),
            Self::I64 => bytes.first_chunk().map(|&b| i64::from_le_bytes(b) as f64),
            Self::I32 => bytes.first_chunk().map(|&b| i32::from_le_bytes(b).into()),
            Self::I16 => bytes.first_chunk().map(|&b| i16::from_le_bytes(b).into()),
            Self::I8 => bytes.first_chunk().map(|&b| i8::from_le_bytes(b).into()),
            Self::U8 => bytes.first().map(|&b| b.into()),
            Self::Bool => bytes.first().map(|&b| u8::from(b != 0).into()),
        };
        value.unwrap_or(f64::NAN)
    }

    /// Decodes a dense run of elements.
    pub fn decode_all<T: Element>(self, bytes: &[u8]) -> Vec<T> {
        bytes
            .chunks_exact(self.size())
            .map(|element| T::from_f64(self.decode(element)))
            .collect()
    }
}

/// IEEE 754 binary16 to binary32, exact for every input.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * (-24f32).exp2(),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * ((exponent - 25) as f32).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_matches_the_values_of_ieee_754() {
        let cases: [(u16, f32); 8] = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits).to_bits(), value.to_bits(), "{bits:#06x}");
        }
        assert!(f16_to_f32(0x8000).is_sign_negative());
        assert!(f16_to_f32(0xfc00) == f32::NEG_INFINITY);
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn every_type_decodes_little_endian_values() {
        let cases: [(Dtype, &[u8], [f32; 1]); 9] = [
            (Dtype::F64, &(-1.5f64).to_le_bytes(), [-1.5]),
            (Dtype::F32, &0.1f32.to_le_bytes(), [0.1]),
            (Dtype::Bf16, &[0x80, 0x3f], [1.0]),
            (Dtype::I64, &(-7i64).to_le_bytes(), [-7.0]),
            (Dtype::I32, &9i32.to_le_bytes(), [9.0]),
            (Dtype::I16, &(-3i16).to_le_bytes(), [-3.0]),
            (Dtype::I8, &[0xff], [-1.0]),
            (Dtype::U8, &[0xff], [255.0]),
            (Dtype::Bool, &[7], [1.0]),
        ];
        for (dtype, bytes, value) in cases {
            assert_eq!(dtype.decode_all::<f32>(bytes), value, "{dtype:?}");
            assert_eq!(dtype.decode_all::<f64>(bytes), value.map(f64::from));
        }
        let large = 1e300f64.to_le_bytes();
        assert_eq!(Dtype::F64.decode_all::<f32>(&large), [f32::INFINITY]);
        assert_eq!(Dtype::F64.decode_all::<f64>(&large), [1e300]);
        assert!(Dtype::F32.decode(&[0; 3]).is_nan());
    }
}
