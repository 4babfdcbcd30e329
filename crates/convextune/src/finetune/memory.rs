//! How large a kernel the machine's memory holds.

use std::sync::OnceLock;

use sysinfo::{MemoryRefreshKind, System};

/// Matrices of the kernel's size that are held together, at most: what was summed, the kernel under a prior, its
/// factor and its inverse.
const MATRICES: usize = 4;

/// Rows of a kernel of which [`MATRICES`] fit half of the memory of the machine, or of what this process may
/// take of it. The same for every call, whatever else runs.
pub(crate) fn rows_held() -> usize {
    static ROWS: OnceLock<usize> = OnceLock::new();
    *ROWS.get_or_init(|| rows_in(memory() / 2))
}

/// Bytes; 0 where the system does not say.
fn memory() -> usize {
    let Ok(mut system) = System::new() else {
        return 0;
    };
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    limit.unwrap_or(u64::MAX).min(system.total_memory()) as usize
}

fn rows_in(bytes: usize) -> usize {
    (bytes / (MATRICES * size_of::<f64>())).isqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_matrices_fit() {
        let rows = rows_in(12 << 30);
        assert!(rows * rows * 8 * MATRICES <= 12 << 30);
        assert!((rows + 1) * (rows + 1) * 8 * MATRICES > 12 << 30);
        assert!(rows_held() > 0);
    }
}
