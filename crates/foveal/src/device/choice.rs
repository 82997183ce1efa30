//! The adapters that `--device auto` takes, and its reason, as functions of a list of adapters.

use super::adapter::{AdapterInfo, AdapterKind};

/// The positions of the adapters that `auto` tries to open, the first one first: discrete GPUs, then virtual ones. On
/// macOS they are all GPUs in the order of the list, which has discrete GPUs first. A software adapter is never among
/// them, and an integrated GPU only on macOS: elsewhere it is often slower than the kernels for the CPU.
pub(super) fn candidates(adapters: &[&AdapterInfo], macos: bool) -> Vec<usize> {
    let of = |kind: AdapterKind| {
        let all = adapters.iter().enumerate();
        all.filter(move |(_, adapter)| adapter.kind == kind).map(|(index, _)| index)
    };
    if macos {
        let all = adapters.iter().enumerate();
        return all.filter(|(_, adapter)| adapter.kind != AdapterKind::Software).map(|(index, _)| index).collect();
    }
    of(AdapterKind::DiscreteGpu).chain(of(AdapterKind::VirtualGpu)).collect()
}

/// What a machine may lack whose GPU is not found.
const DRIVER: &str = "(a GPU needs a driver for Vulkan, Metal or DirectX 12)";

/// Why `auto` takes the CPU. `failed` is the number of adapters that could not be opened.
pub(super) fn why_cpu(adapters: &[&AdapterInfo], failed: usize) -> String {
    if failed > 0 {
        return match failed {
            1 => "the GPU could not be opened".to_owned(),
            n => format!("none of {n} GPUs could be opened"),
        };
    }
    let integrated = adapters.iter().position(|adapter| adapter.kind == AdapterKind::IntegratedGpu);
    match integrated {
        Some(index) => format!(
            "this machine has no discrete or virtual GPU, and an integrated one is taken only by name: --device \
             wgpu:{index} is {}",
            adapters[index].label()
        ),
        None if !cfg!(feature = "wgpu") => "this binary was built without the feature `wgpu`".to_owned(),
        None if adapters.is_empty() => format!("this machine has no GPU that wgpu finds {DRIVER}"),
        None => format!("this machine has only software adapters {DRIVER}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AdapterKind::{DiscreteGpu, IntegratedGpu, Software, VirtualGpu};

    fn adapter(kind: AdapterKind) -> AdapterInfo {
        AdapterInfo { name: format!("{kind:?}"), kind, driver: String::new(), api: "Vulkan".to_owned() }
    }

    fn chosen(kinds: &[AdapterKind], macos: bool) -> Vec<usize> {
        let adapters: Vec<AdapterInfo> = kinds.iter().copied().map(adapter).collect();
        candidates(&adapters.iter().collect::<Vec<_>>(), macos)
    }

    #[test]
    fn discrete_gpus_come_before_virtual_ones_and_no_others_are_taken() {
        assert_eq!(chosen(&[Software, VirtualGpu, IntegratedGpu, DiscreteGpu, DiscreteGpu], false), [3, 4, 1]);
        assert!(chosen(&[IntegratedGpu, Software], false).is_empty());
        assert!(chosen(&[], false).is_empty());
    }

    #[test]
    fn macos_chooses_among_its_gpus() {
        assert_eq!(chosen(&[IntegratedGpu, DiscreteGpu, Software], true), [0, 1]);
    }

    #[test]
    fn the_reason_for_the_cpu_names_what_could_be_taken_by_name() {
        let why = |kinds: &[AdapterKind], failed| {
            let adapters: Vec<AdapterInfo> = kinds.iter().copied().map(adapter).collect();
            why_cpu(&adapters.iter().collect::<Vec<_>>(), failed)
        };
        if cfg!(feature = "wgpu") {
            let none = "this machine has no GPU that wgpu finds (a GPU needs a driver for Vulkan, Metal or DirectX 12)";
            assert_eq!(why(&[], 0), none);
            assert!(why(&[Software], 0).starts_with("this machine has only software adapters (a GPU needs a driver"));
        } else {
            assert_eq!(why(&[], 0), "this binary was built without the feature `wgpu`");
        }
        assert!(why(&[IntegratedGpu, Software], 0).ends_with("--device wgpu:0 is IntegratedGpu, Vulkan"));
        assert_eq!(why(&[DiscreteGpu], 1), "the GPU could not be opened");
        assert_eq!(why(&[DiscreteGpu, VirtualGpu], 2), "none of 2 GPUs could be opened");
    }
}
